//! `/manage/logs/compact|prune|erase|adopt`.

use std::sync::Arc;

use super::{
    super::{Call, Management, answer::Reply},
    parse_id,
};
use crate::manage::{error::Result, fields::Fields, segments};

/// The body of a pruning, for the description; read by [`prune`].
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "describes a body that is read field by field")]
pub struct PruneOrder {
    /// True only says what would go.
    dry_run: Option<bool>,
}

/// The body of an erasure: one of the two.
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "describes a body that is read field by field")]
pub struct EraseOrder {
    project_id: Option<String>,
    end_user: Option<String>,
}

pub async fn compact(management: Arc<Management>, call: Call) -> Result<Reply> {
    call.query.finish()?;
    let (view, entry) = segments::compact(&management.manage, &call.caller).await?;
    Ok(Reply::ok(&view)?.audited(Some(entry)))
}

pub async fn prune(management: Arc<Management>, call: Call) -> Result<Reply> {
    call.query.finish()?;
    let mut body = Fields::parse(&call.body)?;
    let dry = body.boolean("dry_run")?.into_option().flatten().unwrap_or(false);
    body.finish()?;
    let (view, entry) = segments::prune(&management.manage, &call.caller, dry).await?;
    Ok(Reply::ok(&view)?.audited(entry))
}

pub async fn erase(management: Arc<Management>, call: Call) -> Result<Reply> {
    call.query.finish()?;
    let mut body = Fields::parse(&call.body)?;
    let project = body.text("project_id")?.map(|id| parse_id("project_id", &id))?;
    let user = body.text("end_user")?.into_option().flatten();
    body.finish()?;
    let what = segments::erase_of(project.into_option().flatten(), user)?;
    let (view, entry) = segments::erase(&management.manage, &call.caller, what).await?;
    Ok(Reply::ok(&view)?.audited(Some(entry)))
}

pub async fn adopt(management: Arc<Management>, call: Call) -> Result<Reply> {
    call.query.finish()?;
    let (view, entry) = segments::adopt(&management.manage, &call.caller).await?;
    Ok(Reply::ok(&view)?.audited(Some(entry)))
}
