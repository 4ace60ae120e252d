//! What must stand in a line, byte for byte, for it to match: so that most lines
//! are never looked at.
//!
//! Nothing here decides that a line matches; it may only pass too many. What
//! stands in a line can be written with escapes instead, so beside every text
//! the escapes that could write one of its characters are looked for too.

use std::{ops::Range, sync::Arc};

use memchr::memmem;

use super::{
    folded::Folded,
    json::{LEVEL, string_end, value_end},
    plan::{TIME_FIELDS, TimeRange},
    value::{ValueTest, time_of},
};

/// More alternatives are not worth a pass each.
const NEEDLES_MAX: usize = 8;

/// Some of these stands in every line that matches.
#[derive(Clone, Debug)]
pub(super) struct Driver {
    needles: Vec<Needle>,
}

#[derive(Clone, Debug)]
struct Needle {
    find: Find,
    check: Check,
}

#[derive(Clone, Debug)]
enum Find {
    Exact(Box<memmem::Finder<'static>>),
    Folded(Folded),
}

/// What else must be so where the needle stands.
#[derive(Clone, Debug)]
enum Check {
    Nothing,
    /// It ends a key, and its value passes or cannot be judged here.
    Value(Arc<ValueTest>),
    Time(TimeRange),
    /// It begins the escape of one of these characters.
    EscapeOf(Arc<[bool; 128]>),
}

/// How a driver did on a sample.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cost {
    /// Finding lines with it, and looking at them.
    pub(super) nanos: f64,
    /// Of the bytes in lines that it lets through.
    pub(super) share: f64,
}

impl Driver {
    /// A text of a query, anywhere in a line, in any case.
    pub(super) fn text(text: &str) -> Option<Self> {
        if let Some(run) = plain_run(text) {
            return Some(Self::of(vec![(Find::Folded(Folded::new(run)), Check::Nothing)], run));
        }
        // Scripts without cases are written as they are, or by some escape.
        let find = [Find::exact(caseless_run(text)?), Find::exact("\\u")];
        let needles = find.map(|find| Needle { find, check: Check::Nothing });
        Some(Self { needles: needles.into() })
    }

    /// Texts of which one must be a JSON string.
    pub(super) fn strings(texts: &[&str]) -> Option<Self> {
        let mut needles = Vec::new();
        let mut all = String::new();
        for text in texts {
            let run = plain_run(text)?;
            let exact = if run == *text { format!("\"{text}\"") } else { run.to_owned() };
            needles.push((Find::exact(&exact), Check::Nothing));
            all.push_str(run);
        }
        (needles.len() < NEEDLES_MAX).then(|| Self::of(needles, &all))
    }

    /// A part of a text, as it is.
    pub(super) fn part(text: &str) -> Option<Self> {
        let run = plain_run(text)?;
        Some(Self::of(vec![(Find::exact(run), Check::Nothing)], run))
    }

    /// A key whose value passes.
    pub(super) fn key(path: &str, test: &Arc<ValueTest>) -> Option<Self> {
        // Wherever the dots cut, the last part ends a key.
        let (literal, part) = match path.rsplit_once('.') {
            None if path == LEVEL => (format!("{path}\""), path),
            None => (format!("\"{path}\""), path),
            Some((_, last)) => (format!("{last}\""), last),
        };
        let is_plain = plain_run(part) == Some(part);
        let check = Check::Value(Arc::clone(test));
        is_plain.then(|| Self::of(vec![(Find::exact(&literal), check)], part))
    }

    pub(super) fn time(range: TimeRange) -> Self {
        let key = |name| (Find::exact(&format!("\"{name}\"")), Check::Time(range));
        Self::of(TIME_FIELDS.map(key).into(), &TIME_FIELDS.concat())
    }

    /// `bytes` are what the needles consist of.
    fn of(needles: Vec<(Find, Check)>, bytes: &str) -> Self {
        let mut escaped = [false; 128];
        for byte in bytes.bytes() {
            escaped[usize::from(byte.to_ascii_lowercase() & 127)] = true;
            escaped[usize::from(byte.to_ascii_uppercase() & 127)] = true;
        }
        let escape = (Find::exact("\\u00"), Check::EscapeOf(Arc::new(escaped)));
        let needles = needles.into_iter().chain([escape]);
        Self { needles: needles.map(|(find, check)| Needle { find, check }).collect() }
    }

    /// Any of several, if that is still few.
    pub(super) fn either(drivers: Vec<Self>) -> Option<Self> {
        let needles: Vec<Needle> = drivers.into_iter().flat_map(|driver| driver.needles).collect();
        (needles.len() <= 2 * NEEDLES_MAX).then_some(Self { needles })
    }

    /// Visits the lines of `hay` that may match, in order.
    pub(super) fn lines(&self, hay: &[u8], visit: &mut dyn FnMut(Range<usize>)) {
        let mut next: Vec<Option<usize>> = vec![Some(0); self.needles.len()];
        let mut from = 0;
        // Found places stay good until the line behind them was visited.
        let mut stale = true;
        loop {
            for (needle, place) in self.needles.iter().zip(&mut next) {
                if place.is_some_and(|place| stale || place < from) {
                    *place = needle.next(hay, from);
                }
            }
            stale = false;
            let Some(hit) = next.iter().flatten().min().copied() else { return };
            let start = memchr::memrchr(b'\n', &hay[from..hit]).map_or(from, |end| from + end + 1);
            let end = memchr::memchr(b'\n', &hay[hit..]).map_or(hay.len(), |length| hit + length);
            visit(start..end);
            from = hay.len().min(end + 1);
        }
    }

    /// Whether one line may match.
    pub(super) fn admits(&self, line: &[u8]) -> bool {
        self.needles.iter().any(|needle| needle.next(line, 0).is_some())
    }

    pub(super) fn cost(&self, sample: &[u8]) -> Cost {
        // Nanoseconds for a byte passed over, and for one of a line looked at.
        const PASS: f64 = 0.08;
        const LOOK: f64 = 0.8;
        let mut looked = 0;
        self.lines(sample, &mut |line| looked += line.len());
        let passed = self.needles.len() * sample.len();
        Cost {
            nanos: passed as f64 * PASS + looked as f64 * LOOK,
            share: looked as f64 / sample.len().max(1) as f64,
        }
    }
}

impl Find {
    fn exact(text: &str) -> Self {
        Self::Exact(Box::new(memmem::Finder::new(text.as_bytes()).into_owned()))
    }
}

impl Needle {
    /// The next place at or behind `from` that may make a line match.
    fn next(&self, hay: &[u8], mut from: usize) -> Option<usize> {
        loop {
            let (at, length) = match &self.find {
                Find::Exact(finder) => {
                    (from + finder.find(hay.get(from..)?)?, finder.needle().len())
                }
                Find::Folded(folded) => (folded.find(hay, from)?, folded.len()),
            };
            if self.check.passes(hay, at + length) {
                return Some(at);
            }
            from = at + 1;
        }
    }
}

impl Check {
    /// `at` is behind the needle.
    fn passes(&self, hay: &[u8], at: usize) -> bool {
        match self {
            Self::Nothing => true,
            Self::EscapeOf(bytes) => {
                let digit = |at: usize| char::from(*hay.get(at)?).to_digit(16);
                let (Some(high), Some(low)) = (digit(at), digit(at + 1)) else { return false };
                bytes.get((high * 16 + low) as usize).is_some_and(|wanted| *wanted)
            }
            Self::Value(test) => value_of_key(hay, at).is_some_and(|value| match value.first() {
                // Objects and arrays are judged once, when the line is read.
                Some(b'{' | b'[') => true,
                _ => test.holds(value),
            }),
            Self::Time(range) => {
                let time = value_of_key(hay, at).and_then(time_of);
                time.is_some_and(|time| range.contains(time))
            }
        }
    }
}

/// The value behind the key that ends before `at`; of objects and arrays only
/// the first byte. None where no key ends, or no whole value follows.
fn value_of_key(hay: &[u8], at: usize) -> Option<&[u8]> {
    let blanks = |mut at: usize| {
        while matches!(hay.get(at), Some(b' ' | b'\t' | b'\r')) {
            at += 1;
        }
        at
    };
    let colon = blanks(at);
    if *hay.get(colon)? != b':' {
        return None;
    }
    let start = blanks(colon + 1);
    let end = match hay.get(start)? {
        b'"' => string_end(hay, start + 1)? + 1,
        b'{' | b'[' => start + 1,
        _ => value_end(hay, start)?,
    };
    Some(&hay[start..end])
}

/// The longest run of characters that JSON writes as they are, or escapes as
/// `\u00..` only. Longer runs are rarer.
fn plain_run(text: &str) -> Option<&str> {
    let is_plain = |c: char| matches!(c, ' '..='~') && !matches!(c, '"' | '\\' | '/');
    text.split(|c| !is_plain(c)).max_by_key(|run| run.len()).filter(|run| !run.is_empty())
}

/// The longest run of characters beyond ASCII that have no other case.
fn caseless_run(text: &str) -> Option<&str> {
    let is_caseless = |c: char| {
        c.is_alphabetic()
            && !c.is_ascii()
            && c.to_lowercase().eq(std::iter::once(c))
            && c.to_uppercase().eq(std::iter::once(c))
    };
    text.split(|c| !is_caseless(c)).max_by_key(|run| run.len()).filter(|run| !run.is_empty())
}
