//! Bodies that are kept beside the record.
//!
//! Owns the copies of both sides from the wire to the redacted text. Promises
//! that nothing is copied where nothing is to be kept, that a copy holds at most
//! its bound and all copies together a budget, and that no byte goes on before
//! the rules have seen it. Must never make a request wait, keep a buffer of the
//! connection alive, or cost a record: what does not fit is left out, and the
//! record says so.

mod redactor;

pub use redactor::REDACTIONS_QUEUED_MAX;
pub(crate) use redactor::{Copied, Copies, Redactor};

use std::{
    io,
    sync::atomic::{AtomicU64, Ordering},
};

use domain::{
    capture::{Capture, Omission},
    redact,
};
use http::{HeaderMap, header};

use crate::observe::{Coded, TextBudget};

/// Memory held for the copies of all exchanges at once.
pub const CAPTURED_BYTES_TOTAL_MAX: usize = 64 * 1024 * 1024;
/// Room that a copy begins with.
const COPY_BYTES_MIN: usize = 1024;

/// How bodies are captured: decided once, at start.
#[derive(Debug)]
pub struct Capturing {
    /// Copied of one side of one exchange.
    bytes_max: usize,
    budget: TextBudget,
    copies: AtomicU64,
    pub(crate) redactor: Redactor,
}

impl Capturing {
    pub fn start(bytes_max: usize) -> io::Result<Self> {
        let budget = TextBudget::new(CAPTURED_BYTES_TOTAL_MAX);
        Ok(Self { bytes_max, budget, copies: 0.into(), redactor: Redactor::start()? })
    }

    /// Copies begun since the start: none where nothing is to be kept.
    pub fn copies(&self) -> u64 {
        self.copies.load(Ordering::Relaxed)
    }

    /// Memory that no copy holds.
    pub fn bytes_left(&self) -> usize {
        self.budget.left()
    }

    /// A copy to be, for a body with these headers; `None` where none is wanted.
    pub(crate) fn copy(&self, capture: Capture, headers: &HeaderMap) -> Option<Box<BodyCopy>> {
        if capture == Capture::Off {
            return None;
        }
        self.copies.fetch_add(1, Ordering::Relaxed);
        Some(Box::new(BodyCopy::new(self, headers)))
    }
}

/// The beginning of a body as it passed, with its share of the budget, given
/// back on drop.
#[derive(Debug)]
pub struct BodyCopy {
    kept: Vec<u8>,
    /// Of the whole body, kept or not.
    bytes: u64,
    bytes_max: usize,
    reserved: usize,
    content_type: Option<Box<str>>,
    coded: Option<Coded>,
    /// Nothing is copied any more, and why.
    stopped: Option<Omission>,
    budget: TextBudget,
}

impl BodyCopy {
    fn new(capturing: &Capturing, headers: &HeaderMap) -> Self {
        let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let coded = Coded::of(headers);
        let stopped = if !redact::may_be_text(content_type) {
            Some(Omission::Binary)
        } else if coded.is_none() {
            Some(Omission::Encoded)
        } else {
            None
        };
        Self {
            kept: Vec::new(),
            bytes: 0,
            bytes_max: capturing.bytes_max,
            reserved: 0,
            content_type: content_type.map(Box::from),
            coded,
            stopped,
            budget: capturing.budget.clone(),
        }
    }

    pub(crate) fn push(&mut self, frame: &[u8]) {
        self.bytes += frame.len() as u64;
        let wanted = frame.len().min(self.bytes_max - self.kept.len());
        if wanted == 0 || self.stopped.is_some() {
            return;
        }
        let length = self.kept.len();
        if length + wanted > self.reserved {
            let room = (length + wanted).max(2 * self.reserved).max(COPY_BYTES_MIN);
            let room = room.min(self.bytes_max);
            if !self.budget.take(room - self.reserved) {
                self.stopped = Some(Omission::Memory);
                return;
            }
            self.kept.reserve_exact(room - length);
            self.reserved = room;
        }
        self.kept.extend_from_slice(&frame[..wanted]);
    }
}

impl Drop for BodyCopy {
    fn drop(&mut self) {
        self.budget.give(self.reserved);
    }
}
