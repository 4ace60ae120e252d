//! The demo against a stand-in for the proxy: tokens are checked, requests are
//! forwarded over real connections, and records are derived from what the
//! sample provider says, so that any slip of the demo itself shows.

#![expect(clippy::unwrap_used, reason = "a failed step of a test is its failure")]

use std::{
    io,
    path::Path,
    sync::Arc,
    sync::atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use domain::{ids::TokenId, rng::Fixed};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use parking_lot::Mutex;

use super::{
    proxy::{AuditLine, AuditTree, Books},
    *,
};

type Body = UnsyncBoxBody<Bytes, io::Error>;

struct Noted {
    request_id: String,
    model: Value,
    refusal: Option<(u16, &'static str)>,
}

struct StandIn {
    upstream: String,
    client: Client<HttpConnector, Full<Bytes>>,
    issued: Mutex<Vec<NewToken>>,
    entries: Mutex<Vec<AuditLine>>,
    noted: Mutex<Vec<Noted>>,
    used: AtomicUsize,
}

impl StandIn {
    fn enter(&self, action: &str, target: &str) {
        let mut entries = self.entries.lock();
        let index = Some(entries.len() as u64);
        entries.push(AuditLine {
            index,
            ts: "2026-11-23T10:00:00.000000Z".into(),
            action: action.into(),
            actor: "root".into(),
            target: target.into(),
            result: "success".into(),
        });
    }

    fn refusal(
        &self,
        token: Option<&str>,
        path: &str,
        body: &Value,
    ) -> Option<(u16, &'static str)> {
        let Some(token) = token else { return Some((401, "token_missing")) };
        let issued = self.issued.lock();
        let number = token.strip_prefix("sk-demo-").and_then(|number| number.parse::<usize>().ok());
        let Some(token) = number.and_then(|number| issued.get(number)) else {
            return Some((401, "token_not_found"));
        };
        let model = body["model"].as_str().unwrap_or("");
        if token.description.starts_with("revoked") {
            return Some((401, "token_inactive"));
        }
        if path.contains("nothing") {
            return Some((404, "endpoint_not_found"));
        }
        if !token.allowed_models.is_empty() && !token.allowed_models.iter().any(|m| m == model) {
            return Some((403, "model_not_allowed"));
        }
        let used = token.max_requests.is_some() && self.used.fetch_add(1, Ordering::Relaxed) > 0;
        used.then_some((429, "quota_exceeded"))
    }

    async fn handle(&self, request: Request<Incoming>) -> io::Result<Response<Body>> {
        let (mut parts, body) = request.into_parts();
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        let json: Value = serde_json::from_slice(&body).unwrap_or_default();
        let id = parts.headers["x-request-id"].clone();
        let text = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
        let bearer = text("authorization").and_then(|value| value.strip_prefix("Bearer "));
        let refusal = self.refusal(bearer.or(text("x-api-key")), parts.uri.path(), &json);
        self.noted.lock().push(Noted {
            request_id: id.to_str().unwrap().into(),
            model: json["model"].clone(),
            refusal,
        });
        let mut response = if let Some((status, _)) = refusal {
            let mut response = Response::new(Body::default());
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            response
        } else {
            let path = parts.uri.path().trim_start_matches("/anthropic");
            parts.uri = format!("{}{path}", self.upstream).parse().unwrap();
            parts.headers.remove("host");
            parts.headers.remove("x-api-key");
            let key = HeaderValue::from_static("Bearer sample-stand-in");
            parts.headers.insert("authorization", key);
            let request = Request::from_parts(parts, Full::new(body));
            let response = self.client.request(request).await.map_err(io::Error::other)?;
            response.map(|body| body.map_err(io::Error::other).boxed_unsync())
        };
        response.headers_mut().insert("x-request-id", id);
        Ok(response)
    }

    async fn record(&self, noted: &Noted) -> Option<Value> {
        let mut record = json!({"request_id": noted.request_id, "model": noted.model,
            "ts": "2026-11-23T10:00:00.000000Z", "outcome": "denied", "partial": false});
        if let Some((status, code)) = noted.refusal {
            (record["status_code"], record["error_code"]) = (status.into(), code.into());
            return Some(record);
        }
        let uri = format!("{}/__sample/ledger?request_id={}", self.upstream, noted.request_id);
        let response = self.client.get(uri.parse().unwrap()).await.unwrap();
        let page = response.into_body().collect().await.unwrap().to_bytes();
        let page: Value = serde_json::from_slice(&page).unwrap();
        let line = &page["items"][0];
        let status = line["status"].as_u64().unwrap();
        let (outcome, partial) = match (line["ending"].as_str()?, status) {
            ("open", _) => return None,
            ("cut", _) => ("upstream_error", true),
            ("caller_gone", _) => ("client_closed", true),
            (_, 400..500) => ("client_error", false),
            (_, 500..) => ("upstream_error", false),
            _ => ("ok", false),
        };
        record["outcome"] = outcome.into();
        (record["partial"], record["status_code"]) = (partial.into(), status.into());
        if let Some(usage) = line["usage"].as_object() {
            record.as_object_mut().unwrap().extend(usage.clone());
            record["usage_source"] = "provider".into();
        }
        Some(record)
    }
}

struct TestProxy {
    address: SocketAddr,
    inner: Arc<StandIn>,
    key: Secret,
}

struct TestLauncher;

impl Launcher for TestLauncher {
    type Proxy = TestProxy;

    async fn launch(self, launch: Launch) -> anyhow::Result<TestProxy> {
        let listener = tokio::net::TcpListener::bind(launch.listen).await?;
        let address = listener.local_addr()?;
        let inner = Arc::new(StandIn {
            upstream: launch.openai_base_url.unwrap(),
            client: Client::builder(TokioExecutor::new()).build_http(),
            issued: Mutex::default(),
            entries: Mutex::default(),
            noted: Mutex::default(),
            used: AtomicUsize::new(0),
        });
        let served = Arc::clone(&inner);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let inner = Arc::clone(&served);
                let handler = service_fn(move |request| {
                    let inner = Arc::clone(&inner);
                    async move { inner.handle(request).await }
                });
                let server = hyper::server::conn::http1::Builder::new();
                tokio::spawn(server.serve_connection(TokioIo::new(stream), handler));
            }
        });
        Ok(TestProxy { address, inner, key: Secret::new("mk-test") })
    }
}

impl Proxy for TestProxy {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn management_key(&self) -> &Secret {
        &self.key
    }

    fn management_key_file(&self) -> &Path {
        Path::new("management-key")
    }

    async fn create_project(&self, project: NewProject) -> anyhow::Result<ProjectId> {
        self.inner.enter("project.create", &project.name);
        Ok("00000000-0000-7000-8000-000000000001".parse().unwrap())
    }

    async fn create_token(&self, token: NewToken) -> anyhow::Result<CreatedToken> {
        self.inner.enter("token.create", token.description);
        let mut issued = self.inner.issued.lock();
        issued.push(token);
        let id: TokenId = "00000000-0000-7000-8000-000000000002".parse().unwrap();
        Ok(CreatedToken { id, token: Secret::new(format!("sk-demo-{}", issued.len() - 1)) })
    }

    async fn revoke_token(&self, _: TokenId) -> anyhow::Result<()> {
        self.inner.enter("token.revoke", "a token");
        Ok(())
    }

    async fn records(&self, prefix: &str) -> anyhow::Result<Vec<Value>> {
        let noted = std::mem::take(&mut *self.inner.noted.lock());
        let mut records = Vec::new();
        for noted in noted.iter().filter(|noted| noted.request_id.starts_with(prefix)) {
            records.extend(self.inner.record(noted).await);
        }
        *self.inner.noted.lock() = noted;
        Ok(records)
    }

    async fn entries(&self) -> anyhow::Result<Vec<AuditLine>> {
        Ok(self.inner.entries.lock().clone())
    }

    async fn tree(&self) -> anyhow::Result<AuditTree> {
        let size = self.inner.entries.lock().len() as u64;
        let (root, key) = ("00".repeat(32), "key".to_owned());
        Ok(AuditTree { size, root, key, findings: Vec::new() })
    }

    fn books(&self) -> Books {
        let count = self.inner.noted.lock().len() as u64;
        Books { accepted: count, stored: count, coalesced: 0, lost: 0, in_flight: 0 }
    }

    async fn stop(self) -> anyhow::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_demo_runs_once_and_writes_its_ready_file() {
    let directory = tempfile::tempdir().unwrap();
    let ready_file = directory.path().join("ready.json");
    let args = DemoArgs {
        data_dir: directory.path().join("data"),
        listen: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
        once: true,
        provider: DemoProvider::Sample,
        ready_file: Some(ready_file.clone()),
        command: None,
    };
    let mut out = Vec::new();
    let surroundings =
        Surroundings { out: &mut out, colours: false, rng: &Fixed(7 << 32), openai_key: None };
    let passed = run(args, TestLauncher, surroundings, std::future::pending()).await.unwrap();
    let screen = String::from_utf8(out).unwrap();
    assert!(passed, "{screen}");
    for expected in ["demo-00000007-stream-cut", "lost 0", "token.revoke", "logs search", "curl"] {
        assert!(screen.contains(expected), "no '{expected}' in\n{screen}");
    }
    let ready: Value = serde_json::from_slice(&std::fs::read(ready_file).unwrap()).unwrap();
    assert_eq!(ready["tokens"]["normal"], "sk-demo-0");
    assert!(ready["sample_provider"]["url"].as_str().unwrap().starts_with("http://127.0.0.1:"));
}

#[tokio::test]
async fn the_provider_alone_prints_its_address() {
    let args = ProviderArgs {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        key_prefix: "sample-".into(),
        sample: "latency=1ms".into(),
        prepared: true,
        no_ledger: true,
    };
    let mut out = Vec::new();
    run_provider(args, &mut out, std::future::ready(())).await.unwrap();
    assert!(String::from_utf8(out).unwrap().starts_with("http://127.0.0.1:"));
}
