//! Whether the process lives, and whether it can serve.

use std::{collections::BTreeMap, sync::Arc};

use http::StatusCode;
use serde::Serialize;

use super::super::{Call, Management, answer::Reply};
use crate::{
    manage::error::Result,
    readiness::{Check, Failing, State},
};

#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Health {
    pub status: String,
    pub timestamp: String,
    pub version: String,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ReadinessView {
    /// `ready`, `unavailable`, `starting` or `stopping`.
    pub status: String,
    pub timestamp: String,
    pub version: String,
    /// `ok`, or why the check fails, by name of the check.
    pub checks: BTreeMap<String, String>,
}

pub async fn alive(management: Arc<Management>, call: Call) -> Result<Reply> {
    // Load balancers add parameters of their own; they mean nothing here.
    drop(call);
    Reply::ok(&Health {
        status: "ok".to_owned(),
        timestamp: management.manage.clock.now().to_string(),
        version: management.version().to_owned(),
    })
}

pub async fn ready(management: Arc<Management>, call: Call) -> Result<Reply> {
    drop(call);
    let failing = match management.readiness().state() {
        State::Ready => Ok(Vec::new()),
        State::Failing(failing) => Ok(failing),
        State::Starting => Err("starting"),
        State::Stopping => Err("stopping"),
    };
    let (status, word, failing) = match failing {
        Ok(failing) if failing.is_empty() => (StatusCode::OK, "ready", Some(failing)),
        Ok(failing) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable", Some(failing)),
        Err(word) => (StatusCode::SERVICE_UNAVAILABLE, word, None),
    };
    let body = ReadinessView {
        status: word.to_owned(),
        timestamp: management.manage.clock.now().to_string(),
        version: management.version().to_owned(),
        checks: failing.map(checks).unwrap_or_default(),
    };
    Reply::json(status, &body)
}

fn checks(failing: Vec<Failing>) -> BTreeMap<String, String> {
    let all = [Check::Database, Check::Journal, Check::Audit, Check::Disk];
    let mut checks: BTreeMap<String, String> =
        all.iter().map(|check| (check.as_str().to_owned(), "ok".to_owned())).collect();
    for Failing { check, reason } in failing {
        checks.insert(check.as_str().to_owned(), reason);
    }
    checks
}
