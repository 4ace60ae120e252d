//! Small steps of the scanner that need no state.

pub(super) fn is_bare(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.')
}

/// Numbers of tokens are whole, but some write them as `12.0` or `1e3`.
pub(super) fn whole_number(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    // Beyond 2^53 a float is no longer a count.
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    let number: f64 = text.parse().ok()?;
    ((0.0..=EXACT_MAX).contains(&number) && number.fract() == 0.0).then_some(number as u64)
}

/// Where the first quote or backslash is, or the length. Most strings are short,
/// so the first bytes are looked at without a call.
#[inline]
pub(super) fn special(bytes: &[u8]) -> usize {
    const NEAR: usize = 16;
    let near = bytes.len().min(NEAR);
    for (at, byte) in bytes[..near].iter().enumerate() {
        if matches!(byte, b'"' | b'\\') {
            return at;
        }
    }
    if near == bytes.len() {
        return near;
    }
    near + memchr::memchr2(b'"', b'\\', &bytes[near..]).unwrap_or(bytes.len() - near)
}
