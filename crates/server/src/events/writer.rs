//! The thread that gives events their numbers and hands their lines to the
//! journal.
//!
//! One bundle is on its way at a time, and the next begins only when it is
//! stored: so numbers are dense in the order of the lines. A bundle that the
//! journal lost is handed over again, the same bytes, until it is stored; only
//! the end of the process gives up, and its numbers were then never used.

use std::{
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use domain::{
    audit::{self, Action, Detail, EntryDraft, Outcome, Word},
    ids::EntryId,
    time::Timestamp,
};
use logstore::{Bundle, Failure, NoRoom, Until};

use super::{
    Event, Mailbox, Parts,
    clock::ClockWatch,
    denials::{Denials, Due, Totals},
    queue::Queued,
    restore::{COUNTERS_KEY, Counters, Restored},
};

/// Events and refusals of one bundle.
const EVENTS_MAX: usize = 64;
const REFUSALS_MAX: usize = 64;
/// How often windows and counters are looked at while there are any.
const TICK: Duration = Duration::from_millis(100);
/// How often the clock is.
const IDLE_TICK: Duration = Duration::from_secs(1);
/// Before a bundle that the journal did not take is handed over again.
const PAUSE: Duration = Duration::from_millis(100);
/// How long the end of the process waits for a journal that takes nothing.
const LAST_TRIES: Duration = Duration::from_secs(2);
/// What may be written into the reserve of a full disk, each time it fills.
const LAST_WORDS_BYTES: usize = 256 * 1024;

pub(super) struct Writer {
    mailbox: Mailbox,
    denials: Arc<Denials>,
    parts: Parts,
    /// The last number that stands in the journal.
    seq: u64,
    /// Refusals that are entered, by reason.
    entered: Totals,
    /// Those of the last process that are not, to be entered first.
    unentered: Totals,
    /// What the last `_counters` line says.
    noted: Totals,
    noted_entered: Totals,
    noted_at: Instant,
    clock: ClockWatch,
    last_words: usize,
}

/// Lines that are about to be written, and what is true once they are.
struct Lines {
    bundle: Bundle,
    until: Until,
    seq: u64,
    entered: Totals,
    written: Vec<(Action, Outcome)>,
    told: Vec<(tokio::sync::oneshot::Sender<EntryId>, EntryId)>,
    counters: Option<(Totals, Totals)>,
}

impl Writer {
    pub(super) fn new(
        mailbox: Mailbox,
        denials: Arc<Denials>,
        parts: Parts,
        restored: Restored,
    ) -> Self {
        let now = Instant::now();
        let clock = ClockWatch::new(parts.clock.now(), now);
        let Restored { seq, entered, unentered, .. } = restored;
        if !unentered.is_empty() {
            // Only the last process's notes say so, until ours do.
            mailbox.need(0);
        }
        Self {
            mailbox,
            denials,
            parts,
            seq,
            entered,
            unentered,
            noted: Totals::new(),
            noted_entered: Totals::new(),
            noted_at: now,
            clock,
            last_words: LAST_WORDS_BYTES,
        }
    }

    pub(super) fn run(mut self) {
        self.enter_unentered();
        loop {
            let tick = if self.denials.is_idle() { IDLE_TICK } else { TICK };
            let (events, closing) = self.mailbox.take(EVENTS_MAX, tick);
            let none_left = events.is_empty();
            self.watch_clock();
            if events.iter().any(|event| event.with_totals) || closing {
                while !self.write(Vec::new(), true) {}
            }
            let more = !self.write(events, false);
            if closing && none_left {
                return;
            }
            if more {
                self.mailbox.stir();
            }
        }
    }

    /// What the last process counted and did not enter: its aggregates, late.
    fn enter_unentered(&mut self) {
        let now = self.parts.clock.now();
        for (reason, count) in std::mem::take(&mut self.unentered) {
            let draft = EntryDraft::new(Action::AccessDeniedAggregate)
                .denied(reason.as_str())
                .detail(Detail::Count(count))
                .detail(Detail::RouteClass(Word::lossy("recovered")))
                .detail(Detail::LastAt(now));
            let due = Due { event: Event::of_system(draft), reason, count, at: now };
            self.commit(Vec::new(), vec![due]);
        }
    }

    /// Writes what is given and the refusals that are due; true when no more
    /// of them are.
    fn write(&mut self, events: Vec<Queued>, all: bool) -> bool {
        let due = self.denials.due(self.parts.clock.now(), all, REFUSALS_MAX);
        let last = due.len() < REFUSALS_MAX;
        self.commit(events, due);
        last
    }

    fn commit(&mut self, events: Vec<Queued>, due: Vec<Due>) {
        let mut lines = Lines {
            bundle: Bundle::default(),
            until: Until::Stored,
            seq: self.seq,
            entered: self.entered.clone(),
            written: Vec::new(),
            told: Vec::new(),
            counters: None,
        };
        for Due { event, reason, count, at } in due {
            if self.add(&mut lines, event, at).is_some() {
                *lines.entered.entry(reason).or_default() += count;
            }
        }
        let now = self.parts.clock.now();
        for queued in events {
            let Queued { mut event, until, with_totals, told } = queued;
            if with_totals {
                event.draft = event.draft.detail(Detail::DeniedTotals(lines.entered.clone()));
            }
            let Some(id) = self.add(&mut lines, event, now) else { continue };
            if until == Until::Synced {
                lines.until = until;
            }
            lines.told.extend(told.map(|told| (told, id)));
        }
        self.add_counters(&mut lines, now);
        let before = self.parts.intake.accounts().seq;
        if lines.bundle.is_empty() || !self.deliver(&lines) {
            return;
        }
        self.seq = lines.seq;
        self.entered = lines.entered;
        if let Some((counted, entered)) = lines.counters {
            self.mailbox.need(if counted == entered { u64::MAX } else { before });
            (self.noted, self.noted_entered) = (counted, entered);
            self.noted_at = Instant::now();
        }
        self.mailbox.count(&lines.written);
        for (told, id) in lines.told {
            // Whoever waited may have gone.
            told.send(id).unwrap_or_default();
        }
    }

    /// Seals an event and adds its lines; `None` if it cannot become an entry.
    fn add(&self, lines: &mut Lines, event: Event, at: Timestamp) -> Option<EntryId> {
        let Event { draft, actor, context } = event;
        let Parts { origin, rng, version, .. } = &self.parts;
        let sealed = draft.seal(&actor, &context, origin, lines.seq + 1, at, &**rng);
        let sealed = match sealed {
            Ok(sealed) => sealed,
            Err(error) => {
                let error: &dyn std::error::Error = &error;
                tracing::error!(error, "an event cannot be entered: a mistake of ours");
                return None;
            }
        };
        let mut line = Vec::new();
        if let Err(error) = audit::write_line(&sealed.text, version, &mut line) {
            let error: &dyn std::error::Error = &error;
            tracing::error!(error, "an event cannot be entered: a mistake of ours");
            return None;
        }
        let mut openings = Vec::new();
        if !sealed.openings.is_empty() {
            audit::write_openings(sealed.leaf.id, &sealed.openings, &mut openings);
            lines.bundle.own(&openings);
        }
        lines.bundle.entry(&line);
        lines.seq += 1;
        lines.written.push((sealed.leaf.action, sealed.leaf.result));
        Some(sealed.leaf.id)
    }

    /// The counts, so that a crash loses a tenth of a second of them.
    fn add_counters(&self, lines: &mut Lines, now: Timestamp) {
        let counted = self.denials.counted();
        let changed = counted != self.noted || lines.entered != self.noted_entered;
        if !changed || (self.noted_at.elapsed() < TICK && !self.mailbox.is_closing()) {
            return;
        }
        let counters = Counters::of(lines.seq, &counted, &lines.entered, now);
        let mut line = format!("{{\"{COUNTERS_KEY}\":").into_bytes();
        // Numbers and plain words in memory: neither can fail.
        serde_json::to_writer(&mut line, &counters).unwrap_or_default();
        line.push(b'}');
        lines.bundle.own(&line);
        lines.counters = Some((counted, lines.entered.clone()));
    }

    /// Hands the lines over until they are stored; false when the process ends
    /// before that.
    fn deliver(&mut self, lines: &Lines) -> bool {
        let mut closing_since = None;
        loop {
            let (tell, told) = mpsc::sync_channel(1);
            let stored = Box::new(move |is_stored| tell.send(is_stored).unwrap_or_default());
            let pushed = self.parts.intake.bundle(lines.bundle.clone(), lines.until, stored);
            if pushed.is_ok() && told.recv().unwrap_or(false) {
                self.last_words = LAST_WORDS_BYTES;
                return true;
            }
            if pushed == Err(NoRoom::Failed) && self.say_at_last(&lines.bundle) {
                return true;
            }
            if self.parts.intake.accounts().failed == Some(Failure::Stopped) {
                return false;
            }
            if self.mailbox.is_closing() {
                let since = closing_since.get_or_insert_with(Instant::now);
                if since.elapsed() > LAST_TRIES {
                    tracing::error!("the last entries of this process could not be written");
                    return false;
                }
            }
            std::thread::park_timeout(PAUSE);
        }
    }

    /// A failed journal takes little, and only to say so.
    fn say_at_last(&mut self, bundle: &Bundle) -> bool {
        let Some(left) = self.last_words.checked_sub(bundle.len_bytes()) else { return false };
        self.last_words = left;
        let (tell, told) = mpsc::sync_channel(1);
        let stored = Box::new(move |is_stored| tell.send(is_stored).unwrap_or_default());
        let pushed = self.parts.intake.last_words(bundle.clone(), stored);
        pushed.is_ok() && told.recv().unwrap_or(false)
    }

    fn watch_clock(&mut self) {
        let step = self.clock.look(self.parts.clock.now(), Instant::now());
        let Some(step_ms) = step.filter(|_| self.parts.watches_clock) else { return };
        tracing::warn!(step_ms, "the clock of this machine was set");
        let draft = EntryDraft::new(Action::SystemClockStep).detail(Detail::StepMs(step_ms));
        self.mailbox.tell(draft);
    }
}
