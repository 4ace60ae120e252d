//! `llm-proxy logs redact`: what the rules in force would keep of a body, to try
//! a rule before it decides about anybody's.

use std::{
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use clap::Args;
use domain::redact::Source;

use super::TROUBLE;
use crate::config::{Config, Environment};

/// No captured body is longer.
const BODY_BYTES_MAX: u64 = 8 << 20;

#[derive(Debug, Args)]
pub struct RedactArgs {
    /// The body; standard input without it or with -
    file: Option<PathBuf>,
    /// What the body's Content-Type header says; without it the bytes tell
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    /// With what the configuration adds for this provider
    #[arg(long, value_name = "NAME")]
    provider: Option<String>,
    /// Treat it as cut off at its end
    #[arg(long)]
    cut: bool,
}

/// Exit status 0: something was replaced; 1: nothing; 2: it would be left out.
pub fn run(
    args: &RedactArgs,
    environment: &Environment,
    config: Option<&Path>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> u8 {
    match redact(args, environment, config, out, err) {
        Ok(redactions) => u8::from(redactions == 0),
        Err(problem) => {
            // Nobody is left to tell when this fails too.
            writeln!(err, "error: {problem}").unwrap_or_default();
            TROUBLE
        }
    }
}

fn redact(
    args: &RedactArgs,
    environment: &Environment,
    config: Option<&Path>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<u64, String> {
    let config = Config::load(environment, config).map_err(|problems| problems.to_string())?;
    let provider = match &args.provider {
        None => None,
        Some(name) => {
            let known = config.providers.by_name(name);
            Some(known.ok_or_else(|| format!("there is no provider '{name}'"))?)
        }
    };
    let rules = provider.map_or(&config.redaction, |provider| &provider.redaction);
    let bytes = read(args.file.as_deref())?;
    let content_type = args.content_type.as_deref();
    let source = Source { bytes: &bytes, content_type, cut: args.cut };
    let redacted = rules.redact(&source, &[]).map_err(|why| {
        format!("such a body is left out: no rule can read it ({})", why.as_str())
    })?;
    out.write_all(redacted.as_str().as_bytes()).map_err(|error| error.to_string())?;
    out.flush().map_err(|error| error.to_string())?;
    let counts = redacted.by_rule().iter().map(|(rule, count)| format!("{rule} {count}"));
    let counts: Vec<String> = counts.collect();
    let told = if counts.is_empty() { "nothing".to_owned() } else { counts.join(", ") };
    let rules = rules.names().join(", ");
    writeln!(err, "replaced: {told}; rules: {rules}").map_err(|error| error.to_string())?;
    Ok(redacted.redactions())
}

fn read(path: Option<&Path>) -> Result<Vec<u8>, String> {
    let path = path.filter(|path| path.as_os_str() != "-");
    let mut bytes = Vec::new();
    let read = match path {
        None => io::stdin().take(BODY_BYTES_MAX + 1).read_to_end(&mut bytes),
        Some(path) => std::fs::File::open(path)
            .and_then(|file| file.take(BODY_BYTES_MAX + 1).read_to_end(&mut bytes)),
    };
    let name = path.map_or("standard input".into(), Path::to_string_lossy);
    read.map_err(|error| format!("cannot read {name}: {error}"))?;
    if bytes.len() as u64 > BODY_BYTES_MAX {
        return Err(format!("{name} is longer than any captured body ({BODY_BYTES_MAX} bytes)"));
    }
    Ok(bytes)
}
