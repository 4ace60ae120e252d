//! The doors of the search over sockets: pages, exports, tails, figures, what
//! keys limited to projects see, and what the audit log hears of it.

use std::{collections::BTreeSet, time::Duration};

use domain::{audit::Action, time::Timestamp};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};

use super::harness::{Ask, Reply, START, Server, get};

const TURN: Duration = Duration::from_secs(10);

/// The line of a record: the `n`th of a project, `n` seconds after the start.
pub(crate) fn record(n: u64, project: &str, more: &str) -> String {
    let ts = Timestamp::from_micros(START.as_micros() + n as i64 * 1_000_000);
    format!(
        "{{\"schema\":1,\"stream\":\"record\",\"record_id\":\"019aaf10-0001-7000-8000-{n:012}\",\
         \"ts\":\"{ts}\",\"level\":\"info\",\"msg\":\"request completed\",\
         \"component\":\"proxy\",\"instance\":\"test\",\"version\":\"0.0.0\",\
         \"request_id\":\"r-{n}\",\"correlation_id\":\"c-{n}\",\"project_id\":\"{project}\",\
         \"project\":\"p\",\"model\":\"gpt-4o\",\"status_code\":200,\"outcome\":\"ok\",\
         \"duration_ms\":12.5,\"input_tokens\":10,\"output_tokens\":5,\"total_tokens\":15,\
         \"cost_usd\":\"0.5\"{more}}}"
    )
}

impl Server {
    /// Appends lines and waits until they are committed.
    pub(crate) async fn append(&self, lines: impl IntoIterator<Item = String>) {
        let mut told = Vec::new();
        for line in lines {
            let (tell, stored) = tokio::sync::oneshot::channel();
            let then = Box::new(move |stored| tell.send(stored).unwrap_or_default());
            let intake = self.journal.intake();
            intake.line_then(logstore::Stream::Entry, line.into_bytes(), Some(then)).unwrap();
            told.push(stored);
        }
        for stored in told {
            assert!(stored.await.unwrap());
        }
    }

    /// Seals what is committed and removes its files.
    pub(crate) async fn seal(&self) {
        let (journal, catalog) =
            (self.journal.clone(), self.management.manage.segments.catalog.clone());
        let sealed = tokio::task::spawn_blocking(move || {
            let closed_to = journal.turn(TURN).unwrap();
            catalog.seal_closed(closed_to).unwrap();
            catalog.drop_sealed(closed_to).unwrap();
        });
        sealed.await.unwrap();
    }

    async fn entries(&self, action: Action) -> usize {
        let filter = store::EntryFilter { action: Some(action), ..Default::default() };
        let page = store::Page { limit: 1000, cursor: None };
        self.store().audit_entries(&filter, &page).await.unwrap().items.len()
    }

    async fn ok(&self, ask: Ask) -> Reply {
        let shown = ask.path.clone();
        let reply = self.call(ask).await;
        assert_eq!(reply.status, 200, "{shown}: {}", reply.raw);
        reply
    }
}

fn ids(reply: &Reply) -> Vec<String> {
    let items = reply.body["items"].as_array().unwrap();
    items.iter().map(|item| item["request_id"].as_str().unwrap_or_default().to_owned()).collect()
}

pub(crate) const SOMEBODY: &str = "019aaf10-0001-7000-8000-00000000aaaa";

#[tokio::test]
async fn pages_neither_lose_nor_repeat_while_lines_arrive() {
    let server = Server::start().await;
    server.append((0..12).map(|n| record(n, SOMEBODY, ""))).await;
    server.seal().await;
    server.append((12..25).map(|n| record(n, SOMEBODY, ""))).await;
    let (mut seen, mut cursor, mut next) = (Vec::new(), String::new(), 100);
    loop {
        let reply = server.ok(get(&format!("/manage/logs?stream=record&limit=7{cursor}"))).await;
        assert_eq!(reply.body["complete"], true, "{}", reply.raw);
        seen.extend(ids(&reply));
        server.append([record(next, SOMEBODY, "")]).await;
        next += 1;
        match reply.body["next_cursor"].as_str() {
            Some(at) => cursor = format!("&cursor={at}"),
            None => break,
        }
    }
    let expected: Vec<String> = (0..25).rev().map(|n| format!("r-{n}")).collect();
    assert_eq!(seen, expected);
    let oldest = server.ok(get("/manage/logs?order=asc&limit=2&q=status:200")).await;
    assert_eq!(ids(&oldest), ["r-0", "r-1"]);
    let around = server.ok(get("/manage/logs?context=1&request_id=r-5")).await;
    assert_eq!(ids(&around), ["r-6", "r-5", "r-4"]);
    assert_eq!(around.body["neighbours"], serde_json::json!([0, 2]));
    let shown = server.ok(get("/manage/logs?fields=model,status_code&limit=1")).await;
    let expected = serde_json::json!([{ "model": "gpt-4o", "status_code": 200 }]);
    assert_eq!(shown.body["items"], expected);
}

#[tokio::test]
async fn lines_leave_as_json_lines_and_csv() {
    let server = Server::start().await;
    server.append((0..3).map(|n| record(n, SOMEBODY, ""))).await;
    let lines = get("/manage/logs?order=asc").header("accept", "application/x-ndjson");
    let reply = server.ok(lines.clone()).await;
    assert_eq!(reply.header("content-type"), Some("application/x-ndjson"));
    let body = unchunked(&reply.raw);
    let expected: String = (0..3).map(|n| format!("{}\n", record(n, SOMEBODY, ""))).collect();
    assert_eq!(body, expected, "the bytes that were written");
    let csv = get("/manage/logs?order=asc&fields=request_id,model").header("accept", "text/csv");
    let reply = server.ok(csv).await;
    let expected = "request_id,model\r\nr-0,gpt-4o\r\nr-1,gpt-4o\r\nr-2,gpt-4o\r\n";
    assert_eq!(unchunked(&reply.raw), expected);
    assert_eq!(server.entries(Action::LogsExport).await, 2);
    let (_, viewer) = server.key("viewer", None).await;
    let (_, auditor) = server.key("auditor", None).await;
    let many = Ask { path: "/manage/logs?limit=5000".to_owned(), ..lines };
    assert_eq!(server.call(many.clone().key(Some(&viewer))).await.status, 403);
    assert_eq!(server.call(many.key(Some(&auditor))).await.status, 200);
    let figures = get("/manage/logs/stats?by=model&fn=count").header("accept", "text/csv");
    assert_eq!(server.ok(figures).await.raw, "model,count\r\ngpt-4o,3\r\n");
}

/// The body behind `transfer-encoding: chunked`.
fn unchunked(raw: &str) -> String {
    let (mut body, mut rest) = (String::new(), raw);
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            return body;
        }
        body.push_str(&after[..size]);
        rest = &after[size + 2..];
    }
    panic!("the body has no end: {raw}");
}

#[tokio::test]
async fn a_limited_key_sees_its_projects_only() {
    let server = Server::start().await;
    let (own, other) = (server.project("own").await, server.project("other").await);
    let (_, key) = server.key("admin", Some(&[&own])).await;
    let lines = [record(0, &own, ""), record(1, &other, ""), record(2, &own, "")];
    server.append(lines).await;
    for sealed in [false, true] {
        if sealed {
            server.seal().await;
        }
        let ask = |path: &str| get(path).key(Some(&key));
        for path in
            ["/manage/logs", "/manage/logs?q=r-1%20OR%20status:200", "/manage/logs?stream=all"]
        {
            assert_eq!(ids(&server.ok(ask(path)).await), ["r-2", "r-0"], "{path}");
        }
        assert_eq!(ids(&server.ok(ask("/manage/logs?request_id=r-1")).await).len(), 0);
        let around = server.ok(ask("/manage/logs?request_id=r-0&context=5")).await;
        assert_eq!(ids(&around), ["r-2", "r-0"]);
        assert_eq!(server.call(ask("/manage/requests/r-1")).await.status, 404);
        assert_eq!(
            server.ok(ask("/manage/requests/r-0")).await.body["records"][0]["request_id"],
            "r-0"
        );
        let stats = server.ok(ask("/manage/logs/stats?by=project_id&fn=count")).await;
        let expected = serde_json::json!([{ "project_id": own, "count": 2 }]);
        assert_eq!(stats.body["items"], expected);
        let usage = server.ok(ask("/manage/usage?group_by=project")).await;
        let expected = serde_json::json!([{
            "project_id": own, "project": "own", "requests": 2, "input_tokens": 20,
            "output_tokens": 10, "total_tokens": 30, "cached_input_tokens": 0, "cost_usd": "1",
        }]);
        assert_eq!(usage.body["items"], expected);
        let lines = ask("/manage/logs").header("accept", "application/x-ndjson");
        let exported = server.ok(lines).await;
        assert!(!exported.raw.contains("r-1\""), "{}", exported.raw);
        let all = server.ok(get("/manage/usage?group_by=project,day")).await;
        assert_eq!(all.body["items"].as_array().unwrap().len(), 2, "{}", all.raw);
        assert_eq!(all.body["items"][0]["day"], START.to_string()[..10]);
    }
    let mut tail = Tail::open(&server, "/manage/logs/tail", Some(&key), None).await;
    server.append([record(3, &other, ""), record(4, &own, "")]).await;
    assert_eq!(tail.next().await.1["request_id"], "r-4");
}

#[tokio::test]
async fn wrong_questions_are_refused_with_their_place() {
    let server = Server::start().await;
    let check = async |path: &str, expected: &str| {
        let reply = server.call(get(path)).await;
        assert_eq!(reply.status, 400, "{path}: {}", reply.raw);
        assert!(reply.raw.contains(expected), "{path}: {}", reply.raw);
    };
    for bad in ["0", "-1", "1001", "99999999999999999999", "", "ten"] {
        check(&format!("/manage/logs?limit={bad}"), "limit must be 1 to 1000").await;
    }
    check("/manage/logs?cursor=x", "cursor is not one of ours").await;
    check("/manage/logs/tail?cursor=1.2", "cursor is not one of ours").await;
    check("/manage/logs?since=yesterdayish", "since: expected").await;
    check("/manage/logs?until=2026-13-45", "until: expected").await;
    check("/manage/logs?since=1h&until=2h", "nothing lies between since=").await;
    check("/manage/usage?since=2026-11-24&until=2026-11-23", "nothing lies between since=").await;
    check("/manage/logs?stream=bodies", "stream must be").await;
    check("/manage/logs?order=up", "order must be").await;
    check("/manage/logs?context=100000", "context must be 0 to 1000").await;
    check("/manage/logs?nonsense=1", "unknown query parameter nonsense").await;
    check("/manage/logs?q=a&q=b", "stands twice").await;
    check("/manage/logs?status=abc", "\"parameter\":\"status\"").await;
    check("/manage/logs/stats?fn=p95", "\"parameter\":\"fn\"").await;
    check("/manage/logs/stats?by=modle", "\"at\":[0,5]").await;
    check("/manage/logs/stats?bucket=soon", "\"parameter\":\"bucket\"").await;
    check("/manage/usage?group_by=planet", "group_by takes").await;
    check("/manage/usage?group_by=day,day", "group_by takes").await;
    let nested = format!("{}a{}", "(".repeat(1000), ")".repeat(1000));
    check(&format!("/manage/logs?q={nested}"), "\"parameter\":\"q\"").await;
    let long = "a".repeat(30 * 1024);
    server.ok(get(&format!("/manage/logs?q={long}"))).await;
    check(&format!("/manage/logs?q={long}{long}"), "longer than 32 KiB").await;
    let long = "a".repeat(100_000);
    let reply = server.call(get(&format!("/manage/logs?q={long}"))).await;
    assert!([400, 414, 431].contains(&reply.status), "{}", reply.head);
    let reply = server.call(get("/manage/logs?q=statsu_code:200")).await;
    assert_eq!(reply.body["at"], serde_json::json!([0, 11]), "{}", reply.raw);
    assert_eq!(reply.body["suggestion"], "status_code");
}

#[tokio::test]
async fn the_audit_tells_of_it() {
    let server = Server::start().await;
    server.append((0..3).map(|n| record(n, SOMEBODY, ""))).await;
    for _ in 0..3 {
        server.ok(get("/manage/logs?q=status:200")).await;
        server.ok(get("/manage/logs?q=status:200&limit=5")).await;
    }
    assert_eq!(server.entries(Action::LogsSearch).await, 1, "one for one query");
    server.ok(get("/manage/logs/stats?by=model")).await;
    server.ok(get("/manage/usage")).await;
    server.ok(get("/manage/requests/r-1")).await;
    let told = server.ok(get("/manage/requests/019AAF10-0001-7000-8000-000000000001")).await;
    assert_eq!(told.body["records"][0]["request_id"], "r-1", "in capitals: {}", told.raw);
    assert_eq!(server.entries(Action::LogsSearch).await, 5);
    server.clock.advance_micros(601_000_000);
    server.ok(get("/manage/logs?q=status:200")).await;
    assert_eq!(server.entries(Action::LogsSearch).await, 6);
    // Without the database: what was found before is found still, but nothing
    // is exported without its entry.
    std::fs::remove_file(server.dir.path().join("llm-proxy.db")).unwrap();
    server.ok(get("/manage/logs?q=model:gpt-4o")).await;
    let words = server.call(get("/manage/logs?q=words")).await;
    assert_eq!(words.text("code"), "audit_unavailable", "words look into bodies: {}", words.raw);
    server.ok(get("/manage/logs?q=words&bodies=false")).await;
    let export = get("/manage/logs").header("accept", "application/x-ndjson");
    let refused = server.call(export).await;
    assert_eq!((refused.status, refused.text("code").as_str()), (503, "audit_unavailable"));
    assert!(!refused.raw.contains("r-1"), "{}", refused.raw);
}

/// A tail, event by event.
struct Tail {
    lines: BufReader<TcpStream>,
}

impl Tail {
    async fn open(server: &Server, path: &str, key: Option<&str>, last: Option<&str>) -> Self {
        let mut ask = get(path).header("accept", "text/event-stream");
        if let Some(key) = key {
            ask = ask.key(Some(key));
        }
        if let Some(last) = last {
            ask = ask.header("last-event-id", last);
        }
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(&ask.bytes()).await.unwrap();
        let mut tail = Self { lines: BufReader::new(stream) };
        let mut head = String::new();
        while !head.contains(": following") {
            assert!(tail.lines.read_line(&mut head).await.unwrap() > 0, "{head}");
        }
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        tail
    }

    /// The next line with its id.
    async fn next(&mut self) -> (String, Value) {
        let mut id = String::new();
        loop {
            let mut line = String::new();
            let read = tokio::time::timeout(TURN, self.lines.read_line(&mut line));
            assert!(read.await.expect("an event in time").unwrap() > 0, "the tail ended");
            if let Some(text) = line.strip_prefix("id: ") {
                text.trim_end().clone_into(&mut id);
            }
            if let Some(data) = line.strip_prefix("data: ") {
                return (id, serde_json::from_str(data).unwrap());
            }
        }
    }
}

#[tokio::test]
async fn a_tail_survives_rotation_and_sealing_and_goes_on_where_it_was() {
    let server = Server::start().await;
    server.append([record(0, SOMEBODY, "")]).await;
    let page = server.ok(get("/manage/logs")).await;
    let cursor = page.text("tail_cursor");
    let path = format!("/manage/logs/tail?model=gpt-4o&cursor={cursor}");
    server.append((1..6).map(|n| record(n, SOMEBODY, ""))).await;
    let mut tail = Tail::open(&server, &path, None, None).await;
    let mut seen = Vec::new();
    let mut places = Vec::new();
    for _ in 1..4 {
        let (id, line) = tail.next().await;
        places.push(id);
        seen.push(line["request_id"].as_str().unwrap().to_owned());
    }
    drop(tail);
    server.seal().await;
    server.append((6..9).map(|n| record(n, SOMEBODY, ""))).await;
    let mut tail = Tail::open(&server, &path, None, places.last().map(String::as_str)).await;
    for _ in 4..9 {
        seen.push(tail.next().await.1["request_id"].as_str().unwrap().to_owned());
    }
    server.seal().await;
    server.append([record(9, SOMEBODY, "")]).await;
    seen.push(tail.next().await.1["request_id"].as_str().unwrap().to_owned());
    let expected: Vec<String> = (1..10).map(|n| format!("r-{n}")).collect();
    assert_eq!(seen, expected);
    server.stop.cancel();
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(TURN, tail.lines.read_to_end(&mut rest)).await;
    ended.expect("the tail ends with the server").unwrap();
    assert!(rest.ends_with(b"0\r\n\r\n"), "it ends cleanly");
}

#[tokio::test]
async fn tails_are_few_and_end_with_their_clients() {
    let server = Server::start().await;
    let mut tails = Vec::new();
    loop {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(&get("/manage/logs/tail").bytes()).await.unwrap();
        let mut status = [0; 12];
        stream.read_exact(&mut status).await.unwrap();
        if !status.ends_with(b"200") {
            assert!(status.ends_with(b"429"), "{}", String::from_utf8_lossy(&status));
            break;
        }
        tails.push(stream);
        assert!(tails.len() < 100, "tails have a bound");
    }
    drop(tails);
    let again = async {
        while server.call(get("/manage/logs/tail?cursor=x")).await.status != 400 {}
        // Whoever left is noticed; then there is room again.
        loop {
            let mut stream = TcpStream::connect(server.address).await.unwrap();
            stream.write_all(&get("/manage/logs/tail").bytes()).await.unwrap();
            let mut status = [0; 12];
            stream.read_exact(&mut status).await.unwrap();
            if status.ends_with(b"200") {
                return;
            }
        }
    };
    tokio::time::timeout(TURN, again).await.expect("room again");
}

#[tokio::test]
async fn what_nobody_reads_ends() {
    let server = Server::start().await;
    let padding = format!(",\"error\":\"{}\"", "x".repeat(50_000));
    for begin in [0, 100, 200, 300] {
        server.append((begin..begin + 100).map(|n| record(n, SOMEBODY, &padding))).await;
    }
    let export = get("/manage/logs?limit=100000").header("accept", "application/x-ndjson");
    let mut clients = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(&export.bytes()).await.unwrap();
        let mut status = [0; 12];
        stream.read_exact(&mut status).await.unwrap();
        assert!(status.ends_with(b"200"));
        clients.push(stream);
    }
    let busy = server.call(export.clone()).await;
    assert_eq!((busy.status, busy.text("code").as_str()), (429, "too_many_searches"));
    // Searches have places of their own.
    server.ok(get("/manage/logs?limit=1")).await;
    drop(clients);
    let again = async { while server.call(export.clone()).await.status != 200 {} };
    tokio::time::timeout(Duration::from_secs(30), again).await.expect("a place again");
    let whole: BTreeSet<String> = unchunked(&server.ok(export).await.raw)
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["request_id"].to_string())
        .collect();
    assert_eq!(whole.len(), 400);
}
