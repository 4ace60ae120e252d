//! A request's body on its way up: counted, bounded, watched, never copied.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Instant,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;

use crate::{
    capture::{BodyCopy, Copied},
    client_body::ClientBody,
    observe::{RequestFacts, RequestObserver},
};

/// What is known of an upload, shared between the task that sends it and the
/// guard of the request.
#[derive(Debug)]
pub struct Upload(Mutex<State>);

#[derive(Debug)]
struct State {
    observer: Option<RequestObserver>,
    /// Only where the body is to be kept.
    copy: Option<Box<BodyCopy>>,
    bytes: u64,
    last_frame: Instant,
    ended: bool,
    failure: Option<UploadFailure>,
}

/// Why an upload ended before its end; always the client's doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum UploadFailure {
    #[error("the request body is larger than allowed")]
    TooLarge,
    #[error("the request body is malformed")]
    Malformed,
    #[error("the client went away before the end of its body")]
    Gone,
}

/// What an upload says when the record is finished.
#[derive(Debug, Default)]
pub struct Seen {
    pub bytes: u64,
    pub facts: Option<RequestFacts>,
}

impl Upload {
    pub fn new(observer: Option<RequestObserver>, copy: Option<Box<BodyCopy>>) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            observer,
            copy,
            bytes: 0,
            last_frame: Instant::now(),
            ended: false,
            failure: None,
        })))
    }

    /// Ends the watching and takes its result.
    pub fn facts(&self) -> Seen {
        let mut state = self.0.lock();
        let facts = state.observer.take().map(RequestObserver::finish);
        Seen { bytes: state.bytes, facts }
    }

    /// The copy of what passed so far.
    pub(crate) fn copied(&self) -> Option<Copied> {
        let mut state = self.0.lock();
        let ended = state.ended && state.failure.is_none();
        state.copy.take().map(|copy| Copied { copy, ended })
    }

    /// Whether the body is kept for an estimate of usage; `lasting`, because the
    /// answer is a stream.
    pub fn is_kept(&self, lasting: bool) -> bool {
        let mut state = self.0.lock();
        let Some(observer) = &mut state.observer else { return false };
        if lasting {
            observer.lasts();
        }
        observer.is_collecting()
    }

    /// Usage is known: nothing is kept for an estimate any more.
    pub fn forget(&self) {
        if let Some(observer) = &mut self.0.lock().observer {
            observer.forget();
        }
    }

    pub fn failure(&self) -> Option<UploadFailure> {
        self.0.lock().failure
    }

    /// Since when the client owes us the rest of its body; `None` once it is
    /// complete.
    pub fn waiting_since(&self) -> Option<Instant> {
        let state = self.0.lock();
        (!state.ended).then_some(state.last_frame)
    }

    /// When the last byte was taken from the client.
    pub fn last_frame(&self) -> Instant {
        self.0.lock().last_frame
    }

    /// Watches a body that was collected before forwarding.
    pub fn whole(&self, body: &Bytes) {
        let mut state = self.0.lock();
        state.bytes = body.len() as u64;
        state.ended = true;
        if let Some(observer) = &mut state.observer {
            observer.data(body);
        }
        if let Some(copy) = &mut state.copy {
            copy.push(body);
        }
    }

    fn data(&self, bytes: &Bytes, bytes_max: u64, last: bool) -> Result<(), UploadFailure> {
        let mut state = self.0.lock();
        state.ended |= last;
        state.bytes += bytes.len() as u64;
        state.last_frame = Instant::now();
        if state.bytes > bytes_max {
            state.failure = Some(UploadFailure::TooLarge);
            return Err(UploadFailure::TooLarge);
        }
        if let Some(observer) = &mut state.observer {
            observer.data(bytes);
        }
        if let Some(copy) = &mut state.copy {
            copy.push(bytes);
        }
        Ok(())
    }

    fn ended(&self) {
        let mut state = self.0.lock();
        state.ended = true;
        state.last_frame = Instant::now();
    }

    /// Notes why the client's body cannot be read on.
    pub fn broken(&self, error: &hyper::Error) -> UploadFailure {
        let failure =
            if is_malformed(error) { UploadFailure::Malformed } else { UploadFailure::Gone };
        self.0.lock().failure = Some(failure);
        failure
    }
}

/// Whether bytes came that are not HTTP; anything else is the connection's end.
fn is_malformed(error: &hyper::Error) -> bool {
    use std::io::{self, ErrorKind};
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::InvalidData);
        }
        cause = error.source();
    }
    error.is_parse()
}

/// The body that the provider is sent.
#[derive(Debug)]
pub enum UpBody {
    Empty,
    Whole(Option<Bytes>),
    Stream { body: ClientBody, upload: Arc<Upload>, bytes_max: u64 },
}

impl UpBody {
    /// Another copy to send, where that is possible without having read the
    /// client's stream.
    pub fn replay(&self) -> Option<Self> {
        match self {
            Self::Empty => Some(Self::Empty),
            Self::Whole(body) => Some(Self::Whole(body.clone())),
            Self::Stream { .. } => None,
        }
    }
}

impl Body for UpBody {
    type Data = Bytes;
    type Error = UploadFailure;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadFailure>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Whole(body) => Poll::Ready(body.take().map(|body| Ok(Frame::data(body)))),
            Self::Stream { body, upload, bytes_max } => {
                let frame = ready!(Pin::new(&mut *body).poll_frame(cx));
                Poll::Ready(match frame {
                    None => {
                        upload.ended();
                        None
                    }
                    Some(Err(error)) => Some(Err(upload.broken(&error))),
                    Some(Ok(frame)) => match frame.data_ref() {
                        Some(data) => {
                            let last = body.is_end_stream();
                            let seen = upload.data(data, *bytes_max, last);
                            Some(seen.map(|()| frame))
                        }
                        None => Some(Ok(frame)),
                    },
                })
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Whole(body) => body.is_none(),
            Self::Stream { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Whole(body) => SizeHint::with_exact(body.as_ref().map_or(0, |b| b.len() as u64)),
            Self::Stream { body, .. } => body.size_hint(),
        }
    }
}
