//! Whole numbers as packed differences (`DELTA_BINARY_PACKED`).

use super::hybrid::word;
use crate::segment::codec::{Bytes, unzigzag};

/// Numbers of one block; writers take 128 or 256.
const BLOCK_MAX: usize = 1 << 16;

/// Appends the first `wanted` numbers of at least as many. `bytes` is left behind
/// the last block that was needed.
pub(super) fn decode(bytes: &mut Bytes<'_>, wanted: usize, out: &mut Vec<i64>) -> Option<()> {
    let mut packed = Packed::take(bytes)?;
    if packed.count < wanted {
        return None;
    }
    packed.blocks(bytes, wanted, out)
}

/// Appends all numbers, which must be `at_most` or fewer, and leaves `bytes`
/// behind them.
pub(super) fn decode_all(bytes: &mut Bytes<'_>, at_most: usize, out: &mut Vec<i64>) -> Option<()> {
    let mut packed = Packed::take(bytes)?;
    if packed.count > at_most {
        return None;
    }
    let count = packed.count;
    packed.blocks(bytes, count, out)
}

struct Packed {
    /// Numbers of a miniature block, of which a block has so many.
    mini: usize,
    minis: usize,
    count: usize,
    value: i64,
}

impl Packed {
    fn take(bytes: &mut Bytes<'_>) -> Option<Self> {
        let block = bytes.count(BLOCK_MAX)?;
        let minis = bytes.count(block.max(1))?;
        let count = usize::try_from(bytes.varint()?).ok()?;
        let value = unzigzag(bytes.varint()?);
        let mini = block.checked_div(minis)?;
        (mini > 0 && mini.is_multiple_of(8)).then_some(Self { mini, minis, count, value })
    }

    fn blocks(&mut self, bytes: &mut Bytes<'_>, wanted: usize, out: &mut Vec<i64>) -> Option<()> {
        if wanted == 0 {
            return Some(());
        }
        out.reserve(wanted);
        out.push(self.value);
        let mut left = wanted - 1;
        // Numbers that are written, whether they are wanted or not.
        let mut written = self.count - 1;
        while left > 0 {
            let least = unzigzag(bytes.varint()?);
            let widths = bytes.take(self.minis)?;
            for width in widths {
                if written == 0 {
                    break;
                }
                let packed = bytes.take(self.mini.checked_mul(usize::from(*width))? / 8)?;
                let count = left.min(self.mini);
                self.mini_block(packed, u32::from(*width), count, least, out)?;
                left -= count;
                written -= written.min(self.mini);
            }
        }
        Some(())
    }

    fn mini_block(
        &mut self,
        packed: &[u8],
        width: u32,
        count: usize,
        least: i64,
        out: &mut Vec<i64>,
    ) -> Option<()> {
        let mut value = self.value;
        let mut next = |step: u64| {
            value = value.wrapping_add(least).wrapping_add(step.cast_signed());
            value
        };
        match width {
            0 => out.extend((0..count).map(|_| next(0))),
            // With up to seven bits before it, such a number is in eight bytes.
            1..=57 => {
                let mask = (1u64 << width) - 1;
                let step = |at: usize| {
                    let bit = at * width as usize;
                    (word(packed, bit / 8) >> (bit % 8)) & mask
                };
                out.extend((0..count).map(|at| next(step(at))));
            }
            58..=64 => {
                let mask = u64::MAX >> (64 - width);
                let step = |at: usize| {
                    let bit = at * width as usize;
                    let both = u128::from(word(packed, bit / 8))
                        | u128::from(word(packed, bit / 8 + 8)) << 64;
                    (both >> (bit % 8)) as u64 & mask
                };
                out.extend((0..count).map(|at| next(step(at))));
            }
            _ => return None,
        }
        self.value = value;
        Some(())
    }
}
