//! One request through all stages. The stages are typed: none can be skipped.

use std::{
    future::{Future, poll_fn},
    net::IpAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use domain::{failure::ErrorCode, provider::ProviderKind};
use http::{
    HeaderMap, HeaderValue, Request, Response, StatusCode, Version,
    header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE},
    request, response,
};
use hyper::body::Incoming;

use crate::{
    admit::{self, admit},
    answer::Answer,
    authenticate::authenticate,
    client_body::ClientBody,
    cors,
    finish::{Unfinished, micros},
    hop::{self, REQUEST_ID, X_REQUEST_ID, X_UPSTREAM_REQUEST_ID},
    mask::{self, Masker},
    observe::{ResponseFacts, ResponseObserver},
    path::{self, Mount},
    plane::Plane,
    receive::{Received, receive},
    relay::{Patience, Relay, Source},
    rescue::{self, Refusal},
    scope::{self, RequestScope},
    upstream::{Answered, Pools, forward},
};

/// Bound on the provider's own request id in header and record.
const UPSTREAM_ID_BYTES_MAX: usize = 128;

/// A request under a provider's mount whose record has begun.
pub struct Begun {
    received: Received,
    head: request::Parts,
    body: Incoming,
}

/// Begins the record of a request, or gives the request back: its path is not the
/// data plane's. No future: a connection that ends right behind the head drops
/// its futures before they are polled, and the request would leave nothing.
#[expect(clippy::result_large_err, reason = "what is given back is what came, moved once")]
pub fn begin(
    plane: &Arc<Plane>,
    request: Request<Incoming>,
    peer: IpAddr,
) -> Result<Begun, Request<Incoming>> {
    let started = Instant::now();
    let (head, body) = request.into_parts();
    let Some(mount) = path::mount(&plane.parts.providers, head.uri.path()) else {
        return Err(Request::from_parts(head, body));
    };
    let received = receive(plane, &head, &mount, peer, started);
    Ok(Begun { received, head, body })
}

/// Answers it.
pub async fn serve(plane: &Arc<Plane>, pools: &Pools, begun: Begun) -> Response<Answer> {
    let Begun { received, head, body } = begun;
    let providers = Arc::clone(&plane.parts.providers);
    let path = head.uri.path_and_query().cloned();
    let path = path.as_ref().map_or("/", |path| path.path());
    let mount = path::mount(&providers, path).expect("the same path was mounted a moment ago");
    let scope = Arc::clone(&received.scope);
    let origin = admit::origin(&head);
    let kind = mount.provider.kind;
    let body = ClientBody::new(body, &head);
    // Pinned where it is made: a future of some kilobytes is not moved about.
    let mut stages = pin!(run(plane, pools, received, head, body, &mount));
    let answered = poll_fn(|cx| {
        let _entered = scope::enter(&scope);
        // A panic ends this request; the connection and its others live on.
        match catch_unwind(AssertUnwindSafe(|| stages.as_mut().poll(cx))) {
            Ok(polled) => polled.map(Ok),
            Err(_) => Poll::Ready(Err(Panicked)),
        }
    });
    let mut response = match answered.await {
        Ok(response) => response,
        // The guard was dropped while unwinding: the record is written.
        Err(Panicked) => {
            let refusal = Refusal::new(ErrorCode::InternalError, "an error of the proxy's own");
            rescue::response(&refusal, kind, scope.ids())
        }
    };
    if let Some(origin) = origin {
        cors::allow(response.headers_mut(), &origin);
    }
    response
}

async fn run(
    plane: &Arc<Plane>,
    pools: &Pools,
    received: Received,
    head: request::Parts,
    body: ClientBody,
    mount: &Mount<'_>,
) -> Response<Answer> {
    let Received { mut exchange, scope, verdict } = received;
    let kind = mount.provider.kind;
    if verdict.is_ok() && cors::is_preflight(&head) {
        return preflight(exchange, &scope, &head, mount).await;
    }
    let answered = match verdict {
        Ok(()) => stages(plane, pools, head, body, mount, &mut exchange, &scope).await,
        Err(refusal) => Err(refusal),
    };
    match answered {
        Ok(answered) => relay(exchange, scope, answered, mount).await,
        // Nobody reads the answer; the guard says how the request ended.
        Err(refusal) if exchange.client_is_gone() => rescue::response(&refusal, kind, scope.ids()),
        Err(refusal) => refuse(exchange, &scope, kind, refusal).await,
    }
}

async fn stages(
    plane: &Arc<Plane>,
    pools: &Pools,
    head: request::Parts,
    body: ClientBody,
    mount: &Mount<'_>,
    exchange: &mut Unfinished,
    scope: &RequestScope,
) -> Result<Answered, Refusal> {
    let authenticated = authenticate(plane, &head.headers, exchange, scope).await?;
    let admitted = admit(plane, authenticated, &head, body, mount, exchange).await?;
    forward(plane, pools, admitted, head, mount, exchange, scope).await
}

async fn refuse(
    exchange: Unfinished,
    scope: &RequestScope,
    kind: ProviderKind,
    refusal: Refusal,
) -> Response<Answer> {
    let mut response = rescue::response(&refusal, kind, scope.ids());
    let overhead = micros(exchange.overhead(Duration::ZERO));
    if let Some(stored) = exchange.refused(refusal.code, &refusal.message) {
        // The journal tells its failure to the next request; this one was
        // refused anyway.
        drop(stored.await);
    }
    rescue::set_overhead(response.headers_mut(), overhead);
    response
}

async fn preflight(
    mut exchange: Unfinished,
    scope: &RequestScope,
    head: &request::Parts,
    mount: &Mount<'_>,
) -> Response<Answer> {
    let kind = mount.provider.kind;
    if let Err(refusal) = cors::check_origin(mount.provider, &head.headers) {
        return refuse(exchange, scope, kind, refusal).await;
    }
    let mut response = cors::preflight(mount.provider, head);
    rescue::set_context(response.headers_mut(), kind, scope.ids());
    let overhead = micros(exchange.overhead(Duration::ZERO));
    rescue::set_overhead(response.headers_mut(), overhead);
    let record = exchange.record_mut();
    record.status_code = Some(StatusCode::NO_CONTENT.as_u16());
    record.overhead_us = Some(overhead);
    if let Some(stored) = exchange.answered(crate::finish::End::Complete, ResponseFacts::default())
    {
        drop(stored.await);
    }
    response
}

/// Turns the provider's head into ours and begins to pass the body on.
async fn relay(
    mut exchange: Unfinished,
    scope: Arc<RequestScope>,
    answered: Answered,
    mount: &Mount<'_>,
) -> Response<Answer> {
    let Answered { response, took, deadline, grant } = answered;
    let provider = mount.provider;
    let (mut head, body) = response.into_parts();
    let overhead = micros(exchange.overhead(took));
    note_head(&mut exchange, &head, overhead);
    let status = head.status.as_u16();
    if head.status.is_informational() {
        let refusal = Refusal::new(
            ErrorCode::UpstreamProtocolError,
            "the provider switched protocols without being asked",
        );
        return refuse(exchange, &scope, provider.kind, refusal).await;
    }
    // The client's connection has a version of its own.
    head.version = Version::HTTP_11;
    let headers = &mut head.headers;
    hop::clean_response(headers);
    let idle = provider.timeouts.stream_idle;
    let mut source = Source::Stream(body);
    let mut masker = None;
    if let Some(key) = grant.keys.get(&provider.name) {
        let secrets = &key.confidential;
        secrets.mask_headers(headers);
        let is_encoded = headers.contains_key(CONTENT_ENCODING);
        if status >= 400 && is_encoded {
            // It may take a while.
            exchange.open();
            source = match mask::whole(source, headers, secrets, idle).await {
                Ok(source) => source,
                Err(refusal) => return refuse(exchange, &scope, provider.kind, refusal).await,
            };
        } else if status >= 400 || (!is_encoded && may_tell_of_errors(headers)) {
            masker = Some(Masker::new(secrets.clone()));
        }
    }
    drop_false_length(headers, &source, &exchange.record().method);
    let operation = exchange.record().operation;
    let mut observer = ResponseObserver::new(provider.kind, operation, status, headers);
    let is_stream = exchange.record().stream_response;
    if exchange.upload.as_ref().is_some_and(|upload| upload.is_kept(is_stream)) {
        observer = observer.collecting(exchange.plane.parts.estimator.budget());
    }
    let copy = exchange.plane.parts.capturing.copy(grant.capture, headers);
    let upstream_id = upstream_request_id(headers).cloned();
    rescue::set_context(headers, provider.kind, scope.ids());
    rescue::set_overhead(headers, overhead);
    if let Some(id) = upstream_id {
        headers.insert(X_UPSTREAM_REQUEST_ID, id);
    }
    let patience = Patience { idle, deadline };
    let relay = Relay::new(source, exchange, observer, masker, patience, scope).copying(copy);
    head.extensions.clear();
    Response::from_parts(head, Answer::Relay(Box::new(relay)))
}

/// Removes a length that the body does not have: beside chunks, or where the
/// status allows no body. To HEAD it says what GET would have.
fn drop_false_length(headers: &mut HeaderMap, source: &Source, method: &str) {
    let Some(claimed) = headers.get(CONTENT_LENGTH) else { return };
    let claimed = claimed.to_str().ok().and_then(|claimed| claimed.parse::<u64>().ok());
    if method != "HEAD" && (claimed.is_none() || claimed != source.length()) {
        headers.remove(CONTENT_LENGTH);
    }
}

/// What the provider's head says for the record.
fn note_head(exchange: &mut Unfinished, head: &response::Parts, overhead_us: u64) {
    let upstream_id = upstream_request_id(&head.headers).and_then(|id| id.to_str().ok());
    let upstream_id = upstream_id.map(|id| exchange.redact(id));
    let is_stream = head.headers.get(CONTENT_TYPE).is_some_and(is_event_stream);
    let record = exchange.record_mut();
    record.status_code = Some(head.status.as_u16());
    record.upstream_status_code = record.status_code;
    record.upstream_request_id = upstream_id;
    record.overhead_us = Some(overhead_us);
    record.stream_response = is_stream;
}

fn upstream_request_id(headers: &HeaderMap) -> Option<&HeaderValue> {
    let id = [X_REQUEST_ID, REQUEST_ID].iter().find_map(|name| headers.get(name))?;
    (id.len() <= UPSTREAM_ID_BYTES_MAX).then_some(id)
}

fn is_event_stream(content_type: &HeaderValue) -> bool {
    let essence = content_type.as_bytes().split(|b| *b == b';').next().unwrap_or_default();
    essence.trim_ascii().eq_ignore_ascii_case(b"text/event-stream")
}

/// Some providers report failures with status 200, in the middle of a stream or
/// in a JSON answer.
fn may_tell_of_errors(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    [&b"text/event-stream"[..], b"application/json"].iter().any(|text| {
        content_type.get(..text.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(text))
    })
}

/// The stages panicked while they were polled.
struct Panicked;
