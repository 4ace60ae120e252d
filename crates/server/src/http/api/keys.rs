//! `/manage/keys`.

use std::{collections::BTreeSet, sync::Arc};

use domain::{ids::ProjectId, role::Role};
use http::StatusCode;

use super::{
    super::{Call, Management, answer::Reply},
    listed, parse_id,
    projects::set,
    shown,
};
use crate::manage::{
    error::{Error, Result},
    fields::{Change, Fields},
    keys::{self, Create, Update},
    validate,
};

/// Projects that one key may be limited to.
const PROJECT_IDS_MAX: usize = 1000;

/// The body of a creation, for the description; read by [`create`].
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "describes a body that is read field by field")]
pub struct KeyCreate {
    name: String,
    /// `admin`, `operator`, `auditor` or `viewer`.
    role: String,
    /// The projects to limit it to; null or absent: no limit.
    project_ids: Option<Vec<String>>,
    /// RFC 3339; null or absent: never.
    expires_at: Option<String>,
}

/// The body of an update; what is left out stays.
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "describes a body that is read field by field")]
pub struct KeyUpdate {
    name: Option<String>,
    role: Option<String>,
    project_ids: Option<Vec<String>>,
    expires_at: Option<String>,
}

pub async fn list(management: Arc<Management>, mut call: Call) -> Result<Reply> {
    let page = call.query.page()?;
    call.query.finish()?;
    listed(&keys::list(&management.manage, &page).await?)
}

pub async fn create(management: Arc<Management>, call: Call) -> Result<Reply> {
    call.query.finish()?;
    let now = management.manage.clock.now();
    let mut body = Fields::parse(&call.body)?;
    let new = Create {
        name: validate::name("name", &body.required_text("name")?)?,
        role: role(&body.required_text("role")?)?,
        project_ids: project_ids(&mut body)?.into_option().flatten(),
        expires_at: body
            .text("expires_at")?
            .map(|text| validate::future_time("expires_at", &text, now))?
            .into_option()
            .flatten(),
    };
    body.finish()?;
    shown(StatusCode::CREATED, &keys::create(&management.manage, &call.caller, new).await?)
}

pub async fn update(management: Arc<Management>, call: Call) -> Result<Reply> {
    let id = call.id("management key")?;
    call.query.finish()?;
    let now = management.manage.clock.now();
    let mut body = Fields::parse(&call.body)?;
    let update = Update {
        name: set("name", body.text("name")?)?
            .map(|name| validate::name("name", &name))
            .transpose()?,
        role: set("role", body.text("role")?)?.map(|text| role(&text)).transpose()?,
        project_ids: project_ids(&mut body)?.into_option(),
        expires_at: body
            .text("expires_at")?
            .map(|text| validate::future_time("expires_at", &text, now))?
            .into_option(),
        expected_version: call.expected_version,
    };
    body.finish()?;
    shown(StatusCode::OK, &keys::update(&management.manage, &call.caller, id, update).await?)
}

pub async fn revoke(management: Arc<Management>, call: Call) -> Result<Reply> {
    let id = call.id("management key")?;
    call.query.finish()?;
    let entry = keys::revoke(&management.manage, &call.caller, id).await?;
    Ok(Reply::no_content().audited(entry))
}

fn role(text: &str) -> Result<Role> {
    Role::parse(text)
        .ok_or_else(|| Error::invalid("role must be admin, operator, auditor or viewer"))
}

fn project_ids(body: &mut Fields) -> Result<Change<BTreeSet<ProjectId>>> {
    body.texts("project_ids", PROJECT_IDS_MAX)?.map(|ids| {
        if ids.is_empty() {
            return Err(Error::invalid("project_ids must not be empty; null is no limit"));
        }
        ids.iter().map(|id| parse_id("project_ids", id)).collect()
    })
}
