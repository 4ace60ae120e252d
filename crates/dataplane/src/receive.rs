//! The first stage: ids, the unfinished record, room in the journal, and what
//! can be refused by the head alone.

use std::{net::IpAddr, sync::Arc, sync::atomic::Ordering, time::Instant};

use domain::{
    context::{RequestIds, TraceContext},
    failure::ErrorCode,
    ids::{CorrelationId, RecordId, RequestId},
    provider::Operation,
    record::{Begun, PATH_BYTES_MAX, Record, USER_AGENT_BYTES_MAX, bounded},
    redact,
    token::Token,
};
use http::{
    HeaderMap, HeaderName, Method, Version,
    header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING, UPGRADE, USER_AGENT},
    request,
};

use crate::{
    finish::{Room, Unfinished},
    hop::{TRACEPARENT, X_CORRELATION_ID, X_REQUEST_ID},
    limits::HEADER_BYTES_MAX,
    network,
    path::{self, Mount},
    plane::Plane,
    ports::NoRoom,
    rescue::Refusal,
    scope::RequestScope,
};

/// A request with its ids. What it may do is not known yet.
pub struct Received {
    pub exchange: Unfinished,
    pub scope: Arc<RequestScope>,
    /// Refused by the head alone, or shed.
    pub verdict: Result<(), Refusal>,
}

/// Reads the ids that a client sent, or makes them.
pub fn request_ids(plane: &Plane, headers: &HeaderMap, now: domain::time::Timestamp) -> RequestIds {
    let rng = &*plane.parts.rng;
    let sent = headers.get(&X_REQUEST_ID).map(|value| value.as_bytes());
    let request_id = sent.and_then(RequestId::parse).unwrap_or_else(|| {
        let id = RequestId::generate(now, rng);
        if let Some(sent) = sent {
            replaced("x-request-id", sent, id.as_str());
        }
        id
    });
    let sent = headers.get(&X_CORRELATION_ID).map(|value| value.as_bytes());
    let correlation_id = sent.and_then(CorrelationId::parse).unwrap_or_else(|| {
        if let Some(sent) = sent {
            replaced("x-correlation-id", sent, request_id.as_str());
        }
        request_id.clone().into()
    });
    let traceparent = headers.get(&TRACEPARENT).map(|value| value.as_bytes());
    let trace = TraceContext::from_traceparent(traceparent, rng);
    RequestIds { request_id, correlation_id, trace }
}

/// Says that an id was replaced, with a hash of it and never its bytes.
fn replaced(header: &'static str, sent: &[u8], by: &str) {
    use sha2::{Digest, Sha256};
    let digest = Sha256::digest(sent);
    let digest = format!("{:02x}{:02x}{:02x}{:02x}", digest[0], digest[1], digest[2], digest[3]);
    tracing::info!(
        header,
        sent_bytes = sent.len(),
        sent_sha256_prefix = %digest,
        request_id = by,
        "an id that is not 1 to 128 characters of [A-Za-z0-9._:+=@-] was replaced"
    );
}

/// The record as far as the head tells it; the rest is what it says of a
/// request of which nothing more becomes known.
fn first_record(
    plane: &Plane,
    head: &request::Parts,
    mount: &Mount<'_>,
    ids: &RequestIds,
    client: IpAddr,
    now: domain::time::Timestamp,
) -> Box<Record> {
    let agent = head.headers.get(USER_AGENT);
    let begun = Begun {
        record_id: RecordId::new(now, &*plane.parts.rng),
        ts: now,
        request_id: ids.request_id.clone(),
        correlation_id: ids.correlation_id.clone(),
        trace_id: ids.trace.trace_id,
        span_id: ids.trace.span_id,
        operation: Operation::of_path(mount.path),
        method: head.method.as_str().into(),
        path: written(head.uri.path().as_bytes(), PATH_BYTES_MAX),
        http_version: version(head.version),
    };
    Box::new(Record {
        parent_span_id: ids.trace.parent_span_id,
        client_ip: Some(client),
        user_agent: agent.map(|agent| written(agent.as_bytes(), USER_AGENT_BYTES_MAX)),
        provider: Some(Arc::clone(&mount.provider.name)),
        ..Record::begun(begun)
    })
}

pub fn receive(
    plane: &Arc<Plane>,
    head: &request::Parts,
    mount: &Mount<'_>,
    peer: IpAddr,
    started: Instant,
) -> Received {
    let parts = &plane.parts;
    let now = parts.clock.now();
    let ids = request_ids(plane, &head.headers, now);
    let client = network::client_address(peer, &head.headers, &parts.trusted_proxies);
    let record = first_record(plane, head, mount, &ids, client.client, now);
    let reserved = parts.outbox.reserve();
    let room = match reserved {
        Ok(()) => Room::Reserved,
        Err(NoRoom::Failed) if parts.outbox.serves_unrecorded() => Room::Unrecorded,
        Err(_) => Room::None,
    };
    let scope = RequestScope::new(ids);
    let mut exchange = Unfinished::new(Arc::clone(plane), record, started, room, client);
    exchange.query = head.uri.path_and_query().filter(|path| path.query().is_some()).cloned();
    let verdict = match reserved {
        Err(NoRoom::Full) => Err(overloaded()),
        Err(NoRoom::Failed) if room == Room::None => Err(Refusal::new(
            ErrorCode::AuditUnavailable,
            "requests cannot be recorded now, so none are served; try again later",
        )
        .retry_after(1_000_000)),
        // The guard of this request is counted already.
        _ if plane.active.load(Ordering::Relaxed) > parts.limits.concurrent_requests_max => {
            Err(overloaded())
        }
        _ => inspect(plane, head),
    };
    Received { exchange, scope, verdict }
}

fn overloaded() -> Refusal {
    Refusal::new(ErrorCode::Overloaded, "too many requests at once; try again shortly")
        .retry_after(1_000_000)
}

/// A text that a client wrote, as a record may hold it.
fn written(bytes: &[u8], bytes_max: usize) -> Box<str> {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(bytes_max + 4)]);
    let text = bounded(&text, bytes_max);
    if redact::looks_like_credential(text) {
        redact::redacted(text, &[]).into()
    } else {
        text.into()
    }
}

const fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "2",
        Version::HTTP_10 => "1.0",
        Version::HTTP_3 => "3",
        _ => "1.1",
    }
}

/// What the head alone decides.
fn inspect(plane: &Plane, head: &request::Parts) -> Result<(), Refusal> {
    let invalid = |message: &'static str| Err(Refusal::new(ErrorCode::InvalidRequest, message));
    let header_bytes: usize =
        head.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if header_bytes > HEADER_BYTES_MAX {
        return Err(Refusal::new(
            ErrorCode::HeadersTooLarge,
            "the request headers are larger than 32 KiB; send fewer or smaller ones",
        ));
    }
    if let Err(message) = path::check(head.uri.path()) {
        return invalid(message);
    }
    if let Some(query) = head.uri.query()
        && carries_credential(query)
    {
        return Err(Refusal::new(
            ErrorCode::TokenInQuery,
            "a token must not stand in a URL; send it as 'Authorization: Bearer' and replace it, \
             since URLs are kept in many places",
        ));
    }
    let has_length = head.headers.contains_key(CONTENT_LENGTH);
    if has_length && head.headers.contains_key(TRANSFER_ENCODING) {
        return invalid("both Content-Length and Transfer-Encoding were sent");
    }
    if head.method == Method::CONNECT || wants_upgrade(head) {
        return Err(Refusal::new(
            ErrorCode::UpgradeNotSupported,
            "protocol upgrades (WebSocket) are not supported; use the HTTP API",
        ));
    }
    let limit = plane.parts.limits.request_bytes_max;
    let announced = head.headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length: u64| length > limit) {
        return Err(body_too_large(limit));
    }
    Ok(())
}

pub fn body_too_large(limit: u64) -> Refusal {
    Refusal::new(
        ErrorCode::BodyTooLarge,
        format!("the request body is larger than the {limit} bytes that this proxy accepts"),
    )
}

/// `Upgrade: h2c` is an offer that a server may ignore, and many clients send it
/// with every request; anything else would change the protocol.
fn wants_upgrade(head: &request::Parts) -> bool {
    let Some(upgrade) = head.headers.get(UPGRADE) else { return false };
    let listed = head.headers.get(CONNECTION).and_then(|value| value.to_str().ok());
    let asked = listed.is_some_and(|list| {
        list.split(',').any(|word| word.trim().eq_ignore_ascii_case("upgrade"))
    });
    asked && !upgrade.as_bytes().eq_ignore_ascii_case(b"h2c")
}

/// Parameter names under which credentials are sent.
const CREDENTIAL_PARAMS: &[&str] = &[
    "key",
    "api_key",
    "apikey",
    "api-key",
    "x-api-key",
    "x-goog-api-key",
    "access_token",
    "auth_token",
    "token",
    "authorization",
    "bearer",
    "secret",
];

fn carries_credential(query: &str) -> bool {
    query.split(['&', ';']).any(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or(("", pair));
        let decode = |text: &str| {
            percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
        };
        let (name, value) = (decode(name).to_ascii_lowercase(), decode(value));
        (!value.is_empty() && CREDENTIAL_PARAMS.contains(&name.as_str()))
            || Token::parse(value.as_bytes()).is_some()
            || redact::looks_like_credential(&value)
    })
}

/// The `Origin` of a request, if it is text.
pub fn header_text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::carries_credential;

    #[test]
    fn credentials_in_queries_are_seen() {
        let check = |query: &str, expected: bool| {
            assert_eq!(carries_credential(query), expected, "{query}");
        };
        check("limit=10&order=asc", false);
        check("after=msg_abc&include[]=x", false);
        check("api_key=anything", true);
        check("API%5FKEY=anything", true);
        check("key=", false);
        check("x=sk-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", true);
        check("sk-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", true);
        check("x=s%6b-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", true);
    }
}
