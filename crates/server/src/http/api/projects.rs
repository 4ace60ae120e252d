//! `/manage/projects`.

use std::{collections::BTreeMap, sync::Arc};

use http::StatusCode;

use super::{
    super::{Call, Management, answer::Reply},
    listed, shown,
};
use crate::manage::{
    error::{Error, Result},
    fields::{Change, Fields},
    projects::{self, Create, Update},
    validate,
};

/// The body of a creation, for the description; read by [`create`].
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "describes a body that is read field by field")]
pub struct ProjectCreate {
    /// Unique, 1 to 100 characters.
    name: String,
    /// The default provider's key.
    api_key: Option<String>,
    /// Keys by provider.
    provider_keys: Option<BTreeMap<String, String>>,
    labels: Option<BTreeMap<String, String>>,
    /// `off`; null or absent: the server's setting.
    capture_bodies: Option<String>,
}

/// The body of an update; what is left out stays.
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "describes a body that is read field by field")]
pub struct ProjectUpdate {
    name: Option<String>,
    /// The default provider's key; null removes it.
    api_key: Option<String>,
    /// Keys by provider; null removes one, others stay.
    provider_keys: Option<BTreeMap<String, Option<String>>>,
    is_active: Option<bool>,
    /// Also revokes every token, in the same transaction.
    revoke_tokens: Option<bool>,
    labels: Option<BTreeMap<String, String>>,
    /// `off`; null follows the server's setting.
    capture_bodies: Option<String>,
}

pub async fn list(management: Arc<Management>, mut call: Call) -> Result<Reply> {
    let page = call.query.page()?;
    let name = call.query.text("name");
    let is_active = call.query.boolean("isActive")?;
    call.query.finish()?;
    let found = projects::list(&management.manage, &call.caller, name, is_active, &page).await?;
    listed(&found)
}

pub async fn create(management: Arc<Management>, call: Call) -> Result<Reply> {
    call.query.finish()?;
    let mut body = Fields::parse(&call.body)?;
    let name = validate::name("name", &body.required_text("name")?)?;
    let api_key = body.text("api_key")?.map(|key| validate::provider_key("api_key", key))?;
    let provider_keys = provider_keys(&mut body)?
        .into_iter()
        .map(|(name, key)| key.map(|key| (name, key)))
        .collect::<Option<_>>()
        .ok_or_else(|| Error::invalid("provider_keys must be an object of strings"))?;
    let new = Create {
        name,
        api_key: api_key.into_option().flatten(),
        provider_keys,
        labels: body
            .text_map("labels")?
            .map(validate::labels)?
            .into_option()
            .flatten()
            .unwrap_or_default(),
        capture_bodies: body
            .text("capture_bodies")?
            .map(|text| validate::capture(&text))?
            .into_option()
            .flatten(),
    };
    body.finish()?;
    shown(StatusCode::CREATED, &projects::create(&management.manage, &call.caller, new).await?)
}

pub async fn get(management: Arc<Management>, call: Call) -> Result<Reply> {
    let id = call.id("project")?;
    call.query.finish()?;
    shown(StatusCode::OK, &projects::get(&management.manage, &call.caller, id).await?)
}

pub async fn update(management: Arc<Management>, mut call: Call) -> Result<Reply> {
    let id = call.id("project")?;
    let terminate = call.query.boolean("terminate")?.unwrap_or(false);
    call.query.finish()?;
    let mut body = Fields::parse(&call.body)?;
    let update = Update {
        name: set("name", body.text("name")?)?
            .map(|name| validate::name("name", &name))
            .transpose()?,
        api_key: body
            .text("api_key")?
            .map(|key| validate::provider_key("api_key", key))?
            .into_option(),
        provider_keys: provider_keys(&mut body)?,
        is_active: set("is_active", body.boolean("is_active")?)?,
        labels: body
            .text_map("labels")?
            .map(validate::labels)?
            .into_option()
            .map(Option::unwrap_or_default),
        capture_bodies: body
            .text("capture_bodies")?
            .map(|text| validate::capture(&text))?
            .into_option(),
        revoke_tokens: set("revoke_tokens", body.boolean("revoke_tokens")?)?.unwrap_or(false),
        terminate,
        expected_version: call.expected_version,
    };
    body.finish()?;
    shown(StatusCode::OK, &projects::update(&management.manage, &call.caller, id, update).await?)
}

fn provider_keys(body: &mut Fields) -> Result<BTreeMap<String, Option<domain::secret::Secret>>> {
    let Change::Set(keys) = body.text_map("provider_keys")? else { return Ok(BTreeMap::new()) };
    keys.into_iter()
        .map(|(name, key)| {
            let key = key.map(|key| validate::provider_key("provider_keys", key)).transpose()?;
            Ok((name, key))
        })
        .collect()
}

/// A value that cannot be null.
pub(super) fn set<T>(field: &'static str, change: Change<T>) -> Result<Option<T>> {
    match change {
        Change::Keep => Ok(None),
        Change::Set(value) => Ok(Some(value)),
        Change::Clear => Err(Error::invalid(format!("{field} must not be null"))),
    }
}
