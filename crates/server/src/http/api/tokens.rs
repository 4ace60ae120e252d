//! `/manage/tokens`, and the batch revocation of a project's.

use std::{collections::BTreeMap, sync::Arc};

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
    tokens::{self, Create, Lifetime, Update},
    validate,
};

/// The body of a creation, for the description; read by [`create`].
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "describes a body that is read field by field")]
pub struct TokenCreate {
    project_id: String,
    /// 1 to 525600, from now; null makes a token that does not expire.
    #[schema(required = true, nullable = true)]
    duration_minutes: Option<u64>,
    /// Uses in its lifetime; null or absent: no limit.
    max_requests: Option<u64>,
    rate_limit_rpm: Option<u32>,
    /// Patterns with `*`; null or absent: every model.
    allowed_models: Option<Vec<String>>,
    labels: Option<BTreeMap<String, String>>,
    description: Option<String>,
    /// `off`; null or absent: the server's setting.
    capture_bodies: Option<String>,
}

/// The body of an update; what is left out stays, null takes a limit away.
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "describes a body that is read field by field")]
pub struct TokenUpdate {
    /// 1 to 525600, from now; null: never expires.
    duration_minutes: Option<u64>,
    is_active: Option<bool>,
    max_requests: Option<u64>,
    rate_limit_rpm: Option<u32>,
    allowed_models: Option<Vec<String>>,
    labels: Option<BTreeMap<String, String>>,
    description: Option<String>,
    capture_bodies: Option<String>,
}

pub async fn list(management: Arc<Management>, mut call: Call) -> Result<Reply> {
    let page = call.query.page()?;
    let project = call.query.text("projectId");
    let project = project.map(|id| parse_id("projectId", &id)).transpose()?;
    let active_only = call.query.boolean("activeOnly")?.unwrap_or(false);
    call.query.finish()?;
    let found = tokens::list(&management.manage, &call.caller, project, active_only, &page).await?;
    listed(&found)
}

pub async fn create(management: Arc<Management>, call: Call) -> Result<Reply> {
    call.query.finish()?;
    let mut body = Fields::parse(&call.body)?;
    let project_id = parse_id("project_id", &body.required_text("project_id")?)?;
    let lifetime = lifetime(&mut body)?.ok_or_else(|| {
        Error::invalid("duration_minutes is required; null makes a token that does not expire")
    })?;
    let limits = limits(&mut body)?;
    let new = Create {
        project_id,
        lifetime,
        max_requests: limits.max_requests.into_option().flatten(),
        rate_limit_rpm: limits.rate_limit_rpm.into_option().flatten(),
        allowed_models: limits.allowed_models.into_option().flatten(),
        labels: body
            .text_map("labels")?
            .map(validate::labels)?
            .into_option()
            .flatten()
            .unwrap_or_default(),
        description: body.text("description")?.map(validate::description)?.into_option().flatten(),
        capture_bodies: body
            .text("capture_bodies")?
            .map(|text| validate::capture(&text))?
            .into_option()
            .flatten(),
    };
    body.finish()?;
    shown(StatusCode::CREATED, &tokens::create(&management.manage, &call.caller, new).await?)
}

pub async fn get(management: Arc<Management>, call: Call) -> Result<Reply> {
    let id = call.id("token")?;
    call.query.finish()?;
    shown(StatusCode::OK, &tokens::get(&management.manage, &call.caller, id).await?)
}

pub async fn update(management: Arc<Management>, mut call: Call) -> Result<Reply> {
    let id = call.id("token")?;
    let terminate = call.query.boolean("terminate")?.unwrap_or(false);
    call.query.finish()?;
    let mut body = Fields::parse(&call.body)?;
    let lifetime = lifetime(&mut body)?;
    let limits = limits(&mut body)?;
    let update = Update {
        lifetime,
        is_active: set("is_active", body.boolean("is_active")?)?,
        max_requests: limits.max_requests.into_option(),
        rate_limit_rpm: limits.rate_limit_rpm.into_option(),
        allowed_models: limits.allowed_models.into_option(),
        labels: body
            .text_map("labels")?
            .map(validate::labels)?
            .into_option()
            .map(Option::unwrap_or_default),
        description: body.text("description")?.map(validate::description)?.into_option(),
        capture_bodies: body
            .text("capture_bodies")?
            .map(|text| validate::capture(&text))?
            .into_option(),
        terminate,
        expected_version: call.expected_version,
    };
    body.finish()?;
    shown(StatusCode::OK, &tokens::update(&management.manage, &call.caller, id, update).await?)
}

pub async fn revoke(management: Arc<Management>, mut call: Call) -> Result<Reply> {
    let id = call.id("token")?;
    let terminate = call.query.boolean("terminate")?.unwrap_or(false);
    call.query.finish()?;
    let entry = tokens::revoke(&management.manage, &call.caller, id, terminate).await?;
    Ok(Reply::no_content().audited(entry))
}

pub async fn revoke_batch(management: Arc<Management>, mut call: Call) -> Result<Reply> {
    let id = call.id("project")?;
    let terminate = call.query.boolean("terminate")?.unwrap_or(false);
    call.query.finish()?;
    if !call.body.is_empty() {
        Fields::parse(&call.body)?.finish()?;
    }
    let (view, entry) =
        tokens::revoke_batch(&management.manage, &call.caller, id, terminate).await?;
    Ok(Reply::ok(&view)?.audited(Some(entry)))
}

struct Limits {
    max_requests: Change<u64>,
    rate_limit_rpm: Change<u32>,
    allowed_models: Change<Vec<String>>,
}

fn limits(body: &mut Fields) -> Result<Limits> {
    let rpm = body.number("rate_limit_rpm", 1, validate::RATE_LIMIT_RPM_MAX)?;
    Ok(Limits {
        max_requests: body.number("max_requests", 1, validate::MAX_REQUESTS_MAX)?,
        rate_limit_rpm: rpm.map(|rpm| {
            u32::try_from(rpm).map_err(|_| Error::invalid("rate_limit_rpm is too large"))
        })?,
        allowed_models: body
            .texts("allowed_models", validate::MODELS_MAX)?
            .map(validate::models)?,
    })
}

fn lifetime(body: &mut Fields) -> Result<Option<Lifetime>> {
    let minutes = body.number("duration_minutes", 1, validate::DURATION_MINUTES_MAX)?;
    Ok(match minutes {
        Change::Keep => None,
        Change::Clear => Some(Lifetime::Forever),
        Change::Set(minutes) => Some(Lifetime::Minutes(minutes)),
    })
}
