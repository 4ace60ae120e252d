//! Dictionaries of an open segment that are asked for again: by the next column
//! test, by the rows around, by the next page of an answer.

use std::sync::Arc;

use arrow_array::Array as _;

use crate::segment::page::Dictionary;

/// Kept of one segment: those of two row groups with every column.
const BYTES_MAX: usize = 1024 * 1024;

#[derive(Debug, Default)]
pub(super) struct Dictionaries {
    /// By row group and leaf; the newest last.
    kept: Vec<((usize, usize), Arc<Dictionary>, usize)>,
    bytes: usize,
}

impl Dictionaries {
    pub(super) fn get(&self, group: usize, leaf: usize) -> Option<Arc<Dictionary>> {
        let mut kept = self.kept.iter();
        kept.find(|(key, ..)| *key == (group, leaf)).map(|(_, known, _)| Arc::clone(known))
    }

    /// Keeps it; the oldest go where there is no room.
    pub(super) fn keep(&mut self, group: usize, leaf: usize, dictionary: &Arc<Dictionary>) {
        let bytes = match &**dictionary {
            Dictionary::Texts(texts) => texts.get_array_memory_size(),
            Dictionary::Wholes(wholes) => wholes.len() * size_of::<i64>(),
        };
        let is_known = self.get(group, leaf).is_some();
        if is_known || bytes > BYTES_MAX {
            return;
        }
        self.bytes += bytes;
        let mut gone = 0;
        while self.bytes > BYTES_MAX {
            let Some((.., bytes)) = self.kept.get(gone) else { break };
            self.bytes -= bytes;
            gone += 1;
        }
        self.kept.drain(..gone);
        self.kept.push(((group, leaf), Arc::clone(dictionary), bytes));
    }
}
