//! Writes one flat JSON object into a byte buffer, without allocation.
//!
//! Records are written a million times for every time they are read by us, so
//! this is the one serialiser on that way. It escapes exactly what RFC 8259
//! requires, plus DEL and the C1 controls, so that no value reaches a terminal
//! raw through `tail -f`.

use std::fmt::{Display, Write as _};

/// A key as [`Object`] takes it. Only literals of ours, which need no escaping.
#[macro_export]
macro_rules! key {
    ($name:literal) => {
        concat!(",\"", $name, "\":")
    };
}

/// An object under construction in a borrowed buffer.
pub struct Object<'a> {
    out: &'a mut Vec<u8>,
    first: bool,
}

impl<'a> Object<'a> {
    pub fn begin(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, first: true }
    }

    pub fn end(self) {
        self.out.push(b'}');
    }

    /// `key` comes from [`key!`]: comma, quotes and colon in one piece, since a
    /// record has some fifty.
    fn key(&mut self, key: &'static str) {
        debug_assert!(key.starts_with(",\"") && key.ends_with("\":"));
        let key = if self.first { &key[1..] } else { key };
        self.first = false;
        self.out.extend_from_slice(key.as_bytes());
    }

    pub fn text(&mut self, key: &'static str, value: &str) {
        self.key(key);
        write_text(self.out, value);
    }

    pub fn text_if(&mut self, key: &'static str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(key, value);
        }
    }

    /// For values whose `Display` needs no escaping (ids, numbers, times).
    pub fn plain_text(&mut self, key: &'static str, value: impl Display) {
        self.key(key);
        self.out.push(b'"');
        self.display(value);
        self.out.push(b'"');
    }

    /// An id of ours, hyphenated.
    pub fn uuid(&mut self, key: &'static str, id: &uuid::Uuid) {
        self.key(key);
        self.out.push(b'"');
        let mut buffer = uuid::Uuid::encode_buffer();
        self.out.extend_from_slice(id.as_hyphenated().encode_lower(&mut buffer).as_bytes());
        self.out.push(b'"');
    }

    /// Bytes in lower-case hex.
    pub fn hex<const N: usize>(&mut self, key: &'static str, bytes: &[u8; N]) {
        self.key(key);
        self.out.push(b'"');
        for byte in bytes {
            let pair = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
            self.out.extend_from_slice(&pair);
        }
        self.out.push(b'"');
    }

    pub fn number(&mut self, key: &'static str, value: u64) {
        self.key(key);
        write_number(self.out, value);
    }

    pub fn number_if(&mut self, key: &'static str, value: Option<u64>) {
        if let Some(value) = value {
            self.number(key, value);
        }
    }

    /// Microseconds as milliseconds with three digits: `12.345`.
    pub fn millis_if(&mut self, key: &'static str, micros: Option<u64>) {
        let Some(micros) = micros else { return };
        self.key(key);
        write_number(self.out, micros / 1000);
        let fraction = micros % 1000;
        if fraction != 0 {
            self.out.push(b'.');
            let digits = [fraction / 100, fraction / 10 % 10, fraction % 10];
            self.out.extend(digits.map(|digit| b'0' + digit as u8));
        }
    }

    pub fn boolean(&mut self, key: &'static str, value: bool) {
        self.key(key);
        self.out.extend_from_slice(if value { b"true" } else { b"false" });
    }

    /// `json` must be one JSON value on one line.
    pub fn raw(&mut self, key: &'static str, json: &str) {
        self.key(key);
        self.out.extend_from_slice(json.as_bytes());
    }

    fn display(&mut self, value: impl Display) {
        struct Bytes<'b>(&'b mut Vec<u8>);
        impl std::fmt::Write for Bytes<'_> {
            fn write_str(&mut self, text: &str) -> std::fmt::Result {
                self.0.extend_from_slice(text.as_bytes());
                Ok(())
            }
        }
        write!(Bytes(self.out), "{value}").expect("a vector takes every write");
    }
}

fn write_number(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Appends `text` as a JSON string.
pub fn write_text(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let bytes = text.as_bytes();
    // Nearly every text is plain, and this loop is one that vectorises.
    let plain = bytes.iter().fold(true, |plain, &byte| {
        plain & (0x20..0x7f).contains(&byte) & (byte != b'"') & (byte != b'\\')
    });
    if plain {
        out.extend_from_slice(bytes);
        out.push(b'"');
        return;
    }
    let mut clean = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        let plain = byte >= 0x20 && byte != b'"' && byte != b'\\' && byte != 0x7f;
        // C1 controls are 0xC2 0x80..=0x9F in UTF-8.
        let c1 = byte == 0xc2 && bytes.get(at + 1).is_some_and(|next| *next < 0xa0);
        if plain && !c1 {
            continue;
        }
        out.extend_from_slice(&bytes[clean..at]);
        clean = at + 1;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0xc2 => {
                push_escape(out, bytes[at + 1]);
                clean = at + 2;
            }
            control => push_escape(out, control),
        }
    }
    out.extend_from_slice(&bytes[clean..]);
    out.push(b'"');
}

const HEX: &[u8; 16] = b"0123456789abcdef";

fn push_escape(out: &mut Vec<u8>, code: u8) {
    out.extend_from_slice(b"\\u00");
    out.push(HEX[usize::from(code >> 4)]);
    out.push(HEX[usize::from(code & 15)]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_text_survives(text in "\\PC*|[\\x00-\\x1f\\x7f-\\u{9f}\"\\\\é漢]*") {
            let mut out = Vec::new();
            write_text(&mut out, &text);
            prop_assert!(out.iter().all(|b| *b >= 0x20 && *b != 0x7f));
            let back: String = serde_json::from_slice(&out).expect("valid JSON");
            prop_assert_eq!(back, text);
        }

        #[test]
        fn numbers_and_millis(value: u64, micros in 0u64..10_000_000_000) {
            let mut out = Vec::new();
            let mut object = Object::begin(&mut out);
            object.number(key!("n"), value);
            object.millis_if(key!("ms"), Some(micros));
            object.millis_if(key!("absent"), None);
            object.end();
            let back: serde_json::Value = serde_json::from_slice(&out).expect("valid JSON");
            prop_assert_eq!(back["n"].as_u64(), Some(value));
            let millis = back["ms"].as_f64().expect("a number");
            prop_assert!((millis - micros as f64 / 1000.0).abs() < 1e-6);
        }
    }
}
