//! Signals: the first asks to stop, the second insists.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Two stages. `soft`: take nothing new, let what runs end. `hard`: the time is
/// over, or somebody insists.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    pub soft: CancellationToken,
    pub hard: CancellationToken,
    /// The one that asked.
    signal: Arc<OnceLock<&'static str>>,
}

impl Shutdown {
    /// Listens for SIGTERM and SIGINT until the hard stop; `on_hangup` runs for
    /// each SIGHUP. Must be called in a runtime.
    pub fn on_signals(
        timeout: Duration,
        on_hangup: impl Fn() + Send + 'static,
    ) -> std::io::Result<Self> {
        let shutdown = Self::default();
        let terminate = signal(SignalKind::terminate())?;
        let interrupt = signal(SignalKind::interrupt())?;
        let hangup = signal(SignalKind::hangup())?;
        tokio::spawn(shutdown.clone().watch(timeout, terminate, interrupt));
        let hard = shutdown.hard.clone();
        tokio::spawn(hard.run_until_cancelled_owned(hangups(hangup, on_hangup)));
        Ok(shutdown)
    }

    /// The signal that asked to stop, if one did.
    pub fn signal(&self) -> Option<&'static str> {
        self.signal.get().copied()
    }

    fn asked_by(&self, signal: &'static str) {
        self.signal.get_or_init(|| signal);
        tracing::info!(signal, "stopping");
    }

    async fn watch(self, timeout: Duration, mut terminate: Signal, mut interrupt: Signal) {
        tokio::select! {
            _ = terminate.recv() => self.asked_by("SIGTERM"),
            _ = interrupt.recv() => self.asked_by("SIGINT"),
            () = self.soft.cancelled() => {}
            () = self.hard.cancelled() => return,
        }
        self.soft.cancel();
        tokio::select! {
            _ = terminate.recv() => tracing::warn!(signal = "SIGTERM", "stopping at once"),
            _ = interrupt.recv() => tracing::warn!(signal = "SIGINT", "stopping at once"),
            () = tokio::time::sleep(timeout) => {
                tracing::warn!("the time to drain is over");
            }
            () = self.hard.cancelled() => return,
        }
        self.hard.cancel();
    }
}

async fn hangups(mut hangup: Signal, on_hangup: impl Fn()) {
    while hangup.recv().await.is_some() {
        on_hangup();
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::{getpid, kill_process};

    use super::*;

    #[tokio::test]
    async fn the_first_signal_asks_and_the_second_insists() {
        let (sender, mut hangups) = tokio::sync::mpsc::channel(4);
        let on_hangup = move || {
            let _told = sender.try_send(());
        };
        let shutdown = Shutdown::on_signals(Duration::from_secs(3600), on_hangup).expect("set");
        kill_process(getpid(), rustix::process::Signal::HUP).expect("sent");
        hangups.recv().await.expect("told");
        assert!(!shutdown.soft.is_cancelled());
        kill_process(getpid(), rustix::process::Signal::TERM).expect("sent");
        shutdown.soft.cancelled().await;
        assert_eq!(shutdown.signal(), Some("SIGTERM"));
        assert!(!shutdown.hard.is_cancelled());
        kill_process(getpid(), rustix::process::Signal::INT).expect("sent");
        shutdown.hard.cancelled().await;
    }

    #[tokio::test]
    async fn the_deadline_insists_too() {
        let shutdown = Shutdown::on_signals(Duration::from_millis(1), || ()).expect("set");
        shutdown.soft.cancel();
        shutdown.hard.cancelled().await;
    }
}
