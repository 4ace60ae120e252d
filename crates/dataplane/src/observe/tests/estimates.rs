//! Usage that nobody reported is estimated beside the request path, and every
//! record is delivered exactly once.

use std::sync::{LazyLock, mpsc};

use domain::{
    context::{SpanId, TraceId},
    ids::{CorrelationId, RecordId, RequestId},
    provider::Operation,
    record::{Begun, Outcome, Record},
    time::Timestamp,
    usage::UsageSource,
};

use super::*;

fn record(operation: Operation, model: &str) -> Box<Record> {
    let (now, rng) = (Timestamp::EPOCH, domain::rng::Fixed(7));
    let begun = Begun {
        record_id: RecordId::new(now, &rng),
        ts: now,
        request_id: RequestId::generate(now, &rng),
        correlation_id: CorrelationId::generate(now, &rng),
        trace_id: TraceId::generate(&rng),
        span_id: SpanId::generate(&rng),
        operation,
        method: "POST".into(),
        path: "/v1/chat/completions".into(),
        http_version: "1.1",
    };
    Box::new(Record {
        model: Some(model.into()),
        status_code: Some(200),
        upstream_status_code: Some(200),
        outcome: Outcome::Ok,
        stream_response: true,
        attempts: 1,
        ..Record::begun(begun)
    })
}

/// One exchange through both observers.
fn texts(budget: &TextBudget, request: &str, answer: &str) -> Texts {
    let kind = ProviderKind::Openai;
    let json = headers("application/json", None);
    let mut observer = RequestObserver::new(Operation::Chat, &json).collecting(budget);
    observer.data(&Bytes::copy_from_slice(request.as_bytes()));
    assert!(observer.is_collecting());
    observer.lasts();
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
    let (sender, delivered) = mpsc::sync_channel(2 * ESTIMATES_QUEUED_MAX + 2);
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
    let (sender, delivered) = mpsc::sync_channel(2 * ESTIMATES_QUEUED_MAX + 2);
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

/// Loads its tables once for many exchanges.
static ESTIMATOR: LazyLock<Estimator> =
    LazyLock::new(|| Estimator::start(TextBudget::default()).expect("a thread"));

/// One exchange, its answer in these frames, and the usage its record gets.
struct Exchange<'a> {
    operation: Operation,
    request: &'a [u8],
    answer: &'a [u8],
    answer_type: &'a str,
    coding: Option<&'a str>,
    cut: Cut,
    budget: usize,
}

impl<'a> Exchange<'a> {
    fn plain(operation: Operation, request: &'a str, answer: &'a str) -> Self {
        Self {
            operation,
            request: request.as_bytes(),
            answer: answer.as_bytes(),
            answer_type: "application/json",
            coding: None,
            cut: Cut::Whole,
            budget: TEXT_BYTES_TOTAL_MAX,
        }
    }

    fn stream(operation: Operation, request: &'a str, answer: &'a str) -> Self {
        let plain = Self::plain(operation, request, answer);
        Self { answer_type: "text/event-stream", cut: Cut::Seed(5), ..plain }
    }

    fn record(self) -> Box<Record> {
        let budget = TextBudget::new(self.budget);
        let json = headers("application/json", self.coding);
        let mut observer = RequestObserver::new(self.operation, &json).collecting(&budget);
        frames(self.request, self.cut).iter().for_each(|frame| observer.data(frame));
        let types = headers(self.answer_type, self.coding);
        let mut answers = ResponseObserver::new(ProviderKind::Openai, self.operation, 200, &types)
            .collecting(&budget);
        frames(self.answer, self.cut).iter().for_each(|frame| {
            answers.data(frame);
        });
        let facts = answers.finish(true);
        let mut record = record(self.operation, "gpt-4o");
        record.error = facts.error;
        assert!(Estimator::wants(&record));
        if let Some(texts) = Texts::of(observer.finish().text, facts.text) {
            let (sender, delivered) = mpsc::sync_channel(1);
            ESTIMATOR.submit(record, texts, move |record| {
                sender.send(record).expect("the test waits");
            });
            record = delivered.recv().expect("delivered");
        }
        assert_eq!(budget.left(), self.budget, "all memory is given back");
        record
    }

    /// Input, output and total tokens, where they were estimated.
    fn estimate(self) -> Option<[Option<u64>; 3]> {
        let record = self.record();
        let usage = record.usage;
        let estimated = record.usage_source == UsageSource::Estimated;
        assert_eq!(record.usage_method.is_some(), estimated);
        assert!(estimated || (usage.is_empty() && record.usage_source == UsageSource::Unknown));
        estimated.then_some([usage.input_tokens, usage.output_tokens, usage.total_tokens])
    }
}

const CHAT_REQUEST: &str =
    r#"{"model":"gpt-4o","messages":[{"role":"user","content":"hello world"}]}"#;
const CHAT_ANSWER: &str = r#"{"object":"chat.completion","model":"gpt-4o","choices":[{"index":0,
    "message":{"role":"assistant","content":"Hello there!"},"finish_reason":"stop"}]}"#;
const TOOL_USE: &str = r#"{"type":"message","model":"claude-x","role":"assistant","content":[
    {"type":"text","text":"Hello there!"},
    {"type":"tool_use","id":"t","name":"look","input":{"at":["hello world"]}}],
    "stop_reason":"tool_use"}"#;
const MESSAGES_STREAM: &str = "event: content_block_delta\n\
    data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Hello\"}}\n\n\
    event: content_block_delta\n\
    data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\" there!\"}}\n\n";

#[test]
fn answers_of_every_operation_are_estimated() {
    use Operation::{Chat, Completions, Embeddings, Messages, Responses};
    let plain = |operation, request, answer| {
        Exchange::plain(operation, request, answer).estimate().expect("an estimate")
    };
    let all = |input: u64, output: u64| [Some(input), Some(output), Some(input + output)];
    assert_eq!(plain(Chat, CHAT_REQUEST, CHAT_ANSWER), all(9, 3));
    assert_eq!(plain(Messages, CHAT_REQUEST, TOOL_USE), all(6, 6));
    let answer = r#"{"object":"text_completion","choices":[{"text":"Hello there!"}]}"#;
    assert_eq!(plain(Completions, r#"{"prompt":"hello world"}"#, answer), all(2, 3));
    let answer = r#"{"object":"response","status":"completed","usage":null,"output":[
        {"type":"message","content":[{"type":"output_text","text":"Hello there!"}]}]}"#;
    assert_eq!(plain(Responses, r#"{"input":"hello world"}"#, answer), all(2, 3));
    let answer = r#"{"object":"list","data":[{"embedding":[0.1,0.2]}]}"#;
    let embedded = plain(Embeddings, r#"{"input":["hello world"]}"#, answer);
    assert_eq!(embedded, [Some(2), None, Some(2)]);

    let stream = |operation, request, answer| {
        Exchange::stream(operation, request, answer).estimate().expect("an estimate")
    };
    assert_eq!(stream(Messages, CHAT_REQUEST, MESSAGES_STREAM), all(6, 3));
    let asked = REQUEST.replace("true,", r#"true,"stream_options":{"include_usage":true},"#);
    assert_eq!(stream(Chat, &asked, ANSWER), all(9, 3));
    let cut = &ANSWER[..ANSWER.find(" there!").expect("there")];
    assert_eq!(stream(Chat, REQUEST, cut), all(9, 1));
    let answer = "data: {\"type\":\"response.output_text.delta\",\"delta\":\"Hello there!\"}\n\n\
                  data: {\"type\":\"response.output_text.done\",\"text\":\"Hello there!\"}\n\n";
    assert_eq!(stream(Responses, r#"{"input":"hello world","stream":true}"#, answer), all(2, 3));
}

#[test]
fn what_nobody_knows_stays_unknown() {
    let chat = || Exchange::plain(Operation::Chat, CHAT_REQUEST, CHAT_ANSWER);
    assert_eq!(Exchange { budget: 100, ..chat() }.estimate(), None, "no room");
    let failed = r#"{"error":{"message":"overloaded"}}"#;
    assert_eq!(Exchange { answer: failed.as_bytes(), ..chat() }.estimate(), None, "an error");
    let no_text = Exchange::plain(Operation::Completions, "{}", r#"{"choices":[]}"#);
    assert_eq!(no_text.estimate(), None, "no text");
    let garbage = Exchange { coding: Some("gzip"), ..chat() };
    assert_eq!(garbage.estimate(), None, "not decodable");

    for (method, path, wanted) in [
        ("POST", "/v1/messages", true),
        ("POST", "/openai/deployments/x/chat/completions", true),
        ("POST", "/v1/messages/count_tokens", false),
        ("POST", "/v1/messages/batches", false),
        ("GET", "/v1/chat/completions", false),
    ] {
        let mut record = record(Operation::of_path(path), "m");
        (record.method, record.path) = (method.into(), path.into());
        assert_eq!(Estimator::wants(&record), wanted, "{method} {path}");
    }
}

#[test]
fn coded_bodies_are_read_too() {
    use std::io::Write as _;
    let gzip = |text: &str| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text.as_bytes()).expect("memory");
        encoder.finish().expect("memory")
    };
    let (request, answer) = (gzip(CHAT_REQUEST), gzip(CHAT_ANSWER));
    let plain = Exchange::plain(Operation::Chat, "", "");
    let coded = Exchange { request: &request, answer: &answer, coding: Some("gzip"), ..plain };
    assert_eq!(coded.estimate(), Some([Some(9), Some(3), Some(12)]));
    let (request, answer) = (gzip(REQUEST), gzip(ANSWER));
    let stream = Exchange::stream(Operation::Chat, "", "");
    let coded = Exchange { request: &request, answer: &answer, coding: Some("gzip"), ..stream };
    assert_eq!(coded.estimate(), Some([Some(9), Some(3), Some(12)]));
}

#[test]
fn long_texts_are_extrapolated() {
    let long = CHAT_REQUEST.replace("hello world", &"hello world ".repeat(100_000));
    for cut in [Cut::Whole, Cut::Seed(3)] {
        let exchange = Exchange::plain(Operation::Chat, &long, CHAT_ANSWER);
        let estimate = Exchange { cut, ..exchange }.estimate().expect("an estimate");
        let input = estimate[0].expect("input");
        assert!((195_000..205_000).contains(&input), "{input} at {cut:?}");
    }
}

#[test]
fn usage_that_comes_early_frees_what_is_kept() {
    let budget = TextBudget::new(1 << 20);
    let types = headers("text/event-stream", None);
    let mut observer =
        ResponseObserver::new(ProviderKind::Anthropic, Operation::Messages, 200, &types)
            .collecting(&budget);
    observer.data(&Bytes::from_static(b"event: message_start\n"));
    assert!(budget.left() < 1 << 20 && !observer.knows_usage());
    observer.data(&Bytes::from_static(
        b"data: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":3}}}\n\n",
    ));
    assert!(budget.left() == 1 << 20 && observer.knows_usage());
    assert!(observer.finish(true).text.is_none());
}

#[test]
fn memory_is_bounded_a_side_and_over_all() {
    let left = |budget: &TextBudget, kept: Kept| {
        let left = budget.left();
        drop(kept);
        left
    };
    let total = 4 * TEXT_BYTES_MAX;
    let budget = TextBudget::new(total);
    let keep = |lasting: bool, frame: &[u8], times: usize| {
        let mut kept = Kept::new(&budget, Vec::new(), lasting);
        let frame = Bytes::copy_from_slice(frame);
        (0..times).for_each(|_| kept.push(&frame));
        kept
    };
    // A small frame holds its whole buffer, but only the first.
    assert_eq!(left(&budget, keep(false, b"x", 1)), total - 8192);
    assert_eq!(left(&budget, keep(false, b"x", 513)), total - 8192 - 512);
    assert_eq!(left(&budget, keep(true, b"x", 1)), total - 512);
    let mut request = keep(false, &[b'x'; 1000], 1);
    request.make_lasting();
    assert_eq!(left(&budget, request), total - 1000);
    for (lasting, frame, times) in [(false, 100_000, 10), (true, 1, 1 << 20), (true, 5000, 100)] {
        let held = total - left(&budget, keep(lasting, &vec![b'x'; frame], times));
        assert!((TEXT_BYTES_MAX..=2 * TEXT_BYTES_MAX).contains(&held), "{held} of {frame}");
    }
    // Nothing larger than its kept beginning is held on to.
    let held = total - left(&budget, keep(false, &vec![b'x'; 3 * total], 1));
    assert_eq!(held, TEXT_BYTES_MAX);
    assert_eq!(budget.left(), total);
}
