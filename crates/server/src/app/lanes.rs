//! The runtimes that serve: one thread, one runtime and one set of pools a core
//! (docs/adr/0003-runtime-shape.md).

use std::{io, thread::JoinHandle, time::Duration};

use dataplane::listen::{Accepted, LANE_QUEUE_MAX, Lane};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// After the time to drain, a lane drops what still runs within this.
const CUT_TIMEOUT: Duration = Duration::from_secs(5);

/// The threads that serve, and the ways to them.
pub struct Lanes {
    threads: Vec<JoinHandle<()>>,
    cut: CancellationToken,
}

impl Lanes {
    /// Starts one lane for each core that the process may use.
    pub fn start(lane: impl Fn() -> Lane) -> io::Result<(Self, Vec<mpsc::Sender<Accepted>>)> {
        let count = std::thread::available_parallelism().map_or(1, usize::from);
        let cut = CancellationToken::new();
        let mut threads = Vec::new();
        let mut senders = Vec::new();
        for index in 0..count {
            let (sender, incoming) = mpsc::channel(LANE_QUEUE_MAX);
            let (lane, cut) = (lane(), cut.clone());
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let thread = std::thread::Builder::new().name(format!("lane-{index}"));
            threads.push(thread.spawn(move || {
                runtime.block_on(async move {
                    let _cut = cut.run_until_cancelled(lane.run(incoming)).await;
                });
                // Dropping the runtime drops what was cut; each guard hands its
                // record over.
                runtime.shutdown_timeout(CUT_TIMEOUT);
            })?);
            senders.push(sender);
        }
        Ok((Self { threads, cut }, senders))
    }

    /// Cuts whatever still runs.
    pub fn cut(&self) {
        self.cut.cancel();
    }

    /// Waits for all lanes to end.
    pub async fn ended(&mut self) {
        let threads = std::mem::take(&mut self.threads);
        let joined = tokio::task::spawn_blocking(move || {
            for thread in threads {
                if thread.join().is_err() {
                    tracing::error!("a lane's thread panicked");
                }
            }
        });
        if joined.await.is_err() {
            tracing::error!("the wait for the lanes panicked");
        }
    }
}
