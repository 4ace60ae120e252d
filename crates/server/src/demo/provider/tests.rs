#![expect(clippy::unwrap_used, reason = "a failed step of a test is its failure")]

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::Value;

use super::{Config, SampleProvider, ledger::Ending};

const CHAT: &str = "/v1/chat/completions";
const PLAIN: &str = r#"{"model":"gpt-4o","messages":[{"role":"user","content":"hello"}]}"#;
const STREAM: &str = r#"{"model":"gpt-4o","messages":[{"role":"user","content":"hello"}],
    "stream":true,"stream_options":{"include_usage":true}}"#;

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
    /// The body reached its end.
    whole: bool,
    frames: usize,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    fn events(&self) -> Vec<Value> {
        let text = self.text();
        let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
        data.filter(|data| *data != "[DONE]")
            .map(|data| serde_json::from_str(data).unwrap())
            .collect()
    }
}

fn client(version: Version) -> Client<HttpConnector, Full<Bytes>> {
    let http2 = version == Version::HTTP_2;
    Client::builder(TokioExecutor::new()).http2_only(http2).build_http()
}

fn request(
    provider: &SampleProvider,
    method: Method,
    path: &str,
    directives: &str,
    body: &str,
) -> Request<Full<Bytes>> {
    Request::builder()
        .method(method)
        .uri(format!("{}{path}", provider.url()))
        .header("authorization", format!("Bearer {}", provider.key().expose()))
        .header("x-request-id", "id-1")
        .header("x-sample", directives)
        .body(Full::new(Bytes::copy_from_slice(body.as_bytes())))
        .unwrap()
}

async fn read(response: Response<Incoming>) -> Answer {
    let (parts, mut body) = response.into_parts();
    let mut answer = Answer {
        status: parts.status,
        headers: parts.headers,
        body: Vec::new(),
        whole: true,
        frames: 0,
    };
    while let Some(frame) = body.frame().await {
        match frame {
            Err(_) => answer.whole = false,
            Ok(frame) => {
                if let Ok(data) = frame.into_data() {
                    answer.frames += 1;
                    answer.body.extend_from_slice(&data);
                }
            }
        }
    }
    answer
}

async fn send(provider: &SampleProvider, path: &str, directives: &str, body: &str) -> Answer {
    let request = request(provider, Method::POST, path, directives, body);
    read(client(Version::HTTP_11).request(request).await.unwrap()).await
}

async fn start() -> SampleProvider {
    SampleProvider::start(Config::default()).await.unwrap()
}

#[tokio::test]
async fn equal_requests_get_equal_answers_with_usage_in_the_ledger() {
    let provider = start().await;
    let (first, second) =
        (send(&provider, CHAT, "", PLAIN).await, send(&provider, CHAT, "", PLAIN).await);
    assert_eq!(first.body, second.body);
    assert_eq!(first.headers["content-length"], first.body.len().to_string());
    assert!(first.headers.contains_key("x-request-id"));
    let entry = provider.ledger().entry("id-1").unwrap();
    let usage = entry.usage.unwrap();
    let told = &first.json()["usage"];
    assert_eq!((entry.count, entry.status, entry.ending), (2, 200, Ending::Complete));
    assert_eq!(told["prompt_tokens"].as_u64(), usage.input_tokens);
    assert_eq!(told["completion_tokens"].as_u64(), usage.output_tokens);
}

#[tokio::test]
async fn a_stream_carries_the_plain_answer_and_its_usage() {
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let provider = start().await;
        let request = request(&provider, Method::POST, CHAT, "chunks=20", STREAM);
        let response = client(version).request(request).await.unwrap();
        assert_eq!(response.version(), version);
        let answer = read(response).await;
        let events = answer.events();
        let words = events.iter().filter_map(|event| event.pointer("/choices/0/delta/content"));
        assert_eq!(words.filter(|word| *word != "").count(), 20);
        assert_eq!(events.last().unwrap()["usage"]["completion_tokens"], 20);
        assert!(answer.text().ends_with("data: [DONE]\n\n") && answer.whole);
        // Each chunk is written for itself.
        assert!(answer.frames > 10, "{} frames", answer.frames);
    }
}

#[tokio::test]
async fn usage_of_a_stream_is_told_only_where_asked() {
    let provider = start().await;
    let body = r#"{"model":"m","messages":[],"stream":true}"#;
    assert!(!send(&provider, CHAT, "", body).await.text().contains("usage"));
    assert_eq!(provider.ledger().entry("id-1").unwrap().usage, None);
}

#[tokio::test]
async fn all_apis_answer_in_their_own_shape() {
    let provider = start().await;
    let check = async |path: &str, body: &str, pointer: &str, expected: Value| {
        let answer = send(&provider, path, "", body).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}");
        assert_eq!(answer.json().pointer(pointer), Some(&expected), "{path} {}", answer.text());
    };
    let tool = r#"{"model":"m","max_tokens":99,"messages":[],"tools":[{"name":"t"}]}"#;
    check("/v1/messages", tool, "/content/0/type", "tool_use".into()).await;
    check("/v1/messages", tool, "/stop_reason", "tool_use".into()).await;
    check("/v1/messages/count_tokens", tool, "/input_tokens", 4.into()).await;
    check("/v1/completions", r#"{"model":"m","prompt":"x"}"#, "/object", "text_completion".into())
        .await;
    check("/v1/embeddings", r#"{"model":"m","input":["a","b"]}"#, "/data/1/index", 1.into()).await;
    check("/v1/responses", r#"{"model":"m","input":"x"}"#, "/status", "completed".into()).await;
    check("/v1/files", "12345", "/bytes", 5.into()).await;
    check("/v1/echo?a=%20", "12345", "/query", "a=%20".into()).await;
}

#[tokio::test]
async fn streams_of_the_other_apis_end_as_theirs_do() {
    let provider = start().await;
    let body = r#"{"model":"m","input":"x","stream":true}"#;
    let events = send(&provider, "/v1/responses", "", body).await.events();
    let numbers: Vec<_> = events.iter().map(|event| event["sequence_number"].as_u64()).collect();
    assert_eq!(numbers, (0..events.len() as u64).map(Some).collect::<Vec<_>>());
    assert_eq!(events.last().unwrap()["type"], "response.completed");
    let body = r#"{"model":"m","max_tokens":3,"messages":[],"stream":true}"#;
    let events = send(&provider, "/v1/messages", "cached=2", body).await.events();
    assert_eq!(events[0]["message"]["usage"]["cache_read_input_tokens"], 2);
    assert_eq!(events[events.len() - 2]["delta"]["stop_reason"], "max_tokens");
    assert_eq!(events.last().unwrap()["type"], "message_stop");
}

#[tokio::test]
async fn errors_have_the_providers_shape() {
    let provider = start().await;
    let limited = send(&provider, CHAT, "status=429,retry_after_ms=20", PLAIN).await;
    assert_eq!(limited.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(limited.headers["retry-after-ms"], "20");
    assert_eq!(limited.json()["error"]["code"], "rate_limit_exceeded");
    let overloaded = send(&provider, "/v1/messages", "status=529", PLAIN).await;
    assert_eq!(overloaded.json()["error"]["type"], "overloaded_error");
    assert!(overloaded.headers.contains_key("request-id"));
    let mut stranger = request(&provider, Method::POST, CHAT, "echo_auth_in_error", PLAIN);
    stranger.headers_mut().insert("authorization", "Bearer other".parse().unwrap());
    let refused = read(client(Version::HTTP_11).request(stranger).await.unwrap()).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    assert!(refused.text().contains("You sent: other"));
    let unknown = send(&provider, CHAT, "nonsense", PLAIN).await;
    assert_eq!(unknown.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn an_error_may_pass_after_some_attempts() {
    let provider = start().await;
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(send(&provider, CHAT, "status=503,times=2", PLAIN).await.status.as_u16());
    }
    assert_eq!(statuses, [503, 503, 200]);
    assert_eq!(provider.ledger().entry("id-1").unwrap().count, 3);
}

#[tokio::test]
async fn answers_break_as_told() {
    let provider = start().await;
    let cut = send(&provider, CHAT, "cut=3", STREAM).await;
    assert!(!cut.whole);
    assert_eq!(cut.events().len(), 3);
    assert_eq!(provider.ledger().entry("id-1").unwrap().ending, Ending::Cut);
    assert!(!send(&provider, CHAT, "cut=0", PLAIN).await.whole);
    let dropped = request(&provider, Method::POST, CHAT, "drop", PLAIN);
    assert!(client(Version::HTTP_11).request(dropped).await.is_err());
    let garbage = send(&provider, CHAT, "garbage", PLAIN).await;
    assert!(serde_json::from_slice::<Value>(&garbage.body).is_err());
}

#[tokio::test]
async fn a_caller_that_leaves_is_noted() {
    let provider = start().await;
    let request = request(&provider, Method::POST, CHAT, "hang", STREAM);
    let response = client(Version::HTTP_11).request(request).await.unwrap();
    drop(response);
    let deadline = Instant::now() + Duration::from_secs(10);
    while provider.ledger().entry("id-1").unwrap().ending != Ending::CallerGone {
        assert!(Instant::now() < deadline, "the caller's leaving was not noticed");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn compressed_and_recut_streams_hold_the_same_bytes() {
    use std::io::Read as _;
    let provider = start().await;
    let plain = send(&provider, CHAT, "", STREAM).await;
    let packed = send(&provider, CHAT, "gzip,split=7", STREAM).await;
    assert_eq!(packed.headers["content-encoding"], "gzip");
    let mut unpacked = Vec::new();
    flate2::read::GzDecoder::new(&packed.body[..]).read_to_end(&mut unpacked).unwrap();
    assert_eq!(unpacked, plain.body);
}

#[tokio::test]
async fn long_lines_and_downloads_have_their_length() {
    let provider = start().await;
    let long = send(&provider, CHAT, "one_line=1MB", STREAM).await;
    assert!(long.text().lines().any(|line| line.len() > 1 << 20));
    assert_eq!(
        send(&provider, CHAT, "one_line=1MB", PLAIN).await.json()["object"],
        "chat.completion"
    );
    let download = send(&provider, "/v1/generate?bytes=3MB", "", "").await;
    assert_eq!((download.body.len(), download.whole), (3 << 20, true));
    assert_eq!(send(&provider, "/v1/audio/speech", "", "{}").await.body.len(), 32 * 1024);
}

#[tokio::test]
async fn trailers_follow_the_body() {
    let provider = start().await;
    let mut asked = request(&provider, Method::GET, "/v1/trailers", "", "");
    asked.headers_mut().insert("te", "trailers".parse().unwrap());
    let response = client(Version::HTTP_11).request(asked).await.unwrap();
    let collected = response.into_body().collect().await.unwrap();
    assert_eq!(collected.trailers().unwrap()["x-sample-trailer"], "after the body");
}

#[tokio::test]
async fn latency_is_waited() {
    let provider = start().await;
    let begin = Instant::now();
    send(&provider, CHAT, "latency=30ms", PLAIN).await;
    assert!(begin.elapsed() >= Duration::from_millis(30));
}

#[tokio::test]
async fn prepared_answers_serve_benchmarks() {
    let config = Config { prepared: true, ..Config::default() };
    let provider = SampleProvider::start(config).await.unwrap();
    let ask = request(&provider, Method::POST, CHAT, "chunks=50,chunk_delay=1ms", STREAM);
    let stream = read(client(Version::HTTP_11).request(ask).await.unwrap()).await;
    assert_eq!(stream.text().matches("data: ").count(), 53);
    let mut ask = request(&provider, Method::POST, CHAT, "", PLAIN);
    ask.headers_mut().remove("x-sample");
    let plain = read(client(Version::HTTP_11).request(ask).await.unwrap()).await;
    assert_eq!(plain.json()["object"], "chat.completion");
}

#[tokio::test]
async fn stopping_breaks_connections() {
    let provider = start().await;
    let ask = request(&provider, Method::POST, CHAT, "hang", STREAM);
    let response = client(Version::HTTP_11).request(ask).await.unwrap();
    let addr = provider.addr();
    provider.stop().await;
    assert!(!read(response).await.whole);
    assert!(tokio::net::TcpStream::connect(addr).await.is_err());
}

#[tokio::test]
async fn tls_negotiates_http2() {
    use std::sync::Arc;

    use rustls::pki_types::{PrivateKeyDer, ServerName};

    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let crypto = Arc::new(rustls::crypto::ring::default_provider());
    let mut server = rustls::ServerConfig::builder_with_provider(Arc::clone(&crypto))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let config = Config { tls: Some(Arc::new(server)), ..Config::default() };
    let provider = SampleProvider::start(config).await.unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let mut client = rustls::ClientConfig::builder_with_provider(crypto)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.alpn_protocols = vec![b"h2".to_vec()];
    let stream = tokio::net::TcpStream::connect(provider.addr()).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
    let stream = connector.connect(name, stream).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    let connection = tokio::spawn(connection);
    let answer =
        sender.send_request(request(&provider, Method::POST, CHAT, "", PLAIN)).await.unwrap();
    assert_eq!(read(answer).await.json()["object"], "chat.completion");
    assert!(provider.url().starts_with("https://"));
    drop(sender);
    connection.await.unwrap().unwrap();
}
