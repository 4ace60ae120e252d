//! A captured body as a line of the bodies file: redacted text and the ids that
//! join it to its record.
//!
//! [`Body::write_json`] defines the line; [`crate::fields::BODY_FIELDS`] lists
//! its keys. Promises that what is in a body went through the rules of
//! [`crate::redact`]: it is made of their result only.

use std::sync::Arc;

use crate::{
    capture::Side,
    context::TraceId,
    ids::{CorrelationId, ProjectId, RecordId, RequestId, TokenId},
    json::Object,
    key,
    record::{Envelope, Record},
    redact::Redacted,
    time::Timestamp,
};

/// Longer content types are cut: they are the other side's choice.
pub const CONTENT_TYPE_BYTES_MAX: usize = 128;
/// Of ids, keys and quotes around the text.
const LINE_BYTES: usize = 768;

/// One side of one exchange.
#[derive(Clone, Debug)]
pub struct Body {
    /// The record's, so that both lie in the same day.
    pub ts: Timestamp,
    pub record_id: RecordId,
    pub request_id: RequestId,
    pub correlation_id: CorrelationId,
    pub trace_id: TraceId,
    pub project_id: Option<ProjectId>,
    pub token_id: Option<TokenId>,
    pub end_user: Option<Arc<str>>,
    pub side: Side,
    pub content_type: Option<Box<str>>,
    pub text: Redacted,
    /// Of the body as it passed, coded if it was.
    pub bytes: u64,
    /// There was more of it than is kept.
    pub truncated: bool,
}

impl Body {
    /// The body of one side of `record`.
    pub fn of(record: &Record, side: Side, text: Redacted) -> Self {
        Self {
            ts: record.ts,
            record_id: record.record_id,
            request_id: record.request_id.clone(),
            correlation_id: record.correlation_id.clone(),
            trace_id: record.trace_id,
            project_id: record.project_id,
            token_id: record.token_id,
            end_user: record.end_user.as_deref().map(Arc::from),
            side,
            content_type: None,
            text,
            bytes: 0,
            truncated: false,
        }
    }

    /// Appends the body as one JSON object (no newline).
    pub fn write_json(&self, envelope: &Envelope, out: &mut Vec<u8>) {
        out.reserve(LINE_BYTES + self.text.as_str().len());
        let mut line = Object::begin(out);
        line.text(key!("stream"), "body");
        line.text(key!("ts"), self.ts.to_rfc3339().as_str());
        line.text(key!("instance"), envelope.instance.as_str());
        line.uuid(key!("record_id"), &self.record_id.0);
        line.text(key!("request_id"), self.request_id.as_str());
        line.text(key!("correlation_id"), self.correlation_id.as_str());
        line.hex(key!("trace_id"), self.trace_id.as_bytes());
        if let Some(id) = self.project_id {
            line.uuid(key!("project_id"), &id.0);
        }
        if let Some(id) = self.token_id {
            line.uuid(key!("token_id"), &id.0);
        }
        line.text_if(key!("end_user"), self.end_user.as_deref());
        line.text(key!("side"), self.side.as_str());
        line.text_if(key!("content_type"), self.content_type.as_deref());
        // What is not text is left out; `base64` has its name for the day when
        // somebody finds a rule that reads it.
        line.text(key!("encoding"), "utf-8");
        line.text(key!("body"), self.text.as_str());
        line.number(key!("bytes"), self.bytes);
        line.boolean(key!("truncated"), self.truncated);
        line.number(key!("redactions"), self.text.redactions());
        line.end();
    }

    /// Memory that it takes until it is written.
    pub fn cost(&self) -> u64 {
        (LINE_BYTES + self.text.as_str().len()) as u64
    }
}
