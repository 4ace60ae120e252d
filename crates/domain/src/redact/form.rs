//! Bodies that browsers and uploads send: pairs, and parts with files among
//! them.

use std::{borrow::Cow, ops::Range};

use super::sheet::{Sheet, Write};

/// RFC 2046 allows no more.
const BOUNDARY_BYTES_MAX: usize = 70;

/// The `boundary` of a multipart type.
pub(super) fn boundary(content_type: &str) -> Option<&str> {
    let parameters = content_type.split(';').skip(1).map(str::trim);
    let mut values = parameters.filter_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.eq_ignore_ascii_case("boundary").then(|| value.trim_matches('"'))
    });
    values.next().filter(|text| !text.is_empty() && text.len() <= BOUNDARY_BYTES_MAX)
}

/// `a=b&c=d`: every name and every value.
pub(super) fn read_pairs(text: &str, sheet: &mut Sheet<'_, '_>) {
    let mut from = 0;
    for pair in text.split('&') {
        let equals = pair.find('=');
        let name = from..from + equals.unwrap_or(pair.len());
        if let Some(equals) = equals {
            let called = decoded(&pair[..equals]).into_owned();
            let value = from + equals + 1..from + pair.len();
            sheet.text(value, Write::Encoded, Some(called));
        }
        sheet.text(name, Write::Encoded, None);
        from += pair.len() + 1;
    }
}

/// The text behind `+` and `%XX`.
pub(super) fn decoded(text: &str) -> Cow<'_, str> {
    if !text.contains(['+', '%']) {
        return Cow::Borrowed(text);
    }
    let digit = |at: usize| text.as_bytes().get(at).and_then(|b| char::from(*b).to_digit(16));
    let mut bytes = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(byte) = text.as_bytes().get(at) {
        let pair = (*byte == b'%').then(|| digit(at + 1).zip(digit(at + 2))).flatten();
        let (byte, length) = match pair {
            Some((high, low)) => (u8::try_from(high * 16 + low).unwrap_or_default(), 3),
            None if *byte == b'+' => (b' ', 1),
            None => (*byte, 1),
        };
        bytes.push(byte);
        at += length;
    }
    // Byte for byte, so that places in it have places in the text.
    match String::from_utf8(bytes) {
        Ok(text) => Cow::Owned(text),
        Err(wrong) => Cow::Owned(String::from_utf8_lossy(wrong.as_bytes()).into_owned()),
    }
}

/// Appends `text` as the value of a pair.
pub(super) fn encode(text: &str, out: &mut String) {
    use std::fmt::Write as _;
    for byte in text.bytes() {
        // The marks stay legible.
        if byte.is_ascii_alphanumeric() || b"-_.~[]:".contains(&byte) {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").expect("a string takes every write");
        }
    }
}

/// One part of a multipart body.
pub(super) struct Part {
    /// Its header lines, and whatever stands between parts.
    pub(super) head: Range<usize>,
    pub(super) content: Range<usize>,
    /// The name of the field.
    pub(super) name: String,
}

/// A multipart body in which every file is a remark about its size.
pub(super) fn without_files(bytes: &[u8], boundary: &str) -> String {
    let delimiter = format!("--{boundary}");
    let mut out = String::new();
    let mut from = 0;
    while from < bytes.len() {
        let next = find(&bytes[from + 1..], delimiter.as_bytes());
        let end = next.map_or(bytes.len(), |at| from + 1 + at);
        let part = &bytes[from..end];
        let (head, content) = match find(part, b"\r\n\r\n") {
            Some(at) => part.split_at(at + 4),
            None => (part, &[][..]),
        };
        let head = String::from_utf8_lossy(head);
        out.push_str(&head);
        let text = content.strip_suffix(b"\r\n").unwrap_or(content);
        match valid_beginning(text).filter(|_| is_text(&head)) {
            Some(text) => out.push_str(text),
            None => out.push_str(&format!("[left out: {} bytes]", text.len())),
        }
        if text.len() < content.len() {
            out.push_str("\r\n");
        }
        from = end;
    }
    out
}

/// Text, the last character of which may be cut.
fn valid_beginning(bytes: &[u8]) -> Option<&str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Some(text),
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&bytes[..error.valid_up_to()]).ok()
        }
        Err(_) => None,
    }
}

/// Whether a part with this head is a field and no file.
fn is_text(head: &str) -> bool {
    let head = head.to_ascii_lowercase();
    let kind = head.lines().find_map(|line| line.strip_prefix("content-type:"));
    let kind = kind.unwrap_or("text/plain").trim();
    let readable = kind.starts_with("text/") || kind.starts_with("application/json");
    readable && !head.contains("filename=") && !head.contains("filename*=")
}

/// The parts of a text that [`without_files`] made.
pub(super) fn parts(text: &str, boundary: &str) -> Vec<Part> {
    let delimiter = format!("--{boundary}");
    let mut parts = Vec::new();
    let mut from = 0;
    while from < text.len() {
        let first = text[from..].chars().next().map_or(1, char::len_utf8);
        let next = text[from + first..].find(&delimiter);
        let end = next.map_or(text.len(), |at| from + first + at);
        let split = text[from..end].find("\r\n\r\n").map_or(end, |at| from + at + 4);
        let head = from..split;
        let name = text[head.clone()].split("name=\"").nth(1);
        let name = name.and_then(|rest| rest.split('"').next()).unwrap_or_default().to_owned();
        parts.push(Part { head, content: split..end, name });
        from = end;
    }
    parts
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    let first = wanted.first()?;
    let mut from = 0;
    loop {
        let at = from + bytes.get(from..)?.iter().position(|byte| byte == first)?;
        if bytes[at..].starts_with(wanted) {
            return Some(at);
        }
        from = at + 1;
    }
}
