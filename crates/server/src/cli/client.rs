//! How a command reaches the management side: a server far away, the one that
//! runs on this data directory, or none, in this process.
//!
//! All three take the same requests and run the same use cases, so a command
//! needs to know nothing of the way. Must never print or repeat a key.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use domain::secret::Secret;
use http::{HeaderValue, Method, Request, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::{
    client::legacy::{Client as HttpClient, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use serde_json::Value;
use tokio::net::UnixStream;

use crate::http::{Management, Origin, socket};

const ANSWER_BYTES_MAX: usize = 64 << 20;
const TIMEOUT: Duration = Duration::from_secs(60);

type Https = hyper_rustls::HttpsConnector<HttpConnector>;

enum Way {
    Remote { base: String, key: Secret, client: Box<HttpClient<Https, Full<Bytes>>> },
    Socket(std::path::PathBuf),
    Process { management: Arc<Management>, uid: u32 },
}

/// Where commands go, with what is said in the entries of changes.
pub struct Client {
    way: Way,
    pub reason: Option<String>,
    pub ticket: Option<String>,
}

/// A successful answer.
#[derive(Debug)]
pub struct Answer {
    /// `Null` for an empty one.
    pub body: Value,
    pub audit_id: Option<String>,
}

impl Client {
    fn new(way: Way) -> Self {
        Self { way, reason: None, ticket: None }
    }

    /// A server at `url`, with a management key.
    pub fn remote(url: &str, key: Option<Secret>) -> anyhow::Result<Self> {
        let parsed = url::Url::parse(url).context("--url is not a URL")?;
        if !matches!(parsed.scheme(), "http" | "https") || parsed.host().is_none() {
            bail!("--url must begin with http:// or https://");
        }
        let key = key.context("--url needs a management key in MANAGEMENT_TOKEN")?;
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_provider_and_webpki_roots(rustls::crypto::ring::default_provider())
            .context("cannot set up TLS")?
            .https_or_http()
            .enable_http1()
            .build();
        let client = Box::new(HttpClient::builder(TokioExecutor::new()).build(connector));
        let base = url.trim_end_matches('/').to_owned();
        Ok(Self::new(Way::Remote { base, key, client }))
    }

    /// The server that runs on this data directory; `None` when none listens.
    pub async fn running(data_dir: &Path) -> Option<Self> {
        let path = socket::path(data_dir);
        UnixStream::connect(&path).await.ok()?;
        Some(Self::new(Way::Socket(path)))
    }

    /// No server: the use cases run in this process, which holds the lock of
    /// the data directory.
    pub fn in_process(management: Arc<Management>) -> Self {
        let uid = rustix::process::getuid().as_raw();
        Self::new(Way::Process { management, uid })
    }

    pub async fn get(&self, path: &str) -> anyhow::Result<Answer> {
        self.call(Method::GET, path, None).await
    }

    /// Opens an answer of the server at the URL, whatever its status, to be read
    /// as it comes.
    pub async fn open(
        &self,
        path: &str,
        headers: &[(&'static str, &str)],
    ) -> anyhow::Result<http::Response<hyper::body::Incoming>> {
        let Way::Remote { base, key, client } = &self.way else {
            bail!("only a server at a URL can be read from");
        };
        let mut request = Request::get(format!("{base}{path}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(Full::default()).context("the address cannot be built")?;
        request.headers_mut().insert(header::AUTHORIZATION, bearer(key)?);
        let answer = tokio::time::timeout(TIMEOUT, client.request(request)).await;
        answer.context("the server does not answer")?.context("cannot reach the server")
    }

    /// A whole answer with its status.
    pub async fn fetch(&self, path: &str) -> anyhow::Result<(http::StatusCode, Bytes)> {
        let (parts, body) = self.open(path, &[]).await?.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect();
        let body = tokio::time::timeout(TIMEOUT, body).await.context("the answer has no end")?;
        let body = body.map_err(|error| anyhow::anyhow!(error).context("the answer broke off"))?;
        Ok((parts.status, body.to_bytes()))
    }

    /// Copies an answer to `out` as it comes.
    pub async fn copy(
        &self,
        path: &str,
        accept: &'static str,
        out: &mut dyn std::io::Write,
    ) -> anyhow::Result<()> {
        let mut request = self.request(Method::GET, path, None)?;
        request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static(accept));
        match &self.way {
            Way::Remote { client, .. } => {
                let answer = tokio::time::timeout(TIMEOUT, client.request(request)).await;
                let answer = answer.context("the server does not answer")?;
                copied(answer.context("cannot reach the server")?, out).await
            }
            Way::Socket(path) => {
                let (mut sender, serving) = connected(path).await?;
                let response = sender.send_request(request).await.context("no answer")?;
                let done = copied(response, out).await;
                serving.abort();
                done
            }
            Way::Process { management, uid } => {
                let answer = management.handle(request, Origin::Local { uid: *uid }).await;
                copied(answer, out).await
            }
        }
    }

    pub async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> anyhow::Result<Answer> {
        self.call_within(TIMEOUT, method, path, body).await
    }

    /// As [`Self::call`], for work that may take longer.
    pub async fn call_within(
        &self,
        timeout: Duration,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> anyhow::Result<Answer> {
        let exchange = self.exchange(method, path, body);
        tokio::time::timeout(timeout, exchange).await.context("the server does not answer")?
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> anyhow::Result<Answer> {
        let request = self.request(method, path, body)?;
        match &self.way {
            Way::Remote { client, .. } => {
                read(client.request(request).await.context("cannot reach the server")?).await
            }
            Way::Socket(path) => {
                let (mut sender, serving) = connected(path).await?;
                let response = sender.send_request(request).await.context("no answer")?;
                let answer = read(response).await;
                serving.abort();
                answer
            }
            Way::Process { management, uid } => {
                read(management.handle(request, Origin::Local { uid: *uid }).await).await
            }
        }
    }

    /// The request as this way takes it.
    fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> anyhow::Result<Request<Full<Bytes>>> {
        let uri: Uri = match &self.way {
            Way::Remote { base, .. } => format!("{base}{path}").parse(),
            Way::Socket(_) | Way::Process { .. } => path.parse(),
        }
        .context("the address cannot be built")?;
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in [("x-audit-reason", &self.reason), ("x-audit-ticket", &self.ticket)] {
            if let Some(value) = value {
                let value = HeaderValue::from_bytes(value.as_bytes())
                    .with_context(|| format!("{name} holds control characters"))?;
                request = request.header(name, value);
            }
        }
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let body = body.map(|body| serde_json::to_vec(&body)).transpose()?.unwrap_or_default();
        let mut request = request.body(Full::new(Bytes::from(body)))?;
        match &self.way {
            Way::Remote { key, .. } => {
                request.headers_mut().insert(header::AUTHORIZATION, bearer(key)?);
            }
            Way::Socket(_) => {
                request.headers_mut().insert(header::HOST, HeaderValue::from_static("local"));
            }
            Way::Process { .. } => {}
        }
        Ok(request)
    }
}

type Sender = hyper::client::conn::http1::SendRequest<Full<Bytes>>;

/// A connection to the admin socket, and the task that serves it.
async fn connected(
    path: &Path,
) -> anyhow::Result<(Sender, tokio::task::JoinHandle<hyper::Result<()>>)> {
    let stream = UnixStream::connect(path).await.context("cannot reach the server")?;
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    Ok((sender, tokio::spawn(connection)))
}

/// Writes the pieces of a good answer as they come; a refusal is an error.
async fn copied<B>(response: http::Response<B>, out: &mut dyn std::io::Write) -> anyhow::Result<()>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    if !response.status().is_success() {
        return read(response).await.map(drop);
    }
    let mut body = response.into_body();
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|error| anyhow::anyhow!(error.into()).context("the answer broke off"))?;
        if let Some(piece) = frame.data_ref() {
            out.write_all(piece)?;
        }
    }
    Ok(out.flush()?)
}

fn bearer(key: &Secret) -> anyhow::Result<HeaderValue> {
    let mut bearer = HeaderValue::from_str(&format!("Bearer {}", key.expose()))
        .map_err(|_| anyhow::anyhow!("MANAGEMENT_TOKEN is not a management key"))?;
    bearer.set_sensitive(true);
    Ok(bearer)
}

async fn read<B>(response: http::Response<B>) -> anyhow::Result<Answer>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (parts, body) = response.into_parts();
    let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
    let body = body.map_err(|error| anyhow::anyhow!(error).context("the answer broke off"))?;
    let body = body.to_bytes();
    let value = match body.is_empty() {
        true => Value::Null,
        false => serde_json::from_slice(&body).context("the answer is not JSON")?,
    };
    if !parts.status.is_success() {
        let text = |key: &str| value[key].as_str().unwrap_or("unknown").to_owned();
        bail!("{} ({}, request {})", text("error"), text("code"), text("request_id"));
    }
    let audit_id = parts.headers.get("audit-id").and_then(|id| id.to_str().ok());
    Ok(Answer { body: value, audit_id: audit_id.map(str::to_owned) })
}
