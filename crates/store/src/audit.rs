//! Audit entries: written with their change, given their index in the tree,
//! read back newest first with what their openings reveal.
//!
//! Owns the dense numbers of producers, the table of entries that wait
//! (`audit_pending`), that of sequenced ones (`audit_entry`), and the chain's
//! state. Promises that an entry stands in exactly one of the two tables, that
//! an index is given once and only by whoever holds the chain's current epoch,
//! and that what comes from the journal is taken once. Must never change a
//! leaf: the tables are an index of it, and the tiles are the evidence.

mod journal;
mod list;
mod pending;
mod restore;
mod row;
mod rows;
mod sequence;

use std::collections::BTreeMap;

use domain::audit::{Action, Outcome};
use parking_lot::Mutex;

pub(crate) use self::pending::{insert, next_count, next_seq};
pub use self::{
    journal::{JournalEntry, Taken},
    list::{EntryFilter, SequencedEntry},
    restore::Restored,
    rows::{Stored, StoredRow},
    sequence::{ChainState, Gap, Lead, Remembered, Sequenced},
};

/// Entries that may wait for their index. A sequencer that stands still for so
/// long stops changes: an audit log that only promises to be one is none.
pub const PENDING_MAX: u64 = 100_000;

/// What this process wrote, for metrics, and whether more may be written.
#[derive(Debug, Default)]
pub(crate) struct EntryCounts(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    written: BTreeMap<(&'static str, &'static str), (Action, Outcome, u64)>,
    pending: u64,
    /// Why no change may be made.
    refused: Option<&'static str>,
}

impl EntryCounts {
    /// So many entries wait, by the database's own count.
    pub(crate) fn set_pending(&self, pending: u64) {
        self.0.lock().pending = pending;
    }

    /// Counts committed entries.
    pub(crate) fn add(&self, committed: &[(Action, Outcome)]) {
        let mut counts = self.0.lock();
        counts.pending += committed.len() as u64;
        for (action, result) in committed {
            let names = (action.as_str(), result.as_str());
            counts.written.entry(names).or_insert((*action, *result, 0)).2 += 1;
        }
    }

    pub(crate) fn read(&self) -> (Vec<(Action, Outcome, u64)>, u64) {
        let counts = self.0.lock();
        (counts.written.values().copied().collect(), counts.pending)
    }

    pub(crate) fn refuse(&self, why: Option<&'static str>) {
        self.0.lock().refused = why;
    }

    /// Why no change may be made, if none may.
    pub(crate) fn refusal(&self) -> Option<&'static str> {
        let counts = self.0.lock();
        let full = "too many audit entries wait for their place in the tree";
        counts.refused.or((counts.pending >= PENDING_MAX).then_some(full))
    }
}
