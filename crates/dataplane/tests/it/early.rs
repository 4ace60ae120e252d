//! Ends that come before the other side expects them: a provider that answers in
//! the middle of an upload, a client that closes its half of the connection.

use std::time::Duration;

use http_body_util::BodyExt as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    harness::{Harness, Setup, bytes, post, read_answer, scripted},
    odd::endless,
};

const ROUNDS: usize = 25;

/// A provider that reads a little, answers and hangs up: what it did not read
/// makes its system reset the connection.
#[tokio::test]
async fn an_answer_in_the_middle_of_an_upload_is_passed_on() {
    let provider = scripted(async move |mut stream: TcpStream| {
        let mut some = vec![0; 20_000];
        stream.read_exact(&mut some).await.unwrap();
        let answer = b"HTTP/1.1 413 Payload Too Large\r\ncontent-type: application/json\r\n\
            content-length: 36\r\nconnection: close\r\n\r\n{\"error\":{\"message\":\"it is too big\"}}";
        stream.write_all(answer).await.unwrap();
    })
    .await;
    let change = |setup: &mut Setup| setup.limits.request_bytes_max = 16 << 20;
    let mut harness = Harness::start(provider, change).await;
    for round in 0..ROUNDS {
        let mut stream = harness.connect().await;
        let length = 3 << 20;
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: p\r\nauthorization: Bearer {}\r\n\
             content-length: {length}\r\n\r\n",
            harness.token.expose()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        // The proxy may hang up behind the answer: that is no matter here.
        let _sent = stream.write_all(&vec![b'x'; length]).await;
        let answer = read_answer(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 413 "), "round {round}: {answer}");
        assert!(answer.contains("it is too big"), "round {round}: {answer}");
        let record = harness.record().await;
        assert_eq!(record["upstream_status_code"], 413, "round {round}: {record}");
        assert_eq!(record["outcome"], "client_error", "round {round}: {record}");
    }
    harness.finish().await;
}

/// Whoever closes the way to us cannot be told from who is gone: waiting for the
/// first write to fail would leave calls running that nobody reads.
#[tokio::test]
async fn a_client_that_closes_its_half_is_gone() {
    let silent = scripted(async move |mut stream: TcpStream| {
        let _closed = stream.read_to_end(&mut Vec::new()).await;
    })
    .await;
    let mut harness = Harness::start(silent, |_| {}).await;
    let mut stream = harness.connect().await;
    let request = post("/v1/chat/completions", r#"{"model":"m"}"#, "");
    let request = request.replace("{token}", harness.token.expose());
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(stream.read_to_end(&mut Vec::new()).await.unwrap_or(0), 0);
    let record = harness.record().await;
    assert_eq!(record["outcome"], "client_closed", "{record}");
    harness.finish().await;
}

/// Flow control holds the stream: nobody asks its answer for more, and yet it
/// ends at its deadline, with its record and without its provider.
#[tokio::test]
async fn a_stream_that_its_client_holds_ends_at_its_deadline() {
    let change = |setup: &mut Setup| {
        setup.provider.timeouts.request = Duration::from_millis(300);
    };
    let mut harness = Harness::start(endless().await, change).await;
    let stream = hyper_util::rt::TokioIo::new(harness.connect().await);
    let (mut client, connection) =
        hyper::client::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new())
            .initial_stream_window_size(2_000)
            .handshake(stream)
            .await
            .unwrap();
    tokio::spawn(connection);
    let request = http::Request::post(format!("http://{}/v1/chat/completions", harness.address))
        .header("authorization", format!("Bearer {}", harness.token.expose()))
        .body(http_body_util::Full::new(bytes("{}")))
        .unwrap();
    let mut answer = client.send_request(request).await.unwrap();
    assert_eq!(answer.status(), 200);
    let record = harness.record().await;
    assert_eq!(record["outcome"], "timeout", "{record}");
    assert_eq!(record["partial"], true, "{record}");
    // What had arrived is read; what follows is the reset.
    let mut frames = 0;
    while let Some(Ok(_)) = answer.frame().await {
        frames += 1;
        assert!(frames < 100, "it goes on");
    }
    drop((answer, client));
    harness.finish().await;
}
