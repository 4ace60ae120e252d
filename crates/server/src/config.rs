//! What the operator wants: environment over file over default, resolved once.
//!
//! Owns the list of settings (one table, [`settings`], from which parsing,
//! `config show` and docs/configuration.md all come) and the provider file.
//! Promises that every problem is reported at once and names the key, never the
//! value. Must never be consulted later: each part gets what it needs at start.

pub mod docs;
pub mod providers;
pub mod redaction;
pub mod settings;
pub mod source;
pub mod values;

use std::{collections::BTreeMap, path::Path};

use dataplane::provider::Providers;
use domain::redact::Rules;
use sha2::{Digest as _, Sha256};

pub use settings::Settings;
pub use source::Origin;

/// The environment, as `main` read it.
pub type Environment = BTreeMap<String, String>;

/// Names the configuration file.
pub const CONFIG_VARIABLE: &str = "LLM_PROXY_CONFIG";

/// Everything that was configured, resolved.
#[derive(Debug)]
pub struct Config {
    pub settings: Settings,
    pub providers: Providers,
    /// What is taken out of captured bodies, whoever the provider is.
    pub redaction: Rules,
    /// Every setting in the order of the documentation.
    pub shown: Vec<Shown>,
    /// Worth a trace line once traces can be written.
    pub warnings: Vec<String>,
}

/// One line of `config show`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    pub key: &'static str,
    /// Stars for a secret.
    pub value: String,
    pub origin: Origin,
}

/// Why the configuration is refused: one line a problem, each naming its key.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("configuration refused:\n  - {}", .0.join("\n  - "))]
pub struct Problems(pub Vec<String>);

impl Config {
    /// Reads the file (`--config` wins over the variable) and the environment.
    pub fn load(environment: &Environment, file: Option<&Path>) -> Result<Self, Problems> {
        let mut problems = Vec::new();
        let named = environment.get(CONFIG_VARIABLE).filter(|path| !path.is_empty());
        let file = file.or(named.map(Path::new));
        let written = file.map_or_else(Default::default, |path| source::read(path, &mut problems));
        let redaction = redaction::read(&written.redaction, &mut problems);
        let redaction_shown = redaction::shown(&redaction, &written.redaction);
        let mut source = source::Source::new(environment, written.settings);
        let settings = Settings::resolve(&mut source, &mut problems);
        let mut shown = std::mem::take(&mut source.shown);
        shown.push(redaction_shown);
        source.refuse_unknown(settings::ALL, &mut problems);
        let warnings = unknown_variables(environment);
        let Some(settings) = settings else {
            return Err(Problems(problems));
        };
        settings.check_together(&mut problems);
        let providers = providers::load(&settings, &redaction, &mut problems);
        match providers {
            Some(providers) if problems.is_empty() => {
                Ok(Self { settings, providers, redaction, shown, warnings })
            }
            _ => Err(Problems(problems)),
        }
    }
}

impl Config {
    /// Tells one configuration from another and shows nothing of it: SHA-256
    /// over every setting (secrets as stars) and the provider file.
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        for Shown { key, value, .. } in &self.shown {
            hash.update(format!("{key}={}:{value}\n", value.len()));
        }
        let file = self.settings.api_config_path.as_deref();
        if let Some(Ok(bytes)) = file.map(std::fs::read) {
            hash.update(&bytes);
        }
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// A misspelt variable of ours has no effect; somebody should know.
fn unknown_variables(environment: &Environment) -> Vec<String> {
    let ours = environment.keys().filter(|name| name.starts_with("LLM_PROXY_"));
    ours.filter(|name| *name != CONFIG_VARIABLE)
        .map(|name| format!("the environment variable {name} is not known and has no effect"))
        .collect()
}

#[cfg(test)]
mod tests;
