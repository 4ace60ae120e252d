#![no_main]
//! A query behind `logs search -f`, and a line that it is held against.

use domain::{query, time::Timestamp};
use logstore::engine::{Filter, Search};

const NOW: Timestamp = Timestamp::from_micros(1_790_000_000_000_000);

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let text = String::from_utf8_lossy(input);
    let (query, line) = text.split_once('\n').unwrap_or((&text, ""));
    let Ok(expr) = query::parse(query, NOW) else { return };
    let negated = query::Expr::Not(Box::new(expr.clone()));
    // A pattern may be too large to run; then it says so.
    let Ok(mut filter) = Filter::new(&Search::new(expr)) else { return };
    let Ok(mut opposite) = Filter::new(&Search::new(negated)) else { return };
    // Of a record, either a condition holds or its negation; of other lines
    // neither is asked.
    let (yes, no) = (filter.matches(line.as_bytes()), opposite.matches(line.as_bytes()));
    assert!(!(yes && no), "{query:?} {line:?}");
    let mut all = Filter::new(&Search::new(query::Expr::All)).expect("nothing to compile");
    assert_eq!(yes || no, all.matches(line.as_bytes()), "{query:?} {line:?}");
});
