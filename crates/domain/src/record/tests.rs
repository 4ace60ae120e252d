//! The page about the record says what the code writes.

use serde_json::{Map, Value};

use super::*;
use crate::{context::TraceContext, ids::InstanceId, rng::Fixed};

const PAGE: &str = include_str!("../../../../docs/record.md");

/// The cells of the rows below the heading that begins with `first_columns`.
fn table(first_columns: &str) -> Vec<Vec<&'static str>> {
    let lines = PAGE.lines().skip_while(|line| !line.starts_with(first_columns)).skip(2);
    let rows = lines.take_while(|line| line.starts_with('|'));
    rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

fn name(row: &[&'static str]) -> &'static str {
    row[0].trim_matches('`')
}

fn bare() -> Record {
    let request_id = RequestId::parse(b"r").expect("an id");
    let trace = TraceContext::from_traceparent(None, &Fixed(1));
    let begun = Begun {
        record_id: RecordId::new(Timestamp::EPOCH, &Fixed(1)),
        ts: Timestamp::EPOCH,
        correlation_id: request_id.clone().into(),
        request_id,
        trace_id: trace.trace_id,
        span_id: trace.span_id,
        operation: Operation::Other,
        method: "GET".into(),
        path: "/".into(),
        http_version: "1.1",
    };
    Record { outcome: Outcome::Denied, ..Record::begun(begun) }
}

/// Every field that a record can have, at once.
fn full() -> Record {
    let (text, figure) = (|| Some(Box::<str>::from("a")), Some(1_500));
    let bare = bare();
    Record {
        parent_span_id: Some(bare.span_id),
        project_id: Some(ProjectId::new(Timestamp::EPOCH, &Fixed(1))),
        project: Some("a".into()),
        token_id: Some(TokenId::new(Timestamp::EPOCH, &Fixed(1))),
        labels: Some(r#"{"a":"b"}"#.into()),
        end_user: text(),
        client_ip: "192.0.2.1".parse().ok(),
        user_agent: text(),
        provider: Some("a".into()),
        model: text(),
        response_model: text(),
        status_code: Some(200),
        upstream_status_code: Some(200),
        upstream_request_id: text(),
        error_code: text(),
        error: text(),
        finish_reason: text(),
        events: figure,
        usage: Usage {
            input_tokens: figure,
            output_tokens: figure,
            total_tokens: figure,
            cached_input_tokens: figure,
            cache_write_tokens: figure,
            reasoning_tokens: figure,
        },
        usage_method: Some("a"),
        cost: Some(UsdNanos(1_500_000)),
        price_table: Some("a".into()),
        duration_us: 1_500,
        upstream_us: figure,
        ttfb_us: figure,
        ttft_us: figure,
        overhead_us: figure,
        captured: Captured {
            request: crate::capture::Fate::Kept { truncated: true, redacted: false },
            ..Captured::default()
        },
        coalesced: Some(Coalesced { count: 2, first_ts: bare.ts, last_ts: bare.ts }),
        ..bare
    }
}

fn written(record: &Record) -> (Vec<String>, Map<String, Value>) {
    let envelope =
        Envelope { instance: InstanceId::parse("i-1").expect("an id"), version: "0.0.0" };
    let mut line = Vec::new();
    record.write_json(&envelope, &mut line);
    let value: Value = serde_json::from_slice(&line).expect("JSON");
    let fields = value.as_object().expect("an object").clone();
    assert!(fields.values().all(|value| !value.is_null()), "absent, never null");
    // The order in the text; a map may have one of its own.
    let text = String::from_utf8(line).expect("UTF-8");
    let mut names: Vec<String> = fields.keys().cloned().collect();
    names.sort_by_key(|name| text.find(&format!("\"{name}\":")));
    (names, fields)
}

#[test]
fn the_page_has_every_field_in_order_with_its_type() {
    let (names, fields) = written(&full());
    let rows = table("| field | type |");
    assert_eq!(rows.iter().map(|row| name(row)).collect::<Vec<_>>(), names);
    for row in &rows {
        let value = &fields[name(row)];
        let fits = match row[1] {
            "string" | "decimal string" => value.is_string(),
            "integer" => value.is_u64(),
            "number" => value.is_number(),
            "boolean" => value.is_boolean(),
            "object" => value.is_object(),
            other => panic!("{other} is no type"),
        };
        assert!(fits, "{} is not {}", name(row), row[1]);
    }
    let mapped = table("| field | OpenTelemetry |");
    assert_eq!(mapped.iter().map(|row| name(row)).collect::<Vec<_>>(), names);
}

#[test]
fn the_page_knows_what_is_always_there() {
    let always = table("| field | type |").into_iter().filter(|row| row[3] == "always");
    let always: Vec<&str> = always.map(|row| name(&row)).collect();
    assert_eq!(written(&bare()).0, always);
}
