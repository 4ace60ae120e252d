//! The body that a client is sending, and what becomes of the rest of it when
//! the answer comes first.
//!
//! Promises that a client which sends its whole body before it reads gets the
//! answer: closing a connection with unread bytes resets it, and the answer is
//! lost with it. So the rest of an HTTP/1.1 body is read and thrown away, for a
//! bounded time. Must never ask for a body that the client holds back
//! (`Expect: 100-continue`).

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Version, header::EXPECT, request};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;

/// How long the rest of a body is thrown away; then the connection is closed.
const LINGER_MAX: Duration = Duration::from_secs(30);
/// Silence that ends it sooner.
const LINGER_IDLE: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub struct ClientBody {
    body: Option<Incoming>,
    /// HTTP/2 resets one stream and not the connection.
    may_linger: bool,
    /// Whether the client sends without being asked, or was asked.
    sends: bool,
}

impl ClientBody {
    pub fn new(body: Incoming, head: &request::Parts) -> Self {
        let held_back = head.headers.contains_key(EXPECT);
        let may_linger = head.version < Version::HTTP_2;
        Self { body: Some(body), may_linger, sends: !held_back }
    }
}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let polled = Pin::new(body).poll_frame(cx);
        self.sends |= polled.is_ready();
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or(SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for ClientBody {
    fn drop(&mut self) {
        let lingers = self.may_linger && self.sends;
        let rest = self.body.take().filter(|body| lingers && !body.is_end_stream());
        // No runtime: everything is ending.
        if let (Some(rest), Ok(runtime)) = (rest, tokio::runtime::Handle::try_current()) {
            runtime.spawn(tokio::time::timeout(LINGER_MAX, throw_away(rest)));
        }
    }
}

/// Ends with the body, with silence, and at once when the connection is gone.
async fn throw_away(mut body: Incoming) {
    while let Ok(Some(Ok(_))) = tokio::time::timeout(LINGER_IDLE, body.frame()).await {}
}
