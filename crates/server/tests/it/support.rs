//! A proxy in a process of its own, and providers in this one that do what a
//! test says.

use std::{
    convert::Infallible,
    fs::File,
    future::Future,
    net::SocketAddr,
    path::{Path, PathBuf},
    pin::Pin,
    process::{Child, Command, Output, Stdio},
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header::AUTHORIZATION};
use http_body::{Body, Frame};
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

/// Nothing here takes longer on the slowest machine.
pub const PATIENCE: Duration = Duration::from_secs(60);
pub const ROOT_KEY: &str = "root-key-of-the-tests-0000000001";
pub const PROVIDER_KEY: &str = "sk-provider-key-of-the-tests-01";

pub type AnyBody = UnsyncBoxBody<Bytes, std::io::Error>;

/// Waits until `look` finds what it looks for.
pub async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Whether a volume that CI has no time for was asked for by this variable.
#[expect(clippy::disallowed_methods, reason = "the size of a test is not configuration")]
pub fn asked(variable: &str) -> bool {
    std::env::var_os(variable).is_some()
}

pub fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_llm-proxy"));
    command.env_clear().stdin(Stdio::null());
    command
}

/// A running proxy, with everything it writes below one directory.
pub struct Proxy {
    pub address: SocketAddr,
    pub dir: tempfile::TempDir,
    pub root_key: String,
    child: Child,
    environment: Vec<(String, String)>,
}

impl Proxy {
    /// One provider `openai` at `base_url`, everything below `/v1` allowed.
    pub async fn before(base_url: &str, environment: &[(&str, &str)]) -> Self {
        let providers = format!(
            "default_api: openai\napis:\n  openai:\n    kind: openai\n    base_url: {base_url}\n    \
             allowed_endpoints: [/v1/*]\n"
        );
        Self::start(&providers, environment).await
    }

    pub async fn start(providers: &str, environment: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        std::fs::write(path("providers.yaml"), providers).unwrap();
        let mut all = vec![
            ("LISTEN_ADDR".to_owned(), "127.0.0.1:0".to_owned()),
            ("DATA_DIR".to_owned(), path("data")),
            ("API_CONFIG_PATH".to_owned(), path("providers.yaml")),
            ("MANAGEMENT_TOKEN".to_owned(), ROOT_KEY.to_owned()),
            ("LOG_FORMAT".to_owned(), "json".to_owned()),
        ];
        for (name, value) in environment {
            all.retain(|(known, _)| known != name);
            // `{dir}` stands for where everything of this proxy is.
            let value = value.replace("{dir}", dir.path().to_str().unwrap());
            all.push(((*name).to_owned(), value));
        }
        let child = binary()
            .arg("server")
            .envs(all.clone())
            .stdout(File::create(path("stdout")).unwrap())
            .stderr(File::create(path("stderr")).unwrap())
            .spawn()
            .unwrap();
        let root_key = all.iter().find(|(name, _)| name == "MANAGEMENT_TOKEN").unwrap().1.clone();
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut proxy = Self { address, dir, root_key, child, environment: all };
        proxy.address = until("the proxy is ready", async || {
            if let Some(status) = proxy.child.try_wait().unwrap() {
                let said = std::fs::read_to_string(proxy.dir.path().join("stderr")).unwrap();
                panic!("the proxy ended with {status}: {said}");
            }
            let ready = proxy.lines().into_iter().find(|line| line["msg"] == "ready")?;
            ready["address"].as_str()?.parse().ok()
        })
        .await;
        proxy
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Resident memory of the process, in bytes.
    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kib * 1024
    }

    /// Every whole line of the journal.
    pub fn lines(&self) -> Vec<Value> {
        let mut files: Vec<PathBuf> = std::fs::read_dir(self.dir.path().join("data/journal"))
            .into_iter()
            .flatten()
            .map(|file| file.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"))
            .collect();
        files.sort();
        let mut lines = Vec::new();
        for file in files {
            let bytes = std::fs::read(file).unwrap();
            let whole = bytes.split_inclusive(|byte| *byte == b'\n');
            lines.extend(whole.filter_map(|line| serde_json::from_slice::<Value>(line).ok()));
        }
        lines
    }

    pub fn records(&self) -> Vec<Value> {
        self.lines().into_iter().filter(|line| line["stream"] == "record").collect()
    }

    pub fn journal_bytes(&self) -> u64 {
        let dir = std::fs::read_dir(self.dir.path().join("data/journal")).unwrap();
        dir.map(|file| file.unwrap().metadata().map_or(0, |file| file.len())).sum()
    }

    /// The record of the request that the client gave this id.
    pub async fn record(&self, request_id: &str) -> Value {
        until(&format!("a record of {request_id}"), async || {
            let mut found = self.records();
            found.retain(|record| record["request_id"] == request_id);
            assert!(found.len() <= 1, "more than one record of {request_id}");
            found.pop()
        })
        .await
    }

    pub async fn manage(&self, method: Method, path: &str, body: Value) -> (StatusCode, Value) {
        let request = Request::builder()
            .method(method)
            .uri(self.url(path))
            .header(AUTHORIZATION, format!("Bearer {}", self.root_key))
            .body(whole(body.to_string()));
        let response = client().request(request.unwrap()).await.unwrap();
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (head.status, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    /// A project of this name with a token: the answer to the token's creation.
    pub async fn token_of(&self, project: &str, limits: Value) -> Value {
        let body = json!({ "name": project, "api_key": PROVIDER_KEY });
        let (status, project) = self.manage(Method::POST, "/manage/projects", body).await;
        assert_eq!(status, 201, "{project}");
        let mut body = json!({ "project_id": project["id"], "duration_minutes": 60 });
        for (name, value) in limits.as_object().into_iter().flatten() {
            body[name] = value.clone();
        }
        let (status, token) = self.manage(Method::POST, "/manage/tokens", body).await;
        assert_eq!(status, 201, "{token}");
        token
    }

    pub async fn token(&self) -> String {
        self.token_of("acme", Value::Null).await["token"].as_str().unwrap().to_owned()
    }

    /// The figures of `/metrics`, by name with labels.
    pub async fn metric(&self, name: &str) -> f64 {
        let text = self.metrics().await;
        let found = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        found.unwrap_or_else(|| panic!("{name} in {text}")).parse().unwrap()
    }

    pub async fn metrics(&self) -> String {
        let request = Request::get(self.url("/metrics")).body(whole(""));
        let response = client().request(request.unwrap()).await.unwrap();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    /// A command of the binary, in this proxy's surroundings.
    pub fn command(&self, arguments: &[&str]) -> Output {
        binary().args(arguments).envs(self.environment.clone()).output().unwrap()
    }

    /// Stops it softly; it must end by itself.
    pub async fn stop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let child = &mut self.child;
        let status = until("the proxy ends", async || child.try_wait().unwrap()).await;
        assert!(status.success(), "the proxy ended with {status}");
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Both fail only where the process has ended.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

pub fn client() -> Client<HttpConnector, AnyBody> {
    Client::builder(TokioExecutor::new()).build_http()
}

/// A body that is there already.
pub fn whole(body: impl Into<Bytes>) -> AnyBody {
    Full::new(body.into()).map_err(|never: Infallible| match never {}).boxed_unsync()
}

/// A body whose frames come from a channel; an error breaks it off.
pub struct Fed(pub mpsc::Receiver<std::io::Result<Frame<Bytes>>>);

impl Body for Fed {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<std::io::Result<Frame<Bytes>>>> {
        self.0.poll_recv(cx)
    }
}

pub type Feed = mpsc::Sender<std::io::Result<Frame<Bytes>>>;

pub fn fed() -> (Feed, AnyBody) {
    let (sender, receiver) = mpsc::channel(4);
    (sender, Fed(receiver).boxed_unsync())
}

pub async fn feed(feed: &Feed, bytes: impl Into<Bytes>) {
    feed.send(Ok(Frame::data(bytes.into()))).await.unwrap();
}

type Answering = Pin<Box<dyn Future<Output = Response<AnyBody>> + Send>>;
pub type Handler = Arc<dyn Fn(Request<Incoming>) -> Answering + Send + Sync>;

pub fn handler<F>(answer: impl Fn(Request<Incoming>) -> F + Send + Sync + 'static) -> Handler
where
    F: Future<Output = Response<AnyBody>> + Send + 'static,
{
    Arc::new(move |request| Box::pin(answer(request)))
}

/// A provider on a loopback port, HTTP/1.1 or HTTP/2 as it is spoken to.
pub async fn provider(handler: Handler) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            stream.set_nodelay(true).unwrap();
            tokio::spawn(serve(stream, Arc::clone(&handler)));
        }
    });
    address
}

pub async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, handler: Handler) {
    let service = service_fn(move |request| {
        let answering = handler(request);
        async move { Ok::<_, Infallible>(answering.await) }
    });
    let served = auto::Builder::new(TokioExecutor::new());
    // A proxy that goes away is a case like any other.
    drop(served.serve_connection(TokioIo::new(stream), service).await);
}

pub const CHAT: &str = r#"{"id":"c","object":"chat.completion","model":"gpt-4o-mini-2024-07-18",
"choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}],
"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}}"#;

pub fn json_answer(status: u16, body: impl Into<Bytes>) -> Response<AnyBody> {
    let response = Response::builder().status(status).header("content-type", "application/json");
    response.body(whole(body)).unwrap()
}

/// A provider that answers everything with [`CHAT`].
pub async fn chat_provider() -> SocketAddr {
    provider(handler(|request: Request<Incoming>| async move {
        request.into_body().collect().await.unwrap();
        json_answer(200, CHAT)
    }))
    .await
}

/// An answer read to its end: status, headers, body, trailers.
pub struct Whole {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub trailers: Option<HeaderMap>,
}

pub async fn read(response: Response<Incoming>) -> Whole {
    let (head, body) = response.into_parts();
    let collected = body.collect().await.unwrap();
    let trailers = collected.trailers().cloned();
    Whole { status: head.status, headers: head.headers, body: collected.to_bytes(), trailers }
}

/// A POST of JSON to `/v1/chat/completions`.
pub fn chat(proxy: &Proxy, token: &str, request_id: &str, body: &str) -> Request<AnyBody> {
    Request::post(proxy.url("/v1/chat/completions"))
        .header(AUTHORIZATION, format!("Bearer {token}"))
        .header("content-type", "application/json")
        .header("x-request-id", request_id)
        .body(whole(body.to_owned()))
        .unwrap()
}

/// Reads a raw connection until `is_enough`, or its end.
pub async fn read_until(stream: &mut TcpStream, is_enough: impl Fn(&str) -> bool) -> String {
    let mut bytes = Vec::new();
    let mut buffer = vec![0; 16 << 10];
    let reading = async {
        while !is_enough(&String::from_utf8_lossy(&bytes)) {
            match stream.read(&mut buffer).await {
                Ok(n) if n > 0 => bytes.extend_from_slice(&buffer[..n]),
                _ => break,
            }
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("enough in time");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Every file below a directory.
pub fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            match entry.file_type().unwrap() {
                kind if kind.is_dir() => dirs.push(entry.path()),
                kind if kind.is_file() => files.push(entry.path()),
                _ => {}
            }
        }
    }
    files
}
