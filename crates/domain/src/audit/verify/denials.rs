//! Conservation of refusals: what the entries of a producer tell one by one and
//! in aggregates is what its starts, stops and heartbeats count.

use std::collections::BTreeMap;

use super::{
    Class, Report,
    leaves::{detail, number},
};
use crate::audit::{Action, DetailKey, Leaf};

/// Producers and reasons that are told apart.
const KEYS_MAX: usize = 65_536;

/// What was recorded by each producer, by reason.
#[derive(Debug, Default)]
pub(super) struct Denials {
    producers: BTreeMap<String, Recorded>,
    keys: usize,
    compared: u64,
    left_out: bool,
}

#[derive(Debug, Default)]
struct Recorded {
    by_reason: BTreeMap<String, u64>,
    /// Entries before are not there: the next count says what they recorded.
    is_open: bool,
}

impl Denials {
    /// Entries are missing before `index`; somebody else names them.
    pub fn lost(&mut self) {
        self.producers.values_mut().for_each(|recorded| recorded.is_open = true);
    }

    /// `is_whole` says that no entry before this one is missing.
    pub fn take(
        &mut self,
        index: u64,
        leaf: &Leaf,
        is_whole: bool,
        place: &str,
        report: &mut Report,
    ) {
        let totals = detail(leaf, DetailKey::DeniedTotals).and_then(|it| it.as_object());
        let is_denial = matches!(
            leaf.action,
            Action::AccessDenied | Action::AccessDeniedAggregate | Action::AuthFailed
        );
        if totals.is_none() && !is_denial {
            return;
        }
        if self.keys >= KEYS_MAX {
            self.left_out = true;
            return;
        }
        let producer = leaf.producer.as_str();
        if !self.producers.contains_key(producer) {
            let recorded = Recorded { is_open: !is_whole, ..Recorded::default() };
            self.producers.insert(producer.to_owned(), recorded);
            self.keys += 1;
        }
        let Some(recorded) = self.producers.get_mut(producer) else { return };
        if is_denial {
            let reason = leaf.reason_code.as_ref().map_or("", |code| code.as_str());
            let count = number(leaf, DetailKey::Count).unwrap_or(1);
            if !recorded.by_reason.contains_key(reason) {
                recorded.by_reason.insert(reason.to_owned(), 0);
                self.keys += 1;
            }
            if let Some(total) = recorded.by_reason.get_mut(reason) {
                *total = total.saturating_add(count);
            }
        }
        let Some(totals) = totals else { return };
        let counted: BTreeMap<String, u64> = totals
            .iter()
            .filter_map(|(reason, total)| Some((reason.clone(), total.as_u64()?)))
            .collect();
        if !recorded.is_open {
            self.compared += 1;
            let reasons = counted.keys().chain(recorded.by_reason.keys());
            for reason in reasons.collect::<std::collections::BTreeSet<_>>() {
                let told = recorded.by_reason.get(reason).copied().unwrap_or(0);
                let total = counted.get(reason).copied().unwrap_or(0);
                if told != total {
                    let text = format_args!(
                        "{producer} counts {total} refusals for {reason}, its entries tell {told}"
                    );
                    report.find(Class::CountMismatch, index, place, text);
                }
            }
        }
        // From here on this count is the measure: each lie is told once.
        self.keys += counted.len().saturating_sub(recorded.by_reason.len());
        *recorded = Recorded { by_reason: counted, is_open: false };
    }

    pub fn finish(&self, report: &mut Report) {
        if self.left_out {
            let text = format!("counts of refusals beyond {KEYS_MAX} producers and reasons");
            report.unchecked.push(text);
        }
        match self.compared {
            0 => report.unchecked.push("counts of refusals: no entry tells any".to_owned()),
            n => report.checked.push(format!("the refusals told against {n} counts of them")),
        }
    }
}
