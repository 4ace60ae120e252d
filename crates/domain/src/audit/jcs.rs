//! RFC 8785 (JSON Canonicalization Scheme) for the values that a leaf may hold:
//! text, integers within ±2^53, booleans, arrays and objects. Neither floats
//! nor null, so that no two programs can disagree about a byte.

use serde_json::Value;

/// The largest integer that every JSON reader keeps exactly.
pub const INTEGER_MAX: i64 = 1 << 53;

/// Why a value has no canonical form here.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NotCanonical {
    #[error("not JSON")]
    NotJson,
    #[error("a number is not an integer within ±2^53")]
    Number,
    #[error("null is not a value; absent is")]
    Null,
    #[error("the bytes differ from their canonical form")]
    Bytes,
}

/// The canonical bytes of `value`.
pub fn to_bytes(value: &Value) -> Result<Vec<u8>, NotCanonical> {
    let mut out = Vec::with_capacity(512);
    write(&mut out, value)?;
    Ok(out)
}

/// Reads canonical bytes, and only those.
pub fn parse(bytes: &[u8]) -> Result<Value, NotCanonical> {
    let value: Value = serde_json::from_slice(bytes).map_err(|_| NotCanonical::NotJson)?;
    // Duplicate keys, white space, other escapes and other orders end here.
    if to_bytes(&value)? == bytes { Ok(value) } else { Err(NotCanonical::Bytes) }
}

/// Whether `bytes` are surely canonical, found without reading values. Of names
/// beyond ASCII and of deep nesting it is not sure: then [`parse`] tells.
pub(super) fn is_plainly_canonical(bytes: &[u8]) -> bool {
    let mut scan = Scan { rest: bytes };
    std::str::from_utf8(bytes).is_ok() && scan.value(DEPTH_PLAIN) && scan.rest.is_empty()
}

const DEPTH_PLAIN: usize = 16;

struct Scan<'b> {
    rest: &'b [u8],
}

impl<'b> Scan<'b> {
    fn value(&mut self, depth: usize) -> bool {
        match self.rest.first() {
            Some(b'"') => self.text().is_some(),
            Some(b'{') if depth > 0 => self.object(depth - 1),
            Some(b'[') if depth > 0 => self.array(depth - 1),
            Some(b't') => self.eat(b"true"),
            Some(b'f') => self.eat(b"false"),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => false,
        }
    }

    fn eat(&mut self, word: &[u8]) -> bool {
        let rest = self.rest.strip_prefix(word);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn number(&mut self) -> bool {
        let is_negative = self.eat(b"-");
        let digits = self.rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (number, rest) = self.rest.split_at(digits);
        self.rest = rest;
        let has_zero = number.first() == Some(&b'0');
        if digits == 0 || digits > 16 || has_zero && (digits > 1 || is_negative) {
            return false;
        }
        let value = number.iter().fold(0, |sum, digit| 10 * sum + i64::from(digit - b'0'));
        value <= INTEGER_MAX
    }

    /// A text in its canonical escapes; what stands between its quotes.
    fn text(&mut self) -> Option<&'b [u8]> {
        let inside = self.rest.strip_prefix(b"\"")?;
        let mut at = 0;
        loop {
            match *inside.get(at)? {
                b'"' => break,
                b'\\' => at += escape(&inside[at..])?,
                0..0x20 => return None,
                _ => at += 1,
            }
        }
        self.rest = &inside[at + 1..];
        Some(&inside[..at])
    }

    fn array(&mut self, depth: usize) -> bool {
        if self.eat(b"[]") {
            return true;
        }
        let mut open: &[u8] = b"[";
        while self.eat(open) {
            if !self.value(depth) {
                return false;
            }
            open = b",";
        }
        self.eat(b"]")
    }

    fn object(&mut self, depth: usize) -> bool {
        if self.eat(b"{}") {
            return true;
        }
        let mut open: &[u8] = b"{";
        let mut last: Option<&[u8]> = None;
        while self.eat(open) {
            let Some(name) = self.text() else { return false };
            // In ASCII without escapes bytes sort as UTF-16 does.
            let is_plain = name.is_ascii() && !name.contains(&b'\\');
            let follows = last.is_none_or(|last| last < name);
            if !is_plain || !follows || !self.eat(b":") || !self.value(depth) {
                return false;
            }
            (open, last) = (b",", Some(name));
        }
        self.eat(b"}")
    }
}

/// How long the canonical escape is that `bytes` begin with.
fn escape(bytes: &[u8]) -> Option<usize> {
    match bytes.get(1)? {
        b'"' | b'\\' | b'b' | b't' | b'n' | b'f' | b'r' => Some(2),
        b'u' => {
            let code = bytes.get(2..6)?.strip_prefix(b"00")?;
            let digit = |byte: u8| match byte {
                b'0'..=b'9' => Some(byte - b'0'),
                b'a'..=b'f' => Some(byte - b'a' + 10),
                _ => None,
            };
            let code = 16 * digit(code[0])? + digit(code[1])?;
            let is_short = matches!(code, 0x08 | b'\t' | b'\n' | 0x0c | b'\r');
            (code < 0x20 && !is_short).then_some(6)
        }
        _ => None,
    }
}

fn write(out: &mut Vec<u8>, value: &Value) -> Result<(), NotCanonical> {
    match value {
        Value::Null => return Err(NotCanonical::Null),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Number(number) => {
            let number = number.as_i64().ok_or(NotCanonical::Number)?;
            if !(-INTEGER_MAX..=INTEGER_MAX).contains(&number) {
                return Err(NotCanonical::Number);
            }
            out.extend_from_slice(number.to_string().as_bytes());
        }
        Value::String(text) => write_text(out, text),
        Value::Array(items) => {
            out.push(b'[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                write(out, item)?;
            }
            out.push(b']');
        }
        Value::Object(map) => {
            let mut members: Vec<(&String, &Value)> = map.iter().collect();
            // The order of RFC 8785 is that of UTF-16 code units, which differs
            // from that of bytes beyond the basic plane.
            members.sort_by(|one, two| one.0.encode_utf16().cmp(two.0.encode_utf16()));
            out.push(b'{');
            for (at, (key, member)) in members.into_iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                write_text(out, key);
                out.push(b':');
                write(out, member)?;
            }
            out.push(b'}');
        }
    }
    Ok(())
}

fn write_text(out: &mut Vec<u8>, text: &str) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    for &byte in text.as_bytes() {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            0x08 => out.extend_from_slice(b"\\b"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'\n' => out.extend_from_slice(b"\\n"),
            0x0c => out.extend_from_slice(b"\\f"),
            b'\r' => out.extend_from_slice(b"\\r"),
            control @ 0..0x20 => {
                out.extend_from_slice(b"\\u00");
                out.push(HEX[usize::from(control >> 4)]);
                out.push(HEX[usize::from(control & 15)]);
            }
            byte => out.push(byte),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(input: &str, expected: Result<&str, NotCanonical>) {
        let value: Value = serde_json::from_str(input).expect("valid JSON");
        let bytes = to_bytes(&value);
        let text = bytes.map(|bytes| String::from_utf8(bytes).expect("UTF-8"));
        assert_eq!(text.as_deref().map_err(|error| *error), expected);
    }

    #[test]
    fn text_follows_section_3_2_2_2() {
        // The string of the RFC's own sample.
        check(
            r#"{"string":"\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/"}"#,
            Ok(r#"{"string":"€$\u000f\nA'B\"\\\\\"/"}"#),
        );
        check(r#"["\b\f\t\r\u007f\u0080"]"#, Ok("[\"\\b\\f\\t\\r\u{7f}\u{80}\"]"));
    }

    #[test]
    fn keys_sort_by_utf16_as_section_3_2_3_shows() {
        check(
            r#"{"\u20ac":"Euro Sign","\r":"Carriage Return","\ufb33":"Hebrew Letter Dalet With Dagesh","1":"One","\ud83d\ude00":"Emoji: Grinning Face","\u0080":"Control","\u00f6":"Latin Small Letter O With Diaeresis"}"#,
            Ok(
                "{\"\\r\":\"Carriage Return\",\"1\":\"One\",\"\u{80}\":\"Control\",\"ö\":\"Latin Small Letter O With Diaeresis\",\"€\":\"Euro Sign\",\"😀\":\"Emoji: Grinning Face\",\"\u{fb33}\":\"Hebrew Letter Dalet With Dagesh\"}",
            ),
        );
    }

    #[test]
    fn numbers_are_exact_integers() {
        check(
            "[9007199254740992,-9007199254740992,0]",
            Ok("[9007199254740992,-9007199254740992,0]"),
        );
        check("9007199254740993", Err(NotCanonical::Number));
        check("1.5", Err(NotCanonical::Number));
        check("1e3", Err(NotCanonical::Number));
        check("-0", Err(NotCanonical::Number));
        check("{\"a\":null}", Err(NotCanonical::Null));
    }

    #[test]
    fn a_plain_look_is_sure_of_what_leaves_are_made_of() {
        for sure in [
            r#"{"a":1,"b":"x"}"#,
            r#"{"A":{},"a":[],"b":[true,false,-1,0,9007199254740992],"c":"\u0001\n\"é"}"#,
        ] {
            assert!(is_plainly_canonical(sure.as_bytes()), "{sure}");
        }
        for other in [
            "",
            "{",
            "{}x",
            r#"{"b":1,"a":1}"#,
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,}"#,
            "[,1]",
            "[1,]",
            "-0",
            "01",
            "1.0",
            "1e3",
            "9007199254740993",
            "99999999999999999",
            "null",
            "[null]",
            r#""\u000a""#,
            r#""\u001F""#,
            r#""\u0041""#,
            r#""\/""#,
            "\"\n\"",
            "\"",
            " 1",
        ] {
            assert!(!is_plainly_canonical(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn other_bytes_for_the_same_value_are_refused() {
        assert!(parse(br#"{"a":1,"b":"x"}"#).is_ok());
        for other in [
            &br#"{"b":"x","a":1}"#[..],
            br#"{"a":1, "b":"x"}"#,
            br#"{"a":1,"b":"\u0078"}"#,
            br#"{"a":1,"a":1,"b":"x"}"#,
            br#"{"a":1,"b":"x"} "#,
            b"{\"a\":1,\"b\":\"\xff\"}",
        ] {
            assert!(parse(other).is_err(), "{}", String::from_utf8_lossy(other));
        }
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::from),
            (-INTEGER_MAX..=INTEGER_MAX).prop_map(Value::from),
            ".*|[\\x00-\\x1f\"\\\\😀\u{fb33}€]*".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 64, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
                prop::collection::btree_map("[a😀\u{fb33}\\x00-\\x7f]{0,4}", inner, 0..8)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn canonical_bytes_read_back(value in any_value()) {
            let bytes = to_bytes(&value).expect("canonical");
            prop_assert_eq!(parse(&bytes), Ok(value));
        }

        #[test]
        fn the_plain_look_is_never_wrong(value in any_value(), at in any::<usize>(), byte: u8) {
            let mut bytes = to_bytes(&value).expect("canonical");
            prop_assert!(!is_plainly_canonical(&bytes) || parse(&bytes).is_ok());
            let at = at % bytes.len();
            bytes[at] = byte;
            prop_assert!(!is_plainly_canonical(&bytes) || parse(&bytes).is_ok());
            bytes.insert(at, byte);
            prop_assert!(!is_plainly_canonical(&bytes) || parse(&bytes).is_ok());
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            prop_assert!(!is_plainly_canonical(&bytes) || parse(&bytes).is_ok());
            if let Ok(value) = parse(&bytes) {
                prop_assert_eq!(to_bytes(&value), Ok(bytes));
            }
        }
    }
}
