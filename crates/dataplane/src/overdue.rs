//! Ends HTTP/2 streams of which the client takes nothing, at their deadline.
//!
//! Flow control holds such a stream without anything being written, so nobody
//! asks its answer for the next frame, and the answer's own clock is not looked
//! at. Here the task of the stream is given a clock beside it: when it rings, the
//! task is dropped with all that it holds, which resets the stream. HTTP/1 has no
//! such state: there the connection's writes stall.

use std::{
    cell::Cell,
    future::Future,
    pin::{Pin, pin},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use hyper::rt::Executor;

/// The answer's own clock comes first: it can say why it ends.
const GRACE: Duration = Duration::from_secs(1);

tokio::task_local! {
    static DEADLINE: Cell<Option<Instant>>;
}

/// Says when the answer that is made in this task must be over.
pub(crate) fn ends_at(deadline: Instant) {
    // Beyond HTTP/2 nobody listens.
    DEADLINE.try_with(|known| known.set(Some(deadline))).unwrap_or_default();
}

/// Runs the streams of a connection, each as a task of its own.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct StreamExecutor;

impl<F> Executor<F> for StreamExecutor
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        tokio::spawn(until_overdue(stream));
    }
}

async fn until_overdue(stream: impl Future<Output = ()>) {
    let deadline = Cell::new(None);
    let mut stream = pin!(stream);
    let mut watch = Watch::default();
    let ended = DEADLINE.scope(
        deadline,
        std::future::poll_fn(move |cx| {
            if stream.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            watch.poll(DEADLINE.with(Cell::get), cx)
        }),
    );
    ended.await;
}

/// Rings once the deadline is past; sleeps only where there is one.
#[derive(Default)]
struct Watch {
    sleep: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl Watch {
    fn poll(&mut self, deadline: Option<Instant>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(deadline) = deadline else { return Poll::Pending };
        let sleep = self
            .sleep
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until((deadline + GRACE).into())));
        sleep.as_mut().poll(cx)
    }
}
