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

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::{sync::oneshot, time::Sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;

use crate::{
    answer::BoxError,
    capture::{BodyCopy, Copied},
    finish::{End, Unfinished, micros},
    joined::Joined,
    limits::MERGED_FRAME_BYTES_MAX,
    mask::Masker,
    observe::{ResponseFacts, ResponseObserver},
    overdue,
    quiet::Quiet,
    scope::{self, RequestScope},
};

/// Polls without a frame before joined frames are passed on. Two, because hyper
/// asks a body twice in one turn of a task: only the third time has the task
/// that reads from the provider had its own.
const TURNS_GIVEN: u8 = 2;

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
    /// Only where the body is to be kept.
    copy: Option<Box<BodyCopy>>,
    masker: Option<Masker>,
    patience: Patience,
    last_frame: Instant,
    /// Created at the first wait: most plain answers never wait.
    alarm: Option<Alarm>,
    /// Frames that came one upon the other.
    joined: Joined,
    /// How often a turn was given away since the last frame.
    turns_given: u8,
    /// What follows the joined frames.
    next: Option<Step>,
    /// Bytes that the client is still to get, if the head promised a length.
    remaining: Option<u64>,
    hold: Option<Hold>,
    scope: Arc<RequestScope>,
}

struct Alarm {
    sleep: Quiet<Sleep>,
    terminated: Quiet<WaitForCancellationFutureOwned>,
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

    pub(crate) fn length(&self) -> Option<u64> {
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
        overdue::ends_at(patience.deadline);
        Self {
            upstream,
            exchange: Some(exchange),
            observer: Some(observer),
            copy: None,
            masker,
            patience,
            last_frame: Instant::now(),
            alarm: None,
            joined: Joined::default(),
            turns_given: 0,
            next: None,
            remaining,
            hold: None,
            scope,
        }
    }

    /// Keeps the body too.
    #[must_use]
    pub fn copying(mut self, copy: Option<Box<BodyCopy>>) -> Self {
        self.copy = copy;
        self
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
            let step = match self.poll_step(cx) {
                Poll::Ready(step) => match self.overdue() {
                    Some(end) if matches!(step, Step::Frame(_)) => return self.abort(end),
                    _ => step,
                },
                // Awake again at once: nothing to wait for.
                Poll::Pending if !self.joined.is_empty() || self.next.is_some() => {
                    return Poll::Pending;
                }
                Poll::Pending => {
                    let end = ready!(self.poll_alarm(cx));
                    return self.abort(end);
                }
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
                    Err(frame) => return self.take_trailers(frame),
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

    /// Nothing follows trailers, and a server that has sent them asks for
    /// nothing more: the answer ends here. What the masker still keeps goes
    /// before them.
    fn take_trailers(&mut self, frame: Frame<Bytes>) -> Option<Polled> {
        let mut trailers = match frame.into_trailers() {
            Ok(trailers) => trailers,
            Err(unknown) => return Some(Poll::Ready(Some(Ok(unknown)))),
        };
        if let Some(masker) = &self.masker {
            masker.trailers(&mut trailers);
        }
        let rest = self.masker.take().map(|mut masker| masker.finish());
        let trailers = Frame::trailers(trailers);
        if let Some(rest) = rest.filter(|rest| !rest.is_empty()) {
            self.next = Some(Step::Frame(trailers));
            return Some(Poll::Ready(Some(Ok(Frame::data(rest)))));
        }
        self.complete(Some(trailers))
    }

    fn take_data(&mut self, data: Bytes) -> Option<Bytes> {
        let now = self.last_frame;
        let mut observer = self.observer.as_mut();
        let first_token = observer.as_mut().is_some_and(|observer| observer.data(&data));
        if let Some(copy) = &mut self.copy {
            copy.push(&data);
        }
        if let Some(exchange) = &mut self.exchange {
            let since_start = micros(now - exchange.started);
            let record = exchange.record_mut();
            record.response_bytes += data.len() as u64;
            record.ttfb_us.get_or_insert(since_start);
            if first_token {
                record.ttft_us.get_or_insert(since_start);
                // Some dialects begin with it.
                if observer.is_some_and(ResponseObserver::knows_usage)
                    && let Some(upload) = &exchange.upload
                {
                    upload.forget();
                }
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
        let mut exchange = self.exchange.take()?;
        let ended = end == End::Complete;
        exchange.answer_copy = self.copy.take().map(|copy| Copied { copy, ended });
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

    /// The next step, with the frames that follow at once joined to it: one
    /// write to the client instead of many. When nothing more is there, the task
    /// that reads from the provider gets a turn to bring what it has read
    /// already; only then is the frame passed on.
    fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        match self.next.take() {
            // What came before the break is flushed first: an error makes hyper
            // forget it.
            Some(Step::Broken) if self.turns_given < TURNS_GIVEN => {
                self.turns_given += 1;
                self.next = Some(Step::Broken);
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Some(step) => return Poll::Ready(step),
            None => {}
        }
        loop {
            let data = match self.poll_upstream(cx) {
                Poll::Ready(Step::Frame(frame)) => match frame.into_data() {
                    Ok(data) => data,
                    Err(trailers) => return self.after_joined(Step::Frame(trailers)),
                },
                Poll::Ready(step) => return self.after_joined(step),
                Poll::Pending if self.joined.is_empty() => return Poll::Pending,
                Poll::Pending if self.turns_given < TURNS_GIVEN => {
                    self.turns_given += 1;
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Poll::Pending => return Poll::Ready(self.take_joined()),
            };
            self.turns_given = 0;
            self.joined.push(data);
            if self.joined.len() >= MERGED_FRAME_BYTES_MAX || self.upstream.is_end_stream() {
                return Poll::Ready(self.take_joined());
            }
        }
    }

    fn after_joined(&mut self, step: Step) -> Poll<Step> {
        if self.joined.is_empty() {
            return Poll::Ready(step);
        }
        self.next = Some(step);
        Poll::Ready(self.take_joined())
    }

    fn take_joined(&mut self) -> Step {
        self.turns_given = 0;
        Step::Frame(Frame::data(self.joined.take()))
    }

    /// Asked with every frame: an upstream that always has more would never let
    /// the alarm ring.
    fn overdue(&mut self) -> Option<End> {
        let exchange = self.exchange.as_mut()?;
        if exchange.opening_due().is_some_and(|due| due <= self.last_frame) {
            exchange.open();
        }
        let grant = exchange.grant.as_ref();
        if grant.is_some_and(|grant| grant.live.terminate.is_cancelled()) {
            return Some(End::Terminated);
        }
        (self.last_frame >= self.patience.deadline).then_some(End::TimedOut)
    }

    /// Ready with the reason to abort.
    fn poll_alarm(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let until = (self.last_frame + self.patience.idle).min(self.patience.deadline);
        let exchange = self.exchange.as_mut().expect("checked before waiting");
        loop {
            let rings_at = exchange.opening_due().map_or(until, |due| due.min(until));
            let alarm = self.alarm.get_or_insert_with(|| {
                let live = exchange.grant.as_ref().map(|grant| grant.live.terminate.clone());
                Alarm {
                    sleep: Quiet::new(tokio::time::sleep_until(rings_at.into())),
                    terminated: Quiet::new(live.unwrap_or_default().cancelled_owned()),
                }
            });
            if let Some(end) = ready!(alarm.poll(rings_at, cx)) {
                return Poll::Ready(end);
            }
            if rings_at == until {
                return Poll::Ready(End::TimedOut);
            }
            exchange.open();
        }
    }
}

impl Alarm {
    /// Ready with `None` when it rings.
    fn poll(&mut self, at: Instant, cx: &mut Context<'_>) -> Poll<Option<End>> {
        if self.terminated.poll(cx).is_ready() {
            return Poll::Ready(Some(End::Terminated));
        }
        loop {
            ready!(self.sleep.poll(cx));
            let rings = Instant::now() >= at;
            // Frames came since the alarm was set: it is set again here, instead
            // of being reset with each frame.
            self.sleep = Quiet::new(tokio::time::sleep_until(at.into()));
            if rings {
                return Poll::Ready(None);
            }
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let whole = self.upstream.is_end_stream() && self.next.is_none() && self.joined.is_empty();
        let end = if std::thread::panicking() {
            End::Panicked
        } else if whole {
            End::Complete
        } else if Instant::now() >= self.patience.deadline {
            End::TimedOut
        } else {
            End::Dropped
        };
        drop(self.end(end));
    }
}
