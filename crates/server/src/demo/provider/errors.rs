//! Errors in the shapes of the two providers.

use http::{HeaderValue, StatusCode};
use serde_json::json;

use super::{directives::Directives, reply::Reply};

/// Whose wire format a request speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Dialect {
    OpenAi,
    Anthropic,
}

impl Dialect {
    /// The header in which this provider names the request.
    pub(super) const fn request_id_header(self) -> &'static str {
        match self {
            Self::OpenAi => "x-request-id",
            Self::Anthropic => "request-id",
        }
    }
}

/// An error answer that the provider itself would give.
pub(super) fn error(
    dialect: Dialect,
    status: StatusCode,
    message: &str,
    request_id: &str,
    directives: &Directives,
) -> Reply {
    let kind = kind(dialect, status);
    let body = match dialect {
        Dialect::OpenAi => json!({"error": {
            "message": message, "type": kind, "param": null, "code": code(status)}}),
        Dialect::Anthropic => json!({"type": "error",
            "error": {"type": kind, "message": message}, "request_id": request_id}),
    };
    let reply = Reply::json(status, &body);
    let default_retry = (status == StatusCode::TOO_MANY_REQUESTS).then_some(1000);
    match directives.retry_after_ms.or(default_retry) {
        Some(millis) => reply
            .with_header("retry-after", HeaderValue::from(millis.div_ceil(1000)))
            .with_header("retry-after-ms", HeaderValue::from(millis)),
        None => reply,
    }
}

/// The message of an error that a directive asked for.
pub(super) const fn message(status: StatusCode) -> &'static str {
    match status.as_u16() {
        400 => "Invalid value: 'sample'. The sample provider was told to refuse this request.",
        401 => "Incorrect API key provided. You can find your API key in your account.",
        403 => "Your account does not have access to this model.",
        404 => "The requested resource does not exist.",
        429 => "Rate limit reached for requests. Please try again later.",
        503 | 529 => "Overloaded",
        _ => "The server had an error while processing your request.",
    }
}

const fn kind(dialect: Dialect, status: StatusCode) -> &'static str {
    match (dialect, status.as_u16()) {
        (Dialect::OpenAi, 429) => "requests",
        (Dialect::OpenAi, 500..=599) => "server_error",
        (Dialect::OpenAi, _) => "invalid_request_error",
        (Dialect::Anthropic, 401) => "authentication_error",
        (Dialect::Anthropic, 403) => "permission_error",
        (Dialect::Anthropic, 404) => "not_found_error",
        (Dialect::Anthropic, 413) => "request_too_large",
        (Dialect::Anthropic, 429) => "rate_limit_error",
        (Dialect::Anthropic, 529) => "overloaded_error",
        (Dialect::Anthropic, 500..=599) => "api_error",
        (Dialect::Anthropic, _) => "invalid_request_error",
    }
}

const fn code(status: StatusCode) -> Option<&'static str> {
    match status.as_u16() {
        401 => Some("invalid_api_key"),
        404 => Some("not_found"),
        429 => Some("rate_limit_exceeded"),
        _ => None,
    }
}
