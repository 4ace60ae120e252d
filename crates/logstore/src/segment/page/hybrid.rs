//! Parquet's hybrid of runs and packed bits: levels, and the keys of dictionaries.

use arrow_buffer::{BooleanBuffer, BooleanBufferBuilder};

use crate::segment::codec::Bytes;

/// Keys and levels are 32-bit numbers.
const WIDTH_MAX: u32 = 32;

/// One run.
enum Run<'a> {
    Same(u32, usize),
    /// At least so many numbers.
    Packed(&'a [u8], usize),
}

fn run<'a>(bytes: &mut Bytes<'a>, width: u32) -> Option<Run<'a>> {
    let head = usize::try_from(bytes.varint()?).ok()?;
    if head & 1 == 1 {
        let packed = (head >> 1).checked_mul(width as usize)?;
        // The last run of a page may end with its last number.
        let there = bytes.0.len().min(packed);
        let packed = bytes.take(there)?;
        let numbers = match width {
            0 => (head >> 1).checked_mul(8)?,
            width => there * 8 / width as usize,
        };
        return Some(Run::Packed(packed, numbers));
    }
    let value = bytes.take(width.div_ceil(8) as usize)?;
    let mut number = [0; 4];
    number.get_mut(..value.len())?.copy_from_slice(value);
    Some(Run::Same(u32::from_le_bytes(number), head >> 1))
}

/// Appends the first `count` numbers.
pub(super) fn decode(runs: &[u8], width: u32, count: usize, out: &mut Vec<u32>) -> Option<()> {
    if width > WIDTH_MAX {
        return None;
    }
    let mut bytes = Bytes(runs);
    let end = out.len().checked_add(count)?;
    out.reserve(count);
    while out.len() < end {
        let room = end - out.len();
        match run(&mut bytes, width)? {
            Run::Same(value, times) => out.resize(out.len() + times.min(room), value),
            Run::Packed(packed, numbers) => unpack(packed, width, numbers.min(room), out),
        }
    }
    Some(())
}

fn unpack(packed: &[u8], width: u32, count: usize, out: &mut Vec<u32>) {
    // As many as are in eight bytes, whichever bit the first one begins at.
    match width {
        0..=7 => unpack_by::<8>(packed, width, count, out),
        8..=14 => unpack_by::<4>(packed, width, count, out),
        15..=28 => unpack_by::<2>(packed, width, count, out),
        _ => unpack_by::<1>(packed, width, count, out),
    }
}

fn unpack_by<const N: usize>(packed: &[u8], width: u32, count: usize, out: &mut Vec<u32>) {
    let mask = ((1u64 << width) - 1) as u32;
    let end = out.len() + count;
    for first in (0..count).step_by(N) {
        let bit = first * width as usize;
        let word = word(packed, bit / 8) >> (bit % 8);
        let mut numbers = [0; N];
        for (at, number) in (0u32..).zip(&mut numbers) {
            *number = (word >> (at * width)) as u32 & mask;
        }
        out.extend_from_slice(&numbers);
    }
    out.truncate(end);
}

/// Eight bytes from a place on; zeros behind the end.
pub(super) fn word(bytes: &[u8], at: usize) -> u64 {
    let rest = bytes.get(at..).unwrap_or_default();
    match rest.first_chunk() {
        Some(word) => u64::from_le_bytes(*word),
        None => {
            let mut word = [0; 8];
            word[..rest.len()].copy_from_slice(rest);
            u64::from_le_bytes(word)
        }
    }
}

/// The first `count` numbers of one bit.
pub(super) fn bits(runs: &[u8], count: usize) -> Option<BooleanBuffer> {
    let mut bytes = Bytes(runs);
    let mut bits = BooleanBufferBuilder::new(count);
    while bits.len() < count {
        let room = count - bits.len();
        match run(&mut bytes, 1)? {
            Run::Same(value, times) => bits.append_n(times.min(room), value & 1 == 1),
            Run::Packed(packed, numbers) => {
                bits.append_packed_range(0..numbers.min(room), packed);
            }
        }
    }
    Some(bits.finish())
}
