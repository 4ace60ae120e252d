//! Usage that nobody reported is estimated beside the request path, and every
//! record is delivered exactly once.

use std::sync::mpsc;

use domain::{
    context::{SpanId, TraceId},
    ids::{CorrelationId, RecordId, RequestId},
    provider::Operation,
    record::{CacheStatus, Outcome, Record},
    time::Timestamp,
    usage::{Usage, UsageSource},
};

use super::*;

fn record(operation: Operation, model: &str) -> Box<Record> {
    let (now, rng) = (Timestamp::EPOCH, domain::rng::Fixed(7));
    Box::new(Record {
        record_id: RecordId::new(now, &rng),
        ts: now,
        request_id: RequestId::generate(now, &rng),
        correlation_id: CorrelationId::generate(now, &rng),
        trace_id: TraceId::generate(&rng),
        span_id: SpanId::generate(&rng),
        parent_span_id: None,
        project_id: None,
        project: None,
        token_id: None,
        labels: None,
        end_user: None,
        client_ip: None,
        user_agent: None,
        provider: None,
        operation,
        model: Some(model.into()),
        response_model: None,
        method: "POST".into(),
        path: "/v1/chat/completions".into(),
        http_version: "1.1",
        status_code: Some(200),
        upstream_status_code: Some(200),
        upstream_request_id: None,
        outcome: Outcome::Ok,
        error_code: None,
        error: None,
        stream_response: true,
        finish_reason: None,
        partial: false,
        request_bytes: 0,
        response_bytes: 0,
        events: None,
        usage: Usage::default(),
        usage_source: UsageSource::Unknown,
        usage_method: None,
        cost: None,
        price_table: None,
        cache: CacheStatus::Off,
        duration_us: 0,
        upstream_us: None,
        ttfb_us: None,
        ttft_us: None,
        overhead_us: None,
        attempts: 1,
        coalesced: None,
    })
}

/// One exchange through both observers.
fn texts(budget: &TextBudget, request: &str, answer: &str) -> Texts {
    let kind = ProviderKind::Openai;
    let json = headers("application/json", None);
    let mut observer = RequestObserver::new(kind, Operation::Chat, &json).collecting(budget);
    observer.data(&Bytes::copy_from_slice(request.as_bytes()));
    assert!(observer.may_lack_usage());
    let stream = headers("text/event-stream", None);
    let mut answers = ResponseObserver::new(kind, Operation::Chat, 200, &stream).collecting(budget);
    for frame in frames(answer.as_bytes(), Cut::Seed(9)) {
        answers.data(&frame);
    }
    Texts::of(observer.finish().text, answers.finish(true).text).expect("kept text")
}

const REQUEST: &str =
    r#"{"model":"gpt-4o","stream":true,"messages":[{"role":"user","content":"hello world"}]}"#;
const ANSWER: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"Hello\"}}]}\n\n\
                      data: {\"choices\":[{\"delta\":{\"content\":\" there!\"},\"finish_reason\":\"stop\"}]}\n\n\
                      data: [DONE]\n\n";

#[test]
fn unreported_usage_is_estimated_and_says_how() {
    let budget = TextBudget::new(1 << 20);
    let estimator = Estimator::start(budget.clone()).expect("a thread");
    let (sender, delivered) = mpsc::channel();
    for model in ["gpt-4o", "gpt-4-turbo"] {
        let record = record(Operation::Chat, model);
        assert!(Estimator::wants(&record));
        let sender = sender.clone();
        estimator.submit(record, texts(&budget, REQUEST, ANSWER), move |record| {
            sender.send(record).expect("the test waits");
        });
    }
    for method in ["tiktoken:o200k_base", "tiktoken:cl100k_base"] {
        let record = delivered.recv().expect("delivered");
        assert_eq!(record.usage_source, UsageSource::Estimated);
        assert_eq!(record.usage_method, Some(method));
        // `hello world` is two tokens; a chat adds four a message and three.
        assert_eq!(record.usage.input_tokens, Some(9));
        assert_eq!(record.usage.output_tokens, Some(3));
        assert_eq!(record.usage.total_tokens, Some(12));
        assert!(!Estimator::wants(&record));
    }
    estimator.shut_down(true);
    assert_eq!(budget.left(), 1 << 20, "all text is given back");
}

#[test]
fn every_record_is_delivered_exactly_once_whatever_happens() {
    let budget = TextBudget::default();
    let estimator = Estimator::start(budget.clone()).expect("a thread");
    let (sender, delivered) = mpsc::channel();
    let records = ESTIMATES_QUEUED_MAX * 2;
    for _ in 0..records {
        let sender = sender.clone();
        let texts = texts(&budget, REQUEST, ANSWER);
        estimator.submit(record(Operation::Chat, "gpt-4o"), texts, move |record| {
            sender.send(record).expect("the test waits");
        });
    }
    estimator.shut_down(false);
    let late = sender.clone();
    estimator.submit(
        record(Operation::Chat, "m"),
        texts(&budget, REQUEST, ANSWER),
        move |record| {
            late.send(record).expect("the test waits");
        },
    );
    drop(sender);
    assert_eq!(delivered.iter().count(), records + 1);
    assert_eq!(budget.left(), TEXT_BYTES_TOTAL_MAX);
}

#[test]
fn text_is_bounded_a_side_and_over_all() {
    let budget = TextBudget::new(TEXT_BYTES_MAX + 4096);
    let mut one = Collector::new(&budget);
    for _ in 0..10 {
        one.push(&[b'x'; 100_000]);
    }
    assert_eq!((one.kept().len(), one.bytes()), (TEXT_BYTES_MAX, 1_000_000));
    let mut two = Collector::new(&budget);
    two.push(&[b'x'; 4096]);
    two.push(b"y");
    two.push(b"z");
    assert_eq!((two.kept().len(), two.bytes()), (4096, 4098));
    drop((one, two));
    assert_eq!(budget.left(), TEXT_BYTES_MAX + 4096);
}
