//! Providers that are broken and clients that mean no good: the answer is the
//! promised one, the record says what happened, memory stays what it was, and
//! nobody else notices.

use std::time::Duration;

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::harness::{
    Ask, CHAT, Client, Credential, Home, PATIENCE, Proxy, chat, eventually, text,
};

/// Memory that may come on top while something large passes. A debug build and
/// pooled buffers included; what passes is many times larger.
const MEMORY_GROWTH_MAX: u64 = 24 << 20;

struct Stage {
    home: Home,
    proxy: Proxy,
    token: Credential,
}

impl Stage {
    async fn new() -> Self {
        Self::of(Home::new().await).await
    }

    async fn of(home: Home) -> Self {
        let proxy = home.start().await;
        let token = proxy.token(&home, "p", None).await;
        Self { home, proxy, token }
    }

    /// In front of a provider at this address.
    async fn before(url: &str) -> Self {
        let home = Home::new().await;
        home.serve_from(url);
        Self::of(home).await
    }

    fn ask(&self, id: &str) -> Ask {
        Ask::chat(&self.token, id)
    }

    /// Bytes as they are, and what comes back until the connection closes.
    async fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.proxy.address).await.unwrap();
        // The other side may have answered and closed before all is sent.
        drop(stream.write_all(bytes).await);
        let mut answer = Vec::new();
        let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
        drop(read.expect("no hang"));
        text(&answer)
    }

    /// A raw request that closes its connection.
    fn head(&self, id: &str, more: &str) -> String {
        format!(
            "POST {CHAT} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-request-id: {id}\r\n\
             authorization: Bearer {}\r\ncontent-type: application/json\r\n{more}",
            self.token.secret
        )
    }

    async fn record(&self, id: &str) -> Value {
        eventually("the record", async || self.home.records_by_id().remove(id)).await
    }

    /// Others are served, and the files are whole.
    async fn end(self) -> Home {
        let seen = Client::new().ask(self.proxy.address, &self.ask("others")).await;
        assert!(seen.head.is_some(), "the proxy lives");
        let books = self.proxy.settled().await;
        assert_eq!(books.lost, 0);
        self.proxy.stop().await;
        self.home.check();
        // No id has two records.
        self.home.records_by_id();
        self.home
    }
}

/// A provider in the test's hands: gets each connection.
async fn provider<F: Future<Output = ()> + Send + 'static>(
    serve: impl Fn(TcpStream) -> F + Send + 'static,
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(serve(stream));
        }
    });
    format!("http://{address}")
}

/// Reads a request's head.
async fn head_of(stream: &mut TcpStream) {
    let mut head = Vec::new();
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        let mut buffer = [0; 4096];
        let read = stream.read(&mut buffer).await.unwrap_or(0);
        if read == 0 {
            return;
        }
        head.extend_from_slice(&buffer[..read]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreachable_provider_is_a_502() {
    let unused = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", unused.local_addr().unwrap());
    drop(unused);
    let stage = Stage::before(&url).await;
    let seen = Client::new().ask(stage.proxy.address, &stage.ask("a")).await;
    assert_eq!((seen.status(), seen.code.as_deref()), (Some(502), Some("upstream_unreachable")));
    let record = stage.record("a").await;
    assert_eq!(record["outcome"], "upstream_error", "{record}");
    assert_eq!(record["error_code"], "upstream_unreachable", "{record}");
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_provider_is_a_504() {
    let url = provider(async |mut stream| {
        head_of(&mut stream).await;
        std::future::pending::<()>().await;
    })
    .await;
    let home = Home::new().await;
    home.serve_from(&url);
    let file = home.dir.path().join("providers.yaml");
    let patient = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, patient.replace("response_header: 30s", "response_header: 1s")).unwrap();
    let stage = Stage::of(home).await;
    let seen = Client::new().ask(stage.proxy.address, &stage.ask("a")).await;
    assert_eq!((seen.status(), seen.code.as_deref()), (Some(504), Some("upstream_timeout")));
    let record = stage.record("a").await;
    assert_eq!((&record["outcome"], &record["attempts"]), (&"timeout".into(), &1.into()));
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_dies_in_mid_stream_breaks_the_answer_too() {
    let url = provider(async |mut stream| {
        head_of(&mut stream).await;
        let answer = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
            transfer-encoding: chunked\r\n\r\n17\r\ndata: {\"choices\": []}\n\n\r\n";
        stream.write_all(answer).await.unwrap();
        // Drops the connection without a last chunk.
    })
    .await;
    let stage = Stage::before(&url).await;
    let seen = Client::new().ask(stage.proxy.address, &stage.ask("a").streamed()).await;
    assert_eq!(seen.status(), Some(200));
    assert!(seen.whole_at.is_none(), "an answer that was cut must not end as if it were whole");
    assert_eq!(seen.bytes, 23, "what came was passed on, and nothing else");
    let record = stage.record("a").await;
    assert_eq!(record["outcome"], "upstream_error", "{record}");
    assert_eq!(record["partial"], true, "{record}");
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_megabytes_of_one_line_pass_in_constant_memory() {
    let stage = Stage::new().await;
    let client = Client::new();
    let warm = client.ask(stage.proxy.address, &stage.ask("warm").streamed()).await;
    assert!(warm.is_good());
    for (id, ask) in [("line", stage.ask("line").streamed()), ("plain", stage.ask("plain"))] {
        let before = stage.proxy.memory("VmHWM");
        let seen = client.ask(stage.proxy.address, &ask.told("one_line=100MB")).await;
        assert!(seen.is_good(), "{seen:?}");
        assert!(seen.bytes > 100 << 20, "{seen:?}");
        let grown = stage.proxy.memory("VmHWM") - before;
        assert!(grown < MEMORY_GROWTH_MAX, "{id}: memory grew by {grown} bytes");
        let record = stage.record(id).await;
        assert_eq!(record["outcome"], "ok", "{record}");
        assert_eq!(record["response_bytes"], seen.bytes, "{record}");
    }
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_leave_are_recorded_and_the_provider_is_told() {
    let stage = Stage::new().await;
    // In the middle of the upload.
    let mut stream = TcpStream::connect(stage.proxy.address).await.unwrap();
    let head = stage.head("upload", "content-length: 1000000\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(b"{\"model\": \"gpt-4o\"").await.unwrap();
    eventually("it is forwarded", async || stage.home.provider.ledger().entry("upload")).await;
    drop(stream);
    let record = stage.record("upload").await;
    assert_eq!(record["outcome"], "client_closed", "{record}");
    // In the middle of the answer.
    let mut stream = TcpStream::connect(stage.proxy.address).await.unwrap();
    let body = chat(true);
    let words = "x-sample: chunks=1000,chunk_delay=20ms\r\n";
    let head = stage.head("stream", &format!("{words}content-length: {}\r\n\r\n", body.len()));
    stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    let mut some = [0; 2048];
    assert!(stream.read(&mut some).await.unwrap() > 0);
    drop(stream);
    let record = stage.record("stream").await;
    assert_eq!(record["outcome"], "client_closed", "{record}");
    assert_eq!(record["partial"], true, "{record}");
    for id in ["upload", "stream"] {
        eventually("the provider is told", async || {
            let entry = stage.home.provider.ledger().entry(id)?;
            (entry.ending == llm_proxy::demo::provider::ledger::Ending::CallerGone).then_some(())
        })
        .await;
    }
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strange_bodies_pass_and_harm_nothing() {
    let stage = Stage::new().await;
    let client = Client::new();
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let in_object = format!("{{\"messages\":[],\"a\":{deep},\"model\":\"gpt-4o\"}}");
    let twice = r#"{"model":"gpt-4o","model":"gpt-4.1","messages":[]}"#.to_owned();
    let control = "{\"model\":\"gpt\u{0}-4o\",\"user\":\"\u{7}\u{1b}[31m\",\"messages\":[]}";
    for (id, body) in [
        ("deep", deep),
        ("deep-object", in_object),
        ("twice", twice),
        ("control", control.to_owned()),
        ("nonsense", "}{".to_owned()),
        ("long-model", format!("{{\"model\":\"{}\",\"messages\":[]}}", "m".repeat(1 << 20))),
    ] {
        let seen = client.ask(stage.proxy.address, &stage.ask(id).saying(body)).await;
        assert!(seen.head.is_some(), "{seen:?}");
        let entry = stage.home.provider.ledger().entry(id);
        assert!(entry.is_some(), "what is the provider's affair goes to the provider: {id}");
        let record = stage.record(id).await;
        assert_eq!(record["status_code"], seen.status().unwrap(), "{record}");
    }
    // Bytes that are no UTF-8 at all.
    let body = [b"{\"model\":\"".as_slice(), &[0xff, 0xfe, 0x80, 0xc0], b"\"}"].concat();
    let head = stage.head("binary", &format!("content-length: {}\r\n\r\n", body.len()));
    let answer = stage.raw(&[head.as_bytes(), &body].concat()).await;
    assert!(answer.starts_with("HTTP/1.1 "), "{answer}");
    let record = stage.record("binary").await;
    assert_eq!(record["request_bytes"], body.len(), "{record}");
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ids_that_are_no_ids_are_replaced() {
    let stage = Stage::new().await;
    let body = chat(false);
    let length = format!("content-length: {}\r\n\r\n{body}", body.len());
    for (name, bad) in [
        ("long", "a".repeat(10_000).into_bytes()),
        ("spaces", b"two words".to_vec()),
        ("latin", b"caf\xe9".to_vec()),
        ("quote", b"\"},{\"x\":\"".to_vec()),
        ("tab", b"a\tb".to_vec()),
    ] {
        let head =
            stage.head("WHERE", &format!("x-test: {name}\r\nuser-agent: {name}\r\n{length}"));
        let (before, after) = head.split_once("WHERE").unwrap();
        let request = [before.as_bytes(), &bad, after.as_bytes()].concat();
        let answer = stage.raw(&request).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{name}: {answer}");
        let id = answer
            .lines()
            .find_map(|line| line.strip_prefix("x-request-id: "))
            .unwrap_or_else(|| panic!("{name}: an id of our own"));
        assert_eq!(id.len(), 36, "{name}: {id}");
        let record = stage.record(id).await;
        assert_eq!(record["user_agent"], name, "{record}");
    }
    let home = stage.end().await;
    let journal: Vec<u8> =
        home.journal_files().into_iter().flat_map(|file| std::fs::read(file).unwrap()).collect();
    assert!(!text(&journal).contains(&"a".repeat(1000)), "the bytes of an id that was refused");
    assert!(!journal.windows(4).any(|bytes| bytes == b"caf\xe9"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_http_is_refused_and_counted() {
    let stage = Stage::new().await;
    let body = chat(false);
    let with = |line: &[u8]| {
        let head = stage.head("bad", "");
        let length = format!("content-length: {}\r\n\r\n{body}", body.len());
        [head.as_bytes(), line, b"\r\n", length.as_bytes()].concat()
    };
    let mut refused = 0;
    for (name, request) in [
        ("nul", with(b"x-nul: a\0b")),
        ("control", with(b"x-control: a\x01b")),
        ("obs-fold", with(b"x-fold: a\r\n  b")),
        ("both lengths", with(b"transfer-encoding: chunked")),
        ("name", with(b"x y: a")),
        ("nonsense", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 hello\r\n\r\n".to_vec()),
        ("endless", with(&[b"x-long: ".as_slice(), &vec![b'a'; 4 << 20]].concat())),
        ("many", with("x-many: 1\r\n".repeat(5000).trim_end().as_bytes())),
    ] {
        let answer = stage.raw(&request).await;
        let status = answer.split(' ').nth(1).unwrap_or_default();
        let good = ["", "400", "413", "431"].contains(&status);
        assert!(good, "{name}: {answer}");
        refused += 1;
    }
    assert_eq!(stage.home.provider.ledger().page(None).received, 0, "none was forwarded");
    let counted = stage.proxy.metric("llm_proxy_connection_errors_total").await;
    let records = stage.home.readable_records().len();
    assert!(counted as usize + records >= refused, "{counted} counted, {records} recorded");
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_clients_keep_nobody_waiting() {
    const SLOW: usize = 300;
    let stage = Stage::new().await;
    let mut slow = Vec::new();
    for number in 0..SLOW {
        let mut stream = TcpStream::connect(stage.proxy.address).await.unwrap();
        let head = stage.head(&format!("slow-{number}"), "content-length: 100000\r\n\r\n{");
        // Half of them never finish their head, half their body.
        let sent = if number % 2 == 0 { &head[..40] } else { &head[..] };
        stream.write_all(sent.as_bytes()).await.unwrap();
        slow.push(stream);
    }
    eventually("all bodies are waited for", async || {
        let begun = stage.home.provider.ledger().page(None).received;
        (begun >= SLOW as u64 / 2).then_some(())
    })
    .await;
    let client = Client::new();
    for number in 0..50 {
        let seen = client.ask(stage.proxy.address, &stage.ask(&format!("quick-{number}"))).await;
        assert!(seen.is_good(), "{seen:?}");
        let took = seen.whole_at.unwrap() - seen.sent_at;
        assert!(took < Duration::from_secs(5), "{took:?}");
    }
    drop(slow);
    let home = stage.end().await;
    let records = home.records_by_id();
    let gone = records
        .iter()
        .filter(|(id, record)| id.starts_with("slow-") && record["outcome"] == "client_closed");
    assert_eq!(gone.count(), SLOW / 2, "a head that never came leaves no record");
    assert_eq!(records.len(), SLOW / 2 + 50 + 1);
}
