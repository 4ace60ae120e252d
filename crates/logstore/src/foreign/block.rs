//! Searches one block of whole lines: drivers find the lines that may match, the
//! reader decides, and what was asked for is taken of those that do.
//!
//! Which driver is best is tried on the first block of each input.

use std::{ops::Range, sync::OnceLock};

use super::{
    census::{Census, census},
    plan::{LineReader, Plan},
    source::PlainFile,
};

/// Of a block: how it is best searched is tried on so much.
const SAMPLE_BYTES: usize = 128 * 1024;

/// A further driver is asked about a line if it lets at most so many through.
const ALSO_SHARE: f64 = 0.5;

/// Gathers something of lines that match, on each thread.
pub(super) trait Tally: Send {
    fn add(&mut self, reader: &mut LineReader<'_>, line: &[u8]);
    /// Whether there is no room for more.
    fn is_full(&self) -> bool;
}

impl Tally for () {
    fn add(&mut self, _reader: &mut LineReader<'_>, _line: &[u8]) {}

    fn is_full(&self) -> bool {
        false
    }
}

/// What a thread is told to do with the lines that match.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    Nothing,
    Matches,
    /// With all lines around them.
    Block,
}

/// What one block came to.
#[derive(Default)]
pub(super) struct Answer {
    pub(super) bytes_read: u64,
    pub(super) census: Census,
    pub(super) looked_at: u64,
    pub(super) matched: u64,
    pub(super) passed_over: u64,
    pub(super) lines: Vec<u8>,
    pub(super) matches: Vec<Range<usize>>,
    pub(super) full: bool,
    pub(super) error: Option<std::io::Error>,
}

/// How one input's blocks are searched.
#[derive(Clone, Copy)]
pub(super) struct BlockSearch<'a> {
    pub(super) plan: &'a Plan,
    pub(super) choice: &'a OnceLock<Choice>,
    pub(super) want: Want,
}

/// Which drivers are worth it for an input; tried on its first block.
pub(super) struct Choice {
    driver: Option<usize>,
    also: Vec<usize>,
}

impl BlockSearch<'_> {
    /// The lines that begin in a block of a plain file.
    pub(super) fn plain<T: Tally>(
        self,
        file: &PlainFile,
        block: u64,
        buffer: &mut Vec<u8>,
        reader: &mut LineReader<'_>,
        tally: &mut T,
    ) -> Answer {
        let mut answer = Answer::default();
        match file.read(block, buffer) {
            Ok(read) => {
                answer.bytes_read = read.bytes_read;
                answer.passed_over = u64::from(read.passed_over);
                self.block(&buffer[read.lines], reader, tally, &mut answer);
            }
            Err(error) => answer.error = Some(error),
        }
        answer
    }

    pub(super) fn block<T: Tally>(
        self,
        lines: &[u8],
        reader: &mut LineReader<'_>,
        tally: &mut T,
        answer: &mut Answer,
    ) {
        if lines.is_empty() {
            return;
        }
        answer.census = census(lines);
        if self.want == Want::Nothing && self.plan.is_always() && std::mem::size_of::<T>() == 0 {
            answer.matched = answer.census.lines;
            return;
        }
        let choice = self.choice.get_or_init(|| self.choose(lines));
        let drivers = self.plan.drivers();
        let mut look = |line: Range<usize>| {
            let bytes = &lines[line.clone()];
            let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
            if choice.also.iter().any(|also| !drivers[*also].admits(bytes)) || is_blank(bytes) {
                return;
            }
            answer.looked_at += 1;
            if !reader.matches(bytes) {
                return;
            }
            answer.matched += 1;
            tally.add(reader, bytes);
            match self.want {
                Want::Nothing => {}
                Want::Block => answer.matches.push(line),
                Want::Matches => {
                    let start = answer.lines.len();
                    answer.lines.extend_from_slice(bytes);
                    answer.matches.push(start..answer.lines.len());
                }
            }
        };
        match choice.driver {
            Some(driver) => drivers[driver].lines(lines, &mut look),
            None => every_line(lines, &mut look),
        }
        answer.full = tally.is_full();
        if self.want == Want::Block {
            answer.lines = lines.to_vec();
        }
    }

    fn choose(self, lines: &[u8]) -> Choice {
        let sample = match lines.get(..SAMPLE_BYTES) {
            Some(start) => &lines[..memchr::memrchr(b'\n', start).unwrap_or(SAMPLE_BYTES)],
            None => lines,
        };
        let costs = self.plan.drivers().iter().map(|driver| driver.cost(sample));
        let mut costs: Vec<_> = costs.enumerate().collect();
        costs.sort_by(|(_, a), (_, b)| a.nanos.total_cmp(&b.nanos));
        let best = costs.first().map(|(driver, _)| *driver);
        let rest = costs.iter().skip(1).filter(|(_, cost)| cost.share <= ALSO_SHARE);
        Choice { driver: best, also: rest.map(|(driver, _)| *driver).collect() }
    }
}

fn every_line(lines: &[u8], look: &mut dyn FnMut(Range<usize>)) {
    let mut start = 0;
    while start < lines.len() {
        let length = memchr::memchr(b'\n', &lines[start..]).unwrap_or(lines.len() - start);
        look(start..start + length);
        start += length + 1;
    }
}

fn is_blank(line: &[u8]) -> bool {
    line.iter().all(u8::is_ascii_whitespace)
}
