//! Reads what passes, without touching it: model, user, usage, finish reason,
//! errors and the time of the first token.
//!
//! Owns the incremental scanners behind that. Promises bounded memory whatever
//! the length, depth or brokenness of a body, and the same facts wherever the
//! bytes are cut. Must never change, delay or fail an exchange: what cannot be
//! read is left out of the record.

mod answer;
mod decode;
mod estimate;
mod inspect;
mod json;
mod multipart;
mod prompt;
mod question;
mod request;
mod response;
mod sse;
#[cfg(test)]
mod tests;
mod text;

pub use decode::Coded;
pub use estimate::{ESTIMATES_QUEUED_MAX, Estimator};
pub use inspect::{Inspected, Param, WhyUndecidable, inspect_params, inspect_whole};
pub use request::{RequestFacts, RequestObserver};
pub use response::{ResponseFacts, ResponseObserver};
pub use text::{Kept, TEXT_BYTES_MAX, TEXT_BYTES_TOTAL_MAX, TextBudget, Texts};

use domain::provider::Operation;
use http::{HeaderMap, header};

/// What a body claims to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Shape {
    Json,
    EventStream,
    Form,
    /// `text/plain`, or nothing said: JSON if it begins like it.
    Text,
    Other,
}

impl Shape {
    fn of(headers: &HeaderMap) -> Self {
        match headers.get(header::CONTENT_TYPE) {
            None => Self::Text,
            Some(value) => value.to_str().map_or(Self::Other, Self::of_type),
        }
    }

    fn of_type(content_type: &str) -> Self {
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        let is = |wanted: &str| essence.eq_ignore_ascii_case(wanted);
        let json_suffix = essence.len() >= 5
            && essence.as_bytes()[essence.len() - 5..].eq_ignore_ascii_case(b"+json");
        if is("application/json") || is("text/json") || json_suffix {
            Self::Json
        } else if is("text/event-stream") {
            Self::EventStream
        } else if is("multipart/form-data") {
            Self::Form
        } else if is("text/plain") {
            Self::Text
        } else {
            Self::Other
        }
    }
}

/// Whether the operation's answers report tokens.
fn is_counted(operation: Operation) -> bool {
    use Operation::{Chat, Completions, Embeddings, Messages, Responses};
    matches!(operation, Chat | Completions | Embeddings | Messages | Responses)
}

/// The codings of a body; `None` where one of them is unknown.
fn codings(headers: &HeaderMap) -> Option<Vec<decode::Coding>> {
    let values = headers.get_all(header::CONTENT_ENCODING);
    decode::Coding::list(values.iter().map(http::HeaderValue::as_bytes))
}
/// Whether a content type, parameters and all, names a kind of JSON.
pub fn is_json_type(content_type: &str) -> bool {
    Shape::of_type(content_type) == Shape::Json
}

/// The plain bytes of a coded body; `None` when they cannot be had within
/// `bytes_max`.
pub fn decoded(headers: &HeaderMap, coded: &[u8], bytes_max: usize) -> Option<Vec<u8>> {
    struct Whole {
        bytes: Vec<u8>,
        bytes_max: usize,
        too_long: bool,
    }
    impl decode::Take for Whole {
        fn take(&mut self, decoded: &[u8]) {
            self.too_long |= self.bytes.len() + decoded.len() > self.bytes_max;
            if !self.too_long {
                self.bytes.extend_from_slice(decoded);
            }
        }
    }
    let whole = Whole { bytes: Vec::new(), bytes_max, too_long: false };
    let mut decoder = decode::Decoder::new(&codings(headers)?, whole)?;
    decoder.push(coded);
    if decoder.is_broken() {
        return None;
    }
    let whole = decoder.target();
    (!whole.too_long).then(|| std::mem::take(&mut whole.bytes))
}
