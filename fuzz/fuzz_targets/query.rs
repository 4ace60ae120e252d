#![no_main]
//! What people type behind `logs search`: queries, statistics, flags and times,
//! and the filter that they become, held against a line.

use domain::{
    query::{
        Expr, QUERY_TERMS_MAX, QueryError, flags::Flags, parse, parse_bucket, parse_for_foreign,
        parse_stats, parse_time,
    },
    time::Timestamp,
};
use logstore::engine::{Filter, Search};

const NOW: Timestamp = Timestamp::from_micros(1_790_000_000_000_000);

/// An error stands at a place of the text and can be drawn.
fn check_error(text: &str, error: &QueryError) {
    assert!(text.get(error.at.clone()).is_some(), "{error:?}");
    let place = error.place(text);
    assert_eq!(place.lines().count(), 2, "{place:?}");
    // A terminal obeys control characters.
    assert!(!place.contains(|c: char| c.is_control() && c != '\n'), "{place:?}");
}

/// Short names can stand for several fields, so a text may grow when printed.
fn is_small(expr: &Expr) -> bool {
    fn terms(expr: &Expr) -> usize {
        match expr {
            Expr::And(parts) | Expr::Or(parts) => parts.iter().map(terms).sum(),
            Expr::Not(inner) => terms(inner),
            Expr::All | Expr::Text(_) | Expr::Field(..) => 1,
        }
    }
    terms(expr) < QUERY_TERMS_MAX / 2 && expr.to_string().len() < 50_000
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let text = String::from_utf8_lossy(input);
    let (text, line) = text.split_once('\n').unwrap_or((&text, ""));
    match parse(text, NOW) {
        Ok(expr) => {
            if is_small(&expr) {
                assert_eq!(parse(&expr.to_string(), NOW).as_ref(), Ok(&expr), "{expr}");
            }
            if let Ok(mut filter) = Filter::new(&Search::new(expr)) {
                filter.matches(line.as_bytes());
            }
        }
        Err(error) => check_error(text, &error),
    }
    if let Err(error) = parse_for_foreign(text, NOW) {
        check_error(text, &error);
    }
    match parse_stats(text) {
        Ok(stats) => assert_eq!(parse_stats(&stats.to_string()).as_ref(), Ok(&stats), "{stats}"),
        Err(error) => check_error(text, &error),
    }
    let typed = Some(text.to_owned());
    let (status, model) = (typed.clone(), typed.clone());
    let flags = Flags { status, model, slow: typed, ..Flags::default() };
    if let Err(error) = flags.expr(NOW) {
        check_error(text, &error.error);
    }
    if let Ok(micros) = parse_bucket(text) {
        assert!(micros >= 1_000_000, "{micros}");
    }
    if let Some(time) = parse_time(text, NOW) {
        assert_eq!(Timestamp::parse(&time.to_string()), Some(time), "{time}");
    }
});
