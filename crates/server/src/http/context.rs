//! Gives a management request its ids, and puts them on whatever is answered.

use domain::{
    context::{RequestIds, TraceContext},
    ids::{CorrelationId, RequestId},
    rng::Rng,
    time::Timestamp,
};
use http::{HeaderMap, HeaderName, HeaderValue};

pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub const CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlation-id");
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub const TRACERESPONSE: HeaderName = HeaderName::from_static("traceresponse");

/// Takes the caller's ids where they are valid and makes them where not.
pub fn receive(headers: &HeaderMap, now: Timestamp, rng: &dyn Rng) -> RequestIds {
    let request_id = headers
        .get(REQUEST_ID)
        .and_then(|value| RequestId::parse(value.as_bytes()))
        .unwrap_or_else(|| RequestId::generate(now, rng));
    let correlation_id = headers
        .get(CORRELATION_ID)
        .and_then(|value| CorrelationId::parse(value.as_bytes()))
        .unwrap_or_else(|| request_id.clone().into());
    let traceparent = headers.get(TRACEPARENT).map(HeaderValue::as_bytes);
    RequestIds {
        request_id,
        correlation_id,
        trace: TraceContext::from_traceparent(traceparent, rng),
    }
}

/// Names the request on its answer.
pub fn answer(headers: &mut HeaderMap, ids: &RequestIds) {
    let mut put = |name: HeaderName, text: &str| {
        if let Ok(value) = HeaderValue::from_str(text) {
            headers.insert(name, value);
        }
    };
    put(REQUEST_ID, ids.request_id.as_str());
    put(CORRELATION_ID, ids.correlation_id.as_str());
    put(TRACERESPONSE, &ids.trace.traceparent());
}

#[cfg(test)]
mod tests {
    use domain::rng::Fixed;

    use super::*;

    #[test]
    fn bad_ids_are_replaced() {
        let check = |request: &str, correlation: &str, expected: (Option<&str>, Option<&str>)| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, request.parse().expect("a header value"));
            headers.insert(CORRELATION_ID, correlation.parse().expect("a header value"));
            let ids = receive(&headers, Timestamp::EPOCH, &Fixed(7));
            let fresh = RequestId::generate(Timestamp::EPOCH, &Fixed(7));
            let expected_request = expected.0.unwrap_or(fresh.as_str());
            assert_eq!(ids.request_id.as_str(), expected_request);
            assert_eq!(ids.correlation_id.as_str(), expected.1.unwrap_or(expected_request));
        };
        check("r-1", "c-1", (Some("r-1"), Some("c-1")));
        check("r 1", "c-1", (None, Some("c-1")));
        check("r-1", "", (Some("r-1"), None));
        check(&"r".repeat(10_000), "\u{7f}c".trim_start_matches('\u{7f}'), (None, Some("c")));
    }
}
