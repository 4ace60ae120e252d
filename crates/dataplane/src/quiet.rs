//! A future that costs one atomic load while nothing happens to it.
//!
//! Cancellations and deadlines sit beside every connection and every answer,
//! are polled whenever those make progress, and hardly ever fire. Polling them
//! takes locks; here they are polled only when they themselves asked for it.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

pub struct Quiet<F> {
    future: Pin<Box<F>>,
    asked: Option<Arc<Asked>>,
}

/// The waker that the future gets: remembers that it was used.
struct Asked {
    asked: AtomicBool,
    task: Waker,
}

impl Wake for Asked {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.asked.store(true, Ordering::Release);
        self.task.wake_by_ref();
    }
}

impl<F: Future> Quiet<F> {
    pub fn new(future: F) -> Self {
        Self { future: Box::pin(future), asked: None }
    }

    /// Polls the future if it asked for it, or if the task is another one.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<F::Output> {
        if let Some(asked) = &self.asked
            && asked.task.will_wake(cx.waker())
        {
            if !asked.asked.swap(false, Ordering::Acquire) {
                return Poll::Pending;
            }
        } else {
            let task = cx.waker().clone();
            self.asked = Some(Arc::new(Asked { asked: AtomicBool::new(false), task }));
        }
        let asked = self.asked.as_ref().expect("set a line above");
        let waker = Waker::from(Arc::clone(asked));
        self.future.as_mut().poll(&mut Context::from_waker(&waker))
    }
}

#[cfg(test)]
mod tests {
    use tokio_util::sync::CancellationToken;

    use super::*;

    #[tokio::test]
    async fn fires_once_it_is_woken() {
        let token = CancellationToken::new();
        let mut quiet = Quiet::new(token.clone().cancelled_owned());
        let first = std::future::poll_fn(|cx| Poll::Ready(quiet.poll(cx).is_pending())).await;
        assert!(first);
        tokio::spawn(async move { token.cancel() });
        std::future::poll_fn(|cx| quiet.poll(cx)).await;
    }
}
