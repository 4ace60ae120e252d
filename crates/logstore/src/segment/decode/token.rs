//! The tokens of one line of JSON: where each ends, and nothing is copied.
//!
//! Everything here treats the bytes as hostile: any input gives an end within
//! the line or an error.

use super::BadLine;

/// Objects and arrays inside each other in one value.
const DEPTH_MAX: u32 = 128;

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

const fn zero_bytes(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & HIGHS
}

/// Where the first byte at or after `from` stands that the serialiser would not
/// write as it is: a quote, a backslash, a control character, or not ASCII.
/// Eight bytes at a time; a false alarm of the trick lies behind a true one.
pub(crate) fn plain_end(bytes: &[u8], from: usize) -> usize {
    let mut at = from;
    while let Some(word) = bytes.get(at..at + 8).and_then(|word| word.try_into().ok()) {
        let word = u64::from_le_bytes(word);
        let found = zero_bytes(word ^ (ONES * b'"' as u64))
            | zero_bytes(word ^ (ONES * b'\\' as u64))
            | zero_bytes(word ^ (ONES * 0x7f))
            | (word.wrapping_sub(ONES * 0x20) & !word & HIGHS)
            | (word & HIGHS);
        if found != 0 {
            return at + (found.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    let special = |byte: &u8| !(0x20..0x7f).contains(byte) || matches!(byte, b'"' | b'\\');
    let rest = bytes.get(at..).unwrap_or_default();
    rest.iter().position(special).map_or(bytes.len(), |found| at + found)
}

pub(crate) const fn bad(what: &'static str, at: usize) -> BadLine {
    BadLine { what, at }
}

pub(crate) fn byte(bytes: &[u8], at: usize) -> u8 {
    bytes.get(at).copied().unwrap_or(0)
}

pub(crate) fn blanks_end(bytes: &[u8], mut at: usize) -> usize {
    while matches!(byte(bytes, at), b' ' | b'\t' | b'\r' | b'\n') {
        at += 1;
    }
    at
}

/// A string whose opening quote stands at `at`: where its text ends (the
/// closing quote is there), and whether all of it is plain.
pub(crate) fn string(bytes: &[u8], at: usize) -> Result<(usize, bool), BadLine> {
    if byte(bytes, at) != b'"' {
        return Err(bad("a string is expected", at));
    }
    let mut end = plain_end(bytes, at + 1);
    if byte(bytes, end) == b'"' {
        return Ok((end, true));
    }
    loop {
        match bytes.get(end) {
            None => return Err(bad("a string does not end", at)),
            Some(b'"') => return Ok((end, false)),
            Some(b'\\') => end = escape_end(bytes, end)?,
            Some(0..0x20) => return Err(bad("a control character in a string", end)),
            Some(_) => end += 1,
        }
        end = plain_end(bytes, end);
    }
}

fn escape_end(bytes: &[u8], at: usize) -> Result<usize, BadLine> {
    match byte(bytes, at + 1) {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Ok(at + 2),
        b'u' => match bytes.get(at + 2..at + 6) {
            Some(hex) if hex.iter().all(u8::is_ascii_hexdigit) => Ok(at + 6),
            _ => Err(bad("an escape that is none", at)),
        },
        _ => Err(bad("an escape that is none", at)),
    }
}

/// Where a number ends.
pub(crate) fn number(bytes: &[u8], at: usize) -> Result<usize, BadLine> {
    let digits = |mut at: usize| {
        while byte(bytes, at).is_ascii_digit() {
            at += 1;
        }
        at
    };
    let begin = if byte(bytes, at) == b'-' { at + 1 } else { at };
    let mut end = digits(begin);
    if end == begin || (byte(bytes, begin) == b'0' && end > begin + 1) {
        return Err(bad("a number that is none", at));
    }
    if byte(bytes, end) == b'.' {
        let fraction = end + 1;
        end = digits(fraction);
        if end == fraction {
            return Err(bad("a number that is none", at));
        }
    }
    if matches!(byte(bytes, end), b'e' | b'E') {
        let sign = matches!(byte(bytes, end + 1), b'+' | b'-');
        let exponent = end + 1 + usize::from(sign);
        end = digits(exponent);
        if end == exponent {
            return Err(bad("a number that is none", at));
        }
    }
    Ok(end)
}

/// Where any value ends.
pub(crate) fn value(bytes: &[u8], at: usize) -> Result<usize, BadLine> {
    nested(bytes, at, 0)
}

fn nested(bytes: &[u8], at: usize, depth: u32) -> Result<usize, BadLine> {
    let literal = |word: &[u8]| match bytes[at..].starts_with(word) {
        true => Ok(at + word.len()),
        false => Err(bad("a value that is none", at)),
    };
    match byte(bytes, at) {
        b'"' => string(bytes, at).map(|(end, _)| end + 1),
        b't' => literal(b"true"),
        b'f' => literal(b"false"),
        b'n' => literal(b"null"),
        b'-' | b'0'..=b'9' => number(bytes, at),
        b'{' | b'[' if depth < DEPTH_MAX => container(bytes, at, depth),
        b'{' | b'[' => Err(bad("nested too deeply", at)),
        _ => Err(bad("a value is expected", at)),
    }
}

fn container(bytes: &[u8], at: usize, depth: u32) -> Result<usize, BadLine> {
    let object = byte(bytes, at) == b'{';
    let close = if object { b'}' } else { b']' };
    let mut end = blanks_end(bytes, at + 1);
    if byte(bytes, end) == close {
        return Ok(end + 1);
    }
    loop {
        if object {
            end = blanks_end(bytes, string(bytes, end)?.0 + 1);
            if byte(bytes, end) != b':' {
                return Err(bad("a colon is expected", end));
            }
            end = blanks_end(bytes, end + 1);
        }
        end = blanks_end(bytes, nested(bytes, end, depth + 1)?);
        match byte(bytes, end) {
            b',' => end = blanks_end(bytes, end + 1),
            last if last == close => return Ok(end + 1),
            _ => return Err(bad("a comma or an end is expected", end)),
        }
    }
}

/// What a string's text means. `None`: half a surrogate pair.
pub(crate) fn unescape(text: &str, out: &mut String) -> Option<()> {
    out.clear();
    let mut rest = text;
    while let Some(at) = memchr::memchr(b'\\', rest.as_bytes()) {
        out.push_str(&rest[..at]);
        let escape = rest.as_bytes().get(at + 1)?;
        rest = &rest[at + 2..];
        out.push(match escape {
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let (unit, behind) = unit(rest)?;
                rest = behind;
                match unit {
                    0xd800..0xdc00 => {
                        let (low, behind) = self::unit(rest.strip_prefix("\\u")?)?;
                        rest = behind;
                        let low = low.checked_sub(0xdc00).filter(|low| *low < 0x400)?;
                        char::from_u32(0x1_0000 + ((unit - 0xd800) << 10) + low)?
                    }
                    unit => char::from_u32(unit)?,
                }
            }
            other => char::from(*other),
        });
    }
    out.push_str(rest);
    Some(())
}

fn unit(text: &str) -> Option<(u32, &str)> {
    let (hex, rest) = text.split_at_checked(4)?;
    Some((u32::from_str_radix(hex, 16).ok()?, rest))
}
