//! Headers that belong to one hop, or to us, and go no further.

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{CONNECTION, TE},
};

pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
pub const X_CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlation-id");
pub const X_UPSTREAM_REQUEST_ID: HeaderName = HeaderName::from_static("x-upstream-request-id");
pub const X_OVERHEAD: HeaderName = HeaderName::from_static("x-llm-proxy-overhead-us");
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
pub const BAGGAGE: HeaderName = HeaderName::from_static("baggage");
pub const TRACERESPONSE: HeaderName = HeaderName::from_static("traceresponse");
pub const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
pub const API_KEY: HeaderName = HeaderName::from_static("api-key");
pub const X_GOOG_API_KEY: HeaderName = HeaderName::from_static("x-goog-api-key");

/// What a request must not carry upstream: credentials of ours, the client's
/// address (nobody else's business), cookies (a browser would send those of our
/// own pages), and what we set anew.
fn is_ours(name: &str) -> bool {
    matches!(
        name,
        "authorization"
            | "x-api-key"
            | "api-key"
            | "x-goog-api-key"
            | "cookie"
            | "expect"
            | "host"
            | "forwarded"
            | "via"
            | "x-forwarded-for"
            | "x-forwarded-host"
            | "x-forwarded-port"
            | "x-forwarded-proto"
            | "x-forwarded-server"
            | "x-real-ip"
            | "x-client-ip"
            | "x-cluster-client-ip"
            | "true-client-ip"
            | "cf-connecting-ip"
            | "fastly-client-ip"
    )
}

/// What describes one connection and not the message (RFC 9110, 7.6.1).
fn is_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// Removes what must not go upstream, in place. `TE: trailers` alone survives:
/// trailers pass through.
pub fn clean_request(headers: &mut HeaderMap) {
    let wants_trailers = headers.get(TE).is_some_and(|te| {
        te.to_str().is_ok_and(|te| te.split(',').any(|t| t.trim().eq_ignore_ascii_case("trailers")))
    });
    clean(headers, |name| is_hop(name) || is_ours(name));
    if wants_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

/// Removes what must not go down to the client, in place. A provider's cookie
/// or alternative service would be kept under our name; the id of whatever
/// stands behind the provider is not the provider's.
pub fn clean_response(headers: &mut HeaderMap) {
    clean(headers, |name| {
        is_hop(name) || matches!(name, "set-cookie" | "alt-svc" | "x-upstream-request-id")
    });
}

/// One pass over the few headers there are, not a look-up for each of the many
/// that there could be.
fn clean(headers: &mut HeaderMap, drops: impl Fn(&str) -> bool) {
    if let Some(listed) = headers.remove(CONNECTION) {
        for name in listed.to_str().unwrap_or("").split(',').map(str::trim) {
            let names_a_header = !name.is_empty()
                && !name.eq_ignore_ascii_case("close")
                && !name.eq_ignore_ascii_case("keep-alive");
            if names_a_header && let Ok(name) = HeaderName::from_bytes(name.as_bytes()) {
                headers.remove(name);
            }
        }
    }
    while let Some(name) = headers.keys().find(|name| drops(name.as_str())).cloned() {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_ours_goes_upstream() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, x-listed"),
            ("x-listed", "1"),
            ("authorization", "Bearer x"),
            ("cookie", "a=b"),
            ("x-forwarded-for", "1.2.3.4"),
            ("te", "trailers, deflate"),
            ("accept", "*/*"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        clean_request(&mut headers);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["accept", "te"]);
        assert_eq!(headers[TE], "trailers");
    }
}
