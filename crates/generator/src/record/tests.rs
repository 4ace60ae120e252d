use std::collections::HashSet;

use domain::{ids::InstanceId, record::Envelope, time::Timestamp};

use super::*;

const SAMPLE: u64 = 20_000;

fn records() -> Records {
    let end = Timestamp::parse("2026-11-23T00:00:00Z").expect("a time");
    Records::new(42, Timeline::new(end, 7, SAMPLE))
}

fn lines(records: &Records) -> Vec<String> {
    let envelope =
        Envelope { instance: InstanceId::parse("gen").expect("an id"), version: "0.0.0" };
    let line = |number| {
        let mut out = Vec::new();
        records.get(number).write_json(&envelope, &mut out);
        String::from_utf8(out).expect("UTF-8")
    };
    (0..SAMPLE).map(line).collect()
}

#[test]
fn the_same_seed_gives_the_same_lines() {
    assert_eq!(lines(&records()), lines(&records()));
}

#[test]
fn lines_are_as_long_as_real_ones() {
    let lines = lines(&records());
    let bytes: usize = lines.iter().map(|line| line.len() + 1).sum();
    let mean = bytes / lines.len();
    assert!((1_000..1_400).contains(&mean), "{mean} bytes a line");
    for line in &lines {
        serde_json::from_str::<serde_json::Value>(line).expect("JSON");
    }
}

#[test]
fn records_differ_as_real_ones_do() {
    let records = records();
    let all: Vec<Record> = (0..SAMPLE).map(|number| records.get(number)).collect();
    let count = |test: fn(&Record) -> bool| all.iter().filter(|record| test(record)).count();
    let failed = count(|record| record.outcome != Outcome::Ok);
    assert!((800..1_400).contains(&failed), "{failed} failed");
    assert!(count(|record| record.cost.is_some()) > 16_000);
    assert!(count(|record| record.stream_response) > 8_000);
    assert!(count(|record| record.correlation_id.as_str() != record.request_id.as_str()) > 4_000);
    assert!(count(|record| record.project_id.is_none()) > 5);
    let ids: HashSet<_> = all.iter().map(|record| record.record_id).collect();
    assert_eq!(ids.len(), all.len());
    let projects: HashSet<_> = all.iter().filter_map(|record| record.project_id).collect();
    assert!(projects.len() > 250, "{}", projects.len());
}
