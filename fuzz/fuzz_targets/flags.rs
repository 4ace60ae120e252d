#![no_main]
//! What people type behind `logs search`, and lines that it is held against.

use domain::time::Timestamp;
use logstore::{
    search::{Condition, Matcher, Query, Streams, parse_status, parse_time},
    show::{Format, Printer, known_field},
};

const NOW: Timestamp = Timestamp::from_micros(1_790_000_000_000_000);

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let text = String::from_utf8_lossy(input);
    let (flag, line) = text.split_once('\n').unwrap_or((&text, ""));
    let mut conditions = vec![Condition::Word(flag.to_lowercase())];
    if let Some(tests) = parse_status(flag) {
        assert!(tests.iter().all(|test| test.from <= test.to && test.to < 1000), "{tests:?}");
        conditions.push(Condition::Status(tests));
    }
    let since = parse_time(flag, NOW);
    // RFC 3339 has no form for other years.
    let years = 0..=253_370_000_000_000_000;
    if let Some(time) = since.filter(|time| years.contains(&time.as_micros())) {
        assert_eq!(Timestamp::parse(&time.to_string()), Some(time), "{time}");
    }
    let fields = match known_field(flag) {
        Ok(()) => vec![flag.to_owned()],
        Err(_) => Vec::new(),
    };
    let line = format!("{line}\n");
    let query = Query { streams: Streams::All, since, until: None, conditions };
    let mut matched = Vec::new();
    let visit = &mut |line| {
        matched.push(line);
        Ok(())
    };
    Matcher::new(query).matches(line.as_bytes(), visit).expect("nothing that can fail");
    matched.push(line.trim_end_matches('\n').as_bytes());
    for format in [Format::Table, Format::Csv] {
        let mut shown = Vec::new();
        let mut printer = Printer::new(&mut shown, format, fields.clone(), false);
        printer.print(&matched).expect("a vector takes every write");
        // A terminal obeys control characters.
        let shown = String::from_utf8_lossy(&shown);
        assert!(!shown.contains(|c: char| c.is_control() && !"\r\n".contains(c)), "{shown:?}");
    }
});
