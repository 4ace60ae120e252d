//! Levels of a nested column: which values belong to which row.

use super::{Shape, Wrong, hybrid};
use crate::segment::codec::Bytes;

/// Entries of a page that is nested once, a map's keys or its values.
#[derive(Debug, Default)]
pub(crate) struct Levels {
    /// Where each row begins among the definitions, and where the last one ends.
    pub(crate) rows: Vec<usize>,
    /// How much of each entry is there.
    pub(crate) definitions: Vec<u32>,
    repetitions: Vec<u32>,
}

/// A block of levels behind its length.
pub(super) fn block<'a>(bytes: &mut Bytes<'a>) -> Option<&'a [u8]> {
    let length = usize::try_from(bytes.u32()?).ok()?;
    bytes.take(length)
}

fn width(max: u8) -> u32 {
    u8::BITS - max.leading_zeros()
}

impl Levels {
    /// Takes the levels of `rows` rows; gives how many values the first `wanted`
    /// of them have.
    pub(super) fn decode(
        &mut self,
        plain: &mut Bytes<'_>,
        count: usize,
        shape: Shape,
        rows: usize,
        wanted: usize,
    ) -> Result<usize, Wrong> {
        self.rows.clear();
        self.definitions.clear();
        self.repetitions.clear();
        let mut take = |max: u8, out: &mut Vec<u32>| {
            hybrid::decode(block(plain)?, width(max), count, out)?;
            out.iter().all(|level| *level <= u32::from(max)).then_some(())
        };
        take(shape.repetition_max, &mut self.repetitions)
            .and_then(|()| take(shape.definition_max, &mut self.definitions))
            .ok_or("what says which rows have values is damaged")?;
        self.rows.reserve(rows + 1);
        for (at, level) in self.repetitions.iter().enumerate() {
            if *level == 0 {
                self.rows.push(at);
            }
        }
        if self.rows.len() != rows || self.rows.first().is_some_and(|first| *first != 0) {
            return Err("it has another number of rows");
        }
        self.rows.push(count);
        let end = self.rows.get(wanted).copied().unwrap_or(count);
        let full = u32::from(shape.definition_max);
        let there = self.definitions.iter().take(end).filter(|level| **level == full);
        Ok(there.count())
    }
}
