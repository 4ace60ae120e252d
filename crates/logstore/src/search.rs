//! Finds lines in the journal: offline, or beside the process that writes it.
//!
//! Order is the journal's own, the order in which requests ended. A limit keeps
//! the newest matches, shown oldest first as `tail` and `journalctl` do.
//! Values that must stand literally in a line are looked for in whole batches
//! first, so that most lines are never parsed.

use std::{collections::VecDeque, io, path::Path, path::PathBuf, sync::Arc};

use domain::{glob::Glob, ids::InstanceId, time::Timestamp};
use memchr::memmem;
use serde_json::{Map, Value};

use crate::{
    cursor::Cursor,
    format::{FORMAT, INTERNAL_PREFIX},
    fs::Fs,
    recover::{all_files, read_header},
    scan::{Batch, Scanner},
};

/// One parsed line.
pub type Line = Map<String, Value>;

/// Which streams are searched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Streams {
    One(&'static str),
    All,
}

/// One test of a line.
#[derive(Clone, Debug)]
pub enum Condition {
    /// Any of the fields equals the text.
    Equals(&'static [&'static str], String),
    /// Any of the fields matches the pattern.
    Like(&'static [&'static str], Glob),
    /// `status_code` passes any of the tests.
    Status(Vec<StatusTest>),
    /// Not `ok`, or a line of level `error`.
    Errors,
    SlowMs(f64),
    LevelAtLeast(usize),
    /// Lower-case text somewhere in `msg`, `error` or `path`.
    Word(String),
}

/// A range of status codes, both ends included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StatusTest {
    pub from: u64,
    pub to: u64,
}

/// What is looked for.
#[derive(Clone, Debug)]
pub struct Query {
    pub streams: Streams,
    /// From this moment on, itself included.
    pub since: Option<Timestamp>,
    /// Before this moment.
    pub until: Option<Timestamp>,
    pub conditions: Vec<Condition>,
}

pub const LEVELS: [&str; 5] = ["trace", "debug", "info", "warn", "error"];

/// What a search saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    pub matched: u64,
    /// Bytes that could not be read because they are damaged.
    pub damaged_bytes: u64,
    /// Files of a newer format, and files that vanished.
    pub files_skipped: u64,
    /// Where each instance's journal ended: what follows was not looked at.
    pub ends: Vec<Cursor>,
}

impl Summary {
    pub fn is_complete(&self) -> bool {
        self.damaged_bytes == 0 && self.files_skipped == 0
    }
}

/// What a search does with its matches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Take {
    /// Count them only.
    Count,
    All,
    /// The newest so many.
    Newest(usize),
}

/// A query made ready to run.
pub struct Matcher {
    query: Query,
    /// Must stand in a line for it to match.
    literal: Option<memmem::Finder<'static>>,
    words: Vec<String>,
}

impl std::fmt::Debug for Matcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Matcher").field("query", &self.query).finish_non_exhaustive()
    }
}

impl Matcher {
    pub fn new(query: Query) -> Self {
        let literals = query.conditions.iter().filter_map(|condition| match condition {
            Condition::Equals(_, text) if is_literal(text) => Some(text),
            _ => None,
        });
        let literal = literals.max_by_key(|text| text.len());
        let literal = literal.map(|text| memmem::Finder::new(text.as_bytes()).into_owned());
        let words = query.conditions.iter().filter_map(|condition| match condition {
            Condition::Word(word) if is_literal(word) => Some(word.clone()),
            _ => None,
        });
        let words = words.collect();
        Self { query, literal, words }
    }

    /// Calls `visit` with every line of `lines` that matches.
    pub fn matches<'l>(
        &self,
        lines: &'l [u8],
        visit: &mut dyn FnMut(&'l [u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut rest = lines;
        while !rest.is_empty() {
            let from = match &self.literal {
                None => 0,
                Some(literal) => match literal.find(rest) {
                    Some(at) => memchr::memrchr(b'\n', &rest[..at]).map_or(0, |end| end + 1),
                    None => return Ok(()),
                },
            };
            let length = memchr::memchr(b'\n', &rest[from..]).unwrap_or(rest.len() - from);
            let line = &rest[from..from + length];
            rest = rest.get(from + length + 1..).unwrap_or_default();
            if self.is_match(line) {
                visit(line)?;
            }
        }
        Ok(())
    }

    fn is_match(&self, line: &[u8]) -> bool {
        if line.starts_with(INTERNAL_PREFIX) {
            return false;
        }
        if !self.words.iter().all(|word| contains_folded(line, word.as_bytes())) {
            return false;
        }
        let Ok(line) = serde_json::from_slice::<Line>(line) else { return false };
        let stream_fits = match self.query.streams {
            Streams::All => true,
            Streams::One(name) => text(&line, "stream") == Some(name),
        };
        stream_fits && self.time_fits(&line) && self.query.conditions.iter().all(|c| c.holds(&line))
    }

    fn time_fits(&self, line: &Line) -> bool {
        if self.query.since.is_none() && self.query.until.is_none() {
            return true;
        }
        let Some(ts) = text(line, "ts").and_then(Timestamp::parse) else { return false };
        self.query.since.is_none_or(|since| ts >= since)
            && self.query.until.is_none_or(|until| ts < until)
    }
}

impl Condition {
    fn holds(&self, line: &Line) -> bool {
        match self {
            Self::Equals(fields, wanted) => {
                fields.iter().any(|field| text(line, field) == Some(wanted))
            }
            Self::Like(fields, glob) => fields
                .iter()
                .any(|field| text(line, field).is_some_and(|value| glob.matches(value))),
            Self::Status(tests) => {
                line.get("status_code").and_then(Value::as_u64).is_some_and(|status| {
                    tests.iter().any(|test| test.from <= status && status <= test.to)
                })
            }
            Self::Errors => match text(line, "outcome") {
                Some(outcome) => outcome != "ok",
                None => text(line, "level") == Some("error"),
            },
            Self::SlowMs(least) => {
                line.get("duration_ms").and_then(Value::as_f64).is_some_and(|ms| ms >= *least)
            }
            Self::LevelAtLeast(least) => text(line, "level")
                .and_then(|level| LEVELS.iter().position(|known| known.eq_ignore_ascii_case(level)))
                .is_some_and(|level| level >= *least),
            Self::Word(word) => ["msg", "error", "path"].iter().any(|field| {
                text(line, field).is_some_and(|value| value.to_lowercase().contains(word))
            }),
        }
    }
}

fn text<'l>(line: &'l Line, field: &str) -> Option<&'l str> {
    line.get(field).and_then(Value::as_str)
}

/// Whether the text stands in a JSON line exactly as it is.
fn is_literal(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| matches!(b, 0x20..=0x7e) && b != b'"' && b != b'\\')
}

/// ASCII case-insensitive search; `needle` is in lower case.
fn contains_folded(hay: &[u8], needle: &[u8]) -> bool {
    let Some(&first) = needle.first() else { return true };
    let starts = memchr::memchr2_iter(first, first.to_ascii_uppercase(), hay);
    starts
        .filter_map(|at| hay.get(at..at + needle.len()))
        .any(|window| window.eq_ignore_ascii_case(needle))
}

struct Source {
    instance: InstanceId,
    first_seq: u64,
    last_seq: u64,
    path: PathBuf,
}

/// Runs a query over every journal file; `emit` gets the matching lines.
pub fn search(
    fs: &Arc<dyn Fs>,
    journal_dir: &Path,
    matcher: &Matcher,
    take: Take,
    emit: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<Summary> {
    let mut summary = Summary::default();
    let sources = sources(&**fs, journal_dir, matcher.query.since)?;
    match take {
        Take::Count => {
            for source in &sources {
                scan(fs, source, matcher, &mut summary, &mut |_| Ok(()))?;
            }
        }
        Take::All => {
            for source in &sources {
                scan(fs, source, matcher, &mut summary, emit)?;
            }
        }
        Take::Newest(count) => {
            let mut kept: VecDeque<Vec<u8>> = VecDeque::new();
            for source in sources.iter().rev() {
                let room = count - kept.len();
                // The newest file of each instance tells where its journal ends.
                if room == 0 && source.last_seq != u64::MAX {
                    continue;
                }
                let mut found: VecDeque<Vec<u8>> = VecDeque::new();
                scan(fs, source, matcher, &mut summary, &mut |line| {
                    found.push_back(line.to_vec());
                    if found.len() > room {
                        found.pop_front();
                    }
                    Ok(())
                })?;
                found.append(&mut kept);
                kept = found;
            }
            summary.matched = kept.len() as u64;
            kept.iter().try_for_each(|line| emit(line))?;
        }
    }
    Ok(summary)
}

/// Files in order, without those whose lines are all older than `since`.
fn sources(fs: &dyn Fs, dir: &Path, since: Option<Timestamp>) -> io::Result<Vec<Source>> {
    let mut files = all_files(fs, dir)?;
    files.sort_by(|a, b| (a.0.as_str(), a.1).cmp(&(b.0.as_str(), b.1)));
    let mut sources = Vec::new();
    for (at, (instance, first_seq, path)) in files.iter().enumerate() {
        let next = files.get(at + 1).filter(|next| next.0 == *instance);
        if let (Some(since), Some((_, _, next))) = (since, next) {
            // Every line of a file is older than the header of the next.
            let header = fs.open_read(next).ok().and_then(|file| read_header(&*file));
            if header.is_some_and(|header| header.ts < since) {
                continue;
            }
        }
        let last_seq = next.map_or(u64::MAX, |next| next.1 - 1);
        sources.push(Source {
            instance: instance.clone(),
            first_seq: *first_seq,
            last_seq,
            path: path.clone(),
        });
    }
    Ok(sources)
}

fn scan(
    fs: &Arc<dyn Fs>,
    source: &Source,
    matcher: &Matcher,
    summary: &mut Summary,
    emit: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let file = match fs.open_read(&source.path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            summary.files_skipped += 1;
            return Ok(());
        }
        file => file?,
    };
    if read_header(&*file).is_some_and(|header| header.format > FORMAT) {
        summary.files_skipped += 1;
        return Ok(());
    }
    let mut scanner = Scanner::new(file, source.first_seq);
    while let Some(batch) = scanner.next_batch()? {
        let Batch { bytes, first_seq, damage, .. } = batch;
        summary.damaged_bytes += damage.map_or(0, |damage| damage.bytes);
        if first_seq > source.last_seq {
            continue;
        }
        matcher.matches(bytes, &mut |line| {
            summary.matched += 1;
            emit(line)
        })?;
    }
    if source.last_seq == u64::MAX {
        summary.ends.push(Cursor { instance: source.instance.clone(), seq: scanner.seq() });
    }
    Ok(())
}

/// Reads `500`, `5xx`, `>=400`, `<300`, and lists such as `429,5xx`.
pub fn parse_status(text: &str) -> Option<Vec<StatusTest>> {
    text.split(',').map(|part| parse_status_test(part.trim())).collect()
}

fn parse_status_test(text: &str) -> Option<StatusTest> {
    let number = |text: &str| text.trim().parse::<u64>().ok().filter(|status| *status < 1000);
    let (least, most) = (0, 999);
    if let Some(rest) = text.strip_prefix(">=") {
        return Some(StatusTest { from: number(rest)?, to: most });
    }
    if let Some(rest) = text.strip_prefix("<=") {
        return Some(StatusTest { from: least, to: number(rest)? });
    }
    if let Some(rest) = text.strip_prefix('>') {
        let from = number(rest)? + 1;
        return (from <= most).then_some(StatusTest { from, to: most });
    }
    if let Some(rest) = text.strip_prefix('<') {
        return Some(StatusTest { from: least, to: number(rest)?.checked_sub(1)? });
    }
    if let Some(class) = text.to_ascii_lowercase().strip_suffix("xx") {
        let class = number(class).filter(|class| (1..=5).contains(class))?;
        return Some(StatusTest { from: class * 100, to: class * 100 + 99 });
    }
    number(text).map(|status| StatusTest { from: status, to: status })
}

/// Reads `15m`, `1h`, `7d`, `now`, a date, a date and time (UTC where it names
/// no zone), RFC 3339.
pub fn parse_time(text: &str, now: Timestamp) -> Option<Timestamp> {
    if text == "now" {
        return Some(now);
    }
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let seconds: Option<i64> = match unit {
        "s" => Some(1),
        "m" => Some(60),
        "h" => Some(3600),
        "d" => Some(86_400),
        "w" => Some(604_800),
        _ => None,
    };
    if let (Ok(number), Some(seconds)) = (number.parse::<i64>(), seconds) {
        let micros = number.checked_mul(seconds)?.checked_mul(1_000_000)?;
        return Some(now.plus_micros(-micros));
    }
    if let Some(time) = Timestamp::parse(text) {
        return Some(time);
    }
    let civil: jiff::civil::DateTime = text.trim_end_matches('Z').parse().ok()?;
    let micros = civil.duration_since(jiff::civil::DateTime::new(1970, 1, 1, 0, 0, 0, 0).ok()?);
    i64::try_from(micros.as_micros()).ok().map(Timestamp::from_micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_tests_are_read() {
        let check = |text: &str, expected: Option<&[(u64, u64)]>| {
            let expected =
                expected.map(|e| e.iter().map(|&(from, to)| StatusTest { from, to }).collect());
            assert_eq!(parse_status(text), expected, "{text}");
        };
        check("500", Some(&[(500, 500)]));
        check("5xx", Some(&[(500, 599)]));
        check(">=400", Some(&[(400, 999)]));
        check(">499", Some(&[(500, 999)]));
        check("<300", Some(&[(0, 299)]));
        check("429, 5XX", Some(&[(429, 429), (500, 599)]));
        check(">999", None);
        check("9xx", None);
        check("", None);
        check("abc", None);
        check("99999999999999999999", None);
    }

    #[test]
    fn times_are_read() {
        let now = Timestamp::parse("2026-11-23T12:00:00Z").expect("a time");
        let check = |text: &str, expected: Option<&str>| {
            let parsed = parse_time(text, now).map(|time| time.to_string());
            assert_eq!(parsed.as_deref(), expected, "{text}");
        };
        check("1h", Some("2026-11-23T11:00:00.000000Z"));
        check("7d", Some("2026-11-16T12:00:00.000000Z"));
        check("now", Some("2026-11-23T12:00:00.000000Z"));
        check("2026-11-23", Some("2026-11-23T00:00:00.000000Z"));
        check("2026-11-23T10:00Z", Some("2026-11-23T10:00:00.000000Z"));
        check("2026-11-23T10:00", Some("2026-11-23T10:00:00.000000Z"));
        check("2026-11-23T10:00:00+02:00", Some("2026-11-23T08:00:00.000000Z"));
        check("yesterday", None);
        check("99999999999999999h", None);
    }

    #[test]
    fn folding_finds_either_case() {
        assert!(contains_folded(b"Upstream TimeOut", b"timeout"));
        assert!(!contains_folded(b"timeou", b"timeout"));
        assert!(contains_folded(b"", b""));
    }
}
