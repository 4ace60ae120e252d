//! The runtimes that serve: one thread, one runtime and one set of pools a core
//! (docs/adr/0003-runtime-shape.md).

use std::{io, thread::JoinHandle, time::Duration};

use dataplane::listen::{Accepted, LANE_QUEUE_MAX, Lane};
use tokio::{
    runtime::{Builder, Runtime},
    sync::mpsc,
};
use tokio_util::sync::CancellationToken;

/// After the time to drain, a lane drops what still runs within this.
const CUT_TIMEOUT: Duration = Duration::from_secs(5);

/// The threads that serve, and the ways to them.
pub struct Lanes {
    threads: Vec<JoinHandle<()>>,
    /// Joins the threads, once somebody waits for them.
    joining: Option<tokio::task::JoinHandle<()>>,
    cut: CancellationToken,
}

impl Lanes {
    /// Starts one lane for each core that the process may use.
    pub fn start(lane: impl Fn() -> Lane) -> io::Result<(Self, Vec<mpsc::Sender<Accepted>>)> {
        let count = std::thread::available_parallelism().map_or(1, usize::from);
        let runtimes = (0..count).map(|_| Builder::new_current_thread().enable_all().build());
        Self::start_on(runtimes.collect::<Result<_, _>>()?, lane)
    }

    /// Starts one lane on one runtime with a worker for each core: the other
    /// shape, for the benchmark to compare.
    #[cfg(feature = "bench")]
    pub fn start_shared(
        lane: impl Fn() -> Lane,
    ) -> io::Result<(Self, Vec<mpsc::Sender<Accepted>>)> {
        Self::start_on(vec![Builder::new_multi_thread().enable_all().build()?], lane)
    }

    fn start_on(
        runtimes: Vec<Runtime>,
        lane: impl Fn() -> Lane,
    ) -> io::Result<(Self, Vec<mpsc::Sender<Accepted>>)> {
        let cut = CancellationToken::new();
        let mut threads = Vec::new();
        let mut senders = Vec::new();
        for (index, runtime) in runtimes.into_iter().enumerate() {
            let (sender, incoming) = mpsc::channel(LANE_QUEUE_MAX);
            let (lane, cut) = (lane(), cut.clone());
            let thread = std::thread::Builder::new().name(format!("lane-{index}"));
            threads.push(thread.spawn(move || {
                let serving = async move {
                    let _cut = cut.run_until_cancelled(lane.run(incoming)).await;
                };
                // On a worker, where there are some: the thread that blocks is none.
                let ended = runtime.block_on(async { runtime.spawn(serving).await });
                if ended.is_err() {
                    tracing::error!("a lane panicked");
                }
                // Dropping the runtime drops what was cut; each guard hands its
                // record over.
                runtime.shutdown_timeout(CUT_TIMEOUT);
            })?);
            senders.push(sender);
        }
        Ok((Self { threads, joining: None, cut }, senders))
    }

    /// Cuts whatever still runs.
    pub fn cut(&self) {
        self.cut.cancel();
    }

    /// Waits for all lanes to end. Given up and called again, it goes on with
    /// the same wait: when it returns, every guard has handed its record over.
    pub async fn ended(&mut self) {
        let threads = std::mem::take(&mut self.threads);
        let joining = self.joining.get_or_insert_with(|| {
            tokio::task::spawn_blocking(move || {
                for thread in threads {
                    if thread.join().is_err() {
                        tracing::error!("a lane's thread panicked");
                    }
                }
            })
        });
        if joining.await.is_err() {
            tracing::error!("the wait for the lanes panicked");
        }
        self.joining = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_wait_that_was_given_up_goes_on() {
        let (release, released) = std::sync::mpsc::sync_channel::<()>(1);
        let thread = std::thread::spawn(move || released.recv().unwrap_or_default());
        let mut lanes =
            Lanes { threads: vec![thread], joining: None, cut: CancellationToken::new() };
        let brief = Duration::from_millis(20);
        assert!(tokio::time::timeout(brief, lanes.ended()).await.is_err());
        assert!(tokio::time::timeout(brief, lanes.ended()).await.is_err(), "it still runs");
        release.send(()).expect("the thread waits");
        lanes.ended().await;
        lanes.ended().await;
    }
}
