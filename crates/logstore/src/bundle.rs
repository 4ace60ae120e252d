//! Lines that belong together: the openings of an entry and the entry itself.
//! A bundle stands in one batch, so a crash leaves all of it or nothing.

use crate::queue::line_cost;

/// Lines in the order in which they will stand, each one JSON object.
#[derive(Clone, Debug, Default)]
pub struct Bundle {
    bytes: Vec<u8>,
    lines: u64,
    entries: u64,
}

/// When whoever handed lines over is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Until {
    /// Covered by a commit line.
    Stored,
    /// Known to survive a loss of power, whatever the journal's own rule; the
    /// writer syncs at once for it.
    Synced,
}

impl Bundle {
    /// Adds the line of an entry.
    pub fn entry(&mut self, line: &[u8]) {
        debug_assert!(!line.starts_with(crate::format::INTERNAL_PREFIX));
        self.entries += 1;
        self.push(line);
    }

    /// Adds a line of the journal's own, which is not shown: its first key
    /// begins with `_`.
    pub fn own(&mut self, line: &[u8]) {
        debug_assert!(line.starts_with(crate::format::INTERNAL_PREFIX));
        self.push(line);
    }

    pub fn is_empty(&self) -> bool {
        self.lines == 0
    }

    pub fn len_bytes(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn lines(&self) -> u64 {
        self.lines
    }

    pub(crate) fn entries(&self) -> u64 {
        self.entries
    }

    /// Room in the queue.
    pub(crate) fn cost(&self) -> u64 {
        line_cost(&self.bytes)
    }

    fn push(&mut self, line: &[u8]) {
        push_line(&mut self.bytes, line);
        self.lines += 1;
    }
}

/// Appends a line that others made; a raw newline in it would break the format.
pub(crate) fn push_line(out: &mut Vec<u8>, line: &[u8]) {
    if memchr::memchr2(b'\n', b'\r', line).is_none() {
        out.extend_from_slice(line);
    } else {
        out.extend(line.iter().map(|b| if matches!(b, b'\n' | b'\r') { b' ' } else { *b }));
    }
    out.push(b'\n');
}
