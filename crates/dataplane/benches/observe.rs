//! What observing costs: `cargo bench -p dataplane --bench observe`.
//!
//! Prints nanoseconds for each piece, the best of several rounds, which is what
//! the code costs when nothing else interferes.

use std::{hint::black_box, io::Write as _, time::Instant};

use bytes::Bytes;
use dataplane::observe::{RequestObserver, ResponseObserver, TextBudget, inspect_whole};
use domain::provider::{Operation, ProviderKind};
use http::{HeaderMap, HeaderValue, header};

const ROUNDS: u32 = 20;
const RUNS: u32 = 5_000;

fn headers(content_type: &'static str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers
}

/// Best time of one run, divided by `per`.
fn measure(name: &str, per: u32, mut run: impl FnMut()) {
    let mut best = f64::MAX;
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        for _ in 0..RUNS {
            run();
        }
        best = best.min(begun.elapsed().as_nanos() as f64 / f64::from(RUNS * per));
    }
    let line = format!("{name:<44} {best:>9.0} ns\n");
    std::io::stdout().write_all(line.as_bytes()).expect("stdout");
}

fn main() {
    let content = "The quick brown fox jumps over the lazy dog. ".repeat(12);
    let answer = Bytes::from(format!(
        r#"{{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"gpt-4o-2024-08-06","choices":[{{"index":0,"message":{{"role":"assistant","content":"{content}","refusal":null,"annotations":[]}},"logprobs":null,"finish_reason":"stop"}}],"usage":{{"prompt_tokens":16,"completion_tokens":363,"total_tokens":379,"prompt_tokens_details":{{"cached_tokens":0,"audio_tokens":0}},"completion_tokens_details":{{"reasoning_tokens":0,"audio_tokens":0}}}},"service_tier":"default","system_fingerprint":"fp_1"}}"#
    ));
    let request = Bytes::from(format!(
        r#"{{"model":"gpt-4o","messages":[{{"role":"system","content":"{content}"}},{{"role":"user","content":"hello"}}],"user":"u-1","stream":false,"temperature":0.5}}"#
    ));
    let chunk = Bytes::from_static(
        b"data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"gpt-4o\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" token\"},\"finish_reason\":null}]}\n\n",
    );
    let (json, sse) = (headers("application/json"), headers("text/event-stream"));
    let (kind, chat) = (ProviderKind::Openai, Operation::Chat);
    let budget = TextBudget::default();

    measure(&format!("answer, JSON, {} B", answer.len()), 1, || {
        let mut observer = ResponseObserver::new(kind, chat, 200, &json).collecting(&budget);
        observer.data(black_box(&answer));
        black_box(observer.finish(true));
    });
    measure(&format!("request, JSON, {} B", request.len()), 1, || {
        let mut observer = RequestObserver::new(chat, &json).collecting(&budget);
        observer.data(black_box(&request));
        black_box(observer.finish());
    });
    let mut observer = ResponseObserver::new(kind, chat, 200, &sse);
    measure(&format!("stream, one chunk of {} B", chunk.len()), 1, || {
        black_box(observer.data(black_box(&chunk)));
    });
    let mut observer = ResponseObserver::new(kind, chat, 200, &sse).collecting(&budget);
    measure("stream, one chunk, kept", 1, || {
        black_box(observer.data(black_box(&chunk)));
    });
    measure("stream, begin and end", 1, || {
        black_box(ResponseObserver::new(kind, chat, 200, black_box(&sse)).finish(true));
    });
    let long = Bytes::from(format!(r#"{{"x":"{}"}}"#, "a".repeat(1 << 16)));
    measure("answer, one string of 64 KiB, by KiB", 64, || {
        let mut observer = ResponseObserver::new(kind, chat, 200, &json);
        observer.data(black_box(&long));
        black_box(observer.finish(true));
    });
    measure("rule over a whole request", 1, || {
        black_box(inspect_whole(black_box(&request), Some("application/json"), None).is_ok());
    });
}
