//! Bodies that are kept: copied beside what passes, redacted before anybody sees
//! them, bounded, and never at the cost of an exchange.

use std::io::Write as _;

use dataplane::capture::CAPTURED_BYTES_TOTAL_MAX;
use domain::{
    body::Body,
    capture::{Capture, Side},
};
use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::harness::{
    CHAT, Harness, PROVIDER_KEY, Setup, answering, models, post, read_request, scripted,
};

const PATH: &str = "/v1/chat/completions";
const REQUEST: &str = r#"{"model":"gpt-4o-mini","user":"bob@example.com","messages":[]}"#;

fn keeping(capture: Capture) -> impl FnOnce(&mut Setup) {
    move |setup| setup.grant.capture = capture
}

/// A provider that answers with this content type, coding and body, cut into
/// chunks.
async fn sending(head: &str, body: Vec<u8>, chunk: usize) -> std::net::SocketAddr {
    let head = format!("HTTP/1.1 {head}\r\ntransfer-encoding: chunked\r\n\r\n");
    scripted(async move |mut stream: TcpStream| {
        while read_request(&mut stream).await.is_some() {
            let mut sent = stream.write_all(head.as_bytes()).await;
            for piece in body.chunks(chunk) {
                let mut frame = format!("{:x}\r\n", piece.len()).into_bytes();
                frame.extend_from_slice(piece);
                frame.extend_from_slice(b"\r\n");
                sent = sent.and(stream.write_all(&frame).await);
            }
            if sent.and(stream.write_all(b"0\r\n\r\n").await).is_err() {
                return;
            }
        }
    })
    .await
}

fn side(harness: &Harness, side: Side) -> Option<Body> {
    harness.outbox.bodies.lock().iter().find(|body| body.side == side).cloned()
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn off_copies_nothing() {
    let upstream =
        sending("200 OK\r\ncontent-type: text/event-stream", vec![b'x'; 1 << 20], 999).await;
    let mut harness = Harness::start(upstream, keeping(Capture::Off)).await;
    for _ in 0..3 {
        harness.post(PATH, REQUEST).await;
        let record = harness.record().await;
        assert_eq!(record["captured"], Value::Null, "{record}");
    }
    let capturing = harness.plane.capturing();
    assert_eq!((capturing.copies(), capturing.bytes_left()), (0, CAPTURED_BYTES_TOTAL_MAX));
    assert!(harness.outbox.bodies.lock().is_empty());
    harness.finish().await;
}

#[tokio::test]
async fn both_sides_are_kept_without_what_the_rules_find() {
    let answer: &'static [u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\
        content-length: 73\r\n\r\n{\"choices\":[{\"message\":{\"content\":\"key provider-canary-8c1f0e \
        ok\"}}]}\n\n\n\n\n";
    assert!(std::str::from_utf8(answer).unwrap().contains(PROVIDER_KEY));
    let upstream = answering(answer).await;
    let mut harness = Harness::start(upstream, keeping(Capture::All)).await;
    let query = format!("{PATH}?sig=querycanary-0123456789");
    let body = REQUEST.replace("[]", "[\"querycanary-0123456789\"]");
    harness.post(&query, &body).await;
    let record = harness.record().await;
    let said = "request,response,request_redacted,response_redacted";
    assert_eq!(record["captured"], said, "{record}");
    let request = side(&harness, Side::Request).unwrap();
    assert_eq!(
        request.text.as_str(),
        r#"{"model":"gpt-4o-mini","user":"[redacted:email]","messages":["[redacted:credentials]"]}"#
    );
    assert_eq!((request.bytes, request.truncated), (body.len() as u64, false));
    assert_eq!(request.content_type.as_deref(), Some("application/json"));
    assert_eq!(request.record_id.to_string(), record["record_id"].as_str().unwrap());
    let response = side(&harness, Side::Response).unwrap();
    assert!(response.text.as_str().contains("key [redacted:credentials] ok"), "{response:?}");
    harness.finish().await;
}

#[tokio::test]
async fn a_stream_cut_at_every_byte_keeps_its_secret_nowhere() {
    let canary = "sk-Zk3vQ9xT7mB2wR5yL8nC4dF6gH1jK0pA3sD5fG7hJ9k";
    let mut stream = String::new();
    for piece in format!("so {canary} and").chars() {
        let event = json!({ "choices": [{ "index": 0, "delta": { "content": piece } }] });
        stream.push_str(&format!("data: {event}\n\n"));
    }
    stream.push_str("data: [DONE]\n\n");
    let coded = gzip(stream.as_bytes());
    for (coding, body) in [("", stream.clone().into_bytes()), ("\r\ncontent-encoding: gzip", coded)]
    {
        for chunk in [1, 7, 4096] {
            let head = format!("200 OK\r\ncontent-type: text/event-stream{coding}");
            let upstream = sending(&head, body.clone(), chunk).await;
            let mut harness = Harness::start(upstream, keeping(Capture::All)).await;
            harness.post(PATH, REQUEST).await;
            let record = harness.record().await;
            let flags = record["captured"].as_str().unwrap();
            assert!(
                flags.starts_with("request,response,") && !flags.contains("truncated"),
                "{flags}"
            );
            let kept = side(&harness, Side::Response).unwrap();
            let payloads =
                kept.text.as_str().lines().filter_map(|line| line.strip_prefix("data: "));
            let events = payloads.filter_map(|event| serde_json::from_str::<Value>(event).ok());
            let said: String = events
                .map(|event| event["choices"][0]["delta"]["content"].as_str().unwrap().to_owned())
                .collect();
            assert_eq!(said, "so [redacted:credentials] and");
            assert_eq!(kept.bytes, body.len() as u64);
            harness.finish().await;
        }
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_left_out_with_the_reason() {
    let cases: [(&str, &[u8], &str); 6] = [
        ("content-type: image/png", b"\x89PNG", "response_omitted_binary"),
        ("content-type: text/plain\r\ncontent-encoding: x-odd", b"a", "response_omitted_encoded"),
        (
            "content-type: text/plain\r\ncontent-encoding: gzip",
            b"not gzip",
            "response_omitted_encoded",
        ),
        ("content-type: application/json", b"{\"a\":\"\xff\"}", "response_omitted_unreadable"),
        ("content-type: application/json", b"{\"a\":\"\\u0041\"]", "response_omitted_unreadable"),
        ("content-type: text/html", b"<p>hi</p>", ""),
    ];
    for (head, body, expected) in cases {
        let upstream = sending(&format!("200 OK\r\n{head}"), body.to_vec(), 4096).await;
        let mut harness = Harness::start(upstream, keeping(Capture::All)).await;
        harness.post(PATH, "{}").await;
        let record = harness.record().await;
        let expected = if expected.is_empty() {
            "request,response".to_owned()
        } else {
            format!("request,{expected}")
        };
        assert_eq!(record["captured"], *expected, "{head}");
        harness.finish().await;
    }
}

#[tokio::test]
async fn a_copy_has_a_bound_and_gives_its_memory_back() {
    let words = "word ".repeat(1 << 18);
    let head = "200 OK\r\ncontent-type: text/plain";
    let bombs = [words.clone().into_bytes(), gzip(words.as_bytes())];
    for (coding, body) in ["", "\r\ncontent-encoding: gzip"].iter().zip(bombs) {
        let upstream = sending(&format!("{head}{coding}"), body, 16 << 10).await;
        let change = |setup: &mut Setup| {
            setup.grant.capture = Capture::All;
            setup.body_bytes_max = 5000;
        };
        let mut harness = Harness::start(upstream, change).await;
        let long = format!("{{\"x\":\"{}\"}}", "word ".repeat(2000));
        harness.post(PATH, &long).await;
        let record = harness.record().await;
        let flags = "request,response,request_truncated,response_truncated";
        assert_eq!(record["captured"], flags);
        for side_of in Side::ALL {
            let kept = side(&harness, side_of).unwrap();
            let length = kept.text.as_str().len();
            assert!((4900..=5000).contains(&length) && kept.truncated, "{length}");
        }
        assert_eq!(side(&harness, Side::Request).unwrap().bytes, long.len() as u64);
        assert_eq!(harness.plane.capturing().bytes_left(), CAPTURED_BYTES_TOTAL_MAX);
        harness.finish().await;
    }
}

#[tokio::test]
async fn errors_keeps_only_what_did_not_end_well() {
    let upstream = answering(CHAT).await;
    let change = |setup: &mut Setup| {
        setup.grant.capture = Capture::Errors;
        setup.grant.allowed_models = models(&["gpt-4o*"]);
    };
    let mut harness = Harness::start(upstream, change).await;
    harness.post(PATH, REQUEST).await;
    let record = harness.record().await;
    assert_eq!((&record["outcome"], &record["captured"]), (&json!("ok"), &Value::Null));
    assert!(harness.outbox.bodies.lock().is_empty());
    // A refusal of ours: what was asked is kept, our own answer is known.
    harness.post(PATH, &REQUEST.replace("gpt-4o", "gpt-5")).await;
    let record = harness.record().await;
    assert_eq!(record["outcome"], "denied");
    assert_eq!(record["captured"], "request,request_redacted");
    harness.finish().await;

    let upstream = sending("500 Oops\r\ncontent-type: text/plain", b"it broke".to_vec(), 99).await;
    let mut harness = Harness::start(upstream, keeping(Capture::Errors)).await;
    harness.post(PATH, REQUEST).await;
    let record = harness.record().await;
    assert_eq!(record["captured"], "request,response,request_redacted");
    assert_eq!(side(&harness, Side::Response).unwrap().text.as_str(), "it broke");
    assert_eq!(harness.plane.capturing().bytes_left(), CAPTURED_BYTES_TOTAL_MAX);
    harness.finish().await;
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_kept_as_far_as_it_came() {
    let upstream = scripted(async move |mut stream: TcpStream| {
        read_request(&mut stream).await;
        let head = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 99\r\n\r\n";
        stream.write_all(head).await.unwrap();
        stream.write_all(b"so far bob@exam").await.unwrap();
    })
    .await;
    let mut harness = Harness::start(upstream, keeping(Capture::All)).await;
    harness.raw(&post(PATH, "{}", "")).await;
    let record = harness.record().await;
    assert_eq!(record["captured"], "request,response,response_truncated");
    assert_eq!(side(&harness, Side::Response).unwrap().text.as_str().trim_end(), "so far");
    harness.finish().await;
}

#[tokio::test]
async fn after_the_redactor_stopped_records_still_come() {
    let upstream = answering(CHAT).await;
    let mut harness = Harness::start(upstream, keeping(Capture::All)).await;
    let plane = harness.plane.clone();
    tokio::task::spawn_blocking(move || plane.shut_down_workers(false)).await.unwrap();
    harness.post(PATH, REQUEST).await;
    let record = harness.record().await;
    assert_eq!(record["captured"], "request_omitted_queue,response_omitted_queue");
    assert!(harness.outbox.bodies.lock().is_empty());
    assert_eq!(harness.plane.capturing().bytes_left(), CAPTURED_BYTES_TOTAL_MAX);
    harness.finish().await;
}
