//! The dataset and the time of a line, without reading the rest of it where it
//! is one of ours.

use super::{
    parse::{self, Scratch},
    token::{blanks_end, byte, string, value},
};
use crate::{format::RECORD_PREFIX, segment::Dataset};

/// Where a line belongs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Head {
    pub dataset: Option<Dataset>,
    pub ts: Option<i64>,
}

/// Reads what [`super::Decoder`] would read as `stream` and `ts`.
pub(crate) fn head(line: &[u8]) -> Head {
    let of_record = || {
        let rest = line.strip_prefix(RECORD_PREFIX)?.strip_prefix(b"\"record_id\":\"")?;
        // Of an id of ours; any other text has no such key behind it.
        let time = rest.get(36..)?.strip_prefix(b"\",\"ts\":\"")?;
        let plain = rest[..36].iter().all(|b| b.is_ascii_hexdigit() || *b == b'-');
        parse::canonical_time(time.get(..28)?).filter(|_| plain)
    };
    if let Some(ts) = of_record() {
        return Head { dataset: Some(Dataset::Records), ts: Some(ts) };
    }
    let mut head = Head { dataset: None, ts: None };
    if let Ok(line) = std::str::from_utf8(line) {
        // What is no object has no head beyond what was found.
        let _end = walk(line, &mut head);
    }
    head
}

fn walk(line: &str, head: &mut Head) -> Option<()> {
    let bytes = line.as_bytes();
    let mut scratch = Scratch::default();
    let mut streamed = false;
    let mut timed = false;
    let mut at = blanks_end(bytes, 0);
    if byte(bytes, at) != b'{' {
        return None;
    }
    loop {
        at = blanks_end(bytes, at + 1);
        let (key_end, _) = string(bytes, at).ok()?;
        let key = scratch.unescaped(line, (at + 1, key_end)).map(|(key, _)| match key {
            "stream" => 1,
            "ts" => 2,
            _ => 0,
        });
        at = blanks_end(bytes, key_end + 1);
        if byte(bytes, at) != b':' {
            return None;
        }
        at = blanks_end(bytes, at + 1);
        let end = value(bytes, at).ok()?;
        // The first of repeated keys counts that is of the right type.
        if key == Some(1) && !streamed && byte(bytes, at) == b'"' {
            streamed = true;
            let name = scratch.unescaped(line, (at + 1, end - 1));
            head.dataset = name.and_then(|(name, _)| Dataset::of_stream_name(name));
        } else if key == Some(2) && !timed {
            head.ts = parse::time(line, at, &mut scratch).ok()?.map(|(_, micros, _)| micros);
            timed = head.ts.is_some();
        }
        if streamed && timed {
            return Some(());
        }
        at = blanks_end(bytes, end);
        if byte(bytes, at) != b',' {
            return None;
        }
    }
}
