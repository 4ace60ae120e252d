//! Whether the process lives, and whether it can serve.

use std::{collections::BTreeMap, sync::Arc};

use http::StatusCode;
use serde::Serialize;

use super::super::{Call, Management, answer::Reply};
use crate::manage::error::Result;

#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Health {
    pub status: String,
    pub timestamp: String,
    pub version: String,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Readiness {
    /// `ready` or `unavailable`.
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
    let checks = management.observed().readiness().await;
    let is_ready = checks.iter().all(|(_, check)| check.is_ok());
    let said = |check: Result<(), String>| check.map_or_else(|why| why, |()| "ok".to_owned());
    let (status, word) = match is_ready {
        true => (StatusCode::OK, "ready"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
    };
    let body = Readiness {
        status: word.to_owned(),
        timestamp: management.manage.clock.now().to_string(),
        version: management.version().to_owned(),
        checks: checks.into_iter().map(|(name, check)| (name.to_owned(), said(check))).collect(),
    };
    Reply::json(status, &body)
}
