//! Texts of a page: where each stands in one buffer.

use arrow_array::StringArray;
use arrow_buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};

use super::{Wrong, delta};
use crate::segment::codec::Bytes;

/// Texts, or bytes. Keeps its memory.
#[derive(Debug, Default)]
pub(crate) struct Texts {
    bytes: Vec<u8>,
    /// Where each one begins and ends.
    spans: Vec<(u32, u32)>,
    lengths: Vec<i64>,
}

impl Texts {
    /// One text.
    pub(crate) fn get(&self, at: usize) -> Option<&[u8]> {
        let (from, to) = *self.spans.get(at)?;
        self.bytes.get(from as usize..to as usize)
    }

    /// Each behind four bytes with its length.
    pub(super) fn plain(&mut self, plain: &[u8], count: usize) -> Result<(), Wrong> {
        self.spans.clear();
        self.bytes.clear();
        let mut at = 0usize;
        // Each has at least its length.
        self.spans.reserve(count.min(plain.len() / 4));
        for _ in 0..count {
            let length = plain.get(at..).and_then(|rest| rest.first_chunk());
            let length = u32::from_le_bytes(*length.ok_or("texts are missing")?) as usize;
            let from = at + 4;
            let end = from.checked_add(length).filter(|end| *end <= plain.len());
            at = end.ok_or("texts are missing")?;
            self.spans.push(span(from, at)?);
        }
        self.bytes.extend_from_slice(&plain[..at]);
        Ok(())
    }

    /// Lengths first, then all texts.
    pub(super) fn lengths_apart(&mut self, plain: &[u8], count: usize) -> Result<(), Wrong> {
        self.spans.clear();
        self.bytes.clear();
        let mut bytes = Bytes(plain);
        self.take_lengths(&mut bytes)?;
        let mut at = 0usize;
        for length in self.lengths.iter().take(count) {
            let end = usize::try_from(*length).ok().and_then(|length| at.checked_add(length));
            let end = end.filter(|end| *end <= bytes.0.len()).ok_or("texts are missing")?;
            self.spans.push(span(at, end)?);
            at = end;
        }
        if self.spans.len() != count {
            return Err("texts are missing");
        }
        self.bytes.extend_from_slice(&bytes.0[..at]);
        Ok(())
    }

    /// How much each shares with the one before, then what it adds.
    pub(super) fn prefixes(&mut self, plain: &[u8], count: usize) -> Result<(), Wrong> {
        self.spans.clear();
        self.bytes.clear();
        let mut bytes = Bytes(plain);
        self.take_lengths(&mut bytes)?;
        let shared = std::mem::take(&mut self.lengths);
        self.take_lengths(&mut bytes)?;
        if shared.len() < count || self.lengths.len() != shared.len() {
            return Err("texts are missing");
        }
        let mut before = 0..0;
        for (shared, own) in shared.iter().zip(&self.lengths).take(count) {
            let length = |length: &i64| usize::try_from(*length).ok();
            let (shared, own) = length(shared).zip(length(own)).ok_or("a length is negative")?;
            let own = bytes.take(own).ok_or("texts are missing")?;
            if shared > before.len() {
                return Err("a text shares more than there is");
            }
            let from = self.bytes.len();
            // Texts that share much could grow without bound.
            if from + shared + own.len() > super::PAGE_BYTES_MAX {
                return Err("it would be too large");
            }
            self.bytes.extend_from_within(before.start..before.start + shared);
            self.bytes.extend_from_slice(own);
            before = from..self.bytes.len();
            self.spans.push(span(from, before.end)?);
        }
        Ok(())
    }

    fn take_lengths(&mut self, bytes: &mut Bytes<'_>) -> Result<(), Wrong> {
        self.lengths.clear();
        let lengths = delta::decode_all(bytes, super::ENTRIES_MAX, &mut self.lengths);
        lengths.ok_or("its lengths are damaged")
    }

    /// All of them, as arrays keep texts.
    pub(super) fn offsets_and_bytes(&self) -> Result<(Vec<i32>, Vec<u8>), Wrong> {
        let mut offsets = Vec::with_capacity(self.spans.len() + 1);
        let mut bytes = Vec::with_capacity(self.bytes.len());
        offsets.push(0);
        for at in 0..self.spans.len() {
            bytes.extend_from_slice(self.get(at).unwrap_or_default());
            offsets.push(i32::try_from(bytes.len()).map_err(|_| "it would be too large")?);
        }
        Ok((offsets, bytes))
    }
}

fn span(from: usize, to: usize) -> Result<(u32, u32), Wrong> {
    let number = |at: usize| u32::try_from(at).map_err(|_| "it would be too large");
    Ok((number(from)?, number(to)?))
}

/// Texts as an array; the offsets ascend.
pub(crate) fn strings(
    (offsets, bytes): (Vec<i32>, Vec<u8>),
    nulls: Option<NullBuffer>,
) -> Result<StringArray, Wrong> {
    let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
    StringArray::try_new(offsets, Buffer::from_vec(bytes), nulls).map_err(|_| "a text is none")
}
