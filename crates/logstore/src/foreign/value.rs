//! What a value of a foreign line is taken for, and the tests of a query on it.
//!
//! Nothing is known about the fields of such a line, so a test looks at the value:
//!
//! - Equality is that of text, and of numbers where the line has a number (`5e2`
//!   is `500`). A text that looks like a number is still a text: ids stay exact.
//! - An order compares numbers, numeric texts among them, where the query names
//!   a number; moments where it names one; severities where the field is a level;
//!   else texts. What cannot be compared does not match.
//! - Of an array, any element will do. An object is its JSON text.

use std::{borrow::Cow, cmp::Ordering};

use domain::{
    glob::Glob,
    query::{Comparison, Literal, Test},
    time::Timestamp,
};

use super::json::{elements, unescape};

/// Memory of a compiled pattern.
const REGEX_BYTES_MAX: usize = 1 << 20;

/// Keys that hold the severity of a line.
const LEVEL_FIELDS: &[&str] =
    &["level", "severity", "lvl", "levelname", "loglevel", "log.level", "severity_text"];

/// A test made ready to run.
#[derive(Debug)]
pub(super) enum ValueTest {
    Present,
    Any(Vec<Operand>),
    Like(Glob),
    Regex(regex::bytes::Regex),
    Compare(Comparison, Operand),
}

/// What a value is compared with, read in every way in which it can be read.
#[derive(Debug)]
pub(super) struct Operand {
    text: String,
    /// The query's field has a kind: numeric texts are numbers.
    typed: bool,
    number: Option<Number>,
    time: Option<Timestamp>,
    severity: Option<u8>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Number {
    Integer(i128),
    Float(f64),
}

impl ValueTest {
    /// `Err` tells what is wrong with a pattern.
    pub(super) fn new(field: &str, test: &Test) -> Result<Self, String> {
        let operand = |literal| Operand::new(field, literal);
        Ok(match test {
            Test::Present => Self::Present,
            Test::Any(literals) => Self::Any(literals.iter().map(operand).collect()),
            Test::Like(glob) => Self::Like(glob.clone()),
            Test::Compare(comparison, literal) => Self::Compare(*comparison, operand(literal)),
            Test::Regex(pattern) => {
                let mut builder = regex::bytes::RegexBuilder::new(pattern);
                let regex = builder.size_limit(REGEX_BYTES_MAX).dfa_size_limit(REGEX_BYTES_MAX);
                Self::Regex(regex.build().map_err(|error| error.to_string())?)
            }
        })
    }

    /// Whether a raw JSON value passes.
    pub(super) fn holds(&self, raw: &[u8]) -> bool {
        match (raw.first(), self) {
            (None, _) => false,
            (Some(b'n'), _) if raw == b"null" => false,
            (_, Self::Present) => true,
            (Some(b'['), _) => elements(raw).any(|element| self.holds_alone(element)),
            _ => self.holds_alone(raw),
        }
    }

    fn holds_alone(&self, raw: &[u8]) -> bool {
        match self {
            Self::Present => true,
            Self::Any(operands) => operands.iter().any(|operand| operand.equals(raw)),
            Self::Like(glob) => glob.matches(&String::from_utf8_lossy(&text(raw))),
            Self::Regex(regex) => regex.is_match(&text(raw)),
            Self::Compare(comparison, operand) => {
                operand.compare(raw).is_some_and(|order| comparison_holds(*comparison, order))
            }
        }
    }

    /// What a value must be equal to, if it is always a text.
    pub(super) fn texts(&self) -> Option<Vec<&str>> {
        match self {
            Self::Any(operands) => operands.iter().map(Operand::only_text).collect(),
            _ => None,
        }
    }
}

fn comparison_holds(comparison: Comparison, order: Ordering) -> bool {
    match comparison {
        Comparison::Less => order.is_lt(),
        Comparison::LessOrEqual => order.is_le(),
        Comparison::Greater => order.is_gt(),
        Comparison::GreaterOrEqual => order.is_ge(),
    }
}

impl Operand {
    fn new(field: &str, literal: &Literal) -> Self {
        let text = match literal {
            Literal::Text(text) => text.clone(),
            Literal::Integer(number) => number.to_string(),
            Literal::Number(number) => number.to_string(),
            Literal::Boolean(value) => value.to_string(),
            Literal::Time(time) => time.to_string(),
        };
        let is_level = LEVEL_FIELDS.contains(&field);
        Self {
            typed: matches!(literal, Literal::Integer(_) | Literal::Number(_) | Literal::Time(_)),
            number: number(text.as_bytes()),
            time: parse_time(text.as_bytes()),
            severity: is_level.then(|| severity(text.as_bytes())).flatten(),
            text,
        }
    }

    /// The text, if nothing but that very JSON string can be equal to it.
    fn only_text(&self) -> Option<&str> {
        let is_word = ["true", "false", "null", "NaN", "Infinity", "-Infinity"];
        let text = self.text.as_str();
        let only = self.number.is_none()
            && self.severity.is_none()
            && !(self.typed && self.time.is_some())
            && !is_word.contains(&text)
            && !text.starts_with(['{', '[']);
        only.then_some(text)
    }

    fn equals(&self, raw: &[u8]) -> bool {
        if let Some(wanted) = self.severity {
            return severity_of(raw) == Some(wanted);
        }
        let is_text = raw.first() == Some(&b'"');
        if self.typed
            && let Some(time) = self.time
        {
            return time_of(raw) == Some(time);
        }
        if let Some(wanted) = self.number.filter(|_| self.typed || !is_text) {
            let number = if is_text { number(&text(raw)) } else { number(raw) };
            return number.and_then(|number| number.compare(wanted)) == Some(Ordering::Equal);
        }
        *text(raw) == *self.text.as_bytes()
    }

    /// How the value lies to this.
    fn compare(&self, raw: &[u8]) -> Option<Ordering> {
        if let Some(wanted) = self.severity {
            return severity_of(raw).map(|severity| severity.cmp(&wanted));
        }
        let value = text(raw);
        if let Some(wanted) = self.number {
            return number(&value)?.compare(wanted);
        }
        if let Some(wanted) = self.time {
            return time_of(raw).map(|time| time.cmp(&wanted));
        }
        let is_text = raw.first() == Some(&b'"');
        is_text.then(|| (*value).cmp(self.text.as_bytes()))
    }
}

/// The text of a value: of a string what it says, of all else its JSON.
pub(super) fn text(raw: &[u8]) -> Cow<'_, [u8]> {
    match raw {
        [b'"', inner @ .., b'"'] => unescape(inner),
        other => Cow::Borrowed(other),
    }
}

impl Number {
    pub(super) fn as_f64(self) -> f64 {
        match self {
            Self::Integer(integer) => integer as f64,
            Self::Float(float) => float,
        }
    }

    fn compare(self, other: Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Integer(a), Self::Integer(b)) => Some(a.cmp(&b)),
            (a, b) => a.as_f64().partial_cmp(&b.as_f64()),
        }
    }
}

/// Reads a whole decimal number.
pub(super) fn number(text: &[u8]) -> Option<Number> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    // 38 digits fit.
    if !digits.is_empty() && digits.len() <= 38 && digits.iter().all(u8::is_ascii_digit) {
        let value = digits.iter().fold(0, |sum, digit| sum * 10 + i128::from(digit - b'0'));
        return Some(Number::Integer(if negative { -value } else { value }));
    }
    // Rust would also read 'nan' and 'infinity'.
    let is_plain = |byte: &u8| byte.is_ascii_digit() || b"+-.eE".contains(byte);
    if !digits.first()?.is_ascii_digit() || !digits.iter().all(is_plain) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok().map(Number::Float)
}

/// The severity that a value names: in words, or as pino and bunyan count.
fn severity_of(raw: &[u8]) -> Option<u8> {
    match raw.first()? {
        b'"' => severity(&text(raw)),
        b'0'..=b'9' => match number(raw)?.as_f64() {
            level if level < 10.0 => None,
            level if level < 20.0 => Some(1),
            level if level < 30.0 => Some(2),
            level if level < 40.0 => Some(3),
            level if level < 50.0 => Some(5),
            level if level < 60.0 => Some(6),
            level if level < 70.0 => Some(7),
            _ => None,
        },
        _ => None,
    }
}

/// The rank of a severity's name, in any case.
fn severity(name: &[u8]) -> Option<u8> {
    const NAMES: &[(&str, u8)] = &[
        ("trace", 1),
        ("debug", 2),
        ("info", 3),
        ("information", 3),
        ("informational", 3),
        ("notice", 4),
        ("warn", 5),
        ("warning", 5),
        ("error", 6),
        ("err", 6),
        ("critical", 7),
        ("crit", 7),
        ("fatal", 7),
        ("panic", 7),
        ("dpanic", 7),
        ("alert", 8),
        ("emergency", 9),
        ("emerg", 9),
    ];
    let known = NAMES.iter().find(|(known, _)| known.as_bytes().eq_ignore_ascii_case(name));
    known.map(|(_, rank)| *rank)
}

/// The moment that a value names: RFC 3339 and its relatives (UTC where they
/// name no zone), or seconds, milli-, micro- or nanoseconds since the epoch, by
/// magnitude.
pub(super) fn time_of(raw: &[u8]) -> Option<Timestamp> {
    match raw.first()? {
        b'"' => {
            let text = text(raw);
            parse_time(&text).or_else(|| epoch(number(&text)?))
        }
        _ => epoch(number(raw)?),
    }
}

fn epoch(number: Number) -> Option<Timestamp> {
    const SECONDS_MAX: f64 = 1e11;
    const MILLIS_MAX: f64 = 1e14;
    const MICROS_MAX: f64 = 1e17;
    const NANOS_MAX: f64 = 1e20;
    let magnitude = number.as_f64().abs();
    let micros = |times: i128, divided: i128| match number {
        Number::Integer(integer) => i64::try_from((integer * times).div_euclid(divided)).ok(),
        Number::Float(float) => Some((float * times as f64 / divided as f64).round() as i64),
    };
    let micros = match magnitude {
        _ if magnitude < SECONDS_MAX => micros(1_000_000, 1),
        _ if magnitude < MILLIS_MAX => micros(1000, 1),
        _ if magnitude < MICROS_MAX => micros(1, 1),
        _ if magnitude < NANOS_MAX => micros(1, 1000),
        _ => None,
    };
    micros.map(Timestamp::from_micros)
}

/// Reads a moment written as text.
fn parse_time(text: &[u8]) -> Option<Timestamp> {
    // Longer texts are prose; shorter ones cannot hold a date.
    const LENGTHS: std::ops::RangeInclusive<usize> = 10..=64;
    if !LENGTHS.contains(&text.len()) || text[4] != b'-' || !text[0].is_ascii_digit() {
        return None;
    }
    if let Some(time) = parse_utc(text) {
        return Some(time);
    }
    let text = std::str::from_utf8(text).ok()?;
    Timestamp::parse(text).or_else(|| {
        let civil: jiff::civil::DateTime = text.parse().ok()?;
        let since = civil.duration_since(jiff::civil::DateTime::new(1970, 1, 1, 0, 0, 0, 0).ok()?);
        i64::try_from(since.as_micros()).ok().map(Timestamp::from_micros)
    })
}

/// The form that nearly every line has: `2026-11-23T10:00:00[.123456]Z`.
fn parse_utc(text: &[u8]) -> Option<Timestamp> {
    let (head, tail) = text.split_at_checked(19)?;
    let fraction = match tail {
        b"Z" => &[],
        [b'.', fraction @ .., b'Z'] if (1..=9).contains(&fraction.len()) => fraction,
        _ => return None,
    };
    let digits = |range: std::ops::Range<usize>| {
        head[range].iter().try_fold(0i64, |sum, digit| {
            digit.is_ascii_digit().then(|| sum * 10 + i64::from(digit - b'0'))
        })
    };
    let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if marks.iter().any(|(at, mark)| head[*at] != *mark) {
        return None;
    }
    let (year, month, day) = (digits(0..4)?, digits(5..7)?, digits(8..10)?);
    let (hour, minute, second) = (digits(11..13)?, digits(14..16)?, digits(17..19)?);
    // Days past 28 and leap seconds are left to the one that knows calendars.
    if !(1..=12).contains(&month) || !(1..=28).contains(&day) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let mut micros = 0;
    for place in 0..6 {
        let digit = fraction.get(place).copied().unwrap_or(b'0');
        micros = micros * 10 + i64::from(digit.is_ascii_digit().then_some(digit - b'0')?);
    }
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    // Years that begin in March have their leap day at the end.
    let (years, months) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, of_era) = (years.div_euclid(400), years.rem_euclid(400));
    let of_year = (153 * months + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    let seconds = days * 86_400 + hour * 3600 + minute * 60 + second;
    Some(Timestamp::from_micros(seconds * 1_000_000 + micros))
}
