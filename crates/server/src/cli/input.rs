//! What commands read from around them, and how they put it into requests.

use std::{
    io::{Read, Write},
    path::Path,
};

use anyhow::Context as _;
use domain::secret::Secret;
use serde_json::Value;

use super::show::Format;

/// No key is longer; a wrong file is refused before it is read whole.
const SECRET_BYTES_MAX: u64 = 16 * 1024;

/// The world as a command sees it: passed in, so that tests have their own.
pub struct Surroundings<'a> {
    pub out: &'a mut dyn Write,
    pub input: &'a mut dyn Read,
    pub environment: &'a dyn Fn(&str) -> Option<String>,
    pub format: Format,
    /// Where clients reach the proxy, for hints.
    pub proxy_url: String,
}

/// A secret from where the command says; at most one of the ways is given.
pub fn secret(
    around: &mut Surroundings<'_>,
    stdin: bool,
    file: Option<&Path>,
    variable: Option<&str>,
) -> anyhow::Result<Option<Secret>> {
    let text = if stdin {
        bounded(around.input).context("cannot read standard input")?
    } else if let Some(path) = file {
        let mut file =
            std::fs::File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        bounded(&mut file).with_context(|| format!("cannot read {}", path.display()))?
    } else if let Some(variable) = variable {
        (around.environment)(variable).with_context(|| format!("{variable} is not set"))?
    } else {
        return Ok(None);
    };
    let secret = Secret::new(text.trim());
    drop(Secret::new(text));
    if secret.is_empty() {
        anyhow::bail!("the key is empty");
    }
    Ok(Some(secret))
}

fn bounded(input: &mut dyn Read) -> anyhow::Result<String> {
    let mut text = String::new();
    input.take(SECRET_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > SECRET_BYTES_MAX {
        anyhow::bail!("that is too long for a key");
    }
    Ok(text)
}

/// `NAME=VALUE` pairs as an object; `None` when there are none.
pub fn labels(pairs: &[String]) -> anyhow::Result<Option<Value>> {
    if pairs.is_empty() {
        return Ok(None);
    }
    let mut labels = serde_json::Map::new();
    for pair in pairs {
        let (name, value) = pair.split_once('=').context("--label takes NAME=VALUE")?;
        labels.insert(name.to_owned(), value.into());
    }
    Ok(Some(labels.into()))
}

/// `?a=b&c=d` of what is given; empty for nothing.
pub fn query(parameters: &[(&str, Option<String>)]) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in parameters {
        if let Some(value) = value {
            query.append_pair(name, value);
        }
    }
    let query = query.finish();
    if query.is_empty() { query } else { format!("?{query}") }
}

/// One segment of a path: an id that is none stays one segment.
pub fn segment(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}
