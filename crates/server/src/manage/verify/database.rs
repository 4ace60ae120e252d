//! The audit tables against the tree: every row says what its entry says, none
//! is missing, none is there besides.

use std::collections::BTreeMap;

use domain::audit::{
    Leaf,
    tree::NodeHash,
    verify::{Class, Leaves, Report, check_opening},
};
use store::{Stored, StoredRow};
use tlog::verify::Entry;
use tokio::sync::mpsc::Receiver;

use super::known::with_causes;

const TABLE: &str = "audit_entry";
const PENDING: &str = "audit_pending";
const OPENINGS: &str = "audit_opening";

/// The rows as they come, in the order of the tree.
pub(super) struct Rows {
    from: Receiver<store::Result<Stored>>,
    page: std::vec::IntoIter<StoredRow>,
    next: Option<StoredRow>,
    totals: Option<(BTreeMap<String, u64>, u64)>,
    failed: Option<String>,
    compared: u64,
    openings: u64,
}

impl Rows {
    pub fn new(from: Receiver<store::Result<Stored>>) -> Self {
        Self {
            from,
            page: Vec::new().into_iter(),
            next: None,
            totals: None,
            failed: None,
            compared: 0,
            openings: 0,
        }
    }

    /// Compares the row of an entry.
    pub fn entry(&mut self, entry: &Entry<'_>, report: &mut Report) {
        let row = loop {
            match self.peek().and_then(|row| row.index) {
                Some(index) if index < entry.index => {
                    // Before what was dropped there may be rows, or none.
                    drop(self.next.take());
                }
                Some(index) if index == entry.index => break self.next.take(),
                _ => break None,
            }
        };
        let Some(row) = row else {
            if self.failed.is_none() {
                report.find(Class::DbRow, entry.index, TABLE, "the row of the entry is missing");
            }
            return;
        };
        self.compared += 1;
        if NodeHash::of_leaf(row.leaf.as_bytes()) != entry.hash {
            report.find(Class::DbRow, entry.index, TABLE, "the row holds another entry");
        } else if !row.is_derived {
            let text = "a column of the row does not say what the entry says";
            report.find(Class::DbRow, entry.index, TABLE, text);
        }
        if let Some(leaf) = entry.leaf {
            self.open(entry.index, leaf, &row, report);
        }
    }

    fn open(&mut self, index: u64, leaf: &Leaf, row: &StoredRow, report: &mut Report) {
        for opening in &row.openings {
            self.openings += 1;
            check_opening(index, leaf, opening, OPENINGS, report);
        }
        for path in &row.openings_damaged {
            let text = format_args!("the opening of {} is damaged", path.escape_debug());
            report.find(Class::Opening, index, OPENINGS, text);
        }
        let there = row.openings.iter().map(|opening| &opening.path);
        let there = there.chain(&row.openings_damaged).collect::<std::collections::BTreeSet<_>>();
        let gone: Vec<&str> =
            leaf.sealed.keys().filter(|path| !there.contains(path)).map(String::as_str).collect();
        if !gone.is_empty() {
            let text = format_args!("sealed values were erased: {}", gone.join(", "));
            report.find(Class::Erased, index, OPENINGS, text);
        }
    }

    /// What is left after the last entry of the tree.
    pub fn finish(mut self, leaves: &Leaves, report: &mut Report) {
        let (size, mut waiting) = (report.size, 0u64);
        let mut last: BTreeMap<String, u64> = leaves.producers().clone();
        while self.peek().is_some() {
            let Some(row) = self.next.take() else { break };
            if let Some(index) = row.index {
                // A running sequencer gives indexes before it signs.
                if index >= size {
                    waiting += 1;
                    last.insert(row.producer, row.seq);
                }
                continue;
            }
            waiting += 1;
            if !row.is_derived {
                let text = format_args!("the waiting row {} is not that of its entry", row.id);
                report.find(Class::DbRow, None, PENDING, text);
            }
            let before = last.insert(row.producer.clone(), row.seq).unwrap_or(0);
            if row.seq != before + 1 {
                let class = if row.seq > before { Class::Gap } else { Class::Duplicate };
                let StoredRow { seq, producer, .. } = &row;
                let text = format_args!("number {seq} of {producer} waits behind {before}");
                report.find(class, None, PENDING, text);
            }
        }
        if let Some(what) = &self.failed {
            report.incomplete.push(format!("the database cannot be read: {what}"));
            return;
        }
        let Some((producers, stray)) = self.totals.take() else {
            report.incomplete.push("the database broke off".to_owned());
            return;
        };
        for (producer, given) in producers {
            let seen = last.get(&producer).copied().unwrap_or(0);
            if seen < given {
                let text = format_args!(
                    "{producer} gave out number {given}, the newest entry of it is {seen}"
                );
                report.find(Class::Gap, None, PENDING, text);
            }
        }
        if stray > 0 {
            let text = format_args!("{stray} openings belong to no entry");
            report.find(Class::DbRow, None, OPENINGS, text);
        }
        if waiting > 0 {
            let text = format_args!("{waiting} entries wait in the database for their checkpoint");
            report.find(Class::UnanchoredTail, size, PENDING, text);
        }
        let (rows, openings) = (self.compared, self.openings);
        report.checked.push(format!("{rows} rows of the database, {openings} openings"));
    }

    fn peek(&mut self) -> Option<&StoredRow> {
        while self.next.is_none() {
            if let Some(row) = self.page.next() {
                self.next = Some(row);
                break;
            }
            match self.from.blocking_recv() {
                None => return None,
                Some(Err(error)) => {
                    self.failed.get_or_insert(with_causes(&error));
                }
                Some(Ok(Stored::Rows(page))) => self.page = page.into_iter(),
                Some(Ok(Stored::Totals { producers, openings_stray })) => {
                    self.totals = Some((producers, openings_stray));
                }
            }
        }
        self.next.as_ref()
    }
}
