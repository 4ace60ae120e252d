//! Answers on their way down: untouched, watched, and recorded truthfully.

use std::{sync::atomic::Ordering, time::Duration};

use http_body_util::BodyExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
};

use crate::harness::{CHAT, Harness, PROVIDER_KEY, answering, bytes, post, read_request, scripted};

const REQUEST: &str = r#"{"model":"gpt-4o-mini","user":"u-7","messages":[]}"#;

#[tokio::test]
async fn a_plain_answer_passes_and_leaves_a_whole_record() {
    let upstream = answering(CHAT).await;
    let mut harness = Harness::start(upstream, |_| {}).await;
    let headers = "x-request-id: req-4711\r\nx-correlation-id: corr-1\r\n\
                   traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n";
    let answer = harness.raw(&post("/v1/chat/completions", REQUEST, headers)).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let sent = String::from_utf8_lossy(CHAT);
    assert_eq!(answer.split_once("\r\n\r\n").unwrap().1, sent.split_once("\r\n\r\n").unwrap().1);
    for header in [
        "x-request-id: req-4711",
        "x-correlation-id: corr-1",
        "x-upstream-request-id: up-1",
        "traceresponse: 00-0af7651916cd43dd8448eb211c80319c-",
        "x-llm-proxy-overhead-us: ",
    ] {
        assert!(answer.contains(header), "{header} in {answer}");
    }
    let record = harness.record().await;
    for (field, expected) in [
        ("request_id", "req-4711".into()),
        ("correlation_id", "corr-1".into()),
        ("trace_id", "0af7651916cd43dd8448eb211c80319c".into()),
        ("parent_span_id", "b7ad6b7169203331".into()),
        ("upstream_request_id", "up-1".into()),
        ("outcome", "ok".into()),
        ("operation", "chat".into()),
        ("model", "gpt-4o-mini".into()),
        ("response_model", "gpt-4o-mini-2024-07-18".into()),
        ("finish_reason", "stop".into()),
        ("end_user", "u-7".into()),
        ("usage_source", "provider".into()),
        ("input_tokens", serde_json::json!(9)),
        ("total_tokens", serde_json::json!(11)),
        ("request_bytes", serde_json::json!(REQUEST.len())),
        ("attempts", serde_json::json!(1)),
        ("partial", false.into()),
    ] {
        assert_eq!(record[field], expected, "{field} of {record}");
    }
    harness.finish().await;
}

#[tokio::test]
async fn the_provider_sees_the_same_request_without_ours() {
    let (sender, mut seen) = mpsc::channel(16);
    let upstream = scripted(async move |mut stream: TcpStream| {
        while let Some(request) = read_request(&mut stream).await {
            sender.send(request).await.unwrap();
            stream.write_all(CHAT).await.unwrap();
        }
    })
    .await;
    let mut harness = Harness::start(upstream, |_| {}).await;
    let headers = "cookie: session=secret\r\nx-forwarded-for: 192.0.2.1\r\naccept: */*\r\n\
                   connection: x-listed\r\nx-listed: 1\r\nexpect: 100-continue\r\n";
    harness.raw(&post("/v1/chat/completions?limit=1&x=%2F", REQUEST, headers)).await;
    let request = seen.recv().await.unwrap().to_ascii_lowercase();
    assert!(
        request.starts_with("post /v1/chat/completions?limit=1&x=%2f http/1.1\r\n"),
        "{request}"
    );
    assert!(request.ends_with(REQUEST), "{request}");
    assert!(request.contains(&format!("authorization: bearer {PROVIDER_KEY}")), "{request}");
    assert!(request.contains("accept: */*") && request.contains("x-request-id: "), "{request}");
    assert!(request.contains("traceparent: 00-"), "{request}");
    for absent in ["cookie", "x-forwarded-for", "x-listed", "expect", "sk-", "host: proxy"] {
        assert!(!request.contains(absent), "{absent} in {request}");
    }
    harness.record().await;
    harness.finish().await;
}

/// Begins an SSE answer and hands the connection to the test.
fn event(text: &str) -> String {
    let chunk = format!(
        "data: {{\"model\":\"m\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n"
    );
    format!("{:x}\r\n{chunk}\r\n", chunk.len())
}

const STREAM_HEAD: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

#[tokio::test]
async fn chunks_pass_at_once() {
    let (go, wait) = mpsc::channel::<()>(16);
    let wait = std::sync::Arc::new(tokio::sync::Mutex::new(wait));
    let upstream = scripted(async move |mut stream: TcpStream| {
        read_request(&mut stream).await;
        stream.write_all(format!("{STREAM_HEAD}{}", event("one")).as_bytes()).await.unwrap();
        wait.lock().await.recv().await;
        let done = "data: [DONE]\n\n";
        let rest = format!("{}{:x}\r\n{done}\r\n0\r\n\r\n", event("two"), done.len());
        stream.write_all(rest.as_bytes()).await.unwrap();
    })
    .await;
    let mut harness = Harness::start(upstream, |_| {}).await;
    let mut client = harness.connect().await;
    let request = post("/v1/chat/completions", r#"{"model":"m","stream":true}"#, "");
    let request = request.replace("{token}", harness.token.expose());
    client.write_all(request.as_bytes()).await.unwrap();
    let first = read_until(&mut client, "one").await;
    assert!(!first.contains("two"));
    go.send(()).await.unwrap();
    assert!(read_until(&mut client, "0\r\n\r\n").await.contains("two"));
    let record = harness.record().await;
    assert_eq!(record["events"], 3, "{record}");
    assert_eq!(record["stream_response"], true);
    assert_eq!(record["partial"], false, "{record}");
    assert!(record["ttft_ms"].as_f64().unwrap() > 0.0);
    drop(client);
    harness.finish().await;
}

async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut bytes = Vec::new();
    let mut buffer = vec![0u8; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if text.contains(end) {
            return text;
        }
        let n = tokio::time::timeout(Duration::from_secs(20), stream.read(&mut buffer)).await;
        let n = n.expect("bytes within 20 s").unwrap();
        assert!(n > 0, "closed before {end:?}: {text}");
        bytes.extend_from_slice(&buffer[..n]);
    }
}

#[tokio::test]
async fn a_client_that_leaves_cancels_the_call() {
    let (sender, mut gone) = mpsc::channel(16);
    let upstream = scripted(async move |mut stream: TcpStream| {
        read_request(&mut stream).await;
        stream.write_all(format!("{STREAM_HEAD}{}", event("one")).as_bytes()).await.unwrap();
        let closed = stream.read(&mut [0u8; 1]).await;
        sender.send(matches!(closed, Ok(0) | Err(_))).await.unwrap();
    })
    .await;
    let mut harness = Harness::start(upstream, |_| {}).await;
    let mut client = harness.connect().await;
    let request = post("/v1/chat/completions", r#"{"model":"m","stream":true}"#, "");
    let request = request.replace("{token}", harness.token.expose());
    client.write_all(request.as_bytes()).await.unwrap();
    read_until(&mut client, "one").await;
    drop(client);
    assert!(gone.recv().await.unwrap(), "the provider's connection was closed");
    let record = harness.record().await;
    assert_eq!(record["outcome"], "client_closed");
    assert_eq!(record["partial"], true);
    assert_eq!(record["events"], 1);
    harness.finish().await;
}

#[tokio::test]
async fn an_answer_that_breaks_off_does_not_end_as_if_whole() {
    let upstream = scripted(async move |mut stream: TcpStream| {
        read_request(&mut stream).await;
        stream.write_all(format!("{STREAM_HEAD}{}", event("one")).as_bytes()).await.unwrap();
    })
    .await;
    let mut harness = Harness::start(upstream, |_| {}).await;
    let answer = harness.post("/v1/chat/completions", r#"{"model":"m","stream":true}"#).await;
    assert!(answer.contains("one") && !answer.ends_with("0\r\n\r\n"), "{answer}");
    let record = harness.record().await;
    assert_eq!(record["outcome"], "upstream_error");
    assert_eq!(record["partial"], true);
    assert_eq!(record["status_code"], 200);
    harness.finish().await;
}

#[tokio::test]
async fn an_echoed_key_is_masked() {
    let plain = format!("{{\"error\":{{\"message\":\"bad key {PROVIDER_KEY}\",\"code\":\"x\"}}}}");
    let plain_answer = format!(
        "HTTP/1.1 401 Unauthorized\r\ncontent-type: application/json\r\nx-echo: {PROVIDER_KEY}\r\n\
         content-length: {}\r\n\r\n{plain}",
        plain.len()
    );
    let mut coded = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut coded, plain.as_bytes()).unwrap();
    let coded = coded.finish().unwrap();
    let mut coded_answer = format!(
        "HTTP/1.1 401 Unauthorized\r\ncontent-type: application/json\r\ncontent-encoding: gzip\r\n\
         content-length: {}\r\n\r\n",
        coded.len()
    )
    .into_bytes();
    coded_answer.extend_from_slice(&coded);
    for answer in [plain_answer.into_bytes(), coded_answer] {
        let upstream = answering(answer.leak()).await;
        let mut harness = Harness::start(upstream, |_| {}).await;
        let answer = harness.post("/v1/chat/completions", REQUEST).await;
        assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
        assert!(!answer.contains(PROVIDER_KEY), "{answer}");
        assert!(answer.contains("bad key ***"), "{answer}");
        let record = harness.record().await.to_string();
        assert!(!record.contains(PROVIDER_KEY), "{record}");
        assert!(record.contains("bad key ***") && record.contains("\"client_error\""), "{record}");
        harness.finish().await;
    }
}

#[tokio::test]
async fn head_trailers_and_empty_answers_pass() {
    let head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1234\r\n\r\n";
    let mut harness = Harness::start(answering(head).await, |_| {}).await;
    let mut client = harness.connect().await;
    let request = "HEAD /v1/models HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n";
    let request = request.replace("{token}", harness.token.expose());
    client.write_all(request.as_bytes()).await.unwrap();
    assert!(read_until(&mut client, "\r\n\r\n").await.contains("content-length: 1234"));
    assert_eq!(harness.record().await["outcome"], "ok");
    drop(client);
    harness.finish().await;

    let trailing = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n\
                     2\r\nhi\r\n0\r\nx-sum: 7\r\n\r\n";
    let mut harness = Harness::start(answering(trailing).await, |_| {}).await;
    let answer = harness.raw(&post("/v1/files", "{}", "te: trailers\r\n")).await;
    assert!(answer.contains("x-sum: 7"), "{answer}");
    assert_eq!(harness.record().await["response_bytes"], 2);
    harness.finish().await;

    let empty = b"HTTP/1.1 204 No Content\r\n\r\n";
    let mut harness = Harness::start(answering(empty).await, |_| {}).await;
    assert!(harness.post("/v1/files/x", "{}").await.starts_with("HTTP/1.1 204 "));
    assert_eq!(harness.record().await["outcome"], "ok");
    harness.finish().await;
}

#[tokio::test]
async fn the_last_frame_waits_for_the_sync() {
    let mut harness = Harness::start(answering(CHAT).await, |_| {}).await;
    harness.outbox.holds.store(true, Ordering::Relaxed);
    let mut client = harness.connect().await;
    let request = post("/v1/chat/completions", REQUEST, "");
    let request = request.replace("{token}", harness.token.expose());
    client.write_all(request.as_bytes()).await.unwrap();
    assert_eq!(harness.record().await["outcome"], "ok");
    let mut early = [0u8; 4096];
    let waiting = tokio::time::timeout(Duration::from_millis(200), async {
        let n = client.read(&mut early).await.unwrap();
        String::from_utf8_lossy(&early[..n]).contains("total_tokens")
    });
    assert!(!matches!(waiting.await, Ok(true)), "the body came before the sync");
    for held in harness.outbox.held.lock().drain(..) {
        held.send(()).unwrap();
    }
    read_until(&mut client, "total_tokens\":11}}").await;
    drop(client);
    harness.finish().await;
}

#[tokio::test]
async fn http2_by_prior_knowledge_is_served() {
    let mut harness = Harness::start(answering(CHAT).await, |_| {}).await;
    let stream = hyper_util::rt::TokioIo::new(harness.connect().await);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut client, connection) =
        hyper::client::conn::http2::handshake(executor, stream).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::post(format!("http://{}/v1/chat/completions", harness.address))
        .header("authorization", format!("Bearer {}", harness.token.expose()))
        .body(http_body_util::Full::new(bytes(REQUEST)))
        .unwrap();
    let answer = client.send_request(request).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(answer.into_body().collect().await.unwrap().to_bytes().ends_with(b"11}}"));
    assert_eq!(harness.record().await["http_version"], "2");
    drop(client);
    harness.finish().await;
}

/// A chat answer without figures, plain.
const UNCOUNTED: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\
content-length: 158\r\n\r\n{\"object\":\"chat.completion\",\"model\":\"gpt-4o-mini-2024-07-18\",\
\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"hi you\"},\"finish_reason\":\"stop\"}]}";

#[tokio::test]
async fn usage_that_nobody_reports_is_estimated() {
    let upstream = scripted(async move |mut stream: TcpStream| {
        while let Some(request) = read_request(&mut stream).await {
            let events = format!("{}{}0\r\n\r\n", event("hi"), event(" you"));
            let answer = if request.contains("stream") {
                format!("{STREAM_HEAD}{events}").into_bytes()
            } else {
                UNCOUNTED.to_vec()
            };
            let cut = if request.contains("broken") { answer.len() - 5 } else { answer.len() };
            stream.write_all(&answer[..cut]).await.unwrap();
            if cut < answer.len() {
                return;
            }
        }
    })
    .await;
    let mut harness = Harness::start(upstream, |_| {}).await;
    let message = r#""messages":[{"role":"user","content":"hello world"}]"#;
    let asks = r#""stream":true,"stream_options":{"include_usage":true}"#;
    for (request, partial) in [
        (format!(r#"{{"model":"gpt-4o-mini",{message}}}"#), false),
        // It lacks `[DONE]`.
        (format!(r#"{{"model":"gpt-4o-mini",{asks},{message}}}"#), true),
        (format!(r#"{{"model":"gpt-4o-mini","user":"broken",{asks},{message}}}"#), true),
    ] {
        let answer = harness.post("/v1/chat/completions", &request).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        let record = harness.record().await;
        for (field, expected) in [
            ("usage_source", "estimated".into()),
            ("usage_method", "tiktoken:o200k_base".into()),
            ("input_tokens", serde_json::json!(9)),
            ("output_tokens", serde_json::json!(2)),
            ("total_tokens", serde_json::json!(11)),
            ("partial", partial.into()),
        ] {
            assert_eq!(record[field], expected, "{field} of {record}");
        }
        assert!(record["cost_usd"].is_string(), "cost_usd of {record}");
    }
    harness.finish().await;
}
