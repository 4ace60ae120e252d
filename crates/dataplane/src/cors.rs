//! Browsers: which origins may call, preflights, and the headers that let a
//! page read our answers.

use domain::failure::ErrorCode;
use http::{
    HeaderMap, HeaderValue, Method, Response, StatusCode,
    header::{
        ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS,
        ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS,
        ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD,
        ORIGIN, VARY,
    },
    request,
};

use crate::{answer::Answer, provider::Provider, rescue::Refusal};

const EXPOSED: HeaderValue = HeaderValue::from_static(
    "x-request-id, x-correlation-id, x-upstream-request-id, x-llm-proxy-overhead-us, \
     traceresponse, retry-after",
);
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");
const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE";

/// Whether the request's origin may call this provider; one without an `Origin`
/// is not a browser's.
pub fn check_origin(provider: &Provider, headers: &HeaderMap) -> Result<(), Refusal> {
    let Some(origin) = headers.get(ORIGIN) else { return Ok(()) };
    let allowed = &provider.allowed_origins;
    let matches = |allowed: &String| allowed == "*" || allowed.as_bytes() == origin.as_bytes();
    if allowed.is_empty() || allowed.iter().any(matches) {
        return Ok(());
    }
    Err(Refusal::new(
        ErrorCode::OriginNotAllowed,
        "this origin may not call the provider; ask for it to be allowed",
    ))
}

pub fn is_preflight(head: &request::Parts) -> bool {
    head.method == Method::OPTIONS
        && head.headers.contains_key(ORIGIN)
        && head.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// Answers a preflight. Preflights carry no credential, by their standard.
pub fn preflight(provider: &Provider, head: &request::Parts) -> Response<Answer> {
    let mut response = Response::new(Answer::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let methods = if provider.allowed_methods.is_empty() {
        METHODS.to_owned()
    } else {
        provider.allowed_methods.iter().map(Method::as_str).collect::<Vec<_>>().join(", ")
    };
    let headers = response.headers_mut();
    if let Ok(methods) = HeaderValue::try_from(methods) {
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
    }
    if let Some(asked) = head.headers.get(ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
    }
    headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    response
}

/// Lets the page behind `origin` read the answer: a refusal too, which else would
/// look like a network error (a refused preflight still stops what it asked
/// for). A provider's own CORS headers name the wrong host and give way.
pub fn allow(headers: &mut HeaderMap, origin: &HeaderValue) {
    for name in [
        ACCESS_CONTROL_ALLOW_ORIGIN,
        ACCESS_CONTROL_ALLOW_CREDENTIALS,
        ACCESS_CONTROL_EXPOSE_HEADERS,
    ] {
        headers.remove(name);
    }
    headers.append(VARY, HeaderValue::from_static("Origin"));
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
}
