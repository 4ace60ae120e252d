//! The real binary as a child process, with real files and real sockets: a
//! home for its data, a provider behind it, and a client that keeps its own
//! account of what it sent.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::{
    client::legacy::{Client as HyperClient, connect::HttpConnector},
    rt::TokioExecutor,
};
use llm_proxy::demo::provider::{Config as ProviderConfig, SampleProvider};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

pub const BINARY: &str = env!("CARGO_BIN_EXE_llm-proxy");
pub const MANAGEMENT_TOKEN: &str = "management-token-of-the-tests";
/// Nothing that is waited for takes longer, however busy the machine is.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(10);
pub const CHAT: &str = "/v1/chat/completions";

/// Waits until `condition` gives something.
pub async fn eventually<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        tokio::time::sleep(LOOK).await;
    }
}

/// Says something about the run that a failure needs to be repeated.
pub fn say(text: &str) {
    eprintln!("{text}");
}

/// Numbers from a seed: `TEST_SEED`, else the clock. The seed is printed.
pub struct Dice(u64);

impl Dice {
    pub fn thrown(test: &str) -> Self {
        #[expect(clippy::disallowed_methods, reason = "a test's own switch and its own moment")]
        let seed =
            std::env::var("TEST_SEED").ok().and_then(|seed| seed.parse().ok()).or_else(|| {
                let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
                since.ok().map(|since| since.subsec_nanos().into())
            });
        let seed = seed.unwrap_or(1);
        say(&format!("{test}: TEST_SEED={seed}"));
        Self(seed)
    }

    /// Numbers of their own for a task.
    pub fn fork(&mut self) -> Self {
        Self(self.next())
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.below(to - from))
    }
}

/// One data directory and the provider behind it; processes come and go.
pub struct Home {
    /// Where everything of the test lies.
    pub dir: tempfile::TempDir,
    /// What the process finds in its environment.
    pub environment: BTreeMap<&'static str, String>,
    pub provider: SampleProvider,
}

impl Home {
    /// The sample provider as `openai` and `anthropic`.
    pub async fn new() -> Self {
        let provider = SampleProvider::start(ProviderConfig::default()).await.unwrap();
        let home = Self::around(provider);
        home.serve_from(&home.provider.url());
        home
    }

    fn around(provider: SampleProvider) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let text = |path: PathBuf| path.display().to_string();
        let environment = BTreeMap::from([
            ("LISTEN_ADDR", "127.0.0.1:0".to_owned()),
            ("DATA_DIR", text(dir.path().join("data"))),
            ("API_CONFIG_PATH", text(dir.path().join("providers.yaml"))),
            ("MANAGEMENT_TOKEN", MANAGEMENT_TOKEN.to_owned()),
        ]);
        Self { dir, environment, provider }
    }

    /// Names the address of both providers, from the next start on.
    pub fn serve_from(&self, url: &str) {
        let endpoints = "allowed_endpoints: [/v1/*]";
        let methods = "allowed_methods: [GET, POST, DELETE]";
        let times = "timeouts: { request: 60s, response_header: 30s }";
        let api = |name: &str| {
            format!(
                "  {name}:\n    kind: {name}\n    base_url: {url}\n    {endpoints}\n    \
                 {methods}\n    {times}\n"
            )
        };
        let file = format!("default_api: openai\napis:\n{}{}", api("openai"), api("anthropic"));
        std::fs::write(self.dir.path().join("providers.yaml"), file).unwrap();
    }

    pub fn set(&mut self, name: &'static str, value: impl Into<String>) {
        self.environment.insert(name, value.into());
    }

    pub fn data_dir(&self) -> &Path {
        Path::new(&self.environment["DATA_DIR"])
    }

    pub fn database(&self) -> PathBuf {
        self.data_dir().join("llm-proxy.db")
    }

    /// The database, opened as another process would open it.
    pub async fn other_store(&self) -> store::Store {
        struct Clock;
        impl domain::time::Clock for Clock {
            fn now(&self) -> domain::time::Timestamp {
                domain::time::Timestamp::from_micros(1_800_000_000_000_000)
            }
        }
        let key = std::fs::read_to_string(self.data_dir().join("keys/encryption-key")).unwrap();
        let key = domain::secret::Secret::new(key.trim().to_owned());
        let instance = domain::ids::InstanceId::parse("other").unwrap();
        store::Store::open(
            store::Options::new(self.database(), instance, uuid::Uuid::nil()),
            store::EncryptionKeys::parse(&key, &[]).unwrap(),
            std::sync::Arc::new(Clock),
            std::sync::Arc::new(llm_proxy::system::SystemRng),
        )
        .await
        .unwrap()
    }

    pub fn journal_dir(&self) -> PathBuf {
        self.data_dir().join("journal")
    }

    /// The journal's files, oldest first.
    pub fn journal_files(&self) -> Vec<PathBuf> {
        let Ok(listing) = std::fs::read_dir(self.journal_dir()) else { return Vec::new() };
        let mut files: Vec<PathBuf> = listing
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|ending| ending == "jsonl"))
            .collect();
        files.sort();
        files
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command.args(arguments).env_clear().envs(&self.environment).stdin(Stdio::null());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Starts a server and waits until it serves.
    pub async fn start(&self) -> Proxy {
        self.start_showing(Stdio::null()).await
    }

    pub async fn start_showing(&self, stdout: Stdio) -> Proxy {
        let known = self.readinesses();
        let mut proxy = self.spawn(stdout);
        proxy.address = eventually("the server is ready", async || {
            if let Some(status) = proxy.child.try_wait().unwrap() {
                panic!("the server ended: {status}\n{}", self.errors());
            }
            let fresh = self.readinesses().into_iter().find(|it| !known.contains(it));
            fresh.map(|(_, address)| address)
        })
        .await;
        proxy
    }

    /// Starts a server and does not wait for anything.
    pub fn spawn(&self, stdout: Stdio) -> Proxy {
        let errors = std::fs::File::options()
            .append(true)
            .create(true)
            .open(self.dir.path().join("stderr"))
            .unwrap();
        let mut command = self.command(&["server"]);
        let child = command.stdout(stdout).stderr(errors).spawn().unwrap();
        Proxy { child, address: SocketAddr::from(([127, 0, 0, 1], 0)), client: Client::new() }
    }

    /// What servers wrote to stderr.
    pub fn errors(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("stderr")).unwrap_or_default()
    }

    /// When which server said that it is ready, as far as it is not sealed.
    fn readinesses(&self) -> Vec<(String, SocketAddr)> {
        let mut found = Vec::new();
        for file in self.journal_files() {
            // A file may go between the listing and the look.
            let text = std::fs::read(file).unwrap_or_default();
            for line in text.split(|byte| *byte == b'\n') {
                if memchr::memmem::find(line, b"\"msg\":\"ready\"").is_none() {
                    continue;
                }
                let Ok(line) = serde_json::from_slice::<Value>(line) else { continue };
                let address = line["address"].as_str().and_then(|text| text.parse().ok());
                found.extend(address.map(|address| (line["ts"].to_string(), address)));
            }
        }
        found
    }

    /// Every committed record, as the command line reads them.
    pub fn records(&self) -> Vec<Value> {
        let output = self.run(&SEARCH);
        let code = output.status.code();
        assert!(matches!(code, Some(0 | 1)), "{}", text(&output.stderr));
        records_in(&output)
    }

    /// What records there are in a journal that was tampered with.
    pub fn readable_records(&self) -> Vec<Value> {
        records_in(&self.run(&SEARCH))
    }

    /// Proves the books from the files, and returns what was said.
    pub fn check(&self) -> String {
        let output = self.run(&["logs", "check"]);
        let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(0), "logs check: {said}");
        said
    }

    /// Records by request id; each id has one.
    pub fn records_by_id(&self) -> HashMap<String, Value> {
        let mut by_id = HashMap::new();
        for record in self.records() {
            let id = record["request_id"].as_str().unwrap().to_owned();
            let before = by_id.insert(id, record);
            assert!(before.is_none(), "two records of one request: {before:?}");
        }
        by_id
    }
}

const SEARCH: [&str; 8] = ["logs", "search", "--stream", "record", "--limit", "0", "-o", "raw"];

fn records_in(output: &Output) -> Vec<Value> {
    let lines = output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A running server. Dropping it kills it.
pub struct Proxy {
    pub child: Child,
    pub address: SocketAddr,
    pub client: Client,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A project's token.
#[derive(Clone, Debug)]
pub struct Credential {
    pub id: String,
    pub secret: String,
}

impl Proxy {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// kill -9.
    pub fn kill(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        self.child.wait().unwrap();
    }

    pub fn terminate(&self) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).unwrap();
    }

    pub async fn ended(&mut self) -> ExitStatus {
        eventually("the server ends", async || self.child.try_wait().unwrap()).await
    }

    /// SIGTERM, and a good end.
    pub async fn stop(mut self) {
        self.terminate();
        let status = self.ended().await;
        assert_eq!(status.code(), Some(0), "the server's end");
    }

    /// A management call: status and body.
    pub async fn manage(&self, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
        self.client.manage(self.address, method, path, body).await.expect("an answer")
    }

    /// A project with the sample provider's key, and a token of it.
    pub async fn token(&self, home: &Home, name: &str, max_requests: Option<u64>) -> Credential {
        let key = home.provider.key().expose();
        let keys = json!({ "openai": key, "anthropic": key });
        let body = json!({ "name": name, "provider_keys": keys });
        let (status, project) = self.manage(Method::POST, "/manage/projects", Some(body)).await;
        assert_eq!(status, 201, "{project}");
        self.token_of(&project["id"], max_requests).await
    }

    pub async fn token_of(&self, project: &Value, max_requests: Option<u64>) -> Credential {
        let mut body = json!({ "project_id": project, "duration_minutes": 600 });
        if let Some(max) = max_requests {
            body["max_requests"] = max.into();
        }
        let (status, token) = self.manage(Method::POST, "/manage/tokens", Some(body)).await;
        assert_eq!(status, 201, "{token}");
        let field = |name: &str| token[name].as_str().unwrap().to_owned();
        Credential { id: field("id"), secret: field("token") }
    }

    /// What is counted for a token, in memory or in the database.
    pub async fn uses(&self, token: &Credential) -> u64 {
        let path = format!("/manage/tokens/{}", token.id);
        let (status, view) = self.manage(Method::GET, &path, None).await;
        assert_eq!(status, 200, "{view}");
        view["request_count"].as_u64().unwrap()
    }

    /// `/ready`: its status, and the checks that fail with their reasons.
    pub async fn ready(&self) -> (u16, BTreeMap<String, String>) {
        let (status, body) = self.manage(Method::GET, "/ready", None).await;
        let checks = body["checks"].as_object().unwrap().iter();
        let failing = checks.filter(|(_, state)| state.as_str() != Some("ok"));
        (status, failing.map(|(name, why)| (name.clone(), why.to_string())).collect())
    }

    /// One figure of `/metrics`, summed over its labels.
    pub async fn metric(&self, name: &str) -> f64 {
        let uri = format!("http://{}/metrics", self.address).parse().unwrap();
        let response = self.client.http.get(uri).await.unwrap();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let body = text(&body);
        let lines = body.lines().filter(|line| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
        });
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// The books balance, and nothing is in flight any more.
    pub async fn settled(&self) -> Books {
        eventually("nothing is in flight", async || {
            let books = self.books().await;
            books.assert_balanced();
            (books.in_flight == 0).then_some(books)
        })
        .await
    }

    pub async fn books(&self) -> Books {
        let uri = format!("http://{}/metrics", self.address).parse().unwrap();
        let response = self.client.http.get(uri).await.unwrap();
        let body = text(&response.into_body().collect().await.unwrap().to_bytes());
        let sum = |name: &str| {
            let lines = body.lines().filter(|line| {
                line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
            });
            let figures = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
            figures.sum::<f64>() as u64
        };
        Books {
            accepted: sum("llm_proxy_records_accepted_total"),
            stored: sum("llm_proxy_records_stored_total"),
            coalesced: sum("llm_proxy_records_coalesced_total"),
            lost: sum("llm_proxy_records_lost_total"),
            in_flight: sum("llm_proxy_records_in_flight"),
        }
    }

    /// Resident memory in bytes: `VmRSS`, or at its peak `VmHWM`.
    pub fn memory(&self, figure: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with(figure)).unwrap();
        let kilobytes = line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap();
        kilobytes * 1024
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Books {
    pub accepted: u64,
    pub stored: u64,
    pub coalesced: u64,
    pub lost: u64,
    pub in_flight: u64,
}

impl Books {
    pub fn assert_balanced(&self) {
        let Self { accepted, stored, coalesced, lost, in_flight } = *self;
        assert_eq!(accepted, stored + coalesced + lost + in_flight, "{self:?}");
    }
}

/// One request as a test sends it.
#[derive(Clone, Debug)]
pub struct Ask {
    pub id: String,
    pub path: &'static str,
    pub token: String,
    /// For the sample provider.
    pub directives: String,
    pub body: String,
}

impl Ask {
    pub fn chat(token: &Credential, id: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            path: CHAT,
            token: token.secret.clone(),
            directives: String::new(),
            body: chat(false),
        }
    }

    pub fn told(mut self, directives: impl Into<String>) -> Self {
        self.directives = directives.into();
        self
    }

    pub fn streamed(mut self) -> Self {
        self.body = chat(true);
        self
    }

    pub fn saying(mut self, body: impl Into<String>) -> Self {
        self.body = body.into();
        self
    }
}

pub fn chat(stream: bool) -> String {
    let mut body = json!({"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]});
    if stream {
        body["stream"] = true.into();
        body["stream_options"] = json!({"include_usage": true});
    }
    body.to_string()
}

/// What became of one request, as the client saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub id: String,
    pub sent_at: Instant,
    pub head: Option<(StatusCode, Instant)>,
    /// When the last byte of a whole answer came.
    pub whole_at: Option<Instant>,
    pub bytes: u64,
    /// The error code of a short answer.
    pub code: Option<String>,
}

impl Seen {
    pub fn status(&self) -> Option<u16> {
        self.head.map(|(status, _)| status.as_u16())
    }

    /// The whole answer of a provider that was content.
    pub fn is_good(&self) -> bool {
        self.status() == Some(200) && self.whole_at.is_some()
    }
}

/// Answers up to this long are kept, for their error codes.
const KEPT_BYTES: usize = 4096;

#[derive(Clone)]
pub struct Client {
    pub http: HyperClient<HttpConnector, Full<Bytes>>,
}

impl Client {
    pub fn new() -> Self {
        Self { http: HyperClient::builder(TokioExecutor::new()).build_http() }
    }

    /// Sends and reads to the end, whatever that is.
    /// A management call: status and body; none if the server is gone.
    pub async fn manage(
        &self,
        address: SocketAddr,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Option<(u16, Value)> {
        let request = Request::builder()
            .method(method)
            .uri(format!("http://{address}{path}"))
            .header(header::AUTHORIZATION, format!("Bearer {MANAGEMENT_TOKEN}"))
            .header(header::CONTENT_TYPE, "application/json");
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let response = self.http.request(request.body(body.into()).unwrap());
        let response = tokio::time::timeout(PATIENCE, response).await.expect("no hang").ok()?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.ok()?.to_bytes();
        Some((status, serde_json::from_slice(&body).unwrap_or(Value::Null)))
    }

    pub async fn ask(&self, address: SocketAddr, ask: &Ask) -> Seen {
        let mut seen = Seen {
            id: ask.id.clone(),
            sent_at: Instant::now(),
            head: None,
            whole_at: None,
            bytes: 0,
            code: None,
        };
        let exchange = self.exchange(address, ask, &mut seen);
        tokio::time::timeout(PATIENCE, exchange).await.expect("no request hangs");
        seen
    }

    async fn exchange(&self, address: SocketAddr, ask: &Ask, seen: &mut Seen) {
        let mut request = Request::builder()
            .method(if ask.body.is_empty() { "GET" } else { "POST" })
            .uri(format!("http://{address}{}", ask.path))
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::AUTHORIZATION, format!("Bearer {}", ask.token))
            .header("x-request-id", &ask.id);
        if !ask.directives.is_empty() {
            request = request.header("x-sample", &ask.directives);
        }
        let request = request.body(Full::from(ask.body.clone())).unwrap();
        let Ok(response) = self.http.request(request).await else { return };
        seen.head = Some((response.status(), Instant::now()));
        let mut body = response.into_body();
        let mut kept = Vec::new();
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { return };
            let Some(data) = frame.data_ref() else { continue };
            seen.bytes += data.len() as u64;
            if kept.len() + data.len() <= KEPT_BYTES {
                kept.extend_from_slice(data);
            }
        }
        seen.whole_at = Some(Instant::now());
        let body: Value = serde_json::from_slice(&kept).unwrap_or(Value::Null);
        let code = body.pointer("/error/code").or(body.get("code"));
        seen.code = code.and_then(Value::as_str).map(str::to_owned);
    }
}
