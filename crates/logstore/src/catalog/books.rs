//! The books over everything that was ever sealed of one instance, kept in its
//! manifest: they balance against the journal's numbering on one side and
//! against the rows of segments on the other.

use serde::{Deserialize, Serialize};

use crate::{
    format::{COUNTERS_PREFIX, Counters, HEADER_PREFIX, Header, OutcomeWord, RecordLine},
    segment::Dataset,
};

/// A figure for each dataset.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct PerDataset {
    pub records: u64,
    pub bodies: u64,
    pub traces: u64,
    pub entries: u64,
}

impl PerDataset {
    pub fn get(&self, dataset: Dataset) -> u64 {
        match dataset {
            Dataset::Records => self.records,
            Dataset::Bodies => self.bodies,
            Dataset::Traces => self.traces,
            Dataset::Entries => self.entries,
        }
    }

    pub(crate) fn add(&mut self, dataset: Dataset, rows: u64) {
        let figure = match dataset {
            Dataset::Records => &mut self.records,
            Dataset::Bodies => &mut self.bodies,
            Dataset::Traces => &mut self.traces,
            Dataset::Entries => &mut self.entries,
        };
        *figure += rows;
    }
}

/// What became of the journal's lines, from `first_line` to `sealed_to`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Books {
    /// Where counting began: 1, unless the journal had lost its beginning or
    /// the manifests were lost.
    pub first_line: u64,
    /// The journal's own lines; they are not sealed.
    pub own: u64,
    /// Lines of each stream. Bodies have no number there.
    pub lines: PerDataset,
    /// Of the traces, lines that are no JSON objects, kept as they are.
    pub opaque: u64,
    /// Lines that damage took before they were sealed.
    pub missing: u64,
    /// Rows ever sealed, dropped by retention, and erased.
    pub rows: PerDataset,
    pub pruned: PerDataset,
    pub erased: PerDataset,
    pub boot: Boot,
}

impl Books {
    /// Whether every line up to `sealed_to` is accounted for.
    pub fn lines_balance(&self, sealed_to: u64) -> bool {
        let lines = self.lines.records + self.lines.traces + self.lines.entries;
        let counted = self.own + lines + self.missing;
        self.first_line + counted == sealed_to + 1
    }

    /// Rows that segments should hold now.
    pub fn rows_left(&self, dataset: Dataset) -> Option<u64> {
        let gone = self.pruned.get(dataset) + self.erased.get(dataset);
        self.rows.get(dataset).checked_sub(gone)
    }
}

/// How far the counters of the start at hand were checked.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Boot {
    /// The start at hand; 0: none was seen yet.
    pub number: u64,
    /// Its records so far, and those of them that the start itself wrote.
    pub records: u64,
    pub interrupted: u64,
    /// Lines are known to be missing, so sums cannot fit.
    pub incomplete: bool,
    /// Counters lines that did not fit, ever.
    pub contradictions: u64,
}

/// Follows the books through committed lines.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) boot: Boot,
    /// The batch at hand is the first of a start.
    starting: bool,
}

impl Tally {
    pub(crate) fn new(boot: Boot) -> Self {
        Self { boot, starting: false }
    }

    pub(crate) fn batch_begins(&mut self) {
        self.starting = false;
    }

    /// A line that belongs to the journal itself.
    pub(crate) fn own_line(&mut self, line: &[u8]) {
        if line.starts_with(HEADER_PREFIX) {
            let Some(header) = Header::parse(line) else { return };
            if header.reason == "start" {
                let contradictions = self.boot.contradictions;
                self.boot = Boot { number: header.boot, contradictions, ..Boot::default() };
                self.starting = true;
            }
        } else if line.starts_with(COUNTERS_PREFIX) && self.boot.number > 0 {
            let written = self.boot.records - self.boot.interrupted;
            let fits = |books: &Counters| {
                books.balance() && (self.boot.incomplete || books.stored == written)
            };
            if !Counters::parse(line).as_ref().is_some_and(fits) {
                self.boot.contradictions += 1;
                self.boot.incomplete = true;
            }
        }
    }

    pub(crate) fn record(&mut self, line: &[u8]) {
        self.boot.records += 1;
        // Only the first batch of a start has records that it did not count.
        if self.starting
            && RecordLine::parse(line)
                .is_some_and(|record| record.outcome == Some(OutcomeWord::Interrupted))
        {
            self.boot.interrupted += 1;
        }
    }

    pub(crate) fn lines_missing(&mut self) {
        self.boot.incomplete = true;
    }
}
