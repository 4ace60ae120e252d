//! Counts lines, and those that cannot be JSON objects, in one vectorised pass.

/// Sums of single bytes stay below 256.
const BLOCK: usize = 128;

/// What a block of whole lines consists of.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Census {
    /// Lines that are not blank.
    pub(super) lines: u64,
    /// Of these, the ones that do not begin with a brace.
    pub(super) not_json: u64,
}

pub(super) fn census(block: &[u8]) -> Census {
    let Some(first) = block.first() else { return Census::default() };
    let mut ends = 0;
    let mut odd = u64::from(*first != b'{');
    // Each newline with what follows it.
    let pairs = block.len() - 1;
    let (newlines, followers) = (&block[..pairs], &block[1..]);
    let blocks = newlines.chunks(BLOCK).zip(followers.chunks(BLOCK));
    for (newlines, followers) in blocks {
        let (mut block_ends, mut block_odd) = (0u8, 0u8);
        for (newline, follower) in newlines.iter().zip(followers) {
            let is_end = u8::from(*newline == b'\n');
            block_ends += is_end;
            block_odd += is_end & u8::from(*follower != b'{');
        }
        ends += u64::from(block_ends);
        odd += u64::from(block_odd);
    }
    // What follows the last newline is a line too, if it is anything.
    let lines = ends + 1;
    match odd {
        0 => Census { lines, not_json: 0 },
        _ => slowly(block),
    }
}

/// Blank lines and lines that begin with blanks are looked at one by one.
fn slowly(block: &[u8]) -> Census {
    let mut census = Census::default();
    let mut start = 0;
    while start < block.len() {
        let length = memchr::memchr(b'\n', &block[start..]).unwrap_or(block.len() - start);
        let line = &block[start..start + length];
        if let Some(first) = line.iter().find(|byte| !byte.is_ascii_whitespace()) {
            census.lines += 1;
            census.not_json += u64::from(*first != b'{');
        }
        start += length + 1;
    }
    census
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn both_ways_count_alike(block in "(\\{a{0,40}\\}\n){0,20}|[ \\{a\n]{0,300}") {
            prop_assert_eq!(census(block.as_bytes()), slowly(block.as_bytes()));
        }
    }
}
