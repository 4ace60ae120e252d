//! The one place where a result of the management side becomes an HTTP answer.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use axum::body::Body;
use bytes::Bytes;
use domain::{context::RequestIds, ids::EntryId};
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use http_body::Frame;
use serde::Serialize;

use crate::manage::{
    error::{Error, Kind},
    reading::Pieces,
};

const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");

/// What stands in an answer.
#[derive(Debug)]
enum Content {
    Whole(Vec<u8>),
    /// It leaves as it is made.
    Stream(Pieces),
}

/// What a handler answers when all went well.
#[derive(Debug)]
pub struct Reply {
    status: StatusCode,
    content_type: &'static str,
    body: Content,
    audit_id: Option<EntryId>,
    version: Option<u64>,
}

impl Reply {
    pub fn json(status: StatusCode, value: &impl Serialize) -> Result<Self, Error> {
        let body = serde_json::to_vec(value).map_err(|error| {
            Error::new(Kind::Internal, "the answer cannot be written").with_source(error)
        })?;
        Ok(Self::bytes("application/json", body).with_status(status))
    }

    pub fn ok(value: &impl Serialize) -> Result<Self, Error> {
        Self::json(StatusCode::OK, value)
    }

    pub fn no_content() -> Self {
        Self::bytes("", Vec::new()).with_status(StatusCode::NO_CONTENT)
    }

    pub fn text(content_type: &'static str, text: String) -> Self {
        Self::bytes(content_type, text.into_bytes())
    }

    /// A body that is written already.
    pub fn bytes(content_type: &'static str, body: Vec<u8>) -> Self {
        let (status, body) = (StatusCode::OK, Content::Whole(body));
        Self { status, content_type, body, audit_id: None, version: None }
    }

    /// A body that is still being made.
    pub fn stream(content_type: &'static str, pieces: Pieces) -> Self {
        let (status, body) = (StatusCode::OK, Content::Stream(pieces));
        Self { status, content_type, body, audit_id: None, version: None }
    }

    fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// Names the entry that stands for the change.
    pub fn audited(mut self, entry: Option<EntryId>) -> Self {
        self.audit_id = entry;
        self
    }

    /// The entry that stands for the change, if there is one.
    pub fn audit_id(&self) -> Option<EntryId> {
        self.audit_id
    }

    /// Adds a member to an object; an answer without a body gets one.
    pub fn with_member(mut self, name: &str, value: serde_json::Value) -> Self {
        let Content::Whole(body) = &self.body else { return self };
        let object = match body.is_empty() {
            true => Ok(serde_json::Map::new()),
            false => serde_json::from_slice(body),
        };
        // What is no object stays as it is.
        let Ok(mut object) = object else { return self };
        object.insert(name.to_owned(), value);
        self.body = Content::Whole(serde_json::Value::Object(object).to_string().into_bytes());
        self.content_type = "application/json";
        if self.status == StatusCode::NO_CONTENT {
            self.status = StatusCode::OK;
        }
        self
    }

    /// Gives the version that a later `If-Match` may name.
    pub fn versioned(mut self, version: u64) -> Self {
        self.version = Some(version);
        self
    }

    pub fn into_response(self) -> Response<Body> {
        let body = match self.body {
            Content::Whole(bytes) => Body::from(bytes),
            Content::Stream(pieces) => Body::new(Streamed(pieces)),
        };
        let mut response = Response::new(body);
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

/// Pieces as a body. Dropping it, as the connection does when its client goes
/// away, ends the work that makes them.
struct Streamed(Pieces);

impl http_body::Body for Streamed {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if let Some(first) = self.0.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        self.0.rest.poll_recv(context).map(|piece| piece.map(|piece| piece.map(Frame::data)))
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
    /// The parameter that is wrong, where one is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameter: Option<String>,
    /// From which byte of it to which.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Vec<usize>>,
    /// The nearest word that would be right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suggestion: Option<String>,
}

pub fn status(kind: Kind) -> StatusCode {
    match kind {
        Kind::Invalid | Kind::ReasonRequired => StatusCode::BAD_REQUEST,
        Kind::Unauthenticated => StatusCode::UNAUTHORIZED,
        Kind::Forbidden => StatusCode::FORBIDDEN,
        Kind::NotFound => StatusCode::NOT_FOUND,
        Kind::Conflict | Kind::Duplicate | Kind::VersionConflict => StatusCode::CONFLICT,
        Kind::Limited { .. } | Kind::Busy => StatusCode::TOO_MANY_REQUESTS,
        Kind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Kind::TimedOut => StatusCode::REQUEST_TIMEOUT,
        Kind::Unavailable | Kind::AuditUnavailable => StatusCode::SERVICE_UNAVAILABLE,
        Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Seconds after which a caller may ask an unavailable store again.
const UNAVAILABLE_RETRY_SECONDS: u32 = 1;

pub fn refusal(error: &Error, ids: &RequestIds) -> Response<Body> {
    let mut response = error_response(status(error.kind), error.code(), error, ids);
    let headers = response.headers_mut();
    let retry_after = match error.kind {
        Kind::Limited { retry_after_seconds } => Some(retry_after_seconds),
        Kind::Unavailable | Kind::AuditUnavailable | Kind::Busy => Some(UNAVAILABLE_RETRY_SECONDS),
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
    let (status, error) = (StatusCode::METHOD_NOT_ALLOWED, Error::invalid(text));
    let mut response = error_response(status, "method_not_allowed", &error, ids);
    if let Ok(value) = HeaderValue::from_str(allow) {
        response.headers_mut().insert(header::ALLOW, value);
    }
    response
}

fn error_response(
    status: StatusCode,
    code: &str,
    error: &Error,
    ids: &RequestIds,
) -> Response<Body> {
    let place = error.place.as_deref();
    let body = ErrorBody {
        error: error.text.to_string(),
        code: code.to_owned(),
        request_id: ids.request_id.as_str().to_owned(),
        parameter: place.map(|place| place.parameter.clone()),
        at: place.map(|place| place.at.to_vec()),
        suggestion: place.and_then(|place| place.suggestion.clone()),
    };
    let body = serde_json::to_vec(&body).expect("strings and numbers always serialise");
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}
