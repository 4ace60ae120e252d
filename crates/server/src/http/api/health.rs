//! Whether the process lives, and whether it can serve.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use http::StatusCode;
use serde::Serialize;

use super::super::{Call, Management, answer::Reply};
use crate::{
    manage::error,
    readiness::{Check, State},
};

/// Load balancers ask often and give up soon.
const PING_TIMEOUT: Duration = Duration::from_secs(2);

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

pub async fn alive(management: Arc<Management>, call: Call) -> error::Result<Reply> {
    // Load balancers add parameters of their own; they mean nothing here.
    drop(call);
    Reply::ok(&Health {
        status: "ok".to_owned(),
        timestamp: management.manage.clock.now().to_string(),
        version: management.version().to_owned(),
    })
}

pub async fn ready(management: Arc<Management>, call: Call) -> error::Result<Reply> {
    drop(call);
    // The database is the one part that does not answer from memory.
    let asked = management.ping.ask(&management.manage.store);
    let database = match tokio::time::timeout(PING_TIMEOUT, asked).await {
        Ok(answer) => answer,
        Err(_) => Err("the database does not answer in time".to_owned()),
    };
    let readiness = management.readiness();
    let mut checks = readiness.checks();
    checks.push((Check::Database.as_str(), database));
    let word = match readiness.state() {
        State::Starting => "starting",
        State::Stopping => "stopping",
        _ if checks.iter().any(|(_, check)| check.is_err()) => "unavailable",
        _ => "ready",
    };
    let status = match word {
        "ready" => StatusCode::OK,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    let body = ReadinessView {
        status: word.to_owned(),
        timestamp: management.manage.clock.now().to_string(),
        version: management.version().to_owned(),
        checks: shown(checks),
    };
    Reply::json(status, &body)
}

/// By name; of several checks of one part, a failing one is shown.
fn shown(checks: Vec<(&'static str, Result<(), String>)>) -> BTreeMap<String, String> {
    let mut shown = BTreeMap::new();
    for (name, check) in checks {
        match check {
            Ok(()) => {
                shown.entry(name.to_owned()).or_insert_with(|| "ok".to_owned());
            }
            Err(why) => {
                shown.insert(name.to_owned(), why);
            }
        }
    }
    shown
}
