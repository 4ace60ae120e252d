#![no_main]
//! The rules that redact bodies: any bytes are survived, what is found once is
//! gone, and a secret that is known never stays.

use std::sync::LazyLock;

use domain::redact::{Path, Pattern, Rules, Source};

const SECRET: &str = "canary-4711-secret";

static RULES: LazyLock<Rules> = LazyLock::new(|| {
    let paths = ["**.ssn", "messages.*.name"].iter().filter_map(|path| Path::parse(path)).collect();
    let pattern = Pattern::new("employee", "E[0-9]{3}").expect("a pattern");
    Rules::default().and(paths, vec![pattern])
});

const TYPES: [&str; 6] = [
    "application/json",
    "text/event-stream",
    "application/x-ndjson",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=b0",
    "text/plain",
];

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((choice, body)) = input.split_first() else { return };
    let content_type = TYPES[usize::from(*choice >> 1) % TYPES.len()];
    let cut = choice & 1 == 1;
    let source = Source { bytes: body, content_type: Some(content_type), cut };
    let Ok(redacted) = RULES.redact(&source, &[SECRET]) else { return };
    assert!(!redacted.as_str().contains(SECRET), "{redacted:?}");
    if redacted.redactions() == 0 && !cut && !content_type.starts_with("multipart") {
        let same = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
        assert_eq!(redacted.as_str().as_bytes(), same);
    }
});
