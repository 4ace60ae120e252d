//! A management server in this process, and a client that speaks bytes.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use dataplane::provider::{BaseUrl, Propagate, Provider, Providers, Timeouts};
use domain::{
    audit::{Action, Actor, EntryContext, tree::KeyName},
    context::RequestIds,
    ids::InstanceId,
    provider::ProviderKind,
    record::Envelope,
    rng::Rng,
    secret::Secret,
    time::{ManualClock, Timestamp},
};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use logstore::{
    Journal, JournalConfig,
    catalog::{Catalog, CatalogConfig, Policy},
    fs::StdFs,
};
use serde_json::{Value, json};
use store::{EncryptionKeys, Options, Store};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use super::super::{Management, Origin, Settings};
use crate::{
    app::sequencer::{Parts, Sequencer, TreeConfig},
    directory::{Config, TokenDirectory},
    events::Events,
    manage::{
        Manage, credentials::Credentials, entered::Said, reading::Reader, segments::Segments,
        tree::Tree,
    },
    metrics::Metrics,
    readiness::Readiness,
    system::SystemRng,
    trace::{LevelControl, TraceLevel},
};

pub(crate) const ROOT: &str = "mk-root-canary-0123456789abcdefghijklmnopqrst";

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) management: Arc<Management>,
    pub(crate) journal: Arc<Journal>,
    pub(crate) readiness: Arc<Readiness>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) dir: tempfile::TempDir,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub(crate) const START: Timestamp = Timestamp::from_micros(1_790_000_000_000_000);

pub(crate) fn provider(name: &str, header: &'static str, scheme: &str) -> Arc<Provider> {
    let day = Duration::from_secs(86_400);
    Arc::new(Provider {
        name: name.into(),
        kind: ProviderKind::Openai,
        base: BaseUrl {
            scheme: http::uri::Scheme::HTTP,
            authority: "localhost:1".parse().unwrap(),
            path: String::new(),
        },
        auth_header: http::HeaderName::from_static(header),
        auth_scheme: scheme.to_owned(),
        headers: Vec::new(),
        allowed_endpoints: Vec::new(),
        allowed_methods: Vec::new(),
        param_whitelist: Vec::new(),
        allowed_origins: Vec::new(),
        required_headers: Vec::new(),
        propagate: Propagate::default(),
        timeouts: Timeouts {
            connect: day,
            request: day,
            response_header: day,
            idle_connection: day,
            stream_idle: day,
        },
        max_idle_connections_per_host: 1,
        redaction: Arc::default(),
    })
}

/// Ids of a request that nobody sent.
pub(crate) fn ids() -> RequestIds {
    super::super::context::receive(&http::HeaderMap::new(), START, &SystemRng)
}

pub(crate) fn providers() -> Arc<Providers> {
    let all = vec![
        provider("openai", "authorization", "Bearer "),
        provider("anthropic", "x-api-key", ""),
    ];
    Arc::new(Providers { all, default: 0 })
}

pub(crate) async fn open_store(dir: &std::path::Path, clock: Arc<ManualClock>) -> Store {
    let instance = InstanceId::parse("test").unwrap();
    let options = Options::new(dir.join("llm-proxy.db"), instance, Uuid::from_u128(1));
    let key = Secret::new("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
    let keys = EncryptionKeys::parse(&key, &[]).unwrap();
    Store::open(options, keys, clock, Arc::new(SystemRng)).await.unwrap()
}

/// A catalog of what nobody has written.
fn segments(dir: &std::path::Path, clock: Arc<ManualClock>) -> Segments {
    let config = CatalogConfig::new(dir, InstanceId::parse("test").unwrap(), "0.0.0");
    let opened = Catalog::open(config, Arc::new(StdFs), clock, Box::new(()));
    let catalog = Arc::new(opened.unwrap().0);
    Segments { catalog, policy: Policy::default(), seal_now: Arc::new(|| Ok(0)) }
}

/// A journal that the tests write.
pub(crate) fn journal(dir: &std::path::Path, clock: &Arc<ManualClock>) -> Arc<Journal> {
    let envelope = Envelope { instance: InstanceId::parse("test").unwrap(), version: "0.0.0" };
    let config = JournalConfig::new(logstore::journal_dir(dir));
    let fs = Arc::new(StdFs);
    Arc::new(Journal::open(config, envelope, fs, clock.clone(), Box::new(())).unwrap().0)
}

fn reader(dir: &std::path::Path, journal: Arc<Journal>, stop: &CancellationToken) -> Reader {
    let (following, committed) = (Arc::clone(&journal), journal);
    let follow = Arc::new(move |seq| following.follower(seq));
    let committed = Arc::new(move || committed.committed());
    let instance = InstanceId::parse("test").unwrap();
    Reader::new(Arc::new(StdFs), dir, instance, follow, committed, stop.clone())
}

/// A sequencer that ends with the test's runtime.
async fn sequencer(
    dir: &std::path::Path,
    store: &Store,
    clock: &Arc<ManualClock>,
    journal: &Arc<Journal>,
) -> Tree {
    let committed = Arc::clone(journal);
    let parts = Parts {
        store: store.clone(),
        clock: clock.clone(),
        rng: Arc::new(SystemRng),
        tree: TreeConfig {
            data_dir: dir.to_owned(),
            origin: KeyName::parse(store.audit_origin()).unwrap(),
            keys: Vec::new(),
            envelope: Envelope { instance: InstanceId::parse("test").unwrap(), version: "0.0.0" },
        },
        follower: journal.follower(0).with_own_lines(),
        committed: Arc::new(move || committed.committed()),
        intake: None,
        command: None,
    };
    Sequencer::begin(parts).await.tree
}

/// A management side with nothing listening.
async fn management(
    dir: &std::path::Path,
    clock: Arc<ManualClock>,
    readiness: Arc<Readiness>,
    (tasks, stop): (&TaskTracker, &CancellationToken),
    journal: Arc<Journal>,
    reasons_required: Vec<Action>,
) -> Arc<Management> {
    let store = open_store(dir, Arc::clone(&clock)).await;
    let events = Events::in_database(store.clone(), clock.clone());
    let providers = providers();
    let directory = TokenDirectory::start(
        store.clone(),
        Arc::clone(&providers),
        clock.clone(),
        Config::new(Duration::from_secs(900)),
        tasks,
        stop.clone(),
    )
    .await
    .unwrap();
    let tree = sequencer(dir, &store, &clock, &journal).await;
    let manage = Arc::new(Manage {
        tree,
        credentials: Credentials::new(&Secret::new(ROOT), store.token_hash_key()),
        store,
        directory,
        levels: LevelControl::new(TraceLevel::Info),
        segments: segments(dir, Arc::clone(&clock)),
        reader: reader(dir, journal, stop),
        events,
        said: Said::default(),
        reasons_required,
        clock,
        rng: Arc::new(SystemRng),
        default_provider: "openai".into(),
        providers: providers.all.iter().map(|provider| Arc::clone(&provider.name)).collect(),
    });
    let settings = Settings {
        metrics_path: Some("/metrics".to_owned()),
        metrics_token: Some(Secret::new("scrape-me")),
        trusted_proxies: vec!["127.0.0.0/8".parse().unwrap()],
        version: "0.0.0-test",
    };
    Management::new(
        manage,
        settings,
        readiness,
        Arc::new(Metrics::new("0.0.0-test", "test").unwrap()),
        tasks.clone(),
    )
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::start_asking(Vec::new()).await
    }

    /// One that wants a reason for some actions.
    pub(crate) async fn start_asking(reasons_required: Vec<Action>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(START));
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let readiness = Readiness::new();
        readiness.started();
        let journal = journal(dir.path(), &clock);
        let ready = Arc::clone(&readiness);
        let kept = Arc::clone(&journal);
        let management =
            management(dir.path(), clock.clone(), ready, (&tasks, &stop), kept, reasons_required)
                .await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(accept(listener, Arc::clone(&management), stop.clone()));
        Self { address, management, journal, readiness, clock, dir, tasks, stop }
    }

    pub(crate) fn store(&self) -> &Store {
        &self.management.manage.store
    }

    pub(crate) async fn call(&self, ask: Ask) -> Reply {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(&ask.bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        Reply::parse(&answer)
    }

    /// A management key with this role, as the API makes it.
    pub(crate) async fn key(&self, role: &str, projects: Option<&[&str]>) -> (String, String) {
        let body = json!({ "name": format!("{role}-{}", Uuid::new_v4_like()), "role": role, "project_ids": projects });
        let reply = self.call(post("/manage/keys", body)).await;
        assert_eq!(reply.status, 201, "{}", reply.body);
        (reply.text("id"), reply.text("key"))
    }

    pub(crate) async fn project(&self, name: &str) -> String {
        let body = json!({ "name": name, "api_key": "sk-provider-key-0123456789" });
        let reply = self.call(post("/manage/projects", body)).await;
        assert_eq!(reply.status, 201, "{}", reply.body);
        reply.text("id")
    }

    pub(crate) async fn token(&self, project: &str) -> (String, String) {
        let body = json!({ "project_id": project, "duration_minutes": 60 });
        let reply = self.call(post("/manage/tokens", body)).await;
        assert_eq!(reply.status, 201, "{}", reply.body);
        (reply.text("id"), reply.text("token"))
    }

    /// Holds the database's write lock.
    pub(crate) async fn lock(&self) -> store::AuditedTx {
        self.store().begin(Actor::system(), EntryContext::default()).await.unwrap()
    }
}

/// Distinct names without a feature of the uuid crate.
trait V4Like {
    fn new_v4_like() -> Self;
}

impl V4Like for Uuid {
    fn new_v4_like() -> Self {
        Self::from_u64_pair(SystemRng.next_u64(), SystemRng.next_u64())
    }
}

async fn accept(listener: TcpListener, management: Arc<Management>, stop: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = accepted.unwrap();
        let management = Arc::clone(&management);
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let management = Arc::clone(&management);
                async move {
                    let origin = Origin::Network(peer.ip());
                    Ok::<_, std::convert::Infallible>(management.handle(request, origin).await)
                }
            });
            // Tests cut connections on purpose.
            drop(
                hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await,
            );
        });
    }
}

/// A request to send.
#[derive(Clone)]
pub(crate) struct Ask {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) key: Option<String>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Bytes,
}

pub(crate) fn ask(method: &str, path: &str) -> Ask {
    Ask {
        method: method.to_owned(),
        path: path.to_owned(),
        key: Some(ROOT.to_owned()),
        headers: Vec::new(),
        body: Bytes::new(),
    }
}

pub(crate) fn get(path: &str) -> Ask {
    ask("GET", path)
}

pub(crate) fn post(path: &str, body: Value) -> Ask {
    ask("POST", path).body(body.to_string())
}

pub(crate) fn patch(path: &str, body: Value) -> Ask {
    ask("PATCH", path).body(body.to_string())
}

impl Ask {
    pub(crate) fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    pub(crate) fn key(mut self, key: Option<&str>) -> Self {
        self.key = key.map(str::to_owned);
        self
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\nhost: x\r\n", self.method, self.path);
        head.push_str("connection: close\r\n");
        if let Some(key) = &self.key {
            head.push_str(&format!("authorization: Bearer {key}\r\n"));
        }
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if self.method != "GET" {
            head.push_str(&format!("content-length: {}\r\n", self.body.len()));
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

/// An answer, taken apart.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) raw: String,
    pub(crate) body: Value,
}

impl Reply {
    fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let (head, raw) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.get(9..12).and_then(|status| status.parse().ok()).unwrap_or(0);
        let body = serde_json::from_str(raw).unwrap_or(Value::Null);
        Self { status, head: head.to_ascii_lowercase(), raw: raw.to_owned(), body }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    pub(crate) fn text(&self, field: &str) -> String {
        self.body[field].as_str().unwrap_or_default().to_owned()
    }
}
