//! Where events wait for their writer. Bounded: what finds no room is refused,
//! and whoever asked hears it.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use domain::{
    audit::{Action, Detail, EntryDraft, Outcome, TargetKind, Word},
    ids::EntryId,
};
use logstore::{Incident, Until};
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use super::{Event, Unwritten};

/// Events that wait at once; each is some kilobytes.
const EVENTS_MAX: usize = 4096;

/// An event on its way.
pub(super) struct Queued {
    pub(super) event: Event,
    pub(super) until: Until,
    /// Refusals are entered before it, and it carries their totals.
    pub(super) with_totals: bool,
    pub(super) told: Option<oneshot::Sender<EntryId>>,
}

impl Queued {
    pub(super) fn new(event: Event, until: Until, told: Option<oneshot::Sender<EntryId>>) -> Self {
        Self { event, until, with_totals: false, told }
    }

    pub(super) fn with_totals(self) -> Self {
        Self { with_totals: true, ..self }
    }
}

#[derive(Default)]
struct State {
    events: VecDeque<Queued>,
    /// Somebody has something for the writer.
    stirred: bool,
    closing: bool,
    written: BTreeMap<(&'static str, &'static str), (Action, Outcome, u64)>,
}

/// The queue; clones share it. It exists before the journal does, which tells
/// it of its own troubles.
#[derive(Clone)]
pub struct Mailbox(Arc<(Mutex<State>, Condvar)>, Arc<AtomicU64>);

impl Default for Mailbox {
    fn default() -> Self {
        Self(Arc::default(), Arc::new(u64::MAX.into()))
    }
}

impl Mailbox {
    pub(super) fn push(&self, queued: Queued) -> Result<(), Unwritten> {
        let (state, wake) = &*self.0;
        let mut state = state.lock();
        if state.closing {
            return Err(Unwritten::Failed);
        }
        if state.events.len() >= EVENTS_MAX {
            return Err(Unwritten::Full);
        }
        state.events.push_back(queued);
        state.stirred = true;
        wake.notify_one();
        Ok(())
    }

    /// Hands over what happened to the process itself.
    pub fn tell(&self, draft: EntryDraft) {
        let action = draft.action();
        let queued = Queued::new(Event::of_system(draft), Until::Stored, None);
        if let Err(error) = self.push(queued) {
            let error: &dyn std::error::Error = &error;
            tracing::error!(error, %action, "an entry of the process itself was not written");
        }
    }

    /// Hands over what befell the journal; never blocks.
    pub fn happened(&self, incident: Incident, now: domain::time::Timestamp) {
        match incident {
            Incident::Works => self.stir(),
            Incident::Failed(failure) => {
                let draft = EntryDraft::new(Action::SystemDegraded)
                    .failed(failure.as_str())
                    .target(TargetKind::Journal, "journal")
                    .detail(Detail::Component(Word::lossy("journal")))
                    .detail(Detail::Finding(Word::lossy(failure.as_str())))
                    .detail(Detail::Since(now));
                let (state, wake) = &*self.0;
                let mut state = state.lock();
                // Before all others: the room for it is small.
                let queued = Queued::new(Event::of_system(draft), Until::Stored, None);
                state.events.push_front(queued);
                state.stirred = true;
                wake.notify_one();
            }
            Incident::Tampered { file, finding, seq } => self.tell(
                EntryDraft::new(Action::SystemJournalTampered)
                    .failed(finding)
                    .target(TargetKind::Journal, &file)
                    .detail(Detail::File(Word::lossy(&file)))
                    .detail(Detail::Finding(Word::lossy(finding)))
                    .detail(Detail::JournalSeq(seq)),
            ),
        }
    }

    /// Wakes the writer for what waits elsewhere.
    pub(super) fn stir(&self) {
        let (state, wake) = &*self.0;
        let mut state = state.lock();
        if !state.stirred {
            state.stirred = true;
            wake.notify_one();
        }
    }

    pub(super) fn close(&self) {
        let (state, wake) = &*self.0;
        state.lock().closing = true;
        wake.notify_one();
    }

    pub(super) fn is_closing(&self) -> bool {
        self.0.0.lock().closing
    }

    /// Waits until something is there or `timeout` has passed. Takes up to
    /// `max` events; one that carries totals comes alone. True once closing.
    pub(super) fn take(&self, max: usize, timeout: Duration) -> (Vec<Queued>, bool) {
        let (state, wake) = &*self.0;
        let mut state = state.lock();
        if state.events.is_empty() && !state.stirred && !state.closing {
            wake.wait_for(&mut state, timeout);
        }
        let mut taken = Vec::new();
        while taken.len() < max {
            let Some(next) = state.events.front() else { break };
            if next.with_totals && !taken.is_empty() {
                break;
            }
            let alone = next.with_totals;
            taken.extend(state.events.pop_front());
            if alone {
                break;
            }
        }
        state.stirred = !state.events.is_empty();
        (taken, state.closing)
    }

    /// Up to where the journal may be dropped as far as counts are concerned:
    /// the last that were noted stand behind it.
    pub fn needed(&self) -> u64 {
        self.1.load(Ordering::Relaxed)
    }

    pub(super) fn need(&self, seq: u64) {
        self.1.store(seq, Ordering::Relaxed);
    }

    pub(super) fn count(&self, written: &[(Action, Outcome)]) {
        let mut state = self.0.0.lock();
        for (action, result) in written {
            let names = (action.as_str(), result.as_str());
            state.written.entry(names).or_insert((*action, *result, 0)).2 += 1;
        }
    }

    pub(super) fn written(&self) -> Vec<(Action, Outcome, u64)> {
        self.0.0.lock().written.values().copied().collect()
    }
}
