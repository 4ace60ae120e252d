//! The rules that a value must meet before it is stored. Every refusal names
//! the field; none repeats the value.

use std::collections::BTreeMap;

use domain::{
    audit::is_deceptive,
    capture::Capture,
    labels::Labels,
    redact::looks_like_credential,
    secret::{Secret, looks_obfuscated},
    time::Timestamp,
};
use http::HeaderValue;

use super::error::{Error, Result};

pub const NAME_CHARS_MAX: usize = 100;
pub const DESCRIPTION_CHARS_MAX: usize = 1024;
pub const MODELS_MAX: usize = 64;
pub const MODEL_CHARS_MAX: usize = 256;
pub const PROVIDER_KEY_BYTES_MAX: usize = 4096;
/// A year, as in the contract.
pub const DURATION_MINUTES_MAX: u64 = 525_600;
/// SQL's signed integers hold it, and so do JSON's numbers.
pub const MAX_REQUESTS_MAX: u64 = 1 << 53;
pub const RATE_LIMIT_RPM_MAX: u64 = 10_000_000;

pub fn name(field: &'static str, text: &str) -> Result<String> {
    let text = text.trim();
    let chars = text.chars().count();
    if chars == 0 || chars > NAME_CHARS_MAX {
        return Err(Error::invalid(format!("{field} must have 1 to {NAME_CHARS_MAX} characters")));
    }
    visible(field, text)?;
    Ok(text.to_owned())
}

pub fn description(text: String) -> Result<String> {
    if text.chars().count() > DESCRIPTION_CHARS_MAX {
        return Err(Error::invalid(format!(
            "description takes at most {DESCRIPTION_CHARS_MAX} characters"
        )));
    }
    visible("description", &text)?;
    Ok(text)
}

/// Text that stands in lists, entries and terminals holds no control characters,
/// none that turn the direction or cannot be seen, and no credential.
fn visible(field: &'static str, text: &str) -> Result<()> {
    if text.chars().any(is_deceptive) {
        return Err(Error::invalid(format!("{field} must not hold control characters")));
    }
    if looks_like_credential(text) {
        return Err(Error::invalid(format!("{field} must not hold a credential")));
    }
    Ok(())
}

/// A provider's key: something that can stand in a header, and not the
/// obfuscated form that we show.
pub fn provider_key(field: &str, text: String) -> Result<Secret> {
    let secret = Secret::new(text);
    let text = secret.expose();
    if text.is_empty() || text.len() > PROVIDER_KEY_BYTES_MAX {
        return Err(Error::invalid(format!(
            "{field} must have 1 to {PROVIDER_KEY_BYTES_MAX} characters"
        )));
    }
    if looks_obfuscated(text) {
        return Err(Error::invalid(format!(
            "{field} is an obfuscated key; send the key itself or leave the field out"
        )));
    }
    let fits = text.bytes().all(|byte| byte.is_ascii_graphic());
    if !fits || HeaderValue::from_str(text).is_err() {
        return Err(Error::invalid(format!("{field} holds characters that no key has")));
    }
    Ok(secret)
}

pub fn labels(map: BTreeMap<String, Option<String>>) -> Result<Labels> {
    let map: BTreeMap<String, String> = map
        .into_iter()
        .map(|(key, value)| value.map(|value| (key, value)))
        .collect::<Option<_>>()
        .ok_or_else(|| Error::invalid("labels must be an object of strings"))?;
    for (key, value) in &map {
        visible("labels", key)?;
        visible("labels", value)?;
    }
    Labels::try_from(map).map_err(|rule| Error::invalid(format!("labels: {rule}")))
}

pub fn models(models: Vec<String>) -> Result<Vec<String>> {
    if models.is_empty() {
        return Err(Error::invalid("allowed_models must not be empty; null allows every model"));
    }
    for model in &models {
        if model.is_empty() || model.chars().count() > MODEL_CHARS_MAX {
            return Err(Error::invalid(format!(
                "allowed_models takes patterns of 1 to {MODEL_CHARS_MAX} characters"
            )));
        }
        visible("allowed_models", model)?;
    }
    Ok(models)
}

pub fn capture(text: &str) -> Result<Capture> {
    Capture::parse(text)
        .ok_or_else(|| Error::invalid("capture_bodies must be off, errors, all or null"))
}

/// A moment still to come.
pub fn future_time(field: &'static str, text: &str, now: Timestamp) -> Result<Timestamp> {
    let time = Timestamp::parse(text)
        .ok_or_else(|| Error::invalid(format!("{field} must be an RFC 3339 time")))?;
    if time <= now {
        return Err(Error::invalid(format!("{field} must be in the future")));
    }
    Ok(time)
}
