//! Folds floods of unauthenticated refusals into aggregate records with exact
//! counts, so that nobody without a token can fill the disk (CONTRACT §6).
//!
//! Each (code, client network) may leave 50 records of its own a second; the
//! rest of that second becomes one. What found no room in the journal's queue at
//! all is counted here too, and written as soon as there is room.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use domain::{
    record::{Coalesced, Record},
    time::Timestamp,
};
use parking_lot::Mutex;

use crate::{network::client_network, ports::Outbox};

/// Individual records for each key and window.
const INDIVIDUAL_MAX: u32 = 50;
const WINDOW_US: i64 = 1_000_000;
/// Distinct keys; past it refusals share one key per code.
const KEYS_MAX: usize = 65_536;

type Key = (Box<str>, Option<IpAddr>);

pub struct Coalescer {
    outbox: Arc<dyn Outbox>,
    windows: Mutex<HashMap<Key, Window>>,
}

#[derive(Debug)]
struct Window {
    begins: Timestamp,
    individual: u32,
    folded: Option<Folded>,
}

/// The aggregate in the making: a first refusal, and how many it stands for.
#[derive(Debug)]
struct Folded {
    record: Box<Record>,
    count: u64,
    first_ts: Timestamp,
    last_ts: Timestamp,
    /// Whether a reservation in the journal is held for the record.
    reserved: bool,
    /// Requests in it that never held a reservation.
    unreserved: u64,
}

/// What became of a refusal.
pub enum Coalescing {
    /// Within the rate: write it.
    Write(Box<Record>),
    Folded,
}

impl Coalescer {
    pub fn new(outbox: Arc<dyn Outbox>) -> Self {
        Self { outbox, windows: Mutex::default() }
    }

    /// Takes a refusal; `reserved` says whether it holds room in the journal.
    pub fn take(&self, record: Box<Record>, reserved: bool, now: Timestamp) -> Coalescing {
        let code = record.error_code.clone();
        let code: Box<str> = code.unwrap_or_else(|| record.outcome.as_str().into());
        let network = record.client_ip.map(client_network);
        let mut windows = self.windows.lock();
        let known = windows.contains_key(&(code.clone(), network));
        let key = if known || windows.len() < KEYS_MAX { (code, network) } else { (code, None) };
        let window =
            windows.entry(key).or_insert(Window { begins: now, individual: 0, folded: None });
        if reserved && window.folded.is_none() && window.individual < INDIVIDUAL_MAX {
            window.individual += 1;
            return Coalescing::Write(record);
        }
        let give_back = match &mut window.folded {
            Some(folded) => {
                folded.count += 1;
                folded.last_ts = folded.last_ts.max(record.ts);
                folded.first_ts = folded.first_ts.min(record.ts);
                folded.unreserved += u64::from(!reserved);
                let keeps = reserved && !folded.reserved;
                folded.reserved |= keeps;
                reserved && !keeps
            }
            None => {
                let (first_ts, last_ts) = (record.ts, record.ts);
                let unreserved = u64::from(!reserved);
                window.folded =
                    Some(Folded { record, count: 1, first_ts, last_ts, reserved, unreserved });
                false
            }
        };
        drop(windows);
        if give_back {
            self.outbox.coalesced();
        }
        Coalescing::Folded
    }

    /// Writes the aggregates of windows that are over, or of `all`.
    pub fn flush(&self, now: Timestamp, all: bool) {
        let mut ready = Vec::new();
        self.windows.lock().retain(|_, window| {
            let over = now.as_micros() - window.begins.as_micros() >= WINDOW_US;
            // A clock set back must not keep a window open for ever.
            let stepped_back = now < window.begins;
            if !(all || over || stepped_back) {
                return true;
            }
            let Some(folded) = &mut window.folded else { return false };
            if !folded.reserved {
                if self.outbox.reserve().is_err() {
                    return true;
                }
                folded.reserved = true;
                folded.unreserved -= 1;
            }
            ready.extend(window.folded.take());
            false
        });
        for mut folded in ready {
            if folded.unreserved > 0 {
                self.outbox.coalesced_unreserved(folded.unreserved);
            }
            if folded.count > 1 {
                folded.record.coalesced = Some(Coalesced {
                    count: folded.count,
                    first_ts: folded.first_ts,
                    last_ts: folded.last_ts,
                });
            }
            self.outbox.finish(folded.record, None);
        }
    }
}
