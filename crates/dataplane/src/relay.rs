//! A provider's answer on its way down: passed on at once and untouched, watched
//! on the way, and ended truthfully.
//!
//! An answer that breaks off upstream is aborted downstream (no final chunk,
//! RST_STREAM): nothing is injected and nothing ends as if it were whole. A
//! client that leaves cancels the call upstream, because the body is dropped.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::{sync::oneshot, time::Sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;

use crate::{
    answer::BoxError,
    finish::{End, Unfinished, micros},
    limits::MERGED_FRAME_BYTES_MAX,
    mask::Masker,
    observe::{ResponseFacts, ResponseObserver},
    scope::{self, RequestScope},
};

/// Why an answer was aborted. Reaches hyper's trace lines only.
#[derive(Debug, thiserror::Error)]
#[error("answer aborted: {0:?}")]
struct Aborted(End);

/// Silence and lateness that end an answer.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    pub idle: Duration,
    /// When the whole exchange must be over.
    pub deadline: Instant,
}

/// What a body gives when it is polled.
pub type Polled = Poll<Option<Result<Frame<Bytes>, BoxError>>>;

pub struct Relay {
    upstream: Source,
    /// Gone once the record is handed over.
    exchange: Option<Unfinished>,
    observer: Option<ResponseObserver>,
    masker: Option<Masker>,
    patience: Patience,
    last_frame: Instant,
    /// Created at the first wait: most plain answers never wait.
    alarm: Option<Alarm>,
    /// What follows a merged frame.
    next: Option<Step>,
    /// Bytes that the client is still to get, if the head promised a length.
    remaining: Option<u64>,
    hold: Option<Hold>,
    scope: Arc<RequestScope>,
}

struct Alarm {
    sleep: Pin<Box<Sleep>>,
    terminated: Pin<Box<WaitForCancellationFutureOwned>>,
}

/// Where the answer's bytes come from.
pub enum Source {
    Stream(Incoming),
    /// An error answer that was read whole, to look for the key in it.
    Whole(Option<Bytes>),
}

impl Source {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        match self {
            Self::Stream(body) => Pin::new(body).poll_frame(cx),
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Stream(body) => body.is_end_stream(),
            Self::Whole(bytes) => bytes.is_none(),
        }
    }

    fn length(&self) -> Option<u64> {
        match self {
            Self::Stream(body) => body.size_hint().exact(),
            Self::Whole(bytes) => Some(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
        }
    }
}

/// One thing that the upstream body gave.
enum Step {
    Frame(Frame<Bytes>),
    End,
    Broken,
}

/// The last frame, waiting until the record is synced.
struct Hold {
    stored: oneshot::Receiver<()>,
    frame: Option<Frame<Bytes>>,
}

impl Relay {
    pub fn new(
        upstream: Source,
        exchange: Unfinished,
        observer: ResponseObserver,
        masker: Option<Masker>,
        patience: Patience,
        scope: Arc<RequestScope>,
    ) -> Self {
        let remaining = upstream.length();
        Self {
            upstream,
            exchange: Some(exchange),
            observer: Some(observer),
            masker,
            patience,
            last_frame: Instant::now(),
            alarm: None,
            next: None,
            remaining,
            hold: None,
            scope,
        }
    }

    pub fn is_end_stream(&self) -> bool {
        let waits = self.masker.is_some() || self.hold.is_some() || self.next.is_some();
        self.exchange.is_none() && !waits
    }

    pub fn size_hint(&self) -> SizeHint {
        match self.remaining {
            Some(remaining) => SizeHint::with_exact(remaining),
            None => SizeHint::default(),
        }
    }

    /// The body's `poll_frame`. A panic ends this answer, not the connection's
    /// whole task.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Polled {
        let scope = Arc::clone(&self.scope);
        let _entered = scope::enter(&scope);
        let polled = catch_unwind(AssertUnwindSafe(|| self.poll_inner(cx)));
        polled.unwrap_or_else(|_| {
            drop(self.end(End::Panicked));
            Poll::Ready(Some(Err(Aborted(End::Panicked).into())))
        })
    }

    fn poll_inner(&mut self, cx: &mut Context<'_>) -> Polled {
        loop {
            if let Some(hold) = &mut self.hold {
                // A journal that cannot sync says so to new requests; this answer
                // is already whole, so either way it may go.
                ready!(Pin::new(&mut hold.stored).poll(cx)).unwrap_or_default();
                let frame = hold.frame.take();
                self.hold = None;
                if frame.is_some() {
                    return Poll::Ready(frame.map(Ok));
                }
            }
            if self.exchange.is_none() {
                return Poll::Ready(None);
            }
            let step = match self.next.take() {
                Some(step) => step,
                None => match self.poll_upstream(cx) {
                    Poll::Ready(step) => self.merge(step, cx),
                    Poll::Pending => {
                        let end = ready!(self.poll_alarm(cx));
                        return self.abort(end);
                    }
                },
            };
            if let Some(polled) = self.take_step(step) {
                return polled;
            }
        }
    }

    /// Passes one step on; `None` when there is nothing to hand to the client
    /// yet (a frame that the masker keeps, or an end that must wait).
    fn take_step(&mut self, step: Step) -> Option<Polled> {
        match step {
            Step::Broken => Some(self.abort(End::UpstreamBroken)),
            Step::End => {
                let rest = self.masker.take().map(|mut masker| masker.finish());
                let rest = rest.filter(|rest| !rest.is_empty()).map(Frame::data);
                self.complete(rest)
            }
            Step::Frame(frame) => {
                let frame = match frame.into_data() {
                    Ok(data) => Frame::data(self.take_data(data)?),
                    Err(frame) => self.take_trailers(frame)?,
                };
                let last = self.remaining == Some(0)
                    || self.next.is_none() && self.upstream.is_end_stream();
                if last {
                    return self.complete(Some(frame));
                }
                Some(Poll::Ready(Some(Ok(frame))))
            }
        }
    }

    fn take_data(&mut self, data: Bytes) -> Option<Bytes> {
        let now = Instant::now();
        let observer = self.observer.as_mut();
        let first_token = observer.is_some_and(|observer| observer.data(&data));
        if let Some(exchange) = &mut self.exchange {
            let since_start = micros(now - exchange.started);
            let record = exchange.record_mut();
            record.response_bytes += data.len() as u64;
            record.ttfb_us.get_or_insert(since_start);
            if first_token {
                record.ttft_us.get_or_insert(since_start);
            }
        }
        let ended = self.next.is_none() && self.upstream.is_end_stream();
        let data = match &mut self.masker {
            Some(masker) => masker.push(&data, ended),
            None => data,
        };
        if let Some(remaining) = &mut self.remaining {
            *remaining = remaining.saturating_sub(data.len() as u64);
        }
        (!data.is_empty()).then_some(data)
    }

    /// Trailers end a body: what the masker still keeps goes before them.
    fn take_trailers(&mut self, frame: Frame<Bytes>) -> Option<Frame<Bytes>> {
        let mut trailers = frame.into_trailers().ok()?;
        let Some(masker) = &mut self.masker else { return Some(Frame::trailers(trailers)) };
        masker.trailers(&mut trailers);
        let rest = masker.finish();
        if rest.is_empty() {
            return Some(Frame::trailers(trailers));
        }
        self.next = Some(Step::Frame(Frame::trailers(trailers)));
        Some(Frame::data(rest))
    }

    /// Ends the record, and the answer with it: at once, or when the record is
    /// synced.
    fn complete(&mut self, frame: Option<Frame<Bytes>>) -> Option<Polled> {
        self.masker = None;
        match self.end(End::Complete) {
            Some(stored) => {
                self.hold = Some(Hold { stored, frame });
                None
            }
            None => Some(Poll::Ready(frame.map(Ok))),
        }
    }

    fn abort(&mut self, end: End) -> Polled {
        drop(self.end(end));
        Poll::Ready(Some(Err(Aborted(end).into())))
    }

    fn end(&mut self, end: End) -> Option<oneshot::Receiver<()>> {
        let exchange = self.exchange.take()?;
        let facts = match self.observer.take() {
            Some(observer) => observer.finish(end == End::Complete),
            None => ResponseFacts::default(),
        };
        exchange.answered(end, facts)
    }

    fn poll_upstream(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        let frame = ready!(self.upstream.poll_frame(cx));
        self.last_frame = Instant::now();
        Poll::Ready(match frame {
            Some(Ok(frame)) => Step::Frame(frame),
            Some(Err(error)) => {
                tracing::debug!(error = %error, "the provider's answer broke off");
                Step::Broken
            }
            None => Step::End,
        })
    }

    /// Joins frames that already wait: one write to the client instead of many.
    fn merge(&mut self, first: Step, cx: &mut Context<'_>) -> Step {
        let mut data = match first {
            Step::Frame(frame) => match frame.into_data() {
                Ok(data) => data,
                Err(trailers) => return Step::Frame(trailers),
            },
            other => return other,
        };
        let mut merged: Option<BytesMut> = None;
        while data.len() < MERGED_FRAME_BYTES_MAX && !self.upstream.is_end_stream() {
            let more = match self.poll_upstream(cx) {
                Poll::Ready(Step::Frame(frame)) => match frame.into_data() {
                    Ok(more) => more,
                    Err(trailers) => {
                        self.next = Some(Step::Frame(trailers));
                        break;
                    }
                },
                Poll::Ready(step) => {
                    self.next = Some(step);
                    break;
                }
                Poll::Pending => break,
            };
            let joined = merged.get_or_insert_with(|| {
                let mut joined = BytesMut::with_capacity((data.len() + more.len()).max(4096));
                joined.extend_from_slice(&data);
                joined
            });
            joined.extend_from_slice(&more);
            if joined.len() >= MERGED_FRAME_BYTES_MAX {
                break;
            }
        }
        if let Some(joined) = merged {
            data = joined.freeze();
        }
        Step::Frame(Frame::data(data))
    }

    /// Ready with the reason to abort.
    fn poll_alarm(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let until = (self.last_frame + self.patience.idle).min(self.patience.deadline);
        let exchange = self.exchange.as_ref().expect("checked before waiting");
        let alarm = self.alarm.get_or_insert_with(|| {
            let live = exchange.grant.as_ref().map(|grant| grant.live.terminate.clone());
            Alarm {
                sleep: Box::pin(tokio::time::sleep_until(until.into())),
                terminated: Box::pin(live.unwrap_or_default().cancelled_owned()),
            }
        });
        alarm.poll(until, cx)
    }
}

impl Alarm {
    fn poll(&mut self, until: Instant, cx: &mut Context<'_>) -> Poll<End> {
        if self.terminated.as_mut().poll(cx).is_ready() {
            return Poll::Ready(End::Terminated);
        }
        loop {
            ready!(self.sleep.as_mut().poll(cx));
            // Frames came since the alarm was set: it is set again here, instead
            // of being reset with each frame.
            if Instant::now() >= until {
                return Poll::Ready(End::TimedOut);
            }
            self.sleep.as_mut().reset(until.into());
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let whole = self.upstream.is_end_stream() && self.next.is_none();
        let end = if std::thread::panicking() {
            End::Panicked
        } else if whole {
            End::Complete
        } else {
            End::Dropped
        };
        drop(self.end(end));
    }
}
