//! The journal as the data plane's outbox.

use dataplane::ports::{NoRoom, Outbox};
use domain::{
    body::Body,
    record::{Opening, Record},
};
use logstore::{Intake, Stored};
use tokio::sync::oneshot;

pub struct JournalOutbox {
    pub intake: Intake,
    /// `JOURNAL_SYNC=each`.
    pub holds_answers: bool,
    /// `AUDIT_POLICY=available`.
    pub serves_unrecorded: bool,
}

impl Outbox for JournalOutbox {
    fn reserve(&self) -> Result<(), NoRoom> {
        self.intake.reserve().map_err(|refused| match refused {
            logstore::NoRoom::Full => NoRoom::Full,
            logstore::NoRoom::Failed => NoRoom::Failed,
        })
    }

    fn open(&self, opening: Opening) {
        self.intake.open(opening);
    }

    fn finish(&self, record: Box<Record>, stored: Option<oneshot::Sender<()>>) {
        let stored = stored.map(telling);
        self.intake.finish(record, stored);
    }

    fn finish_with_bodies(
        &self,
        record: Box<Record>,
        bodies: Vec<Body>,
        stored: Option<oneshot::Sender<()>>,
    ) {
        self.intake.finish_with_bodies(record, bodies, stored.map(telling));
    }

    fn coalesced(&self) {
        self.intake.release_coalesced();
    }

    fn coalesced_unreserved(&self, requests: u64) {
        self.intake.coalesced_unreserved(requests);
    }

    fn holds_answers(&self) -> bool {
        self.holds_answers
    }

    fn serves_unrecorded(&self) -> bool {
        self.serves_unrecorded
    }

    fn unrecorded(&self) {
        self.intake.unrecorded();
    }
}

fn telling(waiting: oneshot::Sender<()>) -> Stored {
    // Whoever waited may have gone.
    Box::new(move |_| waiting.send(()).unwrap_or_default())
}

/// Forgets everything: what the benchmark subtracts to know what records cost.
#[cfg(feature = "bench")]
pub struct NullOutbox;

#[cfg(feature = "bench")]
impl Outbox for NullOutbox {
    fn reserve(&self) -> Result<(), NoRoom> {
        Ok(())
    }

    fn open(&self, _: Opening) {}

    fn finish(&self, _: Box<Record>, _: Option<oneshot::Sender<()>>) {}

    fn finish_with_bodies(&self, _: Box<Record>, _: Vec<Body>, _: Option<oneshot::Sender<()>>) {}

    fn coalesced(&self) {}

    fn coalesced_unreserved(&self, _: u64) {}

    fn holds_answers(&self) -> bool {
        false
    }

    fn serves_unrecorded(&self) -> bool {
        false
    }

    fn unrecorded(&self) {}
}
