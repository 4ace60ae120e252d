//! A data plane on a loopback port, its records in a channel, and a provider
//! that answers what the test says.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use dataplane::{
    answer::Answer,
    capture::Capturing,
    connect::Upstreams,
    limits::Limits,
    listen::{Fallback, LANE_QUEUE_MAX, Lane, accept},
    observe::{Estimator, TextBudget},
    plane::{Parts, Plane},
    ports::{
        BoxFuture, Denials, Denied, Directory, Found, Grant, Live, NoRoom, Outbox, ProviderKey,
        Unavailable,
    },
    provider::{BaseUrl, Endpoint, Propagate, Provider, Providers, Timeouts},
    scope::Verbosity,
    upstream::Pools,
};
use domain::{
    body::Body,
    capture::Capture,
    credential::CredentialMark,
    glob::Glob,
    ids::{ProjectId, TokenId},
    price::PriceTable,
    provider::ProviderKind,
    record::{Opening, Record},
    rng::Rng,
    secret::Secret,
    time::{Clock, Timestamp},
    token::{Token, TokenHash, TokenHashKey},
};
use http::{Request, Response};
use hyper::body::Incoming;
use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{
        mpsc::{self, error::TrySendError},
        oneshot,
    },
};
use tokio_util::sync::CancellationToken;

/// The provider's key of every test project; it must never come down.
pub const PROVIDER_KEY: &str = "provider-canary-8c1f0e";

/// Records that a test may leave unread.
const RECORDS_MAX: usize = 4096;

pub struct SystemClock;
impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "what these tests hand on as the clock")]
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        Timestamp::from_micros(since.as_micros() as i64)
    }
}

/// Distinct numbers, so that ids are distinct.
pub struct Counting(AtomicUsize);
impl Rng for Counting {
    fn next_u64(&self) -> u64 {
        (self.0.fetch_add(1, Ordering::Relaxed) as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }
    fn fill_secure(&self, buffer: &mut [u8]) {
        for chunk in buffer.chunks_mut(8) {
            chunk.copy_from_slice(&self.next_u64().to_le_bytes()[..chunk.len()]);
        }
    }
}

struct NoVerbosity;
impl Verbosity for NoVerbosity {
    fn verbosity(&self, _: ProjectId, _: TokenId) -> u8 {
        0
    }
}

#[derive(Default)]
pub struct MemoryDirectory {
    grants: Mutex<HashMap<TokenHash, Arc<Grant>>>,
    pub unavailable: std::sync::atomic::AtomicBool,
}

impl Directory for MemoryDirectory {
    fn find(&self, hash: &TokenHash) -> Found {
        match self.grants.lock().get(hash) {
            Some(grant) => Found::Grant(Arc::clone(grant)),
            None => Found::Unknown,
        }
    }
    fn load(&self, _: TokenHash) -> BoxFuture<'_, Result<Option<Arc<Grant>>, Unavailable>> {
        let away = self.unavailable.load(Ordering::Relaxed);
        Box::pin(async move { if away { Err(Unavailable) } else { Ok(None) } })
    }
}

/// Counts reservations as the journal does, and hands records to the test.
pub struct MemoryOutbox {
    records: mpsc::Sender<Record>,
    pub openings: AtomicUsize,
    pub accepted: AtomicUsize,
    pub finished: AtomicUsize,
    pub coalesced: AtomicUsize,
    pub no_room: Mutex<Option<NoRoom>>,
    pub holds: std::sync::atomic::AtomicBool,
    pub held: Mutex<Vec<oneshot::Sender<()>>>,
    /// In the order of their records.
    pub bodies: Mutex<Vec<Body>>,
    pub serves_unrecorded: std::sync::atomic::AtomicBool,
    pub unrecorded: AtomicUsize,
    pub denied: Mutex<Vec<(String, Option<CredentialMark>)>>,
}

impl Outbox for MemoryOutbox {
    fn reserve(&self) -> Result<(), NoRoom> {
        if let Some(no_room) = *self.no_room.lock() {
            return Err(no_room);
        }
        self.accepted.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
    fn open(&self, _: Opening) {
        self.openings.fetch_add(1, Ordering::Relaxed);
    }
    fn finish(&self, record: Box<Record>, stored: Option<oneshot::Sender<()>>) {
        self.finished.fetch_add(1, Ordering::Relaxed);
        self.held.lock().extend(stored);
        // The test may have ended already.
        let full = matches!(self.records.try_send(*record), Err(TrySendError::Full(_)));
        assert!(!full, "more than {RECORDS_MAX} records that no test has looked at");
    }
    fn finish_with_bodies(
        &self,
        record: Box<Record>,
        bodies: Vec<Body>,
        stored: Option<oneshot::Sender<()>>,
    ) {
        self.bodies.lock().extend(bodies);
        self.finish(record, stored);
    }
    fn coalesced(&self) {
        self.coalesced.fetch_add(1, Ordering::Relaxed);
    }
    fn coalesced_unreserved(&self, requests: u64) {
        self.accepted.fetch_add(requests as usize, Ordering::Relaxed);
        self.coalesced.fetch_add(requests as usize, Ordering::Relaxed);
    }
    fn holds_answers(&self) -> bool {
        self.holds.load(Ordering::Relaxed)
    }
    fn serves_unrecorded(&self) -> bool {
        self.serves_unrecorded.load(Ordering::Relaxed)
    }
    fn unrecorded(&self) {
        self.unrecorded.fetch_add(1, Ordering::Relaxed);
    }
}

impl Denials for MemoryOutbox {
    fn mark(&self, credential: &[u8]) -> CredentialMark {
        CredentialMark::new(credential, None)
    }
    fn denied(&self, denied: &Denied<'_>) {
        let code = denied.record.error_code.as_deref().unwrap_or_default().to_owned();
        self.denied.lock().push((code, denied.credential.cloned()));
    }
}

struct NotHere;
impl Fallback for NotHere {
    fn call(&self, _: Request<Incoming>, _: SocketAddr) -> BoxFuture<'_, Response<Answer>> {
        Box::pin(async {
            let mut response = Response::new(Answer::full("not the data plane"));
            *response.status_mut() = http::StatusCode::NOT_FOUND;
            response
        })
    }
}

/// What a test may change before the plane starts.
pub struct Setup {
    pub limits: Limits,
    pub provider: Provider,
    pub grant: Grant,
    pub body_bytes_max: usize,
}

pub struct Harness {
    pub address: SocketAddr,
    pub token: Token,
    pub plane: Arc<Plane>,
    pub directory: Arc<MemoryDirectory>,
    pub outbox: Arc<MemoryOutbox>,
    pub live: Arc<Live>,
    pub stop: CancellationToken,
    records: mpsc::Receiver<Record>,
    running: tokio::task::JoinHandle<()>,
}

impl Harness {
    pub async fn start(upstream: SocketAddr, change: impl FnOnce(&mut Setup)) -> Self {
        let mut setup = Setup {
            limits: limits(),
            provider: provider(upstream),
            grant: grant(),
            body_bytes_max: 1 << 16,
        };
        change(&mut setup);
        let rng = Arc::new(Counting(AtomicUsize::new(1)));
        let token = Token::generate(&*rng);
        let hash_key = TokenHashKey::new(&[3; 32]);
        let directory = Arc::new(MemoryDirectory::default());
        let live = Arc::clone(&setup.grant.live);
        let grant = Arc::new(setup.grant);
        directory.grants.lock().insert(token.hash(&hash_key), grant);
        let (sender, records) = mpsc::channel(RECORDS_MAX);
        let outbox = Arc::new(MemoryOutbox {
            records: sender,
            openings: 0.into(),
            accepted: 0.into(),
            finished: 0.into(),
            coalesced: 0.into(),
            no_room: Mutex::new(None),
            holds: false.into(),
            held: Mutex::default(),
            bodies: Mutex::default(),
            serves_unrecorded: false.into(),
            unrecorded: 0.into(),
            denied: Mutex::default(),
        });
        let providers = Providers { all: vec![Arc::new(setup.provider)], default: 0 };
        let pools = Pools::new(&providers, &Upstreams::new(&[], None, None).unwrap());
        let plane = Plane::new(Parts {
            directory: directory.clone(),
            outbox: outbox.clone(),
            denials: outbox.clone(),
            clock: Arc::new(SystemClock),
            rng,
            hash_key,
            providers: Arc::new(providers),
            prices: Arc::new(PriceTable::shipped()),
            estimator: Estimator::start(TextBudget::default()).unwrap(),
            capturing: Capturing::start(setup.body_bytes_max).unwrap(),
            verbosity: Arc::new(NoVerbosity),
            limits: setup.limits,
            trusted_proxies: Vec::new(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let lane = Lane {
            plane: Arc::clone(&plane),
            pools,
            fallback: Arc::new(NotHere),
            tls: Arc::new(ArcSwapOption::empty()),
            stop: stop.clone(),
        };
        let (sender, incoming) = mpsc::channel(LANE_QUEUE_MAX);
        tokio::spawn(accept(listener, Arc::clone(&plane), vec![sender], stop.clone()));
        let running = tokio::spawn(lane.run(incoming));
        Self { address, token, plane, directory, outbox, live, stop, records, running }
    }

    /// The next record, as the JSON that is kept of it.
    pub async fn record(&mut self) -> serde_json::Value {
        let record = tokio::time::timeout(Duration::from_secs(20), self.records.recv()).await;
        to_json(&record.expect("a record within 20 s").unwrap())
    }

    /// Asserts that nothing else was recorded and that the books are even.
    pub async fn finish(mut self) {
        self.stop.cancel();
        tokio::time::timeout(Duration::from_secs(20), &mut self.running).await.unwrap().unwrap();
        self.plane.flush_coalesced(true);
        assert!(self.records.try_recv().is_err(), "one record too many");
        let get = |count: &AtomicUsize| count.load(Ordering::Relaxed);
        let outbox = &self.outbox;
        assert_eq!(get(&outbox.accepted), get(&outbox.finished) + get(&outbox.coalesced));
        assert_eq!(self.plane.active_requests(), 0);
    }

    /// Cuts everything that still runs, as at the end of the time to drain.
    pub async fn cut(&mut self) {
        self.plane.interrupt();
        self.running.abort();
        assert!((&mut self.running).await.is_err());
    }

    pub async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends raw bytes (`{token}` is replaced) and reads until the server closes
    /// or the answer is complete.
    pub async fn raw(&self, request: &str) -> String {
        let mut stream = self.connect().await;
        let request = request.replace("{token}", self.token.expose());
        stream.write_all(request.as_bytes()).await.unwrap();
        read_answer(&mut stream).await
    }

    /// A POST of JSON with the token.
    pub async fn post(&self, path: &str, body: &str) -> String {
        self.raw(&post(path, body, "")).await
    }
}

pub fn post(path: &str, body: &str, headers: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: proxy\r\nauthorization: Bearer {{token}}\r\n\
         content-type: application/json\r\n{headers}content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

pub fn to_json(record: &Record) -> serde_json::Value {
    let envelope = domain::record::Envelope {
        instance: domain::ids::InstanceId::parse("test").unwrap(),
        version: "0.0.0",
    };
    let mut line = Vec::new();
    record.write_json(&envelope, &mut line);
    serde_json::from_slice(&line).unwrap()
}

/// One HTTP/1.1 answer with its head; chunked bodies as they are on the wire.
pub async fn read_answer(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut buffer = vec![0u8; 16384];
    let reading = async {
        while !is_whole(&bytes) {
            let n = stream.read(&mut buffer).await.unwrap_or(0);
            if n == 0 {
                break;
            }
            bytes.extend_from_slice(&buffer[..n]);
        }
    };
    tokio::time::timeout(Duration::from_secs(20), reading).await.expect("an answer within 20 s");
    String::from_utf8_lossy(&bytes).into_owned()
}

fn is_whole(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let text = text.strip_prefix("HTTP/1.1 100 Continue\r\n\r\n").unwrap_or(&text);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let head = head.to_ascii_lowercase();
    if head.contains("transfer-encoding: chunked") {
        let last_chunk = body.starts_with("0\r\n") || body.contains("\r\n0\r\n");
        return last_chunk && body.ends_with("\r\n\r\n");
    }
    let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
    match length.and_then(|length| length.trim().parse::<usize>().ok()) {
        Some(length) => body.len() >= length,
        None => head.contains(" 204 "),
    }
}

/// A provider that answers every connection by a script over raw TCP: reads a
/// whole request (or as much as it wants) and writes these bytes.
pub async fn scripted(script: impl AsyncFn(TcpStream) + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    // A thread of its own: closures of tests need not be Send in their futures.
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let local = tokio::task::LocalSet::new();
        let listener = listener.into_std().unwrap();
        local.block_on(&runtime, async move {
            let listener = TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                let script = script.clone();
                tokio::task::spawn_local(async move { script(stream).await });
            }
        });
    });
    address
}

/// A provider that answers each request on a kept connection with `answer`.
pub async fn answering(answer: &'static [u8]) -> SocketAddr {
    scripted(async move |mut stream: TcpStream| {
        while read_request(&mut stream).await.is_some() {
            if stream.write_all(answer).await.is_err() {
                return;
            }
        }
    })
    .await
}

/// Reads one request with its body; `None` at the end of the connection.
pub async fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    let mut buffer = vec![0u8; 65536];
    while !is_whole_request(&bytes) {
        let n = stream.read(&mut buffer).await.unwrap_or(0);
        if n == 0 {
            return None;
        }
        bytes.extend_from_slice(&buffer[..n]);
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn is_whole_request(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let head = head.to_ascii_lowercase();
    if head.contains("transfer-encoding: chunked") {
        return body.ends_with("0\r\n\r\n");
    }
    let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
    let length: usize = length.map_or(0, |length| length.trim().parse().unwrap());
    body.len() >= length
}

pub fn limits() -> Limits {
    Limits {
        request_bytes_max: 1 << 20,
        buffered_bytes_max: 1 << 20,
        concurrent_requests_max: 64,
        connections_max: 256,
        header_read_timeout: Duration::from_secs(30),
        request_body_idle: Duration::from_secs(30),
        shutdown_timeout: Duration::from_secs(5),
    }
}

pub fn provider(upstream: SocketAddr) -> Provider {
    Provider {
        name: "openai".into(),
        kind: ProviderKind::Openai,
        base: BaseUrl {
            scheme: http::uri::Scheme::HTTP,
            authority: upstream.to_string().parse().unwrap(),
            path: String::new(),
        },
        auth_header: http::header::AUTHORIZATION,
        auth_scheme: "Bearer ".into(),
        headers: Vec::new(),
        allowed_endpoints: vec![Endpoint::parse("/v1/*").unwrap()],
        allowed_methods: Vec::new(),
        param_whitelist: Vec::new(),
        allowed_origins: Vec::new(),
        required_headers: Vec::new(),
        propagate: Propagate { traceparent: true, tracestate: false, baggage: false },
        timeouts: Timeouts {
            connect: Duration::from_secs(5),
            request: Duration::from_secs(30),
            response_header: Duration::from_secs(20),
            idle_connection: Duration::from_secs(30),
            stream_idle: Duration::from_secs(20),
        },
        max_idle_connections_per_host: 64,
        redaction: Arc::default(),
    }
}

pub fn grant() -> Grant {
    let nowhere = std::net::SocketAddr::from(([127, 0, 0, 1], 9));
    let key = ProviderKey::new(Secret::new(PROVIDER_KEY), &provider(nowhere)).unwrap();
    let rng = Counting(AtomicUsize::new(77));
    Grant {
        token_id: TokenId::new(Timestamp::EPOCH, &rng),
        project_id: ProjectId::new(Timestamp::EPOCH, &rng),
        project: "acme".into(),
        labels: None,
        token_active: true,
        project_active: true,
        expires_at: None,
        allowed_models: None,
        max_requests: None,
        rate_limit_rpm: None,
        capture: Capture::Off,
        keys: std::collections::BTreeMap::from([("openai".into(), key)]),
        live: Arc::new(Live::default()),
    }
}

pub fn models(patterns: &[&str]) -> Option<Box<[Glob]>> {
    Some(patterns.iter().map(|pattern| Glob::new(*pattern)).collect())
}

/// A plain chat answer of the provider's.
pub const CHAT: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-request-id: up-1\r\n\
content-length: 231\r\n\r\n{\"id\":\"c\",\"object\":\"chat.completion\",\"model\":\"gpt-4o-mini-2024-07-18\",\
\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"hi\"},\"finish_reason\":\"stop\"}],\
\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":2,\"total_tokens\":11}}";

pub fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}
