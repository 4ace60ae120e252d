//! Providers, clients and shutdowns that go wrong.

use std::{sync::atomic::Ordering, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::harness::{CHAT, Harness, Setup, answering, post, read_request, scripted};

/// An address where nobody listens.
async fn nobody() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

async fn silent() -> std::net::SocketAddr {
    scripted(async move |mut stream: TcpStream| {
        read_request(&mut stream).await;
        // Until the proxy gives up.
        let _closed = stream.read(&mut [0u8; 1]).await;
    })
    .await
}

async fn check(
    upstream: std::net::SocketAddr,
    change: impl FnOnce(&mut Setup),
    status: u16,
    code: &str,
    outcome: &str,
) {
    let mut harness = Harness::start(upstream, change).await;
    let answer = harness.post("/v1/chat/completions", r#"{"model":"m"}"#).await;
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{code}: {answer}");
    assert!(answer.contains(code), "{answer}");
    let record = harness.record().await;
    assert_eq!(record["error_code"], code);
    assert_eq!(record["outcome"], outcome);
    assert_eq!(record["attempts"], 1);
    harness.finish().await;
}

#[tokio::test]
async fn providers_that_give_no_answer() {
    check(nobody().await, |_| {}, 502, "upstream_unreachable", "upstream_error").await;
    let garbage = answering(b"this is not HTTP\r\n\r\n").await;
    check(garbage, |_| {}, 502, "upstream_protocol_error", "upstream_error").await;
    let closes = scripted(async move |mut stream: TcpStream| {
        read_request(&mut stream).await;
    })
    .await;
    check(closes, |_| {}, 502, "upstream_protocol_error", "upstream_error").await;
    let impatient = |setup: &mut Setup| {
        setup.provider.timeouts.response_header = Duration::from_millis(100);
    };
    check(silent().await, impatient, 504, "upstream_timeout", "timeout").await;
    let tls = |setup: &mut Setup| setup.provider.base.scheme = http::uri::Scheme::HTTPS;
    let not_tls = scripted(async move |mut stream: TcpStream| {
        stream.write_all(b"not TLS").await.unwrap();
        let _closed = stream.read(&mut [0u8; 1]).await;
    })
    .await;
    check(not_tls, tls, 502, "upstream_unreachable", "upstream_error").await;
    let silent_tls = |setup: &mut Setup| {
        setup.provider.base.scheme = http::uri::Scheme::HTTPS;
        setup.provider.timeouts.connect = Duration::from_millis(100);
    };
    check(silent().await, silent_tls, 502, "upstream_unreachable", "upstream_error").await;
}

#[tokio::test]
async fn a_stream_that_falls_silent_is_aborted() {
    let upstream = scripted(async move |mut stream: TcpStream| {
        read_request(&mut stream).await;
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
                    transfer-encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        let _closed = stream.read(&mut [0u8; 1]).await;
    })
    .await;
    let mut harness = Harness::start(upstream, |setup| {
        setup.provider.timeouts.stream_idle = Duration::from_millis(100);
    })
    .await;
    let answer = harness.post("/v1/chat/completions", r#"{"model":"m","stream":true}"#).await;
    assert!(answer.contains("data: 1") && !answer.ends_with("0\r\n\r\n"), "{answer}");
    let record = harness.record().await;
    assert_eq!(record["outcome"], "timeout");
    assert_eq!(record["partial"], true);
    harness.finish().await;
}

#[tokio::test]
async fn the_circuit_opens_and_says_so() {
    let mut harness = Harness::start(nobody().await, |_| {}).await;
    for _ in 0..5 {
        let answer = harness.post("/v1/chat/completions", "{}").await;
        assert!(answer.contains("upstream_unreachable"), "{answer}");
    }
    let answer = harness.post("/v1/chat/completions", "{}").await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("circuit_open"), "{answer}");
    assert!(answer.contains("retry-after: "), "{answer}");
    for _ in 0..5 {
        harness.record().await;
    }
    let record = harness.record().await;
    assert_eq!(record["outcome"], "upstream_error");
    assert_eq!(record["attempts"], 0, "an open circuit takes no use: {record}");
    assert_eq!(harness.live.used(), 5);
    harness.finish().await;
}

#[tokio::test]
async fn a_client_that_stops_sending_is_told() {
    let mut harness = Harness::start(silent().await, |setup| {
        setup.limits.request_body_idle = Duration::from_millis(100);
    })
    .await;
    let answer = harness
        .raw(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\
             content-type: application/json\r\ncontent-length: 100\r\n\r\n{\"model\":",
        )
        .await;
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("request_timeout"), "{answer}");
    let record = harness.record().await;
    assert_eq!(record["outcome"], "client_error");
    assert_eq!(record["request_bytes"], 9);
    harness.finish().await;
}

#[tokio::test]
async fn a_client_that_leaves_early_is_recorded() {
    let mut harness = Harness::start(silent().await, |_| {}).await;
    for request in [
        post("/v1/chat/completions", r#"{"model":"m"}"#, ""),
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\
         content-length: 100\r\n\r\n{\"model\":"
            .to_owned(),
    ] {
        let mut client = harness.connect().await;
        let request = request.replace("{token}", harness.token.expose());
        client.write_all(request.as_bytes()).await.unwrap();
        let openings = || harness.outbox.openings.load(Ordering::Relaxed);
        let before = harness.outbox.finished.load(Ordering::Relaxed);
        while openings() == before {
            tokio::task::yield_now().await;
        }
        drop(client);
        let record = harness.record().await;
        assert!(
            record["outcome"] == "client_closed" || record["outcome"] == "client_error",
            "{record}"
        );
        assert_eq!(record["partial"].as_bool().unwrap(), record["outcome"] == "client_closed");
    }
    harness.finish().await;
}

#[tokio::test]
async fn a_revocation_may_end_running_requests() {
    let mut harness = Harness::start(silent().await, |_| {}).await;
    let answer = async { harness.post("/v1/chat/completions", r#"{"model":"m"}"#).await };
    let revoke = async {
        while harness.outbox.openings.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        harness.live.terminate.cancel();
    };
    let (answer, ()) = tokio::join!(answer, revoke);
    assert!(answer.starts_with("HTTP/1.1 401 ") && answer.contains("token_inactive"), "{answer}");
    assert_eq!(harness.record().await["outcome"], "denied");
    harness.finish().await;
}

#[tokio::test]
async fn shutdown_drains_and_then_interrupts() {
    let mut harness = Harness::start(silent().await, |_| {}).await;
    let mut client = harness.connect().await;
    let request = post("/v1/chat/completions", r#"{"model":"m"}"#, "");
    let request = request.replace("{token}", harness.token.expose());
    client.write_all(request.as_bytes()).await.unwrap();
    while harness.outbox.openings.load(Ordering::Relaxed) == 0 {
        tokio::task::yield_now().await;
    }
    harness.stop.cancel();
    harness.cut().await;
    let record = harness.record().await;
    assert_eq!(record["outcome"], "interrupted");
    assert_eq!(record["attempts"], 1);
}

#[tokio::test]
async fn the_store_being_away_is_not_a_refusal_of_the_token() {
    let mut harness = Harness::start(answering(CHAT).await, |_| {}).await;
    harness.directory.unavailable.store(true, Ordering::Relaxed);
    let unknown = format!(
        "GET /v1/models HTTP/1.1\r\nhost: x\r\nauthorization: Bearer sk-{}\r\n\r\n",
        "d".repeat(43)
    );
    let answer = harness.raw(&unknown).await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("directory_unavailable"), "{answer}");
    assert!(harness.post("/v1/chat/completions", "{}").await.starts_with("HTTP/1.1 200 "));
    assert_eq!(harness.record().await["outcome"], "proxy_error");
    assert_eq!(harness.record().await["outcome"], "ok");
    harness.finish().await;
}

#[tokio::test]
async fn what_is_not_http_leaves_no_record() {
    let mut harness = Harness::start(answering(CHAT).await, |_| {}).await;
    for request in [
        "garbage\r\n\r\n",
        "GET /v1/models HTTP/1.1\r\nhost: x\r\nbad\0name: 1\r\n\r\n",
        "GET /v1/models HTTP/1.1\r\nhost: x\r\nx: a\r\n folded\r\n\r\n",
        "POST /v1/files HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        "POST /v1/files HTTP/1.1\r\nhost: x\r\ncontent-length: nine\r\n\r\nab",
    ] {
        let answer = harness.raw(request).await;
        assert!(answer.starts_with("HTTP/1.1 400 ") || answer.is_empty(), "{request}: {answer}");
    }
    // The count follows the close of the connection.
    while harness.plane.counters.connection_errors().map(|(_, count)| count).sum::<u64>() < 5 {
        tokio::task::yield_now().await;
    }
    assert_eq!(harness.outbox.accepted.load(Ordering::Relaxed), 0);
    let answer = harness.post("/v1/chat/completions", "{}").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    harness.record().await;
    harness.finish().await;
}
