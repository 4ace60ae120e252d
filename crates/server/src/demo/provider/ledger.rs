//! What the sample provider received and what it answered, by request id: the
//! independent account that records are compared with.
//!
//! Bounded: past `IDS_MAX` ids new ones are counted, not kept.

use std::{
    collections::HashMap,
    sync::Arc,
    sync::atomic::{AtomicU64, Ordering},
};

use domain::usage::Usage;
use parking_lot::Mutex;
use serde::{Serialize, Serializer};

/// Ids kept; a test that needs more clears the ledger in between.
const IDS_MAX: usize = 262_144;
/// Longer ids are cut: the ledger must not be a way to fill memory.
const ID_BYTES_MAX: usize = 256;

/// How the last answer under an id ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// Received, nothing sent to the end yet.
    Open,
    /// The whole answer was handed to the connection.
    Complete,
    /// The sample provider broke it off, as it was told to.
    Cut,
    /// The caller went away first.
    CallerGone,
}

/// All that was received under one request id.
#[derive(Clone, Debug, Serialize)]
pub struct LedgerEntry {
    pub request_id: Arc<str>,
    /// Requests received.
    pub count: u64,
    pub method: String,
    pub path: String,
    /// Of the last answer.
    pub status: u16,
    pub ending: Ending,
    /// What the last answer says it used; absent where it says nothing.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "sparse_usage")]
    pub usage: Option<Usage>,
}

/// Absent figures are left out, as in a record.
fn sparse_usage<S: Serializer>(usage: &Option<Usage>, serializer: S) -> Result<S::Ok, S::Error> {
    let usage = usage.unwrap_or_default();
    let figures = [
        ("input_tokens", usage.input_tokens),
        ("output_tokens", usage.output_tokens),
        ("total_tokens", usage.total_tokens),
        ("cached_input_tokens", usage.cached_input_tokens),
        ("cache_write_tokens", usage.cache_write_tokens),
        ("reasoning_tokens", usage.reasoning_tokens),
    ];
    serializer.collect_map(figures.into_iter().filter_map(|(name, n)| n.map(|n| (name, n))))
}

/// The account itself; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Ledger(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    entries: Mutex<HashMap<Arc<str>, LedgerEntry>>,
    received: AtomicU64,
    not_kept: AtomicU64,
}

/// The ledger as `/__sample/ledger` shows it.
#[derive(Debug, Serialize)]
pub struct LedgerPage {
    /// Requests received, with or without an id.
    pub received: u64,
    /// Requests received that are not among `items`.
    pub not_kept: u64,
    pub items: Vec<LedgerEntry>,
}

impl Ledger {
    /// Notes one request and returns its line, with the number of requests
    /// under its id so far (1 where it has none).
    pub(in crate::demo) fn receive(&self, id: Option<&str>, method: &str, path: &str) -> Line {
        self.0.received.fetch_add(1, Ordering::Relaxed);
        let Some(id) = id else {
            self.0.not_kept.fetch_add(1, Ordering::Relaxed);
            return Line { ledger: None, seen: 1 };
        };
        let id: Arc<str> = domain::record::bounded(id, ID_BYTES_MAX).into();
        let mut entries = self.0.entries.lock();
        if entries.len() >= IDS_MAX && !entries.contains_key(&id) {
            self.0.not_kept.fetch_add(1, Ordering::Relaxed);
            return Line { ledger: None, seen: 1 };
        }
        let entry = entries.entry(Arc::clone(&id)).or_insert_with(|| LedgerEntry {
            request_id: Arc::clone(&id),
            count: 0,
            method: String::new(),
            path: String::new(),
            status: 0,
            ending: Ending::Open,
            usage: None,
        });
        entry.count += 1;
        entry.method = method.into();
        entry.path = path.into();
        entry.ending = Ending::Open;
        entry.usage = None;
        Line { seen: entry.count, ledger: Some((self.clone(), id)) }
    }

    pub fn entry(&self, request_id: &str) -> Option<LedgerEntry> {
        self.0.entries.lock().get(request_id).cloned()
    }

    /// All entries, in the order of their ids.
    pub fn page(&self, request_id: Option<&str>) -> LedgerPage {
        let entries = self.0.entries.lock();
        let wanted = |entry: &&LedgerEntry| request_id.is_none_or(|id| &*entry.request_id == id);
        let mut items: Vec<_> = entries.values().filter(wanted).cloned().collect();
        items.sort_by(|a, b| a.request_id.cmp(&b.request_id));
        LedgerPage {
            received: self.0.received.load(Ordering::Relaxed),
            not_kept: self.0.not_kept.load(Ordering::Relaxed),
            items,
        }
    }

    pub fn clear(&self) {
        self.0.entries.lock().clear();
        self.0.received.store(0, Ordering::Relaxed);
        self.0.not_kept.store(0, Ordering::Relaxed);
    }

    fn update(&self, id: &Arc<str>, change: impl FnOnce(&mut LedgerEntry)) {
        if let Some(entry) = self.0.entries.lock().get_mut(id) {
            change(entry);
        }
    }
}

/// One request's line in the ledger. Dropped unfinished, it says that the
/// caller went away.
#[derive(Debug)]
pub(in crate::demo) struct Line {
    ledger: Option<(Ledger, Arc<str>)>,
    /// Which request of its id this is, from 1.
    pub(super) seen: u64,
}

impl Line {
    /// The line of a request that is not kept.
    pub(super) const fn none() -> Self {
        Self { ledger: None, seen: 1 }
    }

    pub(in crate::demo) fn answers(&self, status: u16, usage: Option<Usage>) {
        if let Some((ledger, id)) = &self.ledger {
            ledger.update(id, |entry| (entry.status, entry.usage) = (status, usage));
        }
    }

    pub(in crate::demo) fn ends(&mut self, ending: Ending) {
        if let Some((ledger, id)) = self.ledger.take() {
            ledger.update(&id, |entry| entry.ending = ending);
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.ends(Ending::CallerGone);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_id() {
        let ledger = Ledger::default();
        let first = ledger.receive(Some("a"), "POST", "/v1/x");
        drop(first);
        assert_eq!(ledger.entry("a").map(|entry| entry.ending), Some(Ending::CallerGone));
        let mut second = ledger.receive(Some("a"), "POST", "/v1/x");
        second.answers(200, Some(Usage { input_tokens: Some(3), ..Usage::default() }));
        second.ends(Ending::Complete);
        drop(ledger.receive(None, "GET", "/"));
        let page = serde_json::to_value(ledger.page(Some("a"))).expect("plain values");
        assert_eq!(second.seen, 2);
        assert_eq!(
            page,
            serde_json::json!({"received": 3, "not_kept": 1, "items": [{
                "request_id": "a", "count": 2, "method": "POST", "path": "/v1/x", "status": 200,
                "ending": "complete", "usage": {"input_tokens": 3}}]})
        );
    }
}
