//! The audit tree as use cases see it: its newest checkpoint, whether it keeps
//! up, and what its files prove.
//!
//! Must never write a file of the tree: that is the sequencer's.

use std::{sync::Arc, time::Duration};

use domain::{
    audit::tree::{Receipt, SignedCheckpoint, VerifierKey},
    ids::EntryId,
    time::Timestamp,
};
use store::{SequencedEntry, Store};
use tlog::Reader;
use tokio::sync::{Semaphore, watch};

use super::error::{Error, Kind, Result};

/// How long a caller who asked for a receipt waits for the next checkpoint.
const RECEIPT_WAIT_MAX: Duration = Duration::from_secs(5);

/// What the sequencer says of itself.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// The newest that was published.
    pub checkpoint: Option<Arc<SignedCheckpoint>>,
    pub published_at: Option<Timestamp>,
    /// The key that signs it.
    pub key: Option<VerifierKey>,
    /// Since when no round has ended well, and why.
    pub failing: Option<Failing>,
    /// Rows that were taken away, put there or altered behind our back.
    pub tampered: u64,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failing {
    pub since: Timestamp,
    pub why: String,
    /// A person must act; waiting does not help.
    pub is_final: bool,
}

/// The way to the tree's files.
#[derive(Clone)]
pub struct Tree {
    pub reader: Reader,
    pub status: watch::Receiver<Status>,
    /// The one place of a verification.
    pub verifying: Arc<Semaphore>,
}

impl Tree {
    pub fn new(reader: Reader, status: watch::Receiver<Status>) -> Self {
        Self { reader, status, verifying: Arc::new(Semaphore::new(1)) }
    }

    /// The newest checkpoint, as its note reads.
    pub fn checkpoint(&self) -> Option<Arc<SignedCheckpoint>> {
        self.status.borrow().checkpoint.clone()
    }

    /// The receipt of an entry of the tree under the newest checkpoint.
    pub async fn receipt(&self, index: u64) -> Result<Receipt> {
        let checkpoint = self.checkpoint().filter(|newest| newest.size() > index);
        let missing = || Error::new(Kind::NotFound, "the entry is under no checkpoint yet");
        let checkpoint = checkpoint.ok_or_else(missing)?;
        self.read(move |reader| reader.receipt(index, &checkpoint)).await
    }

    /// Waits, not for long, until an entry that was committed now is under a
    /// checkpoint; `None` if that takes longer.
    pub async fn await_receipt(
        &self,
        store: &Store,
        id: EntryId,
    ) -> Result<Option<(SequencedEntry, Receipt)>> {
        let mut status = self.status.clone();
        let found = tokio::time::timeout(RECEIPT_WAIT_MAX, async {
            loop {
                let size = status.borrow_and_update().checkpoint.as_ref().map_or(0, |it| it.size());
                match store.sequenced_entry(id).await? {
                    Some(entry) if entry.index < size => return Ok::<_, Error>(Some(entry)),
                    _ => {}
                }
                if status.changed().await.is_err() {
                    return Ok(None);
                }
            }
        });
        let Ok(Some(entry)) = found.await.unwrap_or(Ok(None)) else { return Ok(None) };
        let receipt = self.receipt(entry.index).await?;
        Ok(Some((entry, receipt)))
    }

    /// Reads files off the asynchronous threads.
    pub async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Reader) -> std::result::Result<T, tlog::Error> + Send + 'static,
    ) -> Result<T> {
        let reader = self.reader.clone();
        let done = tokio::task::spawn_blocking(move || work(&reader)).await;
        let done = done.map_err(|panic| {
            Error::new(Kind::Internal, "reading the audit tree broke off").with_source(panic)
        })?;
        done.map_err(|error| {
            let text = "the audit tree cannot be read now; the server's traces say why";
            Error::new(Kind::Unavailable, text).with_source(error)
        })
    }
}
