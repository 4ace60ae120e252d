//! `llm-proxy config check|show`.

use std::{
    io::{self, Write},
    path::Path,
};

use crate::config::{Config, Environment};

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::Subcommand)]
pub enum ConfigCommand {
    /// Say whether a server would start with this; all problems at once
    Check,
    /// Print every setting in effect and where it comes from; secrets as ***
    Show,
}

pub fn run(
    command: &ConfigCommand,
    environment: &Environment,
    file: Option<&Path>,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let config = Config::load(environment, file)?;
    match command {
        ConfigCommand::Check => check(&config, out)?,
        ConfigCommand::Show => show(&config, out)?,
    }
    Ok(())
}

fn check(config: &Config, out: &mut dyn Write) -> io::Result<()> {
    for warning in &config.warnings {
        writeln!(out, "warning: {warning}")?;
    }
    let providers: Vec<&str> = config.providers.all.iter().map(|it| &*it.name).collect();
    writeln!(out, "valid; providers: {}", providers.join(", "))
}

fn show(config: &Config, out: &mut dyn Write) -> io::Result<()> {
    for line in &config.shown {
        writeln!(out, "{:<26} {:<46} {}", line.key, line.value, line.origin)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_effect_is_shown_without_secrets() {
        let environment = Environment::from([
            ("MANAGEMENT_TOKEN".to_owned(), "canary-secret-of-length".to_owned()),
            ("LISTEN_ADDR".to_owned(), ":9000".to_owned()),
        ]);
        let mut out = Vec::new();
        run(&ConfigCommand::Show, &environment, None, &mut out).expect("valid");
        let text = String::from_utf8(out).expect("UTF-8");
        assert!(!text.contains("canary"), "{text}");
        let words = |key: &str| {
            let line = text.lines().find(|line| line.starts_with(key)).expect("shown");
            line.split_whitespace().map(ToOwned::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(words("MANAGEMENT_TOKEN"), ["MANAGEMENT_TOKEN", "***", "environment"]);
        assert_eq!(words("LISTEN_ADDR"), ["LISTEN_ADDR", "0.0.0.0:9000", "environment"]);
        assert_eq!(words("SHUTDOWN_TIMEOUT"), ["SHUTDOWN_TIMEOUT", "30s", "default"]);
        let database = ["DATABASE_PATH", "$DATA_DIR/llm-proxy.db", "default"];
        assert_eq!(words("DATABASE_PATH"), database);
        let mut out = Vec::new();
        run(&ConfigCommand::Check, &Environment::new(), None, &mut out).expect("valid");
        assert_eq!(out, b"valid; providers: openai, anthropic\n");
    }
}
