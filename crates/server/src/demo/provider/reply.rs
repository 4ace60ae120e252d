//! An answer before it is sent, and the one place that turns it into a
//! response under the directives: pauses, cuts, compression, garbage.

use std::{collections::VecDeque, io::Write as _};

use bytes::Bytes;
use domain::usage::Usage;
use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use serde_json::Value;

use super::{
    body::{ScriptedBody, Step},
    directives::{Directives, Silence},
    ledger::Line,
};

/// Piece in which filler is written.
const FILLER_BYTES: usize = 64 * 1024;
const GARBAGE: &[u8] = b"{\"id\": \"\xff\xfe\x00 not json, not an event\r\n}]\x1b[31m";

/// An answer: a head and chunks. Plain answers are one chunk.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) chunks: Vec<Bytes>,
    pub(super) streams: bool,
    /// What the answer says it used.
    pub(super) usage: Option<Usage>,
}

impl Reply {
    pub(super) fn json(status: StatusCode, value: &Value) -> Self {
        Self::plain(status, "application/json", value.to_string().into())
    }

    pub(super) fn plain(status: StatusCode, content_type: &'static str, bytes: Bytes) -> Self {
        Self {
            status,
            headers: HeaderMap::from_iter([(
                header::CONTENT_TYPE,
                HeaderValue::from_static(content_type),
            )]),
            chunks: vec![bytes],
            streams: false,
            usage: None,
        }
    }

    pub(super) fn events(chunks: Vec<Bytes>) -> Self {
        let mut reply =
            Self::plain(StatusCode::OK, "text/event-stream; charset=utf-8", Bytes::new());
        reply.headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        Self { chunks, streams: true, ..reply }
    }

    pub(super) fn with_usage(mut self, usage: Usage, reported: bool) -> Self {
        self.usage = reported.then_some(usage);
        self
    }

    pub(super) fn with_header(mut self, name: &'static str, value: impl Into<HeaderValue>) -> Self {
        self.headers.insert(name, value.into());
        self
    }

    /// The response, as the directives want it.
    pub(super) fn deliver(mut self, directives: &Directives, line: Line) -> Response<ScriptedBody> {
        line.answers(self.status.as_u16(), self.usage);
        if directives.garbage {
            self.chunks = vec![Bytes::from_static(GARBAGE)];
        }
        if directives.gzip && directives.one_line_bytes.is_none() {
            self.chunks = gzip(self.chunks);
            self.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        if let Some(bytes) = directives.split {
            let whole = Bytes::from(self.chunks.concat());
            self.chunks = (0..whole.len())
                .step_by(bytes)
                .map(|at| whole.slice(at..whole.len().min(at + bytes)))
                .collect();
        }
        for (name, value) in &directives.headers {
            self.headers.append(name.clone(), value.clone());
        }
        let body = ScriptedBody::new(self.steps(directives), line);
        // An interrupted plain answer has announced its length before.
        let length: u64 = self.chunks.iter().map(|chunk| chunk.len() as u64).sum();
        let mut response = Response::new(body);
        if !self.streams && directives.one_line_bytes.is_none() {
            self.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }

    fn steps(&self, directives: &Directives) -> VecDeque<Step> {
        let mut steps = VecDeque::new();
        let hang_at = (directives.silence == Silence::Body).then_some(self.chunks.len() / 2);
        for (index, chunk) in self.chunks.iter().enumerate() {
            if directives.cut.is_some() && !self.streams {
                steps.push_back(Step::Data(chunk.slice(..chunk.len() / 2)));
                steps.push_back(Step::Wait(std::time::Duration::from_millis(1)));
                steps.push_back(Step::Break);
                return steps;
            }
            if directives.cut == Some(index) {
                // What was sent so far reaches the caller before the break does.
                steps.push_back(Step::Wait(std::time::Duration::from_millis(1)));
                steps.push_back(Step::Break);
                return steps;
            }
            if hang_at == Some(index) {
                steps.push_back(Step::Data(chunk.slice(..chunk.len() / 2)));
                steps.push_back(Step::Hang);
                return steps;
            }
            if index > 0 && !directives.burst {
                steps.push_back(match directives.chunk_delay {
                    pause if pause.is_zero() => Step::Flush,
                    pause => Step::Wait(pause),
                });
            }
            if let Some(bytes) = directives.one_line_bytes.filter(|_| index == 0) {
                self.push_long_line(bytes, &mut steps, chunk);
            } else {
                push_chunk(chunk, directives, &mut steps);
            }
        }
        if directives.cut.is_some_and(|cut| cut >= self.chunks.len()) {
            steps.push_back(Step::Break);
        }
        steps
    }

    /// One endless line: a field of filler in the plain answer, an event of its
    /// own before the first in a stream.
    fn push_long_line(&self, bytes: u64, steps: &mut VecDeque<Step>, chunk: &Bytes) {
        let (before, after, rest): (&[u8], &[u8], Bytes) = if self.streams {
            (
                b"data: {\"object\":\"sample.filler\",\"filler\":\"",
                b"\",\"choices\":[]}\n\n",
                chunk.clone(),
            )
        } else {
            (b"{\"filler\":\"", b"\",", chunk.slice(1.min(chunk.len())..))
        };
        steps.push_back(Step::Data(Bytes::from_static(before)));
        steps.push_back(Step::Repeat { pattern: filler(), remaining: bytes });
        steps.push_back(Step::Data(Bytes::from_static(after)));
        steps.push_back(Step::Data(rest));
    }
}

fn push_chunk(chunk: &Bytes, directives: &Directives, steps: &mut VecDeque<Step>) {
    let Some(pause) = directives.slow else {
        steps.push_back(Step::Data(chunk.clone()));
        return;
    };
    for at in 0..chunk.len() {
        steps.push_back(Step::Data(chunk.slice(at..=at)));
        steps.push_back(Step::Wait(pause));
    }
}

/// 64 KiB of one letter; shared by all that is repeated.
pub(super) fn filler() -> Bytes {
    static FILLER: [u8; FILLER_BYTES] = [b'a'; FILLER_BYTES];
    Bytes::from_static(&FILLER)
}

/// Compresses each chunk so that it can be read as soon as it arrives.
fn gzip(chunks: Vec<Bytes>) -> Vec<Bytes> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let mut compressed = Vec::with_capacity(chunks.len() + 1);
    for chunk in &chunks {
        encoder.write_all(chunk).expect("writing to memory cannot fail");
        encoder.flush().expect("writing to memory cannot fail");
        compressed.push(Bytes::from(std::mem::take(encoder.get_mut())));
    }
    let tail = encoder.finish().expect("writing to memory cannot fail");
    if let Some(last) = compressed.pop() {
        compressed.push(Bytes::from([&last[..], &tail[..]].concat()));
    }
    compressed
}

/// One server-sent event without a name.
pub(super) fn event(value: &Value) -> Bytes {
    format!("data: {value}\n\n").into()
}

/// One server-sent event named by the value's own `type`.
pub(super) fn named_event(value: &Value) -> Bytes {
    let name = value.get("type").and_then(Value::as_str).unwrap_or("message");
    format!("event: {name}\ndata: {value}\n\n").into()
}
