//! `/manage/log-level`.

use std::sync::Arc;

use super::{
    super::{Call, Management, answer::Reply},
    parse_id,
};
use crate::manage::{
    error::{Error, Result},
    fields::Fields,
    levels::{self, Change, TTL_SECONDS_DEFAULT, TTL_SECONDS_MAX},
};
use crate::trace::{Subject, TraceLevel};

/// The body of a change, for the description; read by [`put`].
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "describes a body that is read field by field")]
pub struct LevelChange {
    /// `off`, `error`, `warn`, `info`, `debug` or `trace`.
    level: String,
    /// Only lines of this project's requests.
    project_id: Option<String>,
    /// Only lines of this token's requests.
    token_id: Option<String>,
    /// Seconds until it reverts: 1 to 86400, 900 by default.
    ttl: Option<u64>,
}

pub async fn get(management: Arc<Management>, call: Call) -> Result<Reply> {
    call.query.finish()?;
    Reply::ok(&levels::get(&management.manage))
}

pub async fn put(management: Arc<Management>, call: Call) -> Result<Reply> {
    call.query.finish()?;
    let mut body = Fields::parse(&call.body)?;
    let level = body.required_text("level")?;
    let level = TraceLevel::parse(&level.to_ascii_lowercase()).ok_or_else(|| {
        let names: Vec<&str> = TraceLevel::ALL.iter().map(|level| level.as_str()).collect();
        Error::invalid(format!("level must be one of {}", names.join(", ")))
    })?;
    let project = body.text("project_id")?.map(|id| parse_id("project_id", &id))?;
    let token = body.text("token_id")?.map(|id| parse_id("token_id", &id))?;
    let ttl = body.number("ttl", 1, TTL_SECONDS_MAX)?;
    body.finish()?;
    let subject = match (project.into_option().flatten(), token.into_option().flatten()) {
        (None, None) => Subject::Everything,
        (Some(id), None) => Subject::Project(id),
        (None, Some(id)) => Subject::Token(id),
        (Some(_), Some(_)) => {
            return Err(Error::invalid("give project_id or token_id, not both"));
        }
    };
    let ttl_seconds = ttl.into_option().flatten().unwrap_or(TTL_SECONDS_DEFAULT);
    let change = Change { subject, level, ttl_seconds };
    let (view, entry) = levels::put(&management.manage, &call.caller, change).await?;
    Ok(Reply::ok(&view)?.audited(Some(entry)))
}
