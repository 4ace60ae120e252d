//! The fourth stage: the request goes to its provider, and the head of an answer
//! comes back, in time or not at all.

use std::{
    error::Error as _,
    sync::Arc,
    time::{Duration, Instant},
};

use domain::failure::ErrorCode;
use http::{
    HeaderMap, HeaderValue, Request, Response, Uri, Version,
    header::HOST,
    request,
    uri::{self, PathAndQuery},
};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{self, Client},
    rt::{TokioExecutor, TokioTimer},
};

use crate::{
    admit::{self, Admitted},
    connect::{Connector, Upstreams},
    finish::Unfinished,
    hop::{self, BAGGAGE, TRACEPARENT, TRACESTATE, X_CORRELATION_ID, X_REQUEST_ID},
    limits::ATTEMPTS_MAX,
    path::Mount,
    plane::Plane,
    ports::Grant,
    provider::{Provider, Providers},
    receive::body_too_large,
    rescue::{Refusal, id_value},
    scope::RequestScope,
    upload::{UpBody, UploadFailure},
};

type Pool = Client<Connector, UpBody>;

/// The pools of one runtime, one for each provider.
#[derive(Clone)]
pub struct Pools(Vec<Pool>);

impl Pools {
    pub fn new(providers: &Providers, upstreams: &Upstreams) -> Self {
        let pool = |provider: &Arc<Provider>| {
            Client::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .timer(TokioTimer::new())
                .pool_idle_timeout(provider.timeouts.idle_connection)
                .pool_max_idle_per_host(provider.max_idle_connections_per_host)
                .set_host(false)
                .http2_adaptive_window(true)
                .http2_keep_alive_interval(Some(Duration::from_secs(30)))
                .build(upstreams.connector(provider.timeouts.connect))
        };
        Self(providers.all.iter().map(pool).collect())
    }
}

/// The head of an answer, and how long the provider took for it.
pub struct Answered {
    pub response: Response<Incoming>,
    pub took: Duration,
    pub deadline: Instant,
    pub grant: Arc<Grant>,
}

pub async fn forward(
    plane: &Plane,
    pools: &Pools,
    admitted: Admitted,
    head: request::Parts,
    mount: &Mount<'_>,
    exchange: &mut Unfinished,
    scope: &RequestScope,
) -> Result<Answered, Refusal> {
    let provider = mount.provider;
    let at = plane.parts.providers.all.iter().position(|other| Arc::ptr_eq(other, provider));
    let at = at.expect("a mount's provider is one of all providers");
    let grant = Arc::clone(admitted.grant());
    let key = grant.keys.get(&provider.name).ok_or_else(|| {
        Refusal::new(
            ErrorCode::UpstreamKeyError,
            "the project of this token has no usable key for this provider",
        )
    })?;
    let now = plane.parts.clock.now();
    plane.circuits[at].admit(now).map_err(circuit_open)?;
    let mut head = upstream_head(provider, head, mount.path, scope)
        .ok_or_else(|| Refusal::new(ErrorCode::InvalidRequest, "the path cannot be forwarded"))?;
    head.headers.insert(provider.auth_header.clone(), key.header.clone());
    admit::take_use(&grant, now)?;
    let began = exchange.forwarding();
    let deadline = began + provider.timeouts.request;
    let mut body = admitted.body;
    loop {
        let replay = body.replay();
        let again = replay.as_ref().map(|_| head.clone());
        let pending = pools.0[at].request(Request::from_parts(head, body));
        let error = match wait(plane, pending, provider, exchange, &grant, deadline).await {
            Ok(response) => {
                if plane.circuits[at].succeeded() {
                    tracing::info!(provider = &*provider.name, "the circuit closed");
                }
                return Ok(Answered { response, took: began.elapsed(), deadline, grant });
            }
            Err(Failure::Refused(refusal, counts)) => {
                if counts {
                    circuit_failed(plane, at, provider);
                }
                return Err(refusal);
            }
            Err(Failure::Client(error)) => error,
        };
        match (replay, again) {
            (Some(again_body), Some(again_head))
                if never_processed(&error) && exchange.record().attempts < ATTEMPTS_MAX =>
            {
                tracing::debug!(error = %chain(&error), "the provider did not take the request; again");
                exchange.record_mut().attempts += 1;
                (head, body) = (again_head, again_body);
            }
            _ => {
                let (refusal, counts) = classify(&error, exchange);
                if counts {
                    circuit_failed(plane, at, provider);
                }
                return Err(refusal);
            }
        }
    }
}

fn circuit_open(wait: i64) -> Refusal {
    Refusal::new(
        ErrorCode::CircuitOpen,
        "the provider could not be reached several times in a row; try again shortly",
    )
    .retry_after(wait)
}

fn circuit_failed(plane: &Plane, at: usize, provider: &Provider) {
    if plane.circuits[at].failed(plane.parts.clock.now()) {
        tracing::warn!(
            provider = &*provider.name,
            "the circuit opened: the provider is unreachable"
        );
    }
}

enum Failure {
    /// Decided; the flag says whether the circuit counts it.
    Refused(Refusal, bool),
    Client(legacy::Error),
}

/// Waits for the head: as long as the client is still sending, then for
/// `response_header`, and never past the deadline. Whoever waits longer than a
/// moment gets an opening line.
async fn wait(
    plane: &Plane,
    pending: legacy::ResponseFuture,
    provider: &Provider,
    exchange: &mut Unfinished,
    grant: &Grant,
    deadline: Instant,
) -> Result<Response<Incoming>, Failure> {
    tokio::pin!(pending);
    let header_timeout = provider.timeouts.response_header;
    let body_idle = plane.parts.limits.request_body_idle;
    let began = exchange.forwarded_at().unwrap_or_else(Instant::now);
    let first = (began + header_timeout.min(body_idle)).min(deadline);
    let first = exchange.opening_due().map_or(first, |due| due.min(first));
    let alarm = tokio::time::sleep_until(first.into());
    let terminated = grant.live.terminate.cancelled();
    tokio::pin!(alarm, terminated);
    loop {
        tokio::select! {
            biased;
            answered = &mut pending => return answered.map_err(Failure::Client),
            () = &mut alarm => {}
            () = &mut terminated => {
                let refusal = Refusal::new(ErrorCode::TokenInactive, "this token was revoked");
                return Err(Failure::Refused(refusal, false));
            }
        }
        let now = Instant::now();
        if exchange.opening_due().is_some_and(|due| due <= now) {
            exchange.open();
        }
        let upload = exchange.upload.as_ref();
        let sending_since = upload.and_then(|upload| upload.waiting_since());
        let until = match (sending_since, upload) {
            (Some(last), _) => last + body_idle,
            (None, Some(upload)) => upload.last_frame() + header_timeout,
            (None, None) => began + header_timeout,
        };
        if now >= until.min(deadline) {
            // A client that is still sending is what the provider waits for.
            let by_client = sending_since.is_some();
            return Err(Failure::Refused(late(by_client), !by_client));
        }
        alarm.as_mut().reset(until.min(deadline).into());
    }
}

fn late(by_client: bool) -> Refusal {
    if by_client {
        Refusal::new(ErrorCode::RequestTimeout, "the request body did not arrive in time")
    } else {
        Refusal::new(ErrorCode::UpstreamTimeout, "the provider did not answer in time")
    }
}

/// The request's head as the provider gets it; the key comes later.
fn upstream_head(
    provider: &Provider,
    mut head: request::Parts,
    path: &str,
    scope: &RequestScope,
) -> Option<request::Parts> {
    let mut target = uri::Parts::default();
    target.scheme = Some(provider.base.scheme.clone());
    target.authority = Some(provider.base.authority.clone());
    let whole_path_kept = path.len() == head.uri.path().len();
    target.path_and_query = if provider.base.path.is_empty() && whole_path_kept {
        head.uri.path_and_query().cloned()
    } else {
        let query = head.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        Some(PathAndQuery::try_from(format!("{}{path}{query}", provider.base.path)).ok()?)
    };
    head.uri = Uri::from_parts(target).ok()?;
    head.version = Version::HTTP_11;
    head.extensions.clear();
    let sent = &mut head.headers;
    hop::clean_request(sent);
    set_context(sent, provider, scope);
    let host = HeaderValue::from_str(provider.base.authority.as_str()).ok()?;
    sent.insert(HOST, host);
    for (name, value) in &provider.headers {
        sent.insert(name.clone(), value.clone());
    }
    Some(head)
}

fn set_context(sent: &mut HeaderMap, provider: &Provider, scope: &RequestScope) {
    let ids = scope.ids();
    sent.insert(X_REQUEST_ID, id_value(ids.request_id.as_str()));
    sent.insert(X_CORRELATION_ID, id_value(ids.correlation_id.as_str()));
    let propagate = provider.propagate;
    if propagate.traceparent {
        let traceparent = HeaderValue::try_from(ids.trace.traceparent());
        sent.insert(TRACEPARENT, traceparent.expect("hex and dashes"));
    } else {
        sent.remove(TRACEPARENT);
    }
    if !propagate.tracestate {
        sent.remove(TRACESTATE);
    }
    if !propagate.baggage {
        sent.remove(BAGGAGE);
    }
}

/// Whether the provider said that it did not begin with the request (HTTP/2:
/// REFUSED_STREAM, or a GOAWAY whose last stream is before ours).
fn never_processed(error: &legacy::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = error.source();
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            let refused = error.reason() == Some(h2::Reason::REFUSED_STREAM);
            let gone = error.is_go_away() && error.is_remote();
            return refused || (gone && error.reason() == Some(h2::Reason::NO_ERROR));
        }
        cause = error.source();
    }
    false
}

/// Whose fault it was, for the client and for the circuit.
fn classify(error: &legacy::Error, exchange: &Unfinished) -> (Refusal, bool) {
    let refused = |code, message: &'static str| Refusal::new(code, message);
    if let Some(failure) = exchange.upload.as_ref().and_then(|upload| upload.failure()) {
        let limit = exchange.plane.parts.limits.request_bytes_max;
        let refusal = match failure {
            UploadFailure::TooLarge => body_too_large(limit),
            UploadFailure::Malformed | UploadFailure::Gone => {
                refused(ErrorCode::InvalidRequest, "the request body is malformed or broke off")
            }
        };
        return (refusal, false);
    }
    tracing::warn!(error = %chain(error), "the provider gave no answer");
    if error.is_connect() {
        let code = ErrorCode::UpstreamUnreachable;
        return (refused(code, "the provider cannot be reached"), true);
    }
    let code = ErrorCode::UpstreamProtocolError;
    (refused(code, "the provider closed the connection or sent what is not HTTP"), false)
}

/// An error with its causes, one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
