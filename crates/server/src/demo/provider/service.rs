//! One request to the sample provider: who asks, for what, and the answer.

use std::{
    io,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header, request::Parts};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use serde_json::json;

use super::{
    anthropic,
    body::ScriptedBody,
    content::Ask,
    directives::{DIRECTIVES_HEADER, Directives, Silence, query_parameters},
    errors::{self, Dialect},
    ledger::{Ledger, Line},
    openai,
    prepared::{Prepared, asks_for_stream},
    raw,
    reply::Reply,
    responses,
};

/// Of requests that are parsed; raw endpoints take any length.
const JSON_BYTES_MAX: usize = 64 << 20;

/// What all connections share.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) key_prefix: String,
    pub(super) defaults: Directives,
    pub(super) prepared: Option<Prepared>,
    pub(super) ledger: Ledger,
    pub(super) keeps_ledger: bool,
}

/// Names the answers of this process.
static ANSWERS: AtomicU64 = AtomicU64::new(1);

/// Everything about one request that its answer needs.
struct Exchange {
    dialect: Dialect,
    directives: Directives,
    /// The provider's own id of this request.
    own_id: String,
    line: Line,
}

impl Service {
    /// An error closes the connection without an answer.
    pub(super) async fn handle(
        &self,
        request: Request<Incoming>,
    ) -> io::Result<Response<ScriptedBody>> {
        if let Some(prepared) = &self.prepared
            && request.uri().path() == "/v1/chat/completions"
            && self.accepts(presented_key(request.headers()))
            && let Ok(directives) = self.directives(request.headers())
            && directives.only_pace()
        {
            return self.answer_prepared(prepared, &directives, request).await;
        }
        let (parts, body) = request.into_parts();
        if let Some(path) = parts.uri.path().strip_prefix("/__sample/") {
            return Ok(self.own_page(path, &parts));
        }
        let mut exchange = match self.open(&parts) {
            Ok(exchange) => exchange,
            Err(response) => return Ok(*response),
        };
        pause(exchange.directives.latency).await;
        match exchange.directives.silence {
            Silence::Head => std::future::pending::<()>().await,
            Silence::Drop => {
                return Err(io::Error::other("told to close the connection without an answer"));
            }
            Silence::Never | Silence::Body => {}
        }
        if let Some(refusal) = self.refusal(&parts, &exchange) {
            // What was sent is taken first: a refusal must not reset uploads.
            raw::digest(body).await.map_err(io::Error::other)?;
            return Ok(exchange.deliver(refusal));
        }
        if let Some(response) = exchange.stream_raw(&parts) {
            return Ok(response);
        }
        let reply = exchange.answer(&parts, body).await?;
        Ok(exchange.deliver(reply))
    }

    async fn answer_prepared(
        &self,
        prepared: &Prepared,
        directives: &Directives,
        request: Request<Incoming>,
    ) -> io::Result<Response<ScriptedBody>> {
        let line = if self.keeps_ledger {
            let id = request_id(request.headers());
            self.ledger.receive(id, request.method().as_str(), request.uri().path())
        } else {
            Line::none()
        };
        let limited = Limited::new(request.into_body(), JSON_BYTES_MAX);
        let body = limited.collect().await.map_err(io::Error::other)?.to_bytes();
        pause(directives.latency).await;
        let (content_type, length, body) = if asks_for_stream(&body) {
            let chunks = prepared.stream.clone();
            let body = ScriptedBody::prepared(chunks, directives.chunk_delay, line);
            ("text/event-stream; charset=utf-8", None, body)
        } else {
            let plain = prepared.plain.clone();
            let length = Some(HeaderValue::from(plain.len()));
            ("application/json", length, ScriptedBody::whole(plain, line))
        };
        let mut response = Response::new(body);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert("x-request-id", HeaderValue::from_static("req_sample_prepared"));
        if let Some(length) = length {
            headers.insert(header::CONTENT_LENGTH, length);
        }
        Ok(response)
    }

    fn accepts(&self, key: Option<&str>) -> bool {
        key.is_some_and(|key| key.starts_with(&self.key_prefix))
    }

    fn directives(&self, headers: &HeaderMap) -> Result<Directives, String> {
        let words = headers.get(DIRECTIVES_HEADER).map(HeaderValue::as_bytes);
        self.defaults.overridden_by(&String::from_utf8_lossy(words.unwrap_or_default()))
    }

    fn open(&self, parts: &Parts) -> Result<Exchange, Box<Response<ScriptedBody>>> {
        let dialect = dialect(parts);
        let own_id = format!("req_sample_{:012}", ANSWERS.fetch_add(1, Ordering::Relaxed));
        let line = if self.keeps_ledger {
            self.ledger.receive(request_id(&parts.headers), parts.method.as_str(), parts.uri.path())
        } else {
            Line::none()
        };
        match self.directives(&parts.headers) {
            Ok(directives) => Ok(Exchange { dialect, directives, own_id, line }),
            Err(message) => {
                let directives = Directives::default();
                let status = StatusCode::BAD_REQUEST;
                let reply = errors::error(dialect, status, &message, &own_id, &directives);
                Err(Box::new(reply.deliver(&directives, line)))
            }
        }
    }

    /// The key's 401, or the error that the directives ask for.
    fn refusal(&self, parts: &Parts, exchange: &Exchange) -> Option<Reply> {
        let key = presented_key(&parts.headers);
        let asked = exchange.directives.status_for(exchange.line.seen);
        let status = match key {
            key if self.accepts(key) => asked?,
            _ => StatusCode::UNAUTHORIZED,
        };
        let message = match key {
            Some(key) if exchange.directives.echo_auth_in_error => {
                format!("{} You sent: {key}", errors::message(status))
            }
            _ => errors::message(status).to_owned(),
        };
        Some(exchange.error(status, &message))
    }

    /// Pages about the sample provider itself; they need no key.
    fn own_page(&self, path: &str, parts: &Parts) -> Response<ScriptedBody> {
        let reply = match (path, &parts.method) {
            ("ledger", &Method::DELETE) => {
                self.ledger.clear();
                Reply::json(StatusCode::OK, &json!({"cleared": true}))
            }
            ("ledger", _) => {
                let parameters = query_parameters(parts.uri.query());
                let page = self.ledger.page(parameters.get("request_id").copied());
                let page = serde_json::to_vec(&page).unwrap_or_default();
                Reply::plain(StatusCode::OK, "application/json", page.into())
            }
            ("health", _) => Reply::json(StatusCode::OK, &json!({"status": "ok"})),
            _ => Reply::json(StatusCode::NOT_FOUND, &json!({"error": "no such page"})),
        };
        reply.deliver(&Directives::default(), Line::none())
    }
}

impl Exchange {
    fn error(&self, status: StatusCode, message: &str) -> Reply {
        errors::error(self.dialect, status, message, &self.own_id, &self.directives)
    }

    fn deliver(self, reply: Reply) -> Response<ScriptedBody> {
        let Self { dialect, directives, own_id, line } = self;
        let mut response = reply.deliver(&directives, line);
        let headers = response.headers_mut();
        if let Ok(id) = HeaderValue::try_from(own_id) {
            headers.insert(dialect.request_id_header(), id);
        }
        if dialect == Dialect::OpenAi {
            headers.insert("openai-version", HeaderValue::from_static("2020-10-01"));
            headers.insert("openai-processing-ms", HeaderValue::from_static("7"));
        }
        response
    }

    /// Bodies of any length that are made, not computed.
    fn stream_raw(&mut self, parts: &Parts) -> Option<Response<ScriptedBody>> {
        let path = parts.uri.path();
        let take = |line: &mut Line| std::mem::replace(line, Line::none());
        let file_content = path.starts_with("/v1/files/") && path.ends_with("/content");
        match path {
            "/v1/generate" => Some(raw::generate(parts, take(&mut self.line))),
            _ if file_content => Some(raw::generate(parts, take(&mut self.line))),
            "/v1/trailers" => Some(raw::trailers(take(&mut self.line))),
            "/v1/audio/speech" => Some(raw::speech(take(&mut self.line))),
            _ => None,
        }
    }

    async fn answer(&self, parts: &Parts, body: Incoming) -> io::Result<Reply> {
        let path = parts.uri.path();
        let digest = async |body| raw::digest(body).await.map_err(io::Error::other);
        match path {
            "/v1/echo" | "/v1/sink" => return Ok(raw::echo(parts, &digest(body).await?)),
            "/v1/files" if raw::is_upload(&parts.method) => {
                return Ok(raw::file(&digest(body).await?));
            }
            "/v1/audio/transcriptions" => return Ok(raw::transcription(&digest(body).await?)),
            "/v1/models" if self.dialect == Dialect::Anthropic => return Ok(anthropic::models()),
            "/v1/models" => return Ok(openai::models()),
            _ => {}
        }
        if let Some(id) = path.strip_prefix("/v1/models/") {
            let message = format!("The model '{id}' does not exist");
            return Ok(
                openai::model(id).unwrap_or_else(|| self.error(StatusCode::NOT_FOUND, &message))
            );
        }
        let body = match Limited::new(body, JSON_BYTES_MAX).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) if error.is::<LengthLimitError>() => {
                return Ok(self.error(StatusCode::PAYLOAD_TOO_LARGE, "The request is too large."));
            }
            Err(error) => return Err(io::Error::other(error)),
        };
        Ok(self.answer_json(parts, &body))
    }

    fn answer_json(&self, parts: &Parts, body: &Bytes) -> Reply {
        let known = [
            "/v1/chat/completions",
            "/v1/completions",
            "/v1/responses",
            "/v1/embeddings",
            "/v1/messages",
            "/v1/messages/count_tokens",
        ];
        let path = parts.uri.path();
        if !known.contains(&path) {
            let message = format!("Invalid URL ({} {path})", parts.method);
            return self.error(StatusCode::NOT_FOUND, &message);
        }
        if parts.method != Method::POST {
            let message = format!("Not allowed to {} on {path}", parts.method);
            return self.error(StatusCode::METHOD_NOT_ALLOWED, &message);
        }
        let (ask, request) = match Ask::read(body, &self.directives) {
            Ok(read) => read,
            Err(message) => return self.error(StatusCode::BAD_REQUEST, &message),
        };
        let directives = &self.directives;
        match path {
            "/v1/completions" => openai::completions(&ask, &request, directives),
            "/v1/responses" => responses::responses(&ask, &request, directives),
            "/v1/embeddings" => openai::embeddings(&ask, &request, directives),
            "/v1/messages" if request.get("max_tokens").is_none() => {
                self.error(StatusCode::BAD_REQUEST, "max_tokens: Field required")
            }
            "/v1/messages" => anthropic::messages(&ask, &request, directives),
            "/v1/messages/count_tokens" => anthropic::count_tokens(&ask),
            _ => openai::chat(&ask, &request, directives),
        }
    }
}

/// A sleep of no length would still wait for the timer's next tick.
async fn pause(latency: Duration) {
    if !latency.is_zero() {
        tokio::time::sleep(latency).await;
    }
}

fn dialect(parts: &Parts) -> Dialect {
    let anthropic = parts.uri.path().starts_with("/v1/messages")
        || parts.headers.contains_key("anthropic-version");
    if anthropic { Dialect::Anthropic } else { Dialect::OpenAi }
}

fn request_id(headers: &HeaderMap) -> Option<&str> {
    headers.get("x-request-id").and_then(|id| id.to_str().ok())
}

fn presented_key(headers: &HeaderMap) -> Option<&str> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let bearer = text("authorization").and_then(|value| value.strip_prefix("Bearer "));
    bearer.or_else(|| text("x-api-key")).or_else(|| text("api-key"))
}
