//! Which journal files are done with, and asking the writer for a new one.

use std::time::{Duration, Instant};

use super::Shared;

/// Which files are done with, and who wants the current one to be.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Turns {
    /// Lines up to here stand in files that are never written again.
    closed_to: u64,
    asked: u64,
    answered: u64,
    /// Nobody turns files any more.
    ended: bool,
    nudged: bool,
}

impl Shared {
    pub(crate) fn closed_to(&self) -> u64 {
        self.turns.lock().closed_to
    }

    /// The writer began a file: what is numbered before it is closed.
    pub(crate) fn publish_closed(&self, closed_to: u64) {
        self.turns.lock().closed_to = closed_to;
        self.turned.notify_all();
    }

    /// Waits until more than `seq` stands in closed files, at most `timeout`.
    pub(crate) fn wait_closed_beyond(&self, seq: u64, timeout: Duration) {
        let mut turns = self.turns.lock();
        if turns.closed_to <= seq && !turns.nudged {
            self.turned.wait_for(&mut turns, timeout);
        }
        turns.nudged = false;
    }

    /// Wakes whoever waits for closed files.
    pub(crate) fn nudge(&self) {
        self.turns.lock().nudged = true;
        self.turned.notify_all();
    }

    /// Asks the writer for a new file and waits for it, at most `timeout`.
    /// Says up to where files are closed, or `None` when nobody answered.
    pub(crate) fn ask_to_turn(&self, timeout: Duration) -> Option<u64> {
        let deadline = Instant::now() + timeout;
        let mut turns = self.turns.lock();
        turns.asked += 1;
        let mine = turns.asked;
        drop(turns);
        self.state.lock().turning = true;
        self.wake.notify_one();
        let mut turns = self.turns.lock();
        while turns.answered < mine && !turns.ended {
            if self.turned.wait_until(&mut turns, deadline).timed_out() {
                return None;
            }
        }
        (turns.answered >= mine).then_some(turns.closed_to)
    }

    /// What the writer has been asked and not answered.
    pub(crate) fn turn_asked(&self) -> Option<u64> {
        let turns = self.turns.lock();
        (turns.asked > turns.answered).then_some(turns.asked)
    }

    pub(crate) fn turn_answered(&self, asked: u64) {
        self.turns.lock().answered = asked;
        self.turned.notify_all();
    }

    pub(crate) fn turns_ended(&self) {
        self.turns.lock().ended = true;
        self.turned.notify_all();
    }
}
