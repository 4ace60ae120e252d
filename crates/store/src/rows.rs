//! From columns to values and back. A column that cannot be read is damage.

use std::{collections::BTreeMap, str::FromStr};

use domain::{
    capture::Capture,
    ids::{ManagementKeyId, ProjectId, TokenId},
    labels::Labels,
    role::Role,
    time::Timestamp,
    token::TokenHash,
};
use serde::de::DeserializeOwned;
use sqlx::Row as _;

use crate::{
    dialect::Row,
    error::{Error, Result},
    model::{ManagementKey, Project, ProviderKeyRow, Setting, TokenRow},
};

fn unreadable(column: &str) -> Error {
    Error::corrupt(format!("the stored value of {column} cannot be read"))
}

pub(crate) fn parsed<T: FromStr>(row: &Row, column: &str) -> Result<T> {
    row.try_get::<&str, _>(column)?.parse().map_err(|_| unreadable(column))
}

pub(crate) fn text(row: &Row, column: &str) -> Result<String> {
    Ok(row.try_get(column)?)
}

pub(crate) fn time(row: &Row, column: &str) -> Result<Timestamp> {
    Ok(Timestamp::from_micros(row.try_get(column)?))
}

pub(crate) fn time_if(row: &Row, column: &str) -> Result<Option<Timestamp>> {
    Ok(row.try_get::<Option<i64>, _>(column)?.map(Timestamp::from_micros))
}

pub(crate) fn count(row: &Row, column: &str) -> Result<u64> {
    u64::try_from(row.try_get::<i64, _>(column)?).map_err(|_| unreadable(column))
}

fn flag(row: &Row, column: &str) -> Result<bool> {
    Ok(row.try_get::<i64, _>(column)? != 0)
}

fn json<T: DeserializeOwned>(text: &str, column: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| unreadable(column).with_source(error))
}

fn json_if<T: DeserializeOwned>(row: &Row, column: &str) -> Result<Option<T>> {
    let text: Option<&str> = row.try_get(column)?;
    text.map(|text| json(text, column)).transpose()
}

fn labels(row: &Row, column: &str) -> Result<Labels> {
    json(row.try_get(column)?, column)
}

fn capture(row: &Row, column: &str) -> Result<Option<Capture>> {
    let text: Option<&str> = row.try_get(column)?;
    text.map(|text| Capture::parse(text).ok_or_else(|| unreadable(column))).transpose()
}

/// A number as the databases hold it; the bounds of models keep it in range.
pub(crate) fn stored(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Columns named `p_…`, so that a project joins a token without a clash.
pub(crate) const PROJECT_COLUMNS: &str = "p.id AS p_id, p.name AS p_name, \
    p.is_active AS p_is_active, p.deactivated_at AS p_deactivated_at, p.labels AS p_labels, \
    p.capture_bodies AS p_capture_bodies, p.rev AS p_rev, p.created_at AS p_created_at, \
    p.updated_at AS p_updated_at";

/// A project without its provider keys, which are rows of their own.
pub(crate) fn project(row: &Row) -> Result<Project> {
    Ok(Project {
        id: parsed(row, "p_id")?,
        name: text(row, "p_name")?,
        provider_keys: BTreeMap::new(),
        is_active: flag(row, "p_is_active")?,
        deactivated_at: time_if(row, "p_deactivated_at")?,
        labels: labels(row, "p_labels")?,
        capture_bodies: capture(row, "p_capture_bodies")?,
        rev: count(row, "p_rev")?,
        created_at: time(row, "p_created_at")?,
        updated_at: time(row, "p_updated_at")?,
    })
}

/// A provider key as a row: whose it is, and the sealed text.
pub(crate) struct KeyRow {
    pub(crate) project_id: ProjectId,
    pub(crate) provider: String,
    pub(crate) key_id: String,
    pub(crate) ciphertext: String,
    pub(crate) shown: ProviderKeyRow,
}

pub(crate) const KEY_COLUMNS: &str =
    "project_id, provider, key_id, ciphertext, obfuscated, version, updated_at";

pub(crate) fn provider_key(row: &Row) -> Result<KeyRow> {
    Ok(KeyRow {
        project_id: parsed(row, "project_id")?,
        provider: text(row, "provider")?,
        key_id: text(row, "key_id")?,
        ciphertext: text(row, "ciphertext")?,
        shown: ProviderKeyRow {
            obfuscated: text(row, "obfuscated")?,
            version: count(row, "version")?,
            updated_at: time(row, "updated_at")?,
        },
    })
}

pub(crate) const TOKEN_COLUMNS: &str = "t.id, t.project_id, t.hash, t.obfuscated, t.is_active, \
    t.revoked_at, t.expires_at, t.max_requests, t.rate_limit_rpm, t.allowed_models, t.labels, \
    t.description, t.capture_bodies, t.rev, t.created_at, t.updated_at, u.request_count, \
    u.last_used_at";

/// A token needs its usage beside it, which counters may write.
pub(crate) const TOKEN_TABLES: &str = "tokens t JOIN token_usage u ON u.token_id = t.id";

pub(crate) fn token(row: &Row) -> Result<TokenRow> {
    let number = |column: &str| -> Result<Option<u64>> {
        let number: Option<i64> = row.try_get(column)?;
        number.map(|n| u64::try_from(n).map_err(|_| unreadable(column))).transpose()
    };
    let rpm = number("rate_limit_rpm")?.map(u32::try_from).transpose();
    Ok(TokenRow {
        id: parsed::<TokenId>(row, "id")?,
        project_id: parsed(row, "project_id")?,
        obfuscated: text(row, "obfuscated")?,
        is_active: flag(row, "is_active")?,
        revoked_at: time_if(row, "revoked_at")?,
        expires_at: time_if(row, "expires_at")?,
        max_requests: number("max_requests")?,
        rate_limit_rpm: rpm.map_err(|_| unreadable("rate_limit_rpm"))?,
        allowed_models: json_if(row, "allowed_models")?,
        labels: labels(row, "labels")?,
        description: row.try_get("description")?,
        capture_bodies: capture(row, "capture_bodies")?,
        request_count: count(row, "request_count")?,
        last_used_at: time_if(row, "last_used_at")?,
        rev: count(row, "rev")?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
    })
}

pub(crate) const MANAGEMENT_KEY_COLUMNS: &str = "id, name, obfuscated, role, project_ids, \
    expires_at, revoked_at, rev, created_at, updated_at";

pub(crate) fn management_key(row: &Row) -> Result<ManagementKey> {
    let role = row.try_get::<&str, _>("role")?;
    Ok(ManagementKey {
        id: parsed::<ManagementKeyId>(row, "id")?,
        name: text(row, "name")?,
        obfuscated: text(row, "obfuscated")?,
        role: Role::parse(role).ok_or_else(|| unreadable("role"))?,
        project_ids: json_if(row, "project_ids")?,
        expires_at: time_if(row, "expires_at")?,
        revoked_at: time_if(row, "revoked_at")?,
        rev: count(row, "rev")?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
    })
}

pub(crate) fn setting(row: &Row) -> Result<Setting> {
    Ok(Setting {
        name: text(row, "name")?,
        value: text(row, "value")?,
        rev: count(row, "rev")?,
        updated_at: time(row, "updated_at")?,
    })
}

pub(crate) fn token_hash(row: &Row, column: &str) -> Result<TokenHash> {
    let bytes = unhex(row.try_get(column)?).ok_or_else(|| unreadable(column))?;
    Ok(TokenHash::from_bytes(bytes))
}

/// Lower-case hexadecimal, which every database compares alike.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes every write");
        text
    })
}

/// Exactly 32 bytes of lower-case hexadecimal.
pub(crate) fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    for (slot, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *slot = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}
