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
    PROFILE,
    measure::{Phases, Target},
    process::{CpuTime, Running, free_address, peak_bytes},
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
const SEALED_ROWS: &str = "llm_proxy_segments_rows_sealed_total";

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
    binary: PathBuf,
    address: SocketAddr,
    token: String,
    records: Records,
    data: PathBuf,
    shown: PathBuf,
}

/// What was sent and what was written.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Books {
    pub target: String,
    pub sent: u64,
    /// What a search of the data directory finds.
    pub records: u64,
    /// Lines of records in `LOG_FILE`.
    pub shown: u64,
    /// Of them, in segments before the process ended.
    pub sealed: u64,
    pub sealing_cpu_us: f64,
    /// The most memory that was ever resident, sealing included.
    pub peak_bytes: u64,
}

impl Books {
    pub fn balance(&self) -> bool {
        self.sent == self.records && self.sent == self.shown
    }
}

/// Builds the binary; nothing to build when only the harness is tried.
pub fn build(inner: bool) -> Result<Option<PathBuf>> {
    if inner {
        return Ok(None);
    }
    let mut command = shell::cargo(["build", "--profile", PROFILE, "--package", "server"]);
    if has_feature()? {
        command.args(["--features", FEATURE]);
    }
    shell::run(command)?;
    Ok(Some(shell::target_dir().join(PROFILE).join("llm-proxy")))
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
        let shown = dir.join(format!("{name}-records.jsonl"));
        let mut command = Command::new(binary);
        command
            .arg("server")
            .args(flags)
            .env("LISTEN_ADDR", address.to_string())
            .env("DATA_DIR", data)
            .env("MANAGEMENT_TOKEN", MANAGEMENT_KEY)
            .env("API_CONFIG_PATH", &providers)
            .env("LOG_FILE", &shown);
        let process = Running::start(name, command, dir)?;
        wait_for(address, START_TIMEOUT)?;
        let token = create_token(address, name).with_context(|| format!("a token of {name}"))?;
        let (binary, data) = (binary.to_owned(), data.to_owned());
        Ok(Self { process, binary, address, token, records: Records::On, data, shown })
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

    /// Ends it and counts the records that it left, in two ways.
    pub fn end_and_count(self, sent: u64) -> Result<Books> {
        let pid = self.process.pid();
        let sealing_cpu_us = CpuTime::of(pid)?.sealing_micros_since(CpuTime::default());
        let peak_bytes = peak_bytes(pid)?;
        let sealed = sealed_rows(self.address)?;
        let target = self.name().to_owned();
        self.process.end()?;
        // Without records nothing must have been written, with them everything.
        let sent = if self.records == Records::Off { 0 } else { sent };
        let records = found_records(&self.binary, &self.data)?;
        let shown = count_lines(&self.shown)?;
        Ok(Books { target, sent, records, shown, sealed, sealing_cpu_us, peak_bytes })
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

/// Rows in segments, by the product's own metric.
fn sealed_rows(address: SocketAddr) -> Result<u64> {
    let request = format!("GET /metrics HTTP/1.1\r\nhost: {address}\r\n\r\n");
    let mut connection = Blocking::connect(address)?;
    let answer = connection.exchange(request.as_bytes(), Answer::keeping_body())?;
    let body = String::from_utf8(answer.body.unwrap_or_default()).context("metrics are text")?;
    let line = body.lines().find_map(|line| line.strip_prefix(SEALED_ROWS));
    let rows = line.context("the metric of sealed rows")?.trim().parse::<f64>()?;
    Ok(rows as u64)
}

/// What a search for everything finds in a data directory that nobody writes.
fn found_records(binary: &Path, data: &Path) -> Result<u64> {
    let mut command = Command::new(binary);
    command.args(["logs", "search", "--count", "--stream", "record", "--data-dir"]).arg(data);
    let output = command.output().context("count the records")?;
    // 1: nothing was found.
    if !matches!(output.status.code(), Some(0 | 1)) {
        bail!("count the records: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let count = String::from_utf8(output.stdout).context("a count is text")?;
    count.trim().parse().with_context(|| format!("a count, not '{}'", count.trim()))
}

/// Record lines as they were shown. A field's text cannot hold an unescaped
/// quote.
fn count_lines(shown: &Path) -> Result<u64> {
    let file = fs::File::open(shown).with_context(|| shown.display().to_string())?;
    let mut count = 0;
    for line in BufReader::new(file).lines() {
        count += u64::from(line?.contains(r#""stream":"record""#));
    }
    Ok(count)
}
