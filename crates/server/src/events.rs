//! Audit entries of what changes no row: refusals, failed logins, reads, start
//! and stop, and what befalls the process.
//!
//! Owns the second producer of an instance, `<instance>/journal`, whose numbers
//! are dense and whose entries are lines of the journal, their openings in the
//! same batch before them; and the counting of refusals. Promises that an entry
//! which was waited for is in the journal (on the disk, where that was asked)
//! before the wait ends, that numbers are given in the order of the lines, and
//! that each refusal is counted once and entered once, alone or in an aggregate.
//! Must never make a request wait for a refusal's entry, and never drop a count.

pub mod clock;
mod denial;
pub mod denials;
mod queue;
pub mod restore;
pub mod tags;
#[cfg(test)]
mod tests;
pub mod uses;
mod writer;

use std::{sync::Arc, thread::JoinHandle, time::Duration};

use domain::{
    audit::{Action, Actor, EntryContext, EntryDraft, Origin, Outcome},
    ids::EntryId,
    rng::Rng,
    time::Clock,
};
use logstore::{Intake, Until};
use parking_lot::Mutex;
use store::Store;
use tokio::sync::oneshot;

pub use self::queue::Mailbox;
use self::{denials::Denials, queue::Queued, restore::Restored, writer::Writer};

/// How long anybody waits for an entry that must come first.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// What happened, and who did it.
#[derive(Clone, Debug)]
pub struct Event {
    pub draft: EntryDraft,
    pub actor: Actor,
    pub context: EntryContext,
}

impl Event {
    /// Of the process itself, without anyone asking.
    pub fn of_system(draft: EntryDraft) -> Self {
        Self { draft, actor: Actor::system(), context: EntryContext::default() }
    }
}

/// Why an entry was not written.
#[derive(Debug, thiserror::Error)]
pub enum Unwritten {
    #[error("the journal cannot be written")]
    Failed,
    #[error("too many entries wait to be written")]
    Full,
    #[error("the journal did not answer in time")]
    Late,
    #[error("write the entry into the database")]
    Store(#[from] store::Error),
}

/// The way to such entries; clones share it.
#[derive(Clone)]
pub struct Events(Arc<Inner>);

struct Inner {
    way: Way,
    denials: Arc<Denials>,
}

enum Way {
    Journal {
        mailbox: Mailbox,
        intake: Intake,
        thread: Mutex<Option<JoinHandle<()>>>,
    },
    /// Without a server nobody writes the journal: entries go the other way.
    Database(Store),
}

/// What the writer of these entries works with.
pub struct Parts {
    pub intake: Intake,
    /// The producer's.
    pub origin: Origin,
    /// The release, for the envelope of lines.
    pub version: &'static str,
    pub clock: Arc<dyn Clock>,
    pub rng: Arc<dyn Rng>,
    /// Whether steps of the clock become entries.
    pub watches_clock: bool,
}

impl Events {
    /// Goes on where the last process stopped.
    pub fn begin(
        mailbox: Mailbox,
        denials: Arc<Denials>,
        parts: Parts,
        restored: Restored,
    ) -> std::io::Result<Self> {
        let intake = parts.intake.clone();
        denials.begin(&restored, mailbox.clone());
        let writer = Writer::new(mailbox.clone(), Arc::clone(&denials), parts, restored);
        let thread =
            std::thread::Builder::new().name("entries".to_owned()).spawn(move || writer.run())?;
        let way = Way::Journal { mailbox, intake, thread: Mutex::new(Some(thread)) };
        Ok(Self(Arc::new(Inner { way, denials })))
    }

    /// For a command that runs without a server.
    pub fn in_database(store: Store, clock: Arc<dyn Clock>) -> Self {
        let denials = Arc::new(Denials::new(clock));
        Self(Arc::new(Inner { way: Way::Database(store), denials }))
    }

    /// Who counts refusals.
    pub fn denials(&self) -> &Arc<Denials> {
        &self.0.denials
    }

    /// Whether an entry could be written now. While none can, nothing may be
    /// changed or shown.
    pub fn is_writable(&self) -> bool {
        match &self.0.way {
            Way::Journal { intake, .. } => intake.accounts().failed.is_none(),
            Way::Database(_) => true,
        }
    }

    /// Hands an entry over; it will be written.
    pub async fn enter(&self, event: Event) -> Result<(), Unwritten> {
        match &self.0.way {
            Way::Journal { mailbox, .. } => {
                if !self.is_writable() {
                    return Err(Unwritten::Failed);
                }
                mailbox.push(Queued::new(event, Until::Stored, None))
            }
            Way::Database(store) => commit(store, event).await.map(drop),
        }
    }

    /// Writes an entry and waits until it would survive a loss of power: for
    /// what must not be shown before.
    pub async fn enter_first(&self, event: Event) -> Result<EntryId, Unwritten> {
        if !self.is_writable() {
            return Err(Unwritten::Failed);
        }
        self.waited(event, Until::Synced, false).await
    }

    /// Writes an entry that carries the totals of refusals, all of which are
    /// entered before it: heartbeats, start and stop.
    pub async fn enter_with_totals(&self, event: Event) -> Result<EntryId, Unwritten> {
        self.waited(event, Until::Synced, true).await
    }

    async fn waited(
        &self,
        event: Event,
        until: Until,
        with_totals: bool,
    ) -> Result<EntryId, Unwritten> {
        match &self.0.way {
            Way::Journal { mailbox, .. } => {
                let (tell, told) = oneshot::channel();
                let queued = Queued::new(event, until, Some(tell));
                mailbox.push(if with_totals { queued.with_totals() } else { queued })?;
                match tokio::time::timeout(WAIT_MAX, told).await {
                    Ok(Ok(id)) => Ok(id),
                    Ok(Err(_)) => Err(Unwritten::Failed),
                    Err(_) => Err(Unwritten::Late),
                }
            }
            Way::Database(store) => commit(store, event).await,
        }
    }

    /// The entries that this process wrote this way, for metrics.
    pub fn written(&self) -> Vec<(Action, Outcome, u64)> {
        match &self.0.way {
            Way::Journal { mailbox, .. } => mailbox.written(),
            Way::Database(_) => Vec::new(),
        }
    }

    /// Writes what waits, and ends. Call it before the journal is closed. Blocks.
    pub fn stop(&self) {
        let Way::Journal { mailbox, thread, .. } = &self.0.way else { return };
        mailbox.close();
        let thread = thread.lock().take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the writer of entries panicked");
        }
    }
}

async fn commit(store: &Store, event: Event) -> Result<EntryId, Unwritten> {
    let tx = store.begin(event.actor, event.context).await?;
    Ok(tx.commit(event.draft).await?.audit_id())
}
