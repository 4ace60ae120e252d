//! The rows as the rest of the program sees them, and their bounds.
//!
//! Which fields an audit entry names is decided here: each model takes itself
//! apart, so a new field without a decision does not compile.

use std::collections::BTreeMap;

use domain::{
    audit::{Audited, Change, Field, FieldValue, Value},
    capture::Capture,
    ids::{ManagementKeyId, ProjectId, TokenId},
    labels::Labels,
    role::Role,
    secret::Secret,
    time::Timestamp,
    token::{Token, TokenHash, TokenHashKey},
};

use crate::error::{Error, Result};

const NAME_CHARS_MAX: usize = 200;
const PROVIDER_BYTES_MAX: usize = 64;
const PROVIDER_KEYS_MAX: usize = 64;
const PROVIDER_KEY_BYTES_MAX: usize = 8192;
const DESCRIPTION_BYTES_MAX: usize = 1024;
const MODELS_MAX: usize = 256;
const MODEL_BYTES_MAX: usize = 256;
const PROJECT_IDS_MAX: usize = 1000;
const SETTING_NAME_BYTES_MAX: usize = 128;
const SETTING_VALUE_BYTES_MAX: usize = 16 * 1024;
/// Numbers that every reader of an entry keeps exactly.
const COUNT_MAX: u64 = 1 << 53;

/// A tenant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Project {
    pub id: ProjectId,
    pub name: String,
    /// By provider, without the keys themselves.
    pub provider_keys: BTreeMap<String, ProviderKeyRow>,
    pub is_active: bool,
    pub deactivated_at: Option<Timestamp>,
    pub labels: Labels,
    pub capture_bodies: Option<Capture>,
    pub rev: u64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// What may be shown of a provider key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProviderKeyRow {
    pub obfuscated: String,
    /// Grows with each replacement.
    pub version: u64,
    pub updated_at: Timestamp,
}

#[derive(Clone, Debug)]
pub struct NewProject {
    pub name: String,
    pub provider_keys: BTreeMap<String, Secret>,
    pub is_active: bool,
    pub labels: Labels,
    pub capture_bodies: Option<Capture>,
}

/// What to change; the default changes nothing.
#[derive(Clone, Debug, Default)]
pub struct ProjectPatch {
    pub name: Option<String>,
    /// `None` removes the key; providers that are not named stay.
    pub provider_keys: BTreeMap<String, Option<Secret>>,
    pub is_active: Option<bool>,
    pub labels: Option<Labels>,
    pub capture_bodies: Option<Option<Capture>>,
}

/// A token, without its text, which nobody has but its holder.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TokenRow {
    pub id: TokenId,
    pub project_id: ProjectId,
    pub obfuscated: String,
    pub is_active: bool,
    pub revoked_at: Option<Timestamp>,
    pub expires_at: Option<Timestamp>,
    pub max_requests: Option<u64>,
    pub rate_limit_rpm: Option<u32>,
    pub allowed_models: Option<Vec<String>>,
    pub labels: Labels,
    pub description: Option<String>,
    pub capture_bodies: Option<Capture>,
    /// Uses counted so far; behind by what the journal has not handed over.
    pub request_count: u64,
    pub last_used_at: Option<Timestamp>,
    pub rev: u64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

#[derive(Clone, Debug)]
pub struct NewToken {
    pub project_id: ProjectId,
    pub hash: TokenHash,
    pub obfuscated: String,
    pub expires_at: Option<Timestamp>,
    pub max_requests: Option<u64>,
    pub rate_limit_rpm: Option<u32>,
    pub allowed_models: Option<Vec<String>>,
    pub labels: Labels,
    pub description: Option<String>,
    pub capture_bodies: Option<Capture>,
}

impl NewToken {
    /// A token without limits; the plaintext goes no further than this.
    pub fn new(project_id: ProjectId, token: &Token, key: &TokenHashKey) -> Self {
        Self {
            project_id,
            hash: token.hash(key),
            obfuscated: token.obfuscated(),
            expires_at: None,
            max_requests: None,
            rate_limit_rpm: None,
            allowed_models: None,
            labels: Labels::default(),
            description: None,
            capture_bodies: None,
        }
    }
}

/// What to change; the default changes nothing. A revoked token cannot be made
/// active again.
#[derive(Clone, Debug, Default)]
pub struct TokenPatch {
    pub is_active: Option<bool>,
    pub expires_at: Option<Option<Timestamp>>,
    pub max_requests: Option<Option<u64>>,
    pub rate_limit_rpm: Option<Option<u32>>,
    pub allowed_models: Option<Option<Vec<String>>>,
    pub labels: Option<Labels>,
    pub description: Option<Option<String>>,
    pub capture_bodies: Option<Option<Capture>>,
}

/// A credential for the management API.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ManagementKey {
    pub id: ManagementKeyId,
    pub name: String,
    pub obfuscated: String,
    pub role: Role,
    /// The only projects it may touch; `None` is all.
    pub project_ids: Option<Vec<ProjectId>>,
    pub expires_at: Option<Timestamp>,
    pub revoked_at: Option<Timestamp>,
    pub rev: u64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl ManagementKey {
    /// Neither revoked nor expired.
    pub fn is_usable(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|end| now < end)
    }
}

#[derive(Clone, Debug)]
pub struct NewManagementKey {
    pub name: String,
    pub hash: TokenHash,
    pub obfuscated: String,
    pub role: Role,
    pub project_ids: Option<Vec<ProjectId>>,
    pub expires_at: Option<Timestamp>,
}

/// What to change; the default changes nothing.
#[derive(Clone, Debug, Default)]
pub struct ManagementKeyPatch {
    pub name: Option<String>,
    pub role: Option<Role>,
    pub project_ids: Option<Option<Vec<ProjectId>>>,
    pub expires_at: Option<Option<Timestamp>>,
}

/// A setting that is kept in the database.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Setting {
    pub name: String,
    pub value: String,
    pub rev: u64,
    pub updated_at: Timestamp,
}

/// A row before and after a change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Updated<T> {
    pub before: T,
    pub after: T,
}

impl<T: Audited + PartialEq> Updated<T> {
    /// What an entry tells of it.
    pub fn change(&self) -> Change {
        Change::between(&self.before, &self.after)
    }

    pub fn is_noop(&self) -> bool {
        self.before == self.after
    }
}

/// The most items that one page may ask for.
pub const PAGE_LIMIT_MAX: u32 = 1000;

/// Which part of a list is wanted: newest first.
#[derive(Clone, Debug)]
pub struct Page {
    pub limit: u32,
    /// What the page before gave as `next_cursor`.
    pub cursor: Option<String>,
}

impl Default for Page {
    fn default() -> Self {
        Self { limit: 100, cursor: None }
    }
}

/// One page of a list.
#[derive(Clone, Debug)]
pub struct Listing<T> {
    pub items: Vec<T>,
    pub next_cursor: Option<String>,
}

#[derive(Clone, Debug, Default)]
pub struct ProjectFilter {
    pub name: Option<String>,
    pub is_active: Option<bool>,
    /// Only these; an empty list finds nothing.
    pub ids: Option<Vec<ProjectId>>,
}

#[derive(Clone, Debug, Default)]
pub struct TokenFilter {
    pub project_id: Option<ProjectId>,
    /// Only tokens of these; an empty list finds nothing.
    pub project_ids: Option<Vec<ProjectId>>,
    /// Neither revoked, switched off nor expired.
    pub active_only: bool,
}

fn flag(set: bool) -> FieldValue {
    Value::from(set).into()
}

fn labels_value(labels: &Labels) -> FieldValue {
    if labels.is_empty() {
        return FieldValue::Absent;
    }
    Value::map(labels.iter().map(|(key, value)| (key, Value::text(value)))).into()
}

fn text(value: Option<&str>) -> FieldValue {
    FieldValue::optional(value.map(Value::text))
}

impl Audited for Project {
    fn audited(&self) -> Vec<(Field, FieldValue)> {
        let Self {
            id: _,
            name,
            provider_keys,
            is_active,
            deactivated_at,
            labels,
            capture_bodies,
            rev: _,
            created_at: _,
            updated_at: _,
        } = self;
        let versions = provider_keys.iter().map(|(provider, key)| {
            (provider.clone(), i64::try_from(key.version).unwrap_or(i64::MAX))
        });
        vec![
            (Field::Name, text(Some(name))),
            (Field::ProviderKeys, FieldValue::Secrets(versions.collect())),
            (Field::IsActive, flag(*is_active)),
            (Field::DeactivatedAt, FieldValue::optional(*deactivated_at)),
            (Field::Labels, labels_value(labels)),
            (Field::CaptureBodies, text(capture_bodies.map(Capture::as_str))),
        ]
    }
}

impl Audited for TokenRow {
    fn audited(&self) -> Vec<(Field, FieldValue)> {
        let Self {
            id: _,
            project_id,
            obfuscated: _,
            is_active,
            revoked_at,
            expires_at,
            max_requests,
            rate_limit_rpm,
            allowed_models,
            labels,
            description,
            capture_bodies,
            request_count: _,
            last_used_at: _,
            rev: _,
            created_at: _,
            updated_at: _,
        } = self;
        let models = allowed_models.as_ref();
        let models = models.map(|models| Value::list(models.iter().map(|name| Value::text(name))));
        vec![
            (Field::ProjectId, text(Some(&project_id.to_string()))),
            (Field::IsActive, flag(*is_active)),
            (Field::RevokedAt, FieldValue::optional(*revoked_at)),
            (Field::ExpiresAt, FieldValue::optional(*expires_at)),
            (Field::MaxRequests, FieldValue::optional(*max_requests)),
            (Field::RateLimitRpm, FieldValue::optional(*rate_limit_rpm)),
            (Field::AllowedModels, FieldValue::optional(models)),
            (Field::Labels, labels_value(labels)),
            (Field::Description, text(description.as_deref())),
            (Field::CaptureBodies, text(capture_bodies.map(Capture::as_str))),
        ]
    }
}

impl Audited for ManagementKey {
    fn audited(&self) -> Vec<(Field, FieldValue)> {
        let Self {
            id: _,
            name,
            obfuscated: _,
            role,
            project_ids,
            expires_at,
            revoked_at,
            rev: _,
            created_at: _,
            updated_at: _,
        } = self;
        let projects = project_ids.as_ref();
        let projects =
            projects.map(|ids| Value::list(ids.iter().map(|id| Value::text(&id.to_string()))));
        vec![
            (Field::Name, text(Some(name))),
            (Field::Role, text(Some(role.as_str()))),
            (Field::ProjectIds, FieldValue::optional(projects)),
            (Field::ExpiresAt, FieldValue::optional(*expires_at)),
            (Field::RevokedAt, FieldValue::optional(*revoked_at)),
        ]
    }
}

impl Audited for Setting {
    fn audited(&self) -> Vec<(Field, FieldValue)> {
        let Self { name: _, value, rev: _, updated_at: _ } = self;
        vec![(Field::Value, text(Some(value)))]
    }
}

pub(crate) fn check_name(name: &str) -> Result<()> {
    let fits = !name.trim().is_empty() && name.chars().count() <= NAME_CHARS_MAX;
    if fits && !name.chars().any(char::is_control) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "a name has 1 to {NAME_CHARS_MAX} characters and no control characters"
    )))
}

pub(crate) fn check_provider(provider: &str) -> Result<()> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let fits = !provider.is_empty() && provider.len() <= PROVIDER_BYTES_MAX;
    if fits && provider.bytes().all(allowed) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "a provider's name has 1 to {PROVIDER_BYTES_MAX} characters of [A-Za-z0-9._-]"
    )))
}

pub(crate) fn check_provider_key(key: &Secret) -> Result<()> {
    let text = key.expose();
    if text.is_empty() || text.len() > PROVIDER_KEY_BYTES_MAX {
        return Err(Error::invalid(format!(
            "a provider key has 1 to {PROVIDER_KEY_BYTES_MAX} bytes"
        )));
    }
    Ok(())
}

pub(crate) fn check_provider_count(count: usize) -> Result<()> {
    bounded(count, PROVIDER_KEYS_MAX, "provider keys")
}

pub(crate) fn check_token(token: &TokenRow) -> Result<()> {
    if token.max_requests.is_some_and(|count| count > COUNT_MAX) {
        return Err(Error::invalid("max_requests is at most 2^53"));
    }
    let description = token.description.as_ref().map_or(0, String::len);
    bounded(description, DESCRIPTION_BYTES_MAX, "bytes of description")?;
    let models = token.allowed_models.as_deref().unwrap_or_default();
    bounded(models.len(), MODELS_MAX, "allowed models")?;
    for model in models {
        bounded(model.len(), MODEL_BYTES_MAX, "bytes in the name of a model")?;
    }
    Ok(())
}

pub(crate) fn check_management_key(key: &ManagementKey) -> Result<()> {
    check_name(&key.name)?;
    bounded(key.project_ids.as_ref().map_or(0, Vec::len), PROJECT_IDS_MAX, "project ids")
}

pub(crate) fn check_setting(name: &str, value: Option<&str>) -> Result<()> {
    bounded(name.len(), SETTING_NAME_BYTES_MAX, "bytes in the name of a setting")?;
    bounded(value.map_or(0, str::len), SETTING_VALUE_BYTES_MAX, "bytes in a setting")
}

fn bounded(count: usize, max: usize, what: &'static str) -> Result<()> {
    if count <= max { Ok(()) } else { Err(Error::invalid(format!("at most {max} {what}"))) }
}
