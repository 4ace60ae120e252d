//! Scrapes, as text and as JSON.

use domain::{
    context::TraceContext,
    ids::{RecordId, RequestId},
    provider::Operation,
    record::{Begun, Coalesced, Outcome},
    rng::Fixed,
    time::Timestamp,
    usage::{Usage, UsageSource},
};

use super::*;

fn record(model: &str) -> Record {
    let request_id = RequestId::parse(b"r").expect("valid");
    let trace = TraceContext::from_traceparent(None, &Fixed(1));
    let begun = Begun {
        record_id: RecordId::new(Timestamp::EPOCH, &Fixed(1)),
        ts: Timestamp::EPOCH,
        correlation_id: request_id.clone().into(),
        request_id,
        trace_id: trace.trace_id,
        span_id: trace.span_id,
        operation: Operation::Chat,
        method: "POST".into(),
        path: "/v1/chat/completions".into(),
        http_version: "1.1",
    };
    Record {
        provider: Some("openai".into()),
        model: Some(model.into()),
        status_code: Some(200),
        upstream_status_code: Some(200),
        outcome: Outcome::Ok,
        request_bytes: 1,
        response_bytes: 1,
        usage: Usage { input_tokens: Some(3), output_tokens: Some(4), ..Usage::default() },
        usage_source: UsageSource::Provider,
        duration_us: 20_000,
        ttft_us: Some(10_000),
        overhead_us: Some(40),
        attempts: 1,
        ..Record::begun(begun)
    }
}

fn metrics() -> Metrics {
    Metrics::new("1.2.3", "i-1").expect("legal names")
}

#[test]
fn a_record_is_counted_once_in_each_figure() {
    let metrics = metrics();
    metrics.observe(&record("gpt-4o"));
    let coalesced = Coalesced { count: 7, first_ts: Timestamp::EPOCH, last_ts: Timestamp::EPOCH };
    let flood = Record {
        provider: None,
        outcome: Outcome::Denied,
        status_code: Some(401),
        usage: Usage::default(),
        overhead_us: None,
        ttft_us: None,
        coalesced: Some(coalesced),
        ..record("x")
    };
    metrics.observe(&flood);
    let text = metrics.text().expect("encoded");
    for line in [
        r#"llm_proxy_build_info{instance="i-1",version="1.2.3"} 1"#,
        r#"llm_proxy_requests_total{operation="chat",outcome="ok",provider="openai",status_class="2xx"} 1"#,
        r#"llm_proxy_requests_total{operation="chat",outcome="denied",provider="none",status_class="4xx"} 7"#,
        r#"llm_proxy_request_duration_seconds_bucket{operation="chat",provider="openai",le="0.025"} 1"#,
        r#"llm_proxy_overhead_seconds_bucket{provider="openai",le="0.00005"} 1"#,
        r#"llm_proxy_ttft_seconds_count{operation="chat",provider="openai"} 1"#,
        r#"llm_proxy_tokens_total{direction="output",model="gpt-4o",provider="openai"} 4"#,
        "# TYPE llm_proxy_tokens_total counter",
    ] {
        assert!(text.lines().any(|shown| shown == line), "{line} in\n{text}");
    }
    assert!(!text.contains(r#"duration_seconds_count{operation="chat",provider="none"}"#));
    let json = metrics.json();
    let tokens = &json["llm_proxy_tokens_total"]["values"];
    assert!(tokens.as_array().expect("values").iter().any(|value| value["value"] == 4));
}

#[test]
fn models_past_the_limit_fold() {
    let metrics = metrics();
    for number in 0..MODELS_MAX + 50 {
        metrics.observe(&record(&format!("model-{number}")));
    }
    metrics.observe(&record(&"x".repeat(MODEL_LABEL_BYTES_MAX + 1)));
    let text = metrics.text().expect("encoded");
    let shown = text.lines().filter(|line| line.contains(r#"direction="input""#)).count();
    assert_eq!(shown, MODELS_MAX + 1);
    let folded = r#"llm_proxy_tokens_total{direction="input",model="other",provider="openai"} 153"#;
    assert!(text.contains(folded), "{text}");
}

#[test]
fn figures_of_others_are_read_at_the_scrape() {
    let metrics = metrics();
    metrics
        .read(Reading::books(|| Books {
            accepted: 10,
            stored: 6,
            synced: 5,
            coalesced: 1,
            in_flight: 1,
            lost: vec![("disk_full", 2), ("sync_failed", 0)],
        }))
        .expect("new names");
    let errors = || vec![("tls", 3), ("timeout", 0)];
    metrics
        .read(Reading::labelled(
            "llm_proxy_connection_errors_total",
            "Connections closed before a head was parsed.",
            "reason",
            errors,
        ))
        .expect("a new name");
    let active = ("llm_proxy_active_requests", "Requests under way.");
    metrics.read(Reading::one(Kind::Gauge, active.0, active.1, || 4.0)).expect("a new name");
    assert!(metrics.read(Reading::one(Kind::Gauge, active.0, active.1, || 4.0)).is_err());
    let text = metrics.text().expect("encoded");
    for line in [
        "llm_proxy_records_accepted_total 10",
        "llm_proxy_records_in_flight 1",
        r#"llm_proxy_records_lost_total{reason="disk_full"} 2"#,
        r#"llm_proxy_records_lost_total{reason="sync_failed"} 0"#,
        r#"llm_proxy_connection_errors_total{reason="timeout"} 0"#,
        "llm_proxy_active_requests 4",
    ] {
        assert!(text.lines().any(|shown| shown == line), "{line} in\n{text}");
    }
}

#[test]
fn entries_are_counted_by_action_and_result() {
    let metrics = Metrics::new("1.2.3", "i-test").expect("metrics");
    let read = || (vec![("token.create", "success", 3), ("token.create", "denied", 1)], 4);
    metrics.read(Reading::entries(read)).expect("registered");
    let text = metrics.text().expect("text");
    let line = r#"llm_proxy_audit_entries_total{action="token.create",result="success"} 3"#;
    assert!(text.contains(line), "{text}");
    assert!(text.contains("\nllm_proxy_audit_pending 4\n"), "{text}");
}
