//! Large bodies, many connections and floods, with the memory and the disk that
//! they may take.
//!
//! `LLM_PROXY_TEST_VOLUME=1` asks for the volumes that CI has no time for.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Response, header::AUTHORIZATION};
use http_body::Body;
use http_body_util::BodyExt as _;
use hyper::{body::Incoming, client::conn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::watch,
};

use crate::support::{
    AnyBody, Feed, Handler, PATIENCE, Proxy, asked, chat, chat_provider, client, fed, feed,
    handler, json_answer, provider, read, read_until, until, whole,
};

const VOLUME: &str = "LLM_PROXY_TEST_VOLUME";
const MIB: u64 = 1 << 20;

/// Content whose every byte is known from its place. The period is prime to all
/// buffer sizes, so that a lost or doubled buffer shows.
#[derive(Clone)]
struct Content(Bytes);

impl Content {
    fn new() -> Self {
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let bytes = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        });
        Self(bytes.take(1_000_003).collect())
    }

    /// A piece at `offset`, at most `most` long.
    fn at(&self, offset: u64, most: u64) -> Bytes {
        let from = (offset % self.0.len() as u64) as usize;
        let to = self.0.len().min(from + most.min(64 << 10) as usize);
        self.0.slice(from..to)
    }

    async fn send(&self, feed_to: Feed, length: u64) {
        let mut offset = 0;
        while offset < length {
            let piece = self.at(offset, length - offset);
            offset += piece.len() as u64;
            feed(&feed_to, piece).await;
        }
    }

    /// Compares every byte, and gives their number.
    async fn check(
        &self,
        mut body: impl Body<Data = Bytes, Error: std::fmt::Debug> + Unpin,
    ) -> u64 {
        let mut offset = 0;
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.unwrap().into_data() else { continue };
            let mut data = &data[..];
            while !data.is_empty() {
                let expected = self.at(offset, data.len() as u64);
                assert_eq!(data[..expected.len()], expected[..], "differs after byte {offset}");
                offset += expected.len() as u64;
                data = &data[expected.len()..];
            }
        }
        offset
    }
}

/// The most memory that a proxy took, looked at all the time.
async fn watching<T>(proxy: &Proxy, work: impl Future<Output = T>) -> (T, u64) {
    let mut most = proxy.resident();
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return (done, most.max(proxy.resident())),
            _ = ticks.tick() => most = most.max(proxy.resident()),
        }
    }
}

/// Checks what comes up; sends as much as the path says.
fn volume_handler(content: Content) -> Handler {
    handler(move |request: Request<Incoming>| {
        let content = content.clone();
        async move {
            let words: Vec<String> =
                request.uri().path().split('/').map(ToOwned::to_owned).collect();
            let taken = content.check(request.into_body()).await;
            if words[3] == "up" {
                return json_answer(200, json!({ "taken": taken }).to_string());
            }
            let length: u64 = words[4].parse().unwrap();
            let (feed, body) = fed();
            tokio::spawn(async move { content.send(feed, length).await });
            let mut response =
                Response::builder().header("content-type", "application/octet-stream");
            if words[3] == "down-length" {
                response = response.header("content-length", length);
            }
            response.body(body).unwrap()
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_pass_in_constant_memory() {
    const MEMORY_MAX: u64 = 100 * MIB;
    let length = if asked(VOLUME) { 1 << 30 } else { 256 * MIB };
    let content = Content::new();
    let upstream = provider(volume_handler(content.clone())).await;
    let base = format!("http://{upstream}");
    let proxy = Proxy::before(&base, &[("MAX_REQUEST_BYTES", "2GiB")]).await;
    let token = proxy.token().await;
    for way in ["up-chunked", "up-length", "down-chunked", "down-length"] {
        let up = way.starts_with("up");
        let path = if up { "/v1/files/up".to_owned() } else { format!("/v1/files/{way}/{length}") };
        let request = Request::post(proxy.url(&path))
            .header(AUTHORIZATION, format!("Bearer {token}"))
            .header("x-request-id", way);
        let request = if up {
            let (feed, body) = fed();
            let content = content.clone();
            tokio::spawn(async move { content.send(feed, length).await });
            let request = request.header("content-type", "application/octet-stream");
            if way == "up-length" {
                request.header("content-length", length).body(body)
            } else {
                request.body(body)
            }
        } else {
            request.body(whole(""))
        };
        let began = Instant::now();
        let passing = async {
            let response = client().request(request.unwrap()).await.unwrap();
            assert_eq!(response.status(), 200);
            if up {
                let said: Value = serde_json::from_slice(&read(response).await.body).unwrap();
                assert_eq!(said["taken"], length);
            } else {
                assert_eq!(content.check(response.into_body()).await, length);
            }
        };
        let ((), memory) = watching(&proxy, passing).await;
        let record = proxy.record(way).await;
        let field = if up { "request_bytes" } else { "response_bytes" };
        assert_eq!((&record[field], &record["outcome"]), (&json!(length), &json!("ok")));
        println!(
            "{way}: {} MiB in {:.1} s, at most {} MiB resident",
            length / MIB,
            began.elapsed().as_secs_f64(),
            memory / MIB
        );
        assert!(memory < MEMORY_MAX, "{way}: {memory} bytes resident");
    }
}

/// A provider whose streams begin, and end when they are let go.
async fn slow_provider(release: watch::Receiver<bool>) -> SocketAddr {
    provider(handler(move |request: Request<Incoming>| {
        let mut release = release.clone();
        async move {
            request.into_body().collect().await.unwrap();
            let (sender, body) = fed();
            tokio::spawn(async move {
                feed(&sender, "data: {\"choices\":[]}\n\n").await;
                release.wait_for(|released| *released).await.unwrap();
                feed(&sender, "data: [DONE]\n\n").await;
            });
            let response = Response::builder().header("content-type", "text/event-stream");
            response.body(body).unwrap()
        }
    }))
    .await
}

/// Raises this process's limit of open files, and says what it is.
fn open_files() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let hard = limit.maximum.unwrap_or(1 << 20);
    setrlimit(Resource::Nofile, Rlimit { current: Some(hard), ..limit }).unwrap();
    hard
}

fn stream(proxy: &Proxy, token: &str) -> Request<AnyBody> {
    Request::post(proxy.url("/v1/chat/completions"))
        .header(AUTHORIZATION, format!("Bearer {token}"))
        .header("content-type", "application/json")
        .body(whole(r#"{"model":"gpt-4o-mini","stream":true}"#))
        .unwrap()
}

/// Streams on one HTTP/2 connection; counts those that began and those that
/// ended well.
async fn hold_streams(
    proxy: &Proxy,
    token: &str,
    number: usize,
    began: &Arc<AtomicUsize>,
    ended: &Arc<AtomicUsize>,
) {
    let stream_to = TcpStream::connect(proxy.address).await.unwrap();
    let handshake = conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream_to));
    let (sender, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    for _ in 0..number {
        let (mut sender, request) = (sender.clone(), stream(proxy, token));
        let (began, ended) = (Arc::clone(began), Arc::clone(ended));
        tokio::spawn(async move {
            let response = sender.send_request(request).await.unwrap();
            assert_eq!(response.status(), 200);
            let mut body = response.into_body();
            body.frame().await.unwrap().unwrap();
            began.fetch_add(1, Ordering::Relaxed);
            let rest = body.collect().await.unwrap().to_bytes();
            assert_eq!(rest, "data: [DONE]\n\n");
            ended.fetch_add(1, Ordering::Relaxed);
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_and_slow_streams_do_not_hurt_others() {
    const CONNECTIONS: usize = 16;
    const STREAM_BYTES_MAX: u64 = 64 << 10;
    // Each stream takes a file on both sides of the provider, each idle
    // connection one here and one there.
    let files = open_files();
    let scale = files.saturating_sub(1_000).min(15_000) as usize;
    let (idle, streams) = (scale / 3, scale / 3 * 2 / CONNECTIONS * CONNECTIONS);
    println!("{files} open files allowed: {idle} idle connections, {streams} streams");
    let (release, released) = watch::channel(false);
    let upstream = slow_provider(released).await;
    let proxy = Proxy::before(&format!("http://{upstream}"), &[]).await;
    let token = proxy.token().await;
    let before = proxy.resident();
    let mut waiting = Vec::new();
    for _ in 0..idle {
        waiting.push(TcpStream::connect(proxy.address).await.unwrap());
    }
    let with_idle = proxy.resident();
    let (began, ended) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let start = Instant::now();
    for n in 1..=CONNECTIONS {
        hold_streams(&proxy, &token, streams / CONNECTIONS, &began, &ended).await;
        // In steps, as a burst would only fill backlogs.
        until("streams begin", async || {
            (began.load(Ordering::Relaxed) == n * (streams / CONNECTIONS)).then_some(())
        })
        .await;
    }
    let memory = proxy.resident();
    let took = start.elapsed();
    // Others are served as if nothing was.
    let other = Instant::now();
    let mut request = stream(&proxy, &format!("sk-{}", "n".repeat(43)));
    request.headers_mut().insert("x-request-id", "other".parse().unwrap());
    assert_eq!(client().request(request).await.unwrap().status(), 401);
    let other = other.elapsed();
    assert!(proxy.metric("llm_proxy_connections_open").await >= idle as f64);
    assert_eq!(proxy.metric("llm_proxy_active_requests").await, streams as f64);
    println!(
        "resident: {} MiB at rest, {} MiB with idle connections, {} MiB with streams, begun in \
         {:.1} s; a request meanwhile took {:.1} ms",
        before / MIB,
        with_idle / MIB,
        memory / MIB,
        took.as_secs_f64(),
        other.as_secs_f64() * 1e3
    );
    assert!(memory < before + STREAM_BYTES_MAX * (idle + streams) as u64, "{memory}");
    release.send(true).unwrap();
    until("streams end", async || (ended.load(Ordering::Relaxed) == streams).then_some(())).await;
    until("records of all", async || (proxy.records().len() > streams).then_some(())).await;
    let records = proxy.records();
    assert_eq!(records.len(), streams + 1);
    assert_eq!(records.iter().filter(|record| record["outcome"] == "ok").count(), streams);
    drop(waiting);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_much_at_once_is_shed_with_a_record() {
    let (release, released) = watch::channel(false);
    let upstream = slow_provider(released).await;
    let base = format!("http://{upstream}");
    let proxy = Proxy::before(&base, &[("MAX_CONCURRENT_REQUESTS", "8")]).await;
    let token = proxy.token().await;
    let (began, ended) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    hold_streams(&proxy, &token, 8, &began, &ended).await;
    until("streams begin", async || (began.load(Ordering::Relaxed) == 8).then_some(())).await;
    for n in 0..5 {
        let request = chat(&proxy, &token, &format!("shed-{n}"), "{}");
        let answer = read(client().request(request).await.unwrap()).await;
        assert_eq!(answer.status, 503);
        assert!(answer.headers.contains_key("retry-after"));
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(body["error"]["code"], "overloaded");
        let record = proxy.record(&format!("shed-{n}")).await;
        assert_eq!(record["error_code"], "overloaded");
        assert_eq!(record["outcome"], "proxy_error");
    }
    let health = Request::get(proxy.url("/health")).body(whole("")).unwrap();
    assert_eq!(client().request(health).await.unwrap().status(), 200, "management is not shed");
    release.send(true).unwrap();
    until("streams end", async || (ended.load(Ordering::Relaxed) == 8).then_some(())).await;
    let request = chat(&proxy, &token, "afterwards", "{}");
    assert_eq!(client().request(request).await.unwrap().status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_beyond_the_limit_wait_for_their_turn() {
    let upstream = chat_provider().await;
    let proxy = Proxy::before(&format!("http://{upstream}"), &[("MAX_CONNECTIONS", "4")]).await;
    let request = b"GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n";
    let mut open = Vec::new();
    for _ in 0..4 {
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        stream.write_all(request).await.unwrap();
        let answer = read_until(&mut stream, |text| text.contains("token_missing")).await;
        assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
        open.push(stream);
    }
    let mut fifth = TcpStream::connect(proxy.address).await.unwrap();
    fifth.write_all(request).await.unwrap();
    let mut byte = [0];
    let early = tokio::time::timeout(Duration::from_millis(300), fifth.peek(&mut byte)).await;
    assert!(early.is_err(), "it was answered beside four others");
    drop(open.pop());
    let answer = read_until(&mut fifth, |text| text.contains("token_missing")).await;
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
}

/// One connection that sends refused requests in batches until `stop`, and adds
/// up what was answered.
async fn flood(address: SocketAddr, number: usize, stop: Arc<AtomicBool>, sent: Arc<AtomicU64>) {
    const BATCH: usize = 48;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let starts = memchr::memmem::Finder::new("HTTP/1.1 ");
    let mut round = 0;
    while !stop.load(Ordering::Relaxed) {
        let mut batch = String::new();
        for n in 0..BATCH {
            let credential = match n % 3 {
                0 => String::new(),
                1 => "authorization: Basic bm86Ym9keQ==\r\n".to_owned(),
                // Never the same twice: nothing remembers it.
                _ => format!("authorization: Bearer sk-{number:012}{round:015}{n:016}\r\n"),
            };
            batch.push_str(&format!("GET /v1/models HTTP/1.1\r\nhost: x\r\n{credential}\r\n"));
        }
        stream.write_all(batch.as_bytes()).await.unwrap();
        let mut answers = Vec::new();
        let whole =
            |answers: &[u8]| starts.find_iter(answers).count() == BATCH && answers.ends_with(b"}");
        while !whole(&answers) {
            let read = tokio::time::timeout(PATIENCE, stream.read_buf(&mut answers)).await;
            assert_ne!(read.expect("an answer in time").unwrap(), 0, "closed in the flood");
        }
        sent.fetch_add(BATCH as u64, Ordering::Relaxed);
        round += 1;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_without_tokens_cannot_fill_the_disk() {
    const SENDERS: usize = 16;
    // token_missing, token_invalid, token_not_found; directory_unavailable.
    const CODES: usize = 4;
    const RECORD_BYTES_MAX: u64 = 2048;
    let lasts = Duration::from_secs(if asked(VOLUME) { 30 } else { 3 });
    let upstream = chat_provider().await;
    let proxy = Proxy::before(&format!("http://{upstream}"), &[]).await;
    let before = proxy.journal_bytes();
    let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let began = Instant::now();
    let senders: Vec<_> = (0..SENDERS)
        .map(|n| tokio::spawn(flood(proxy.address, n, Arc::clone(&stop), Arc::clone(&sent))))
        .collect();
    tokio::time::sleep(lasts).await;
    stop.store(true, Ordering::Relaxed);
    for sender in senders {
        sender.await.unwrap();
    }
    let took = began.elapsed();
    let sent = sent.load(Ordering::Relaxed);
    let counted = |records: &[Value]| -> u64 {
        records.iter().map(|record| record["count"].as_u64().unwrap_or(1)).sum()
    };
    until("every request is counted", async || {
        let counted = counted(&proxy.records());
        assert!(counted <= sent, "{counted} counted of {sent}");
        (counted == sent).then_some(())
    })
    .await;
    let records = proxy.records();
    let grown = proxy.journal_bytes() - before;
    println!(
        "{sent} refusals in {:.1} s ({:.0} a second): {} records, the journal grew by {} KiB",
        took.as_secs_f64(),
        sent as f64 / took.as_secs_f64(),
        records.len(),
        grown / 1024
    );
    // 50 and an aggregate for each code and second, the seconds at both ends
    // included.
    let most = (took.as_secs() as usize + 3) * CODES * 51;
    assert!(records.len() <= most, "{} records, at most {most}", records.len());
    assert!(grown <= most as u64 * RECORD_BYTES_MAX, "{grown} bytes");
    let text = proxy.metrics().await;
    let sum = |name: &str| -> u64 {
        let lines = text.lines().filter(|line| line.starts_with(name));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64).sum()
    };
    let accepted = sum("llm_proxy_records_accepted_total");
    assert_eq!(accepted, sent);
    let [stored, coalesced, lost, in_flight] =
        ["stored_total", "coalesced_total", "lost_total", "in_flight"]
            .map(|name| sum(&format!("llm_proxy_records_{name}")));
    assert_eq!(accepted, stored + coalesced + lost + in_flight, "{text}");
    assert_eq!((lost, stored), (0, records.len() as u64));
}
