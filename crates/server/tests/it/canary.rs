//! Secrets go through every door there is, and then every byte that was written
//! or answered is searched for them.

use std::{
    collections::HashSet,
    io::Write as _,
    net::SocketAddr,
    process::{Output, Stdio},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{Method, Request, Response};
use http_body::Frame;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
};

use crate::support::{
    AnyBody, Proxy, binary, fed, files_below, handler, json_answer, provider, read_until, until,
    whole,
};

/// Secrets without a shape that a pattern would know: only knowing what is
/// secret keeps them in.
const ROOT: &str = "canaryRoot7Qm2vX9dLw4TzK8nBe5R";
const UPSTREAM: &str = "canaryUpstream3Hf8sJp6YcW1gNt9VxA";
const SECOND: &str = "canarySecond5Zk2rMd7QoB4uEh8LwSj";
const COOKIE: &str = "canaryCookie9Wb4tGn6XvP2yRk7DsFm";
const SCRAPER: &str = "canaryScraper1Jc5pTy8HmL3qVz6KxNe";
const EXTRA: &str = "canaryExtra8Dx3wBf7SgU2kOm5QjRt";
const FORWARDER: &str = "canaryForwarder2Ln6vCz9YpH4aEb7";
const WRONG: [&str; 7] = [
    "canaryBasic4Rt9yKe2WqN7sLc5HxVb",
    "canaryLower6Pf1mGz8DjX3uTa9BnSk",
    "canaryDigest7Vw2hQc5ErM8oJy4LdZg",
    "canaryBare3Kx8bNs6FvT1pWe9RmYh",
    "canaryBearer5Gj2cLq7ZuH4iXd8OtAn",
    "canaryHeader9Sy3fVr6MwB1kEz7PcJl",
    "canaryTwice1Tn7gXa4QhU8vDo5KsWb",
];
const QUERY: [&str; 5] = [
    "canaryQueryA8Ze5jRm2LyK6wFt9CxGo",
    "canaryQueryB4Hq7uVs1NbP3dJi8ExTk",
    "canaryQueryC6Wf2oXg9YlM5rAz7SvDc",
    "canaryQueryD3Bt8nKh5QeU1jLp6RyVw",
    "canaryQueryE7Mx4sZd2GcF9vTo3WkHa",
];
/// A provider quotes the address that it was sent.
const OWN: &str = "canaryOwn9Ke4vJx7RtM2bWq5YnZc8LdGu";
/// What has the shape of a credential, for places that are recorded.
const SHAPED: [&str; 6] = [
    "sk-canaryRequestId2Fz7mQw9XcV4tLb6NrYp1KsHd3GjA",
    "sk-canaryCorrelation8Jx3vTn5WyB9qRe2MkDf6UhZc4Ls",
    "sk-canaryUserAgent4Pb9dKs7HvG2xNm6CtYw8QfLj3EzRu",
    "sk-canaryPath6Vy1rXk8TzM3bJq5WnHc7DgSf9LpAe2UoKi",
    "mk-canaryManaged5Lg8hWt2YvN7cQx4ZmRk9BsPf1JdTe6U",
    "sk-canaryUnknown3Nd6kBv9GxW4sHz7MqTf2YcLr8PjEu5Q",
];

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

/// Answers with everything that it was sent, in the way that the path names.
async fn echo(request: Request<Incoming>) -> Response<AnyBody> {
    let way = request.uri().path().rsplit('/').next().unwrap().to_owned();
    // What came in the query may go back to who sent it, but nowhere else: it
    // stands in an error's message only where a record is made of it.
    let address = if way == "address" { request.uri().to_string() } else { String::new() };
    let headers = format!("{:?}", request.headers());
    let key = request.headers()["authorization"].to_str().unwrap().to_owned();
    let bare = key.trim_start_matches("Bearer ").to_owned();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let said = format!("Incorrect API key provided: {bare} ({key}); headers {headers} {address}");
    let error = json!({ "error": { "message": said, "type": bare, "code": bare, "param": key },
        "body_bytes": body.len() });
    let text = error.to_string();
    match way.as_str() {
        "gzip" => Response::builder()
            .status(401)
            .header("content-encoding", "gzip")
            .header("content-type", "application/json")
            .body(whole(gzip(&text)))
            .unwrap(),
        "garbled" => Response::builder()
            .status(500)
            .header("content-encoding", "gzip")
            .header("content-type", "application/json")
            .body(whole(text))
            .unwrap(),
        "headers" => Response::builder()
            .status(403)
            .header("www-authenticate", &key)
            .header("x-request-id", &bare)
            .header("x-echo", format!("a{bare}b{bare}"))
            .header("set-cookie", format!("session={bare}"))
            .body(whole("no"))
            .unwrap(),
        "kind-headers" => Response::builder()
            .header("x-echo", &key)
            .header("x-request-id", &bare)
            .header("content-type", "application/json")
            .body(whole("{}"))
            .unwrap(),
        "chunks" => cut(400, "application/json", &text, &bare),
        "stream" => {
            let said = format!("data: {{\"choices\":[]}}\n\nevent: error\ndata: {text}\n\n");
            cut(200, "text/event-stream", &said, &bare)
        }
        "trailers" => trailers(&bare),
        "garbage" => json_answer(502, format!("<html>{said}</html>")),
        "fine" => json_answer(200, crate::support::CHAT),
        _ => json_answer(400, text),
    }
}

/// `text` in frames that end in the middle of each `secret`.
fn cut(status: u16, content_type: &str, text: &str, secret: &str) -> Response<AnyBody> {
    let (sender, body) = fed();
    let text = text.to_owned();
    let half = secret[..secret.len() / 2].to_owned();
    tokio::spawn(async move {
        let mut rest = text.as_str();
        while let Some(at) = rest.find(&half) {
            let (now, later) = rest.split_at(at + half.len());
            if sender.send(Ok(Frame::data(Bytes::from(now.to_owned())))).await.is_err() {
                return;
            }
            rest = later;
        }
        drop(sender.send(Ok(Frame::data(Bytes::from(rest.to_owned())))).await);
    });
    let response = Response::builder().status(status).header("content-type", content_type);
    response.body(body).unwrap()
}

fn trailers(secret: &str) -> Response<AnyBody> {
    let (sender, body) = fed();
    let mut trailers = http::HeaderMap::new();
    trailers.insert("x-echo", secret.parse().unwrap());
    tokio::spawn(async move {
        drop(sender.send(Ok(Frame::data(Bytes::from_static(b"{}")))).await);
        drop(sender.send(Ok(Frame::trailers(trailers))).await);
    });
    Response::builder().status(400).header("trailer", "x-echo").body(body).unwrap()
}

/// Everything that came back, and what must not be in it.
struct Canary {
    proxy: Proxy,
    received: Vec<(String, Vec<u8>)>,
    secrets: Vec<String>,
    /// Not looked for in answers: they go back to who sent them.
    own: Vec<String>,
}

impl Canary {
    async fn start(upstream: SocketAddr, encryption_key: &str, style: [(&str, &str); 2]) -> Self {
        let providers = format!(
            "default_api: openai\napis:\n  openai:\n    kind: openai\n    \
             base_url: http://{upstream}\n    allowed_endpoints: [/v1/*]\n    \
             headers: {{x-team-key: {EXTRA}}}\n  limited:\n    kind: openai\n    \
             base_url: http://{upstream}\n    allowed_endpoints: [/v1/chat/completions]\n    \
             param_whitelist: {{model: [gpt-4o*]}}\n    \
             allowed_origins: [\"https://app.example\"]\n  tunnelled:\n    kind: openai\n    \
             base_url: https://localhost:1\n    allowed_endpoints: [/v1/*]\n"
        );
        let forward = format!("http://user:{FORWARDER}@{}", unwilling_forward_proxy().await);
        let environment = [
            ("LOG_LEVEL", "trace"),
            // What was said is a place like any other.
            ("CAPTURE_BODIES", "all"),
            style[0],
            style[1],
            ("MANAGEMENT_TOKEN", ROOT),
            ("METRICS_TOKEN", SCRAPER),
            ("ENCRYPTION_KEY", encryption_key),
            ("HTTPS_PROXY", &forward),
        ];
        let proxy = Proxy::start(&providers, &environment).await;
        let mut secrets: Vec<String> =
            [ROOT, UPSTREAM, SECOND, COOKIE, SCRAPER, EXTRA, FORWARDER, encryption_key]
                .map(ToOwned::to_owned)
                .to_vec();
        secrets.extend(WRONG.iter().chain(&QUERY).chain(&SHAPED).map(|it| (*it).to_owned()));
        Self { proxy, received: Vec::new(), secrets, own: vec![OWN.to_owned()] }
    }

    /// Sends bytes as they are and keeps all that comes back.
    async fn raw(&mut self, head: &str, body: &str) {
        let mut stream = TcpStream::connect(self.proxy.address).await.unwrap();
        let request = format!(
            "{head}\r\nhost: proxy\r\ncookie: session={COOKIE}\r\ncontent-length: {}\r\n\
             connection: close\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let answer = read_until(&mut stream, |_| false).await;
        assert!(!answer.is_empty(), "no answer to {head}");
        let what = head.lines().next().unwrap().to_owned();
        // A secret may be spread over chunks: each is a line between two others.
        let lines: Vec<&str> = answer.split("\r\n").collect();
        let is_size = |line: &str| u64::from_str_radix(line, 16).is_ok();
        let joined: String = lines.iter().copied().filter(|line| !is_size(line)).collect();
        self.received.push((format!("{what}, its chunks joined"), joined.into_bytes()));
        self.received.push((what, answer.into_bytes()));
    }

    fn ran(&mut self, what: &str, output: Output) {
        self.received.push((format!("stdout of {what}"), output.stdout));
        self.received.push((format!("stderr of {what}"), output.stderr));
    }
}

/// A forward proxy that says no, or yes and then rubbish, or nothing; and
/// repeats what it was sent.
async fn unwilling_forward_proxy() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for way in 0.. {
            let (mut stream, _) = listener.accept().await.unwrap();
            let head = read_until(&mut stream, |text| text.ends_with("\r\n\r\n")).await;
            let answer = match way % 3 {
                0 => format!("HTTP/1.1 407 {}\r\n\r\n{head}", head.lines().last().unwrap()),
                1 => format!("HTTP/1.1 200 OK\r\n\r\n{head}"),
                _ => String::new(),
            };
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    address
}

async fn data_plane(canary: &mut Canary, token: &str) {
    let json = "content-type: application/json";
    let head = format!("GET /v1/echo/address?sig={OWN} HTTP/1.1\r\nauthorization: Bearer {token}");
    canary.raw(&head, "").await;
    for _ in 0..3 {
        let head = format!("GET /tunnelled/v1/models HTTP/1.1\r\nauthorization: Bearer {token}");
        canary.raw(&head, "").await;
    }
    let body = r#"{"model":"gpt-4o-mini","messages":[{"role":"user","content":"hello"}]}"#;
    let ways = [
        "plain",
        "gzip",
        "garbled",
        "headers",
        "kind-headers",
        "chunks",
        "stream",
        "trailers",
        "garbage",
        "fine",
    ];
    for way in ways {
        let head =
            format!("POST /v1/echo/{way} HTTP/1.1\r\nauthorization: Bearer {token}\r\n{json}");
        canary.raw(&format!("{head}\r\nte: trailers"), body).await;
    }
    for header in ["x-api-key", "api-key", "x-goog-api-key"] {
        let head = format!("POST /v1/echo/fine HTTP/1.1\r\n{header}: {token}\r\n{json}");
        canary.raw(&head, body).await;
    }
    let authorizations = [
        format!("authorization: Basic {}", STANDARD.encode(format!("user:{}", WRONG[0]))),
        format!("authorization: bearer {}", WRONG[1]),
        format!("authorization: Digest username=\"a\", response=\"{}\"", WRONG[2]),
        format!("authorization: {}", WRONG[3]),
        format!("Authorization: Bearer {}", WRONG[4]),
        format!("x-api-key: {}", WRONG[5]),
        format!("authorization: Bearer {token}\r\nauthorization: Bearer {}", WRONG[6]),
        format!("authorization: Basic {}", STANDARD.encode(format!("user:{token}"))),
        format!("authorization: Token {token}"),
        format!("authorization: {token}"),
        format!("authorization: Bearer {}", SHAPED[5]),
        format!("authorization: Bearer {ROOT}"),
        format!("authorization: Bearer {UPSTREAM}"),
        format!("proxy-authorization: Bearer {token}"),
    ];
    for authorization in &authorizations {
        for path in ["/v1/echo/plain", "/limited/v1/chat/completions", "/manage/projects"] {
            canary.raw(&format!("POST {path} HTTP/1.1\r\n{authorization}\r\n{json}"), body).await;
        }
    }
    let with_token = format!("authorization: Bearer {token}");
    let queries = [
        format!("api_key={}", QUERY[0]),
        format!("a=b&key={}", QUERY[1]),
        format!("access_token={}", QUERY[2]),
        format!("TOKEN={}", QUERY[3]),
        format!("signature={}", QUERY[4]),
        format!("x={token}"),
        format!("x={}", token.replace('-', "%2D")),
        token.to_owned(),
        format!("authorization=Bearer%20{token}"),
    ];
    for query in &queries {
        for path in ["/v1/echo/fine", "/v1/no%2Fpath", "/manage/tokens", "/metrics", "/nowhere"] {
            canary.raw(&format!("GET {path}?{query} HTTP/1.1\r\n{with_token}"), "").await;
        }
    }
    for secret in [token, SHAPED[0]] {
        let ids = format!(
            "x-request-id: {secret}\r\nx-correlation-id: {}\r\ntraceparent: 00-{secret}\r\n\
             user-agent: tool/1 ({} {secret})\r\nx-forwarded-for: {secret}",
            SHAPED[1], SHAPED[2]
        );
        for path in ["/v1/echo/fine", "/manage/projects", "/metrics", "/health", "/nowhere"] {
            canary.raw(&format!("GET {path} HTTP/1.1\r\n{with_token}\r\n{ids}"), "").await;
        }
    }
    for path in [format!("/v1/{token}"), format!("/v1/models/{}", SHAPED[3])] {
        canary.raw(&format!("GET {path} HTTP/1.1\r\n{with_token}"), "").await;
        canary.raw(&format!("GET /manage{path} HTTP/1.1\r\n{with_token}"), "").await;
        canary.raw(&format!("GET {path} HTTP/1.1"), "").await;
    }
    let model = format!("{{\"model\":\"{token}\",\"user\":\"{}\"}}", SHAPED[3]);
    for path in ["/limited/v1/chat/completions", "/v1/echo/plain"] {
        canary.raw(&format!("POST {path} HTTP/1.1\r\n{with_token}\r\n{json}"), &model).await;
    }
}

async fn management(canary: &mut Canary, managed: &str, token: &str) {
    let keys = [ROOT.to_owned(), managed.to_owned(), SHAPED[4].to_owned()];
    for key in &keys {
        let head = |verb: &str, path: &str| {
            format!(
                "{verb} {path} HTTP/1.1\r\nauthorization: Bearer {key}\r\n\
                content-type: application/json"
            )
        };
        let bodies = [
            format!("{{\"name\":\"broken\",\"api_key\":\"{UPSTREAM}"),
            format!("{{\"name\":\"broken\",\"api_key\":{UPSTREAM}}}"),
            format!("\"{UPSTREAM}\""),
            format!("{{\"name\":\"{}\"}}", SHAPED[3]),
            format!("{{\"name\":\"{token}\",\"api_key\":\"{UPSTREAM}\"}}"),
            format!("{{\"{token}\":1}}"),
            format!("{{\"name\":1,\"api_key\":[\"{SECOND}\"]}}"),
            format!("{{\"name\":\"n\",\"provider_keys\":{{\"nobody\":\"{SECOND}\"}}}}"),
            format!("{{\"name\":\"n\",\"labels\":{{\"key\":\"{token}\"}}}}"),
            format!("{{\"project_id\":\"{token}\",\"duration_minutes\":\"{SECOND}\"}}"),
        ];
        for body in &bodies {
            for path in ["/manage/projects", "/manage/tokens", "/manage/keys"] {
                canary.raw(&head("POST", path), body).await;
            }
            canary.raw(&head("PUT", "/manage/log-level"), body).await;
        }
        for path in [
            "/manage/projects".to_owned(),
            "/manage/tokens".to_owned(),
            "/manage/keys".to_owned(),
            "/manage/log-level".to_owned(),
            "/manage/openapi.json".to_owned(),
            "/metrics".to_owned(),
            "/ready".to_owned(),
            format!("/manage/tokens/{token}"),
            format!("/manage/tokens?cursor={token}"),
            format!("/manage/tokens?projectId={token}"),
            format!("/manage/keys/{managed}"),
        ] {
            canary.raw(&head("GET", &path), "").await;
        }
        let why = format!("\r\nx-audit-reason: for {token}\r\nx-audit-ticket: {managed}");
        let change = "{\"name\":\"renamed\"}";
        canary.raw(&format!("{}{why}", head("POST", "/manage/projects")), change).await;
    }
    canary.raw(&format!("GET /metrics HTTP/1.1\r\nauthorization: Bearer {SCRAPER}"), "").await;
}

fn commands(canary: &mut Canary, project: &str, token: &str) {
    for arguments in [
        &["config", "show"][..],
        &["config", "check"],
        &["project", "list"],
        &["project", "get", project],
        &["project", "create", "by-variable", "--api-key-env", "METRICS_TOKEN"],
        &["project", "create", token],
        &["token", "list"],
        &["token", "get", token],
        &["key", "list"],
        &["key", "revoke", SHAPED[4]],
        &["logs", "search", "-o", "raw", "--limit", "0"],
        &["logs", "search", "--limit", "0"],
        &["logs", "search", token],
        &["logs", "tail", "-n", "1000"],
        &["logs", "check"],
        &["project", "list", "--url", "http://127.0.0.1:9"],
        &["db", "status"],
    ] {
        let output = canary.proxy.command(arguments);
        canary.ran(&format!("{:?}", &arguments[..2]), output);
    }
    for (variable, value) in [
        ("MANAGEMENT_TOKEN", format!("{ROOT} with a space")),
        ("ENCRYPTION_KEY", SECOND.to_owned()),
        ("HTTPS_PROXY", format!("nothing://user:{FORWARDER}@x")),
        ("HTTPS_PROXY", format!("http://user:{FORWARDER}@:::")),
        ("METRICS_TOKEN", format!("{SCRAPER}\u{e4}")),
        ("LISTEN_ADDR", SHAPED[3].to_owned()),
        ("DATABASE_URL", format!("postgres://user:{SECOND}@db/x")),
        ("LOG_LEVEL", SHAPED[3].to_owned()),
        ("AUDIT_SIGNING_KEY", SECOND.to_owned()),
    ] {
        for arguments in [["config", "check"], ["config", "show"]] {
            let output = binary().args(arguments).env(variable, &value).output().unwrap();
            canary.ran(&format!("{arguments:?} with {variable}"), output);
        }
    }
    let broken = canary.proxy.dir.path().join("broken.yaml");
    for text in [
        format!("apis: {{openai: {{headers: [{EXTRA}"),
        format!(
            "apis: {{openai: {{headers: {{x-key: [{EXTRA}]}}, base_url: \"http://u:{SECOND}@x\"}}}}"
        ),
        format!("apis: {{openai: {{auth: {{header: \"{EXTRA} \", scheme: 7}}}}}}"),
    ] {
        std::fs::write(&broken, text).unwrap();
        let mut command = binary();
        command.args(["config", "check"]).env("API_CONFIG_PATH", &broken);
        canary.ran("config check with a broken provider file", command.output().unwrap());
    }
    std::fs::remove_file(&broken).unwrap();
}

/// A provider key by stdin, as people do it.
fn project_from_stdin(canary: &mut Canary) {
    let proxy = &canary.proxy;
    let data_dir = proxy.dir.path().join("data");
    let mut child = binary()
        .args(["project", "create", "by-stdin", "--api-key-stdin", "-o", "json"])
        .env("DATA_DIR", data_dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(SECOND.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    canary.ran("project create --api-key-stdin", output);
}

/// A secret, its base64 at each alignment, and its plain digest.
fn forms(secret: &str) -> HashSet<Vec<u8>> {
    let mut forms = HashSet::from([secret.as_bytes().to_vec()]);
    for shift in 0..3 {
        let mut padded = vec![0; shift];
        padded.extend_from_slice(secret.as_bytes());
        let coded = STANDARD.encode(&padded);
        // What its neighbours have a part in is left out.
        let from = (shift * 8).div_ceil(6);
        let inner = coded[from..padded.len() * 8 / 6].to_owned();
        forms.insert(inner.replace('+', "-").replace('/', "_").into_bytes());
        forms.insert(inner.into_bytes());
    }
    let digest = Sha256::digest(secret.as_bytes());
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    forms.insert(hex.into_bytes());
    forms
}

fn assert_clean(canary: &Canary) {
    let mut places = Vec::new();
    for file in files_below(canary.proxy.dir.path()) {
        // What the operator wrote, and the one place for keys at rest.
        if file.ends_with("providers.yaml") || file.parent().unwrap().ends_with("data/keys") {
            continue;
        }
        places.push((file.display().to_string(), std::fs::read(&file).unwrap()));
    }
    let names: Vec<&str> = places.iter().map(|(name, _)| name.as_str()).collect();
    for expected in ["stdout", "stderr", "llm-proxy.db", ".jsonl"] {
        assert!(names.iter().any(|name| name.ends_with(expected)), "{expected} in {names:?}");
    }
    let mut found = Vec::new();
    for secret in canary.secrets.iter().chain(&canary.own) {
        let is_own = canary.own.contains(secret);
        let answers = canary.received.iter().filter(|_| !is_own);
        for form in forms(secret) {
            let finder = memchr::memmem::Finder::new(&form);
            for (place, bytes) in places.iter().chain(answers.clone()) {
                if let Some(at) = finder.find(bytes) {
                    let from = at.saturating_sub(300);
                    let to = (at + form.len() + 60).min(bytes.len());
                    let around = String::from_utf8_lossy(&bytes[from..to]).into_owned();
                    found.push(format!("{secret} in {place}: …{around}…"));
                }
            }
        }
    }
    let searched: usize = places.iter().chain(&canary.received).map(|(_, it)| it.len()).sum();
    assert!(found.is_empty(), "{} leaks:\n{}", found.len(), found.join("\n\n"));
    println!(
        "{} secrets in no form in {searched} bytes of {} files and {} answers",
        canary.secrets.len(),
        places.len(),
        canary.received.len()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_written_anywhere() {
    check([("LOG_FORMAT", "json"), ("LOG_FILE", "{dir}/lines")], "lines").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_shown_to_people() {
    check([("LOG_FORMAT", "pretty"), ("JOURNAL_SYNC", "each")], "stdout").await;
}

async fn check(style: [(&str, &str); 2], shown: &str) {
    let encryption_key = STANDARD.encode(*b"canary-encryption-key-32-bytes-!");
    let upstream = provider(handler(echo)).await;
    let mut canary = Canary::start(upstream, &encryption_key, style).await;
    canary.secrets.push("canary-encryption-key-32-bytes-!".to_owned());
    let proxy = &canary.proxy;
    let keys = json!({ "openai": UPSTREAM, "limited": SECOND, "tunnelled": UPSTREAM });
    let body = json!({ "name": "acme", "provider_keys": keys });
    let (status, project) = proxy.manage(Method::POST, "/manage/projects", body).await;
    assert_eq!(status, 201, "{project}");
    assert!(!project.to_string().contains(UPSTREAM));
    let project = project["id"].as_str().unwrap().to_owned();
    let body = json!({ "project_id": project, "duration_minutes": 60 });
    let (status, token) = proxy.manage(Method::POST, "/manage/tokens", body).await;
    assert_eq!(status, 201, "{token}");
    // These two answers are the only ones that may show what they made.
    let token = token["token"].as_str().unwrap().to_owned();
    let body = json!({ "name": "robot", "role": "operator" });
    let (status, key) = proxy.manage(Method::POST, "/manage/keys", body).await;
    assert_eq!(status, 201, "{key}");
    let managed = key["key"].as_str().unwrap().to_owned();
    assert!(managed.starts_with("mk-"));
    canary.secrets.extend([token.clone(), managed.clone()]);

    data_plane(&mut canary, &token).await;
    http2(&mut canary, &token).await;
    project_from_stdin(&mut canary);
    management(&mut canary, &managed, &token).await;
    commands(&mut canary, &project, &token);
    let records = canary.proxy.records();
    let of_acme = records.iter().filter(|record| record["project"] == "acme").count();
    assert!(of_acme >= 13, "{of_acme} records of the project");
    // The search would find what is there: the provider did quote the address.
    let finder = memchr::memmem::Finder::new(OWN);
    assert!(canary.received.iter().any(|(_, bytes)| finder.find(bytes).is_some()));
    // Files are searched while the process holds them, and after its end.
    let shown = canary.proxy.dir.path().join(shown);
    until("the lines are shown", async || {
        let text = std::fs::read_to_string(&shown).unwrap();
        (text.contains("/v1/echo/fine") && text.contains("/tunnelled/")).then_some(())
    })
    .await;
    assert_clean(&canary);
    canary.proxy.stop().await;
    let output = canary.proxy.command(&["logs", "search", "-o", "raw", "--limit", "0"]);
    canary.ran("logs search, offline", output);
    assert_clean(&canary);
}

/// HTTP/2 has traces of its own, of frames and of compressed headers.
async fn http2(canary: &mut Canary, token: &str) {
    let stream = TcpStream::connect(canary.proxy.address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(
        hyper_util::rt::TokioExecutor::new(),
        hyper_util::rt::TokioIo::new(stream),
    )
    .await
    .unwrap();
    tokio::spawn(connection);
    for (header, value) in [
        ("authorization", format!("Bearer {token}")),
        ("x-api-key", token.to_owned()),
        ("authorization", format!("Bearer {}", WRONG[4])),
    ] {
        let request = Request::get(canary.proxy.url("/v1/echo/chunks"))
            .header(header, value)
            .header("cookie", format!("session={COOKIE}"))
            .body(whole(""));
        let response = sender.send_request(request.unwrap()).await.unwrap();
        let said = format!("{:?}", response.headers());
        let mut bytes = response.into_body().collect().await.unwrap().to_bytes().to_vec();
        bytes.extend_from_slice(said.as_bytes());
        canary.received.push(("an answer of HTTP/2".to_owned(), bytes));
    }
}
