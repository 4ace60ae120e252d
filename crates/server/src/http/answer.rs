//! The one place where a result of the management side becomes an HTTP answer.

use axum::body::Body;
use domain::{context::RequestIds, ids::EntryId};
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use serde::Serialize;

use crate::manage::error::{Error, Kind};

const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");

/// What a handler answers when all went well.
#[derive(Debug)]
pub struct Reply {
    status: StatusCode,
    content_type: &'static str,
    body: Vec<u8>,
    audit_id: Option<EntryId>,
    version: Option<u64>,
}

impl Reply {
    pub fn json(status: StatusCode, value: &impl Serialize) -> Result<Self, Error> {
        let body = serde_json::to_vec(value).map_err(|error| {
            Error::new(Kind::Internal, "the answer cannot be written").with_source(error)
        })?;
        let content_type = "application/json";
        Ok(Self { status, content_type, body, audit_id: None, version: None })
    }

    pub fn ok(value: &impl Serialize) -> Result<Self, Error> {
        Self::json(StatusCode::OK, value)
    }

    pub fn no_content() -> Self {
        let (status, content_type) = (StatusCode::NO_CONTENT, "");
        Self { status, content_type, body: Vec::new(), audit_id: None, version: None }
    }

    pub fn text(content_type: &'static str, text: String) -> Self {
        let (status, body) = (StatusCode::OK, text.into_bytes());
        Self { status, content_type, body, audit_id: None, version: None }
    }

    /// Names the entry that stands for the change.
    pub fn audited(mut self, entry: Option<EntryId>) -> Self {
        self.audit_id = entry;
        self
    }

    /// Gives the version that a later `If-Match` may name.
    pub fn versioned(mut self, version: u64) -> Self {
        self.version = Some(version);
        self
    }

    pub fn into_response(self) -> Response<Body> {
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        if !self.content_type.is_empty() {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        }
        let mut put = |name: HeaderName, text: String| {
            if let Ok(value) = HeaderValue::from_str(&text) {
                headers.insert(name, value);
            }
        };
        if let Some(entry) = self.audit_id {
            put(AUDIT_ID, entry.to_string());
        }
        if let Some(version) = self.version {
            put(header::ETAG, format!("\"{version}\""));
        }
        response
    }
}

/// The body of every refusal.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ErrorBody {
    /// For people.
    pub error: String,
    /// For programs.
    pub code: String,
    pub request_id: String,
}

pub fn status(kind: Kind) -> StatusCode {
    match kind {
        Kind::Invalid => StatusCode::BAD_REQUEST,
        Kind::Unauthenticated => StatusCode::UNAUTHORIZED,
        Kind::Forbidden => StatusCode::FORBIDDEN,
        Kind::NotFound => StatusCode::NOT_FOUND,
        Kind::Conflict | Kind::Duplicate | Kind::VersionConflict => StatusCode::CONFLICT,
        Kind::Limited { .. } => StatusCode::TOO_MANY_REQUESTS,
        Kind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Kind::TimedOut => StatusCode::REQUEST_TIMEOUT,
        Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Seconds after which a caller may ask an unavailable store again.
const UNAVAILABLE_RETRY_SECONDS: u32 = 1;

pub fn refusal(error: &Error, ids: &RequestIds) -> Response<Body> {
    let mut response = error_response(status(error.kind), error.code(), &error.text, ids);
    let headers = response.headers_mut();
    let retry_after = match error.kind {
        Kind::Limited { retry_after_seconds } => Some(retry_after_seconds),
        Kind::Unavailable => Some(UNAVAILABLE_RETRY_SECONDS),
        _ => None,
    };
    if let Some(seconds) = retry_after {
        headers.insert(header::RETRY_AFTER, seconds.into());
    }
    if error.kind == Kind::Unauthenticated {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

pub fn method_not_allowed(allow: &str, ids: &RequestIds) -> Response<Body> {
    let text = format!("the method is not allowed here; allowed are {allow}");
    let mut response =
        error_response(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", &text, ids);
    if let Ok(value) = HeaderValue::from_str(allow) {
        response.headers_mut().insert(header::ALLOW, value);
    }
    response
}

fn error_response(status: StatusCode, code: &str, text: &str, ids: &RequestIds) -> Response<Body> {
    let body = ErrorBody {
        error: text.to_owned(),
        code: code.to_owned(),
        request_id: ids.request_id.as_str().to_owned(),
    };
    let body = serde_json::to_vec(&body).expect("three strings always serialise");
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}
