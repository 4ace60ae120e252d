//! Values of a column's kind out of their JSON text, and whether rendering them
//! gives the same text again.

use domain::{json::write_text, time::Timestamp};

use super::{
    BadLine,
    build::{Builder, Maps},
    token,
};

/// Names in one map; a line with more keeps them in its text alone.
pub(super) const MAP_ENTRIES_MAX: usize = 256;
/// Digits that surely fit 64 bits.
const DIGITS_MAX: usize = 18;
/// Milliseconds of so many digits keep their microseconds in 64 bit floats.
const MILLIS_DIGITS_MAX: usize = 12;
/// Beyond, they have no column.
const MILLIS_MAX: f64 = 1e12;
const MICROS_A_DAY: i64 = 86_400_000_000;

/// How a value fits its column.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fit {
    /// Renders back to the same text.
    Exact,
    /// The value is right, its spelling is not ours.
    Respelled,
    /// Another type, or out of bounds: not in the column.
    Foreign,
}

/// Room for texts with escapes.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    text: String,
    again: Vec<u8>,
}

impl Scratch {
    /// What the string at `range` (without quotes) means, and whether the
    /// serialiser would write it so.
    pub(super) fn unescaped(&mut self, line: &str, range: (usize, usize)) -> Option<(&str, bool)> {
        token::unescape(&line[range.0..range.1], &mut self.text)?;
        self.again.clear();
        write_text(&mut self.again, &self.text);
        let exact = self.again == line.as_bytes()[range.0 - 1..=range.1];
        Some((&self.text, exact))
    }
}

/// Puts the value at `at` into its column. Gives where it ends.
pub(super) fn put(
    builder: &mut Builder,
    row: usize,
    line: &str,
    at: usize,
    scratch: &mut Scratch,
) -> Result<(usize, Fit), BadLine> {
    let bytes = line.as_bytes();
    let found = match builder {
        Builder::Words(words) => text(line, at, scratch, &mut |text| words.put(row, text))?,
        Builder::Texts(texts) => text(line, at, scratch, &mut |text| texts.put(row, text))?,
        Builder::Integers(numbers) => integer(bytes, at).map(|(end, value)| {
            numbers.put(row, value);
            (end, Fit::Exact)
        }),
        Builder::Times(numbers) => time(line, at, scratch)?.map(|(end, micros, fit)| {
            numbers.put(row, micros);
            (end, fit)
        }),
        Builder::Millis(numbers) => millis(line, at).map(|(end, value, fit)| {
            numbers.put(row, value);
            (end, fit)
        }),
        Builder::Decimals(numbers) => decimal(bytes, at).map(|(end, value)| {
            numbers.put(row, value);
            (end, Fit::Exact)
        }),
        Builder::Booleans(booleans) => {
            let rest = &bytes[at..];
            let value = match (rest.starts_with(b"true"), rest.starts_with(b"false")) {
                (true, _) => Some((at + 4, true)),
                (_, true) => Some((at + 5, false)),
                _ => None,
            };
            value.map(|(end, value)| {
                booleans.put(row, value);
                (end, Fit::Exact)
            })
        }
        Builder::Maps(maps) => {
            let end = map(maps, row, line, at, scratch)?;
            if end.is_none() {
                maps.truncate(row);
            }
            end.map(|end| (end, Fit::Exact))
        }
    };
    match found {
        Some(found) => Ok(found),
        None => Ok((token::value(bytes, at)?, Fit::Foreign)),
    }
}

fn text(
    line: &str,
    at: usize,
    scratch: &mut Scratch,
    put: &mut dyn FnMut(&[u8]),
) -> Result<Option<(usize, Fit)>, BadLine> {
    let bytes = line.as_bytes();
    if token::byte(bytes, at) != b'"' {
        return Ok(None);
    }
    let (end, plain) = token::string(bytes, at)?;
    if plain {
        put(&bytes[at + 1..end]);
        return Ok(Some((end + 1, Fit::Exact)));
    }
    Ok(scratch.unescaped(line, (at + 1, end)).map(|(text, exact)| {
        put(text.as_bytes());
        (end + 1, if exact { Fit::Exact } else { Fit::Respelled })
    }))
}

/// Whole numbers in their one spelling.
fn integer(bytes: &[u8], at: usize) -> Option<(usize, i64)> {
    let negative = token::byte(bytes, at) == b'-';
    let begin = at + usize::from(negative);
    let mut end = begin;
    let mut value = 0i64;
    while token::byte(bytes, end).is_ascii_digit() && end - begin <= DIGITS_MAX {
        value = value.wrapping_mul(10).wrapping_add(i64::from(bytes[end] - b'0'));
        end += 1;
    }
    let digits = end - begin;
    let leading_zero = token::byte(bytes, begin) == b'0' && (digits > 1 || negative);
    let fraction = matches!(token::byte(bytes, end), b'.' | b'e' | b'E');
    if digits == 0 || digits > DIGITS_MAX || leading_zero || fraction {
        return None;
    }
    Some((end, if negative { -value } else { value }))
}

fn millis(line: &str, at: usize) -> Option<(usize, f64, Fit)> {
    let bytes = line.as_bytes();
    if let Some((end, micros)) = micros(bytes, at) {
        return Some((end, micros as f64 / 1000.0, Fit::Exact));
    }
    let end = token::number(bytes, at).ok()?;
    let value: f64 = line[at..end].parse().ok()?;
    // What a segment keeps of it: whole microseconds.
    let value = (value * 1000.0).round() / 1000.0;
    (value.abs() < MILLIS_MAX).then_some((end, value, Fit::Respelled))
}

/// `12` or `12.345`, as `Object::millis_if` writes them.
fn micros(bytes: &[u8], at: usize) -> Option<(usize, u64)> {
    let mut end = at;
    let mut value = 0u64;
    while token::byte(bytes, end).is_ascii_digit() && end - at <= MILLIS_DIGITS_MAX {
        value = value * 10 + u64::from(bytes[end] - b'0');
        end += 1;
    }
    let digits = end - at;
    if digits == 0 || digits > MILLIS_DIGITS_MAX || (bytes[at] == b'0' && digits > 1) {
        return None;
    }
    let mut fraction = 0;
    if token::byte(bytes, end) == b'.' {
        for digit in bytes.get(end + 1..end + 4)? {
            fraction = fraction * 10 + u64::from(digit.is_ascii_digit().then(|| digit - b'0')?);
        }
        if fraction == 0 {
            return None;
        }
        end += 4;
    }
    let more = matches!(token::byte(bytes, end), b'0'..=b'9' | b'.' | b'e' | b'E');
    (!more).then_some((end, value * 1000 + fraction))
}

/// Dollars, a string: `0.0015`, without zeros that say nothing.
fn decimal(bytes: &[u8], at: usize) -> Option<(usize, i128)> {
    const DECIMALS: usize = 9;
    if token::byte(bytes, at) != b'"' {
        return None;
    }
    let begin = at + 1;
    let mut end = begin;
    let mut value = 0i128;
    while token::byte(bytes, end).is_ascii_digit() && end - begin <= DECIMALS {
        value = value * 10 + i128::from(bytes[end] - b'0');
        end += 1;
    }
    let whole = end - begin;
    if whole == 0 || whole > DECIMALS || (bytes[begin] == b'0' && whole > 1) {
        return None;
    }
    let mut decimals = 0;
    if token::byte(bytes, end) == b'.' {
        end += 1;
        while token::byte(bytes, end).is_ascii_digit() && decimals <= DECIMALS {
            value = value * 10 + i128::from(bytes[end] - b'0');
            decimals += 1;
            end += 1;
        }
        if decimals == 0 || decimals > DECIMALS || bytes[end - 1] == b'0' {
            return None;
        }
    }
    let missing = u32::try_from(DECIMALS - decimals).ok()?;
    (token::byte(bytes, end) == b'"').then_some((end + 1, value * 10i128.pow(missing)))
}

pub(super) fn time(
    line: &str,
    at: usize,
    scratch: &mut Scratch,
) -> Result<Option<(usize, i64, Fit)>, BadLine> {
    let bytes = line.as_bytes();
    if token::byte(bytes, at) != b'"' {
        return Ok(None);
    }
    if let Some(micros) = bytes.get(at + 1..at + 29).and_then(canonical_time) {
        return Ok(Some((at + 29, micros, Fit::Exact)));
    }
    let (end, _) = token::string(bytes, at)?;
    let parsed =
        scratch.unescaped(line, (at + 1, end)).and_then(|(text, _)| Timestamp::parse(text));
    Ok(parsed.map(|time| (end + 1, time.as_micros(), Fit::Respelled)))
}

/// `2026-11-23T10:00:00.123456Z"`, as our own lines have it.
pub(super) fn canonical_time(text: &[u8]) -> Option<i64> {
    const SHAPE: &[u8; 28] = b"0000-00-00T00:00:00.000000Z\"";
    let text: &[u8; 28] = text.try_into().ok()?;
    let fits = text.iter().zip(SHAPE).all(|(byte, shape)| match shape {
        b'0' => byte.is_ascii_digit(),
        mark => byte == mark,
    });
    let number = |from: usize, to: usize| {
        text[from..to].iter().fold(0i64, |value, digit| value * 10 + i64::from(digit & 15))
    };
    let (year, month, day) = (number(0, 4), number(5, 7), number(8, 10));
    let (hour, minute, second) = (number(11, 13), number(14, 16), number(17, 19));
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days_of_month = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    let valid = (1..=12).contains(&month) && (1..=days_of_month).contains(&day);
    if !fits || !valid || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    // Days from civil date after Howard Hinnant, the way back of `domain::time`.
    let shifted_year = year - i64::from(month <= 2);
    let era = shifted_year.div_euclid(400);
    let year_of_era = shifted_year.rem_euclid(400);
    let shifted_month = (month + 9) % 12;
    let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * 146_097 + day_of_era - 719_468;
    let seconds = hour * 3600 + minute * 60 + second;
    Some(days * MICROS_A_DAY + seconds * 1_000_000 + number(20, 26))
}

/// An object of texts, compact and spelled as ours: where it ends, or `None` if
/// it is anything else.
fn map(
    maps: &mut Maps,
    row: usize,
    line: &str,
    at: usize,
    scratch: &mut Scratch,
) -> Result<Option<usize>, BadLine> {
    let bytes = line.as_bytes();
    if token::byte(bytes, at) != b'{' {
        return Ok(None);
    }
    maps.begin(row);
    let mut end = at + 1;
    if token::byte(bytes, end) == b'}' {
        return Ok(Some(end + 1));
    }
    let mut key = String::new();
    for _ in 0..MAP_ENTRIES_MAX {
        if token::byte(bytes, end) != b'"' {
            return Ok(None);
        }
        let (key_end, _) = token::string(bytes, end)?;
        let Some((name, true)) = scratch.unescaped(line, (end + 1, key_end)) else {
            return Ok(None);
        };
        key.clear();
        key.push_str(name);
        if maps.names(row).any(|known| known == key.as_bytes())
            || token::byte(bytes, key_end + 1) != b':'
        {
            return Ok(None);
        }
        let mut add = |text: &[u8]| maps.add(row, key.as_bytes(), text);
        let Some((value_end, Fit::Exact)) = text(line, key_end + 2, scratch, &mut add)? else {
            return Ok(None);
        };
        end = value_end + 1;
        match token::byte(bytes, value_end) {
            b',' => {}
            b'}' => return Ok(Some(end)),
            _ => return Ok(None),
        }
    }
    Ok(None)
}
