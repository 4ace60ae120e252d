//! The body of an answer: bytes with pauses between them, and an end that may
//! be a break. Constant memory whatever the length.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Sleep;

use super::ledger::{Ending, Line};

/// One step of an answer's body.
#[derive(Debug)]
pub(super) enum Step {
    Data(Bytes),
    /// `pattern` again and again, until this many bytes have been sent.
    Repeat {
        pattern: Bytes,
        remaining: u64,
    },
    Wait(Duration),
    /// Lets the connection write what it has, so that the next data is a write
    /// (and at the other end, most likely, a read) of its own.
    Flush,
    Trailers(HeaderMap),
    /// The connection breaks here.
    Break,
    /// Nothing more comes, and the connection stays open.
    Hang,
}

#[derive(Debug)]
enum Source {
    Steps(VecDeque<Step>),
    /// Chunks shared by all answers of a benchmark.
    Prepared {
        chunks: Arc<[Bytes]>,
        next: usize,
        delay: Duration,
    },
}

/// A body that follows its steps and notes its end in the ledger.
#[derive(Debug)]
pub(super) struct ScriptedBody {
    source: Source,
    pause: Pause,
    line: Line,
}

impl ScriptedBody {
    pub(super) fn new(steps: impl Into<VecDeque<Step>>, line: Line) -> Self {
        Self { source: Source::Steps(steps.into()), pause: Pause::default(), line }
    }

    pub(super) fn whole(bytes: Bytes, line: Line) -> Self {
        Self::new([Step::Data(bytes)], line)
    }

    pub(super) fn prepared(chunks: Arc<[Bytes]>, delay: Duration, line: Line) -> Self {
        let source = Source::Prepared { chunks, next: 0, delay };
        Self { source, pause: Pause::default(), line }
    }
}

impl Body for ScriptedBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let Self { source, pause, line } = self.get_mut();
        match source {
            Source::Prepared { chunks, next, delay } => {
                let Some(chunk) = chunks.get(*next) else {
                    return Poll::Ready(None);
                };
                if *next > 0 {
                    ready!(pause.poll(*delay, cx));
                }
                *next += 1;
                if *next == chunks.len() {
                    line.ends(Ending::Complete);
                }
                Poll::Ready(Some(Ok(Frame::data(chunk.clone()))))
            }
            Source::Steps(steps) => poll_steps(steps, pause, line, cx),
        }
    }

    /// A stream's length is not told, as no provider tells it; where the body
    /// is whole, the head carries `content-length`.
    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Steps(steps) => steps.is_empty(),
            Source::Prepared { chunks, next, .. } => *next == chunks.len(),
        }
    }
}

fn poll_steps(
    steps: &mut VecDeque<Step>,
    pause: &mut Pause,
    line: &mut Line,
    cx: &mut Context<'_>,
) -> Poll<Option<io::Result<Frame<Bytes>>>> {
    loop {
        let frame = match steps.front_mut() {
            None => return Poll::Ready(None),
            Some(Step::Hang) => return Poll::Pending,
            Some(Step::Wait(delay)) => {
                ready!(pause.poll(*delay, cx));
                None
            }
            Some(Step::Flush) => {
                ready!(pause.poll(Duration::ZERO, cx));
                None
            }
            Some(Step::Repeat { pattern, remaining }) => {
                let bytes = usize::try_from(*remaining).unwrap_or(usize::MAX).min(pattern.len());
                *remaining -= bytes as u64;
                let chunk = Frame::data(pattern.slice(..bytes));
                if *remaining > 0 {
                    return Poll::Ready(Some(Ok(chunk)));
                }
                Some(Ok(chunk))
            }
            Some(Step::Data(bytes)) => Some(Ok(Frame::data(std::mem::take(bytes)))),
            Some(Step::Trailers(trailers)) => Some(Ok(Frame::trailers(std::mem::take(trailers)))),
            Some(Step::Break) => {
                line.ends(Ending::Cut);
                Some(Err(io::Error::new(
                    io::ErrorKind::ConnectionAborted,
                    "the sample provider was told to break off here",
                )))
            }
        };
        steps.pop_front();
        if steps.is_empty() {
            // A connection need not ask again after the last byte.
            line.ends(Ending::Complete);
        }
        if frame.is_some() {
            return Poll::Ready(frame);
        }
    }
}

/// A pause between two chunks; one of no length still yields once, so that the
/// connection writes what it has.
#[derive(Debug, Default)]
struct Pause {
    sleep: Option<Pin<Box<Sleep>>>,
    yielded: bool,
}

impl Pause {
    fn poll(&mut self, delay: Duration, cx: &mut Context<'_>) -> Poll<()> {
        if delay.is_zero() {
            self.yielded = !self.yielded;
            if self.yielded {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            return Poll::Ready(());
        }
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(delay)));
        ready!(sleep.as_mut().poll(cx));
        self.sleep = None;
        Poll::Ready(())
    }
}
