//! Answers and clients at the edges of HTTP.

use std::time::{Duration, Instant};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::harness::{Harness, answering, post, read_answer, read_request, scripted};

/// Two requests on one connection get `expected` and then anything: neither the
/// record nor the connection may suffer from the odd answer.
async fn check_odd_answer(answer: &'static [u8], status: u16, outcome: &str, absent: &str) {
    let mut harness = Harness::start(answering(answer).await, |_| {}).await;
    let request = post("/v1/chat/completions", "{}", "te: trailers\r\nconnection: te\r\n");
    let request = request.replace("{token}", harness.token.expose());
    let mut stream = harness.connect().await;
    for _ in 0..2 {
        stream.write_all(request.as_bytes()).await.unwrap();
        let head = read_head(&mut stream).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
        assert!(!head.contains(absent), "{head}");
        let record = harness.record().await;
        assert_eq!(record["outcome"], outcome, "{record}");
        assert_eq!(record["status_code"], status, "{record}");
        assert!(record["upstream_ms"].is_number(), "{record}");
    }
    drop(stream);
    harness.finish().await;
}

/// The head of an answer; its body is read too, as far as there is one.
async fn read_head(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        bytes.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(bytes).unwrap();
    if head.contains("transfer-encoding: chunked") {
        let mut body = Vec::new();
        while !(body.ends_with(b"\r\n\r\n") && body.windows(3).any(|w| w == b"0\r\n")) {
            body.push(stream.read_u8().await.unwrap());
        }
    } else if let Some((_, rest)) = head.split_once("content-length: ") {
        let length: usize = rest.lines().next().unwrap().parse().unwrap();
        stream.read_exact(&mut vec![0; length]).await.unwrap();
    }
    head
}

#[tokio::test]
async fn lengths_that_a_body_does_not_have_go_no_further() {
    let both: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n\
        2\r\n{}\r\n0\r\n\r\n";
    check_odd_answer(both, 200, "ok", "content-length").await;
    let empty: &[u8] = b"HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\n";
    check_odd_answer(empty, 204, "ok", "content-length").await;
    let unchanged: &[u8] = b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n";
    check_odd_answer(unchanged, 304, "ok", "content-length").await;
}

#[tokio::test]
async fn an_answer_that_ends_with_trailers_is_whole() {
    let trailers: &[u8] = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-t\r\n\r\n\
        2\r\n{}\r\n0\r\nx-t: 1\r\n\r\n";
    check_odd_answer(trailers, 200, "ok", "content-length").await;
}

#[tokio::test]
async fn a_switch_of_protocols_that_nobody_asked_for_is_a_fault() {
    let switch: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n\
        upgrade: x\r\n\r\n";
    check_odd_answer(switch, 502, "upstream_error", "upgrade").await;
}

#[tokio::test]
async fn an_old_provider_does_not_cost_the_clients_connection() {
    let upstream = scripted(async move |mut stream: TcpStream| {
        read_request(&mut stream).await;
        let answer = b"HTTP/1.0 200 OK\r\ncontent-type: application/json\r\n\r\n{}";
        stream.write_all(answer).await.unwrap();
    })
    .await;
    let mut harness = Harness::start(upstream, |_| {}).await;
    let request = post("/v1/chat/completions", "{}", "");
    let request = request.replace("{token}", harness.token.expose());
    let mut stream = harness.connect().await;
    for _ in 0..2 {
        stream.write_all(request.as_bytes()).await.unwrap();
        let answer = read_answer(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        assert!(answer.ends_with("2\r\n{}\r\n0\r\n\r\n"), "{answer}");
        assert_eq!(harness.record().await["outcome"], "ok");
    }
    drop(stream);
    harness.finish().await;
}

#[tokio::test]
async fn a_client_that_sends_all_before_it_reads_gets_the_refusal() {
    let mut harness = Harness::start(answering(b"").await, |_| {}).await;
    let mut stream = harness.connect().await;
    let length = 24 << 20;
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: p\r\nauthorization: Bearer {}\r\n\
         content-length: {length}\r\n\r\n",
        harness.token.expose()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&vec![b'x'; length]).await.expect("nobody hangs up");
    let answer = read_answer(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert_eq!(harness.record().await["error_code"], "body_too_large");
    drop(stream);
    harness.finish().await;
}

#[tokio::test]
async fn a_client_that_leaves_its_body_unfinished_is_gone() {
    let silent = scripted(async move |mut stream: TcpStream| {
        let _closed = stream.read_to_end(&mut Vec::new()).await;
    })
    .await;
    for rules in [None, crate::harness::models(&["m"])] {
        let change = |setup: &mut crate::harness::Setup| setup.grant.allowed_models = rules;
        let mut harness = Harness::start(silent, change).await;
        let mut stream = harness.connect().await;
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: p\r\nauthorization: Bearer {}\r\n\
             content-type: application/json\r\ncontent-length: 100\r\n\r\n{{\"model\"",
            harness.token.expose()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        drop(stream);
        let record = harness.record().await;
        assert_eq!(record["outcome"], "client_closed", "{record}");
        assert!(record.get("status_code").is_none(), "{record}");
        harness.finish().await;
    }
}

/// A provider that never stops, faster than its client reads.
pub async fn endless() -> std::net::SocketAddr {
    scripted(async move |mut stream: TcpStream| {
        read_request(&mut stream).await;
        let head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
        let mut written = stream.write_all(head).await;
        let events = b"data: {}\n\n".repeat(1000);
        while written.is_ok() {
            written = stream.write_all(&events).await;
        }
    })
    .await
}

#[tokio::test]
async fn a_stream_without_a_pause_ends_at_its_deadline() {
    let change = |setup: &mut crate::harness::Setup| {
        setup.provider.timeouts.request = Duration::from_millis(300);
    };
    let mut harness = Harness::start(endless().await, change).await;
    let began = Instant::now();
    let mut stream = harness.connect().await;
    let request = post("/v1/chat/completions", "{}", "");
    let request = request.replace("{token}", harness.token.expose());
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = vec![0; 65536];
    while stream.read(&mut bytes).await.is_ok_and(|n| n > 0) {
        assert!(began.elapsed() < Duration::from_secs(15), "it never ends");
    }
    let record = harness.record().await;
    assert_eq!(record["outcome"], "timeout", "{record}");
    harness.finish().await;
}

#[tokio::test]
async fn a_stream_without_a_pause_ends_when_its_token_is_terminated() {
    let mut harness = Harness::start(endless().await, |_| {}).await;
    let mut stream = harness.connect().await;
    let request = post("/v1/chat/completions", "{}", "");
    let request = request.replace("{token}", harness.token.expose());
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = vec![0; 65536];
    stream.read_exact(&mut bytes).await.unwrap();
    harness.live.terminate.cancel();
    let began = Instant::now();
    while stream.read(&mut bytes).await.is_ok_and(|n| n > 0) {
        assert!(began.elapsed() < Duration::from_secs(15), "it never ends");
    }
    let record = harness.record().await;
    assert_eq!(record["error_code"], "token_inactive", "{record}");
    harness.finish().await;
}

#[tokio::test]
async fn a_slow_client_does_not_open_the_circuit() {
    let silent = scripted(async move |mut stream: TcpStream| {
        let _closed = stream.read_to_end(&mut Vec::new()).await;
    })
    .await;
    let change = |setup: &mut crate::harness::Setup| {
        setup.provider.timeouts.request = Duration::from_millis(50);
    };
    let mut harness = Harness::start(silent, change).await;
    for _ in 0..8 {
        let mut stream = harness.connect().await;
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: p\r\nauthorization: Bearer {}\r\n\
             content-length: 100\r\n\r\n{{",
            harness.token.expose()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let answer = read_answer(&mut stream).await;
        assert!(answer.contains("request_timeout"), "{answer}");
        assert_eq!(harness.record().await["outcome"], "client_error");
    }
    harness.finish().await;
}

#[tokio::test]
async fn a_flood_of_preflights_is_folded() {
    let mut harness = Harness::start(answering(b"").await, |_| {}).await;
    let preflight = "OPTIONS /v1/models HTTP/1.1\r\nhost: p\r\norigin: https://a.example\r\n\
        access-control-request-method: GET\r\n\r\n";
    let mut stream = harness.connect().await;
    for _ in 0..400 {
        stream.write_all(preflight.as_bytes()).await.unwrap();
        let head = read_head(&mut stream).await;
        assert!(head.starts_with("HTTP/1.1 204 "), "{head}");
    }
    drop(stream);
    harness.plane.flush_coalesced(true);
    let mut counted = 0;
    let mut records = 0;
    while counted < 400 {
        let record = harness.record().await;
        records += 1;
        counted += record.get("count").and_then(serde_json::Value::as_u64).unwrap_or(1);
    }
    assert_eq!(counted, 400);
    assert!(records < 400, "{records}");
    harness.finish().await;
}
