//! Shared helpers: one `observe` for answers, cut anywhere, and what it says.

mod dialects;
mod estimates;
mod recordings;
mod requests;
mod robust;

use bytes::Bytes;
use domain::provider::{Operation, ProviderKind};
use http::{HeaderMap, HeaderValue, header};

use super::*;

/// How a body is cut into frames.
#[derive(Clone, Copy, Debug)]
enum Cut {
    Whole,
    Bytes,
    /// Pseudo-random sizes from a seed.
    Seed(u64),
}

fn frames(body: &[u8], cut: Cut) -> Vec<Bytes> {
    let body = Bytes::copy_from_slice(body);
    let mut state = match cut {
        Cut::Whole => return vec![body],
        Cut::Bytes => 0,
        Cut::Seed(seed) => seed | 1,
    };
    let (mut frames, mut at) = (Vec::new(), 0);
    while at < body.len() {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let size = match cut {
            Cut::Seed(_) => 1 + (state >> 33) as usize % 700,
            _ => 1,
        };
        let end = body.len().min(at + size);
        frames.push(body.slice(at..end));
        at = end;
    }
    frames
}

fn headers(content_type: &str, coding: Option<&str>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_str(content_type).expect("a value"));
    if let Some(coding) = coding {
        let coding = HeaderValue::from_str(coding).expect("a value");
        headers.insert(header::CONTENT_ENCODING, coding);
    }
    headers
}

/// An answer to observe.
#[derive(Clone, Copy)]
struct Case<'a> {
    kind: ProviderKind,
    operation: Operation,
    status: u16,
    content_type: &'a str,
    coding: Option<&'a str>,
    body: &'a [u8],
    complete: bool,
}

impl<'a> Case<'a> {
    fn json(operation: Operation, status: u16, body: &'a str) -> Self {
        let content_type = "application/json; charset=utf-8";
        Self {
            kind: ProviderKind::Openai,
            operation,
            status,
            content_type,
            coding: None,
            body: body.as_bytes(),
            complete: true,
        }
    }

    fn sse(operation: Operation, body: &'a str) -> Self {
        Self { content_type: "text/event-stream", ..Self::json(operation, 200, body) }
    }

    fn observe(self, cut: Cut) -> (ResponseFacts, u32) {
        let headers = headers(self.content_type, self.coding);
        let mut observer = ResponseObserver::new(self.kind, self.operation, self.status, &headers);
        let mut tokens = 0;
        for frame in frames(self.body, cut) {
            tokens += u32::from(observer.data(&frame));
        }
        (observer.finish(self.complete), tokens)
    }

    /// The facts, which must not depend on where the bytes are cut.
    fn facts(self) -> ResponseFacts {
        let (facts, tokens) = self.observe(Cut::Whole);
        for cut in [Cut::Bytes, Cut::Seed(1), Cut::Seed(2)] {
            let (other, other_tokens) = self.observe(cut);
            assert_eq!(format!("{other:?}"), format!("{facts:?}"), "{cut:?}");
            assert_eq!(other_tokens, tokens, "{cut:?}");
        }
        facts
    }
}
