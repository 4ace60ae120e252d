//! Who searched for what lately: one entry is enough for a while.

use std::collections::HashMap;

use domain::time::Timestamp;
use parking_lot::Mutex;

use crate::manage::access::Caller;

/// How long one entry stands for the same search of the same caller.
const WINDOW_MICROS: i64 = 10 * 60 * 1_000_000;
/// Searches that are remembered; beyond it, those of one window are forgotten
/// and leave another entry.
const SEARCHES_MAX: usize = 4096;
/// Of a query; a longer one is told apart by its length and beginning.
const QUERY_BYTES_MAX: usize = 1024;

type Search = (String, String);

#[derive(Default)]
pub(super) struct Said(Mutex<HashMap<Search, Timestamp>>);

impl Said {
    /// What to forget should the entry fail; `None` when there is an entry.
    pub(super) fn first(&self, caller: &Caller, what: &str, now: Timestamp) -> Option<Search> {
        let actor = &caller.actor;
        let who = format!("{} {:?}", actor.kind, actor.id);
        let cut = &what[..what.floor_char_boundary(QUERY_BYTES_MAX)];
        let search = (who, format!("{} {cut}", what.len()));
        let mut known = self.0.lock();
        let is_recent =
            |said: &Timestamp| (now.as_micros() - said.as_micros()).abs() < WINDOW_MICROS;
        if known.get(&search).is_some_and(is_recent) {
            return None;
        }
        if known.len() >= SEARCHES_MAX {
            known.retain(|_, said| is_recent(said));
            if known.len() >= SEARCHES_MAX {
                known.clear();
            }
        }
        known.insert(search.clone(), now);
        Some(search)
    }

    pub(super) fn forget(&self, search: &Search) {
        self.0.lock().remove(search);
    }
}
