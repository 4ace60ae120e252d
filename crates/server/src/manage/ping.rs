//! Whether the database could take a change now, for whoever asks.

use std::sync::atomic::{AtomicU64, Ordering};

use store::Store;

/// Asks the database for everybody who waits: a flood of questions, which
/// anyone may send, must not stand in line with changes more than once.
#[derive(Debug)]
pub struct Ping {
    begun: AtomicU64,
    /// The number of the last question that was answered, and the answer.
    last: tokio::sync::Mutex<(u64, Result<(), String>)>,
}

impl Default for Ping {
    fn default() -> Self {
        Self { begun: AtomicU64::new(0), last: tokio::sync::Mutex::new((0, Ok(()))) }
    }
}

impl Ping {
    /// An answer to a question that was put after this call.
    pub async fn ask(&self, store: &Store) -> Result<(), String> {
        let begun_before = self.begun.load(Ordering::Acquire);
        let mut last = self.last.lock().await;
        if last.0 > begun_before {
            return last.1.clone();
        }
        let number = self.begun.fetch_add(1, Ordering::AcqRel) + 1;
        let answer = store.ping().await.map_err(|error| error.public().to_owned());
        *last = (number, answer);
        last.1.clone()
    }
}
