//! llm-proxy itself: built in release, started in a fresh data directory, given
//! a project and a token through its own API, and its books checked at the end.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::{
    measure::{Phases, Target},
    process::{Running, free_address},
    wire::{Answer, Blocking, wait_for},
};
use crate::shell;

/// The cargo feature of `server` that lets the benchmark wire a null outbox.
pub const FEATURE: &str = "bench";
const NULL_OUTBOX: &str = "--bench-null-outbox";
const MANAGEMENT_KEY: &str = "mk-benchmark-management-key-0123456789abcdef";
const PROVIDER_KEY: &str = "sk-provider-key-of-the-benchmark";
const START_TIMEOUT: Duration = Duration::from_secs(30);
const TOKEN_MINUTES: u32 = 600;

/// Whether the product writes its records.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Records {
    /// To the journal and to a file, as in production.
    On,
    /// Nowhere.
    Off,
}

/// One running product.
pub struct Product {
    process: Running,
    address: SocketAddr,
    token: String,
    records: Records,
    data: PathBuf,
}

/// What was sent and what was written.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Books {
    pub target: String,
    pub sent: u64,
    pub records: u64,
}

impl Books {
    pub fn balance(&self) -> bool {
        self.sent == self.records
    }
}

/// Builds the binary; nothing to build when only the harness is tried.
pub fn build(inner: bool) -> Result<Option<PathBuf>> {
    if inner {
        return Ok(None);
    }
    let mut command = shell::cargo(["build", "--release", "--package", "server"]);
    if has_feature()? {
        command.args(["--features", FEATURE]);
    }
    shell::run(command)?;
    Ok(Some(shell::target_dir().join("release/llm-proxy")))
}

fn has_feature() -> Result<bool> {
    let metadata = shell::metadata(&["--no-deps"])?;
    let packages = metadata["packages"].as_array().context("packages")?;
    let server = packages.iter().find(|package| package["name"] == "server");
    Ok(server.is_some_and(|server| server["features"].get(FEATURE).is_some()))
}

/// With and, where the build can, without records.
pub fn variants() -> Result<Vec<Records>> {
    if has_feature()? {
        return Ok(vec![Records::On, Records::Off]);
    }
    println!("server has no feature '{FEATURE}': the cost of the record cannot be measured");
    Ok(vec![Records::On])
}

impl Product {
    pub fn start(
        binary: &Path,
        records: Records,
        upstream: SocketAddr,
        dir: &Path,
    ) -> Result<Self> {
        let name = name(records);
        let data = dir.join(format!("{name}-data"));
        let flags: &[String] = match records {
            Records::On => &[],
            Records::Off => &[NULL_OUTBOX.to_owned()],
        };
        let started = Self::start_on(binary, name, &data, flags, upstream, dir)?;
        Ok(Self { records, ..started })
    }

    /// On a data directory that may hold something; `name` is new to it, and
    /// `dir` takes what the process says.
    pub fn start_on(
        binary: &Path,
        name: &str,
        data: &Path,
        flags: &[String],
        upstream: SocketAddr,
        dir: &Path,
    ) -> Result<Self> {
        let providers = dir.join(format!("{name}-providers.yaml"));
        fs::write(&providers, provider_file(upstream))?;
        let address = free_address()?;
        let mut command = Command::new(binary);
        command
            .arg("server")
            .args(flags)
            .env("LISTEN_ADDR", address.to_string())
            .env("DATA_DIR", data)
            .env("MANAGEMENT_TOKEN", MANAGEMENT_KEY)
            .env("API_CONFIG_PATH", &providers)
            .env("LOG_FILE", dir.join(format!("{name}-records.jsonl")));
        let process = Running::start(name, command, dir)?;
        wait_for(address, START_TIMEOUT)?;
        let token = create_token(address, name).with_context(|| format!("a token of {name}"))?;
        Ok(Self { process, address, token, records: Records::On, data: data.to_owned() })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn token(&self) -> &str {
        &self.token
    }

    /// Ends it without looking at what it left.
    pub fn end(self) -> Result<()> {
        self.process.end()
    }

    pub fn name(&self) -> &'static str {
        name(self.records)
    }

    pub fn target(&self) -> Target {
        Target {
            name: self.name().to_owned(),
            address: self.address,
            prefix: String::new(),
            token: self.token.clone(),
            pid: Some(self.process.pid()),
            phases: if self.records == Records::On { Phases::All } else { Phases::Cpu },
        }
    }

    /// Ends it and counts the records that it left.
    pub fn end_and_count(self, sent: u64) -> Result<Books> {
        let target = self.name().to_owned();
        self.process.end()?;
        let journal = self.data.join("journal");
        // Without records nothing must have been written, with them everything.
        match self.records {
            Records::Off if !journal.exists() => Ok(Books { target, sent: 0, records: 0 }),
            Records::Off => Ok(Books { target, sent: 0, records: count_records(&journal)? }),
            Records::On => Ok(Books { target, sent, records: count_records(&journal)? }),
        }
    }
}

fn name(records: Records) -> &'static str {
    match records {
        Records::On => "llm-proxy",
        Records::Off => "llm-proxy-off",
    }
}

fn provider_file(upstream: SocketAddr) -> String {
    format!(
        "default_api: openai\napis:\n  openai:\n    kind: openai\n    \
         base_url: http://{upstream}\n    allowed_endpoints: [\"/v1/*\"]\n    \
         allowed_methods: [GET, POST]\n"
    )
}

fn create_token(address: SocketAddr, project: &str) -> Result<String> {
    let project = json!({ "name": project, "api_key": PROVIDER_KEY });
    let project = manage(address, "/manage/projects", &project)?;
    let token = json!({ "project_id": project["id"], "duration_minutes": TOKEN_MINUTES });
    let token = manage(address, "/manage/tokens", &token)?;
    Ok(token["token"].as_str().context("no token in the answer")?.to_owned())
}

fn manage(address: SocketAddr, path: &str, body: &Value) -> Result<Value> {
    let body = body.to_string();
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {MANAGEMENT_KEY}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut connection = Blocking::connect(address)?;
    let answer = connection.exchange(request.as_bytes(), Answer::keeping_body())?;
    let body = answer.body.unwrap_or_default();
    if answer.status != 201 {
        bail!("{path}: status {}: {}", answer.status, String::from_utf8_lossy(&body));
    }
    Ok(serde_json::from_slice(&body)?)
}

/// Record lines in the files of a journal. Openings and counters have other
/// shapes, and a field's text cannot hold an unescaped quote.
fn count_records(journal: &Path) -> Result<u64> {
    let mut count = 0;
    for entry in fs::read_dir(journal).with_context(|| journal.display().to_string())? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "jsonl") {
            continue;
        }
        for line in BufReader::new(fs::File::open(&path)?).lines() {
            count += u64::from(line?.contains(r#""stream":"record""#));
        }
    }
    Ok(count)
}
