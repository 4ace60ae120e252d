//! With `CAPTURE_BODIES=all`, secrets of every rule go through every kind of
//! body, and then every byte that was written anywhere is searched for them.

use std::io::Write as _;

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{Method, Request, Response};
use http_body::Frame;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::{Value, json};

use crate::support::{
    AnyBody, Proxy, binary, chat, client, fed, files_below, handler, provider, read, until, whole,
};

/// What each rule must find: unlike anything else that the test writes.
const CANARIES: [&str; 12] = [
    "sk-Zk3vQ9xT7mB2wR5yL8nC4dF6gH1jK0pA3sD5fG7hJ9k",
    "sk-ant-api03-a1B2c3D4e5F6g7H8i9J0-kLmNoPqR_AA",
    "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
    "xoxb-123456789012-1234567890123-AbCdEfGhIjKl",
    "AKIAIOSFODNN7EXAMPLE",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmN",
    "canary.person+tag@mail.example.com",
    "4111 1111 1111 1111",
    "5500005555555559",
    "+49 30 901820",
    "(415) 555-2671",
    "EMP-4711-canary",
];

const RULES: &str = "redaction:\n  paths: ['**.diagnosis']\n  patterns:\n    \
    - {name: employee, regex: 'EMP-[0-9]+-[a-z]+'}\n";

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

/// Each character of `text` as an event of its own.
fn events(text: &str) -> String {
    let event = |piece: char| {
        let piece = piece.to_string();
        let event = json!({ "choices": [{ "index": 0, "delta": { "content": piece } }] });
        format!("data: {event}\n\n")
    };
    text.chars().map(event).collect::<String>() + "data: [DONE]\n\n"
}

/// Says the text of the request's last message again, in the way that the
/// request's header names.
async fn echo(request: Request<Incoming>) -> Response<AnyBody> {
    let way = request.headers()["x-way"].to_str().unwrap().to_owned();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let asked: Value = serde_json::from_slice(&body).unwrap();
    let text = asked["messages"][0]["content"].as_str().unwrap().to_owned();
    let answer = json!({ "choices": [{ "message": { "content": text,
        "diagnosis": "canaryDiagnosis7", "tool_calls": [{ "function":
            { "arguments": json!({ "password": "canaryPassword8", "note": text }).to_string() } }]
        } }] });
    let answer = answer.to_string();
    let response = Response::builder().header("content-type", "application/json");
    match way.as_str() {
        "gzip" => response.header("content-encoding", "gzip").body(whole(gzip(answer.as_bytes()))),
        "error" => response.status(500).body(whole(answer)),
        "stream" | "gzip-stream" => {
            let stream = events(&text);
            let response = Response::builder().header("content-type", "text/event-stream");
            if way == "stream" {
                let (sender, body) = fed();
                tokio::spawn(async move {
                    // Frames that end in the middle of everything.
                    for piece in stream.as_bytes().chunks(61) {
                        let frame = Frame::data(Bytes::copy_from_slice(piece));
                        if sender.send(Ok(frame)).await.is_err() {
                            return;
                        }
                    }
                });
                response.body(body)
            } else {
                let stream = gzip(stream.as_bytes());
                response.header("content-encoding", "gzip").body(whole(stream))
            }
        }
        _ => response.body(whole(answer)),
    }
    .unwrap()
}

const WAYS: [&str; 5] = ["plain", "gzip", "error", "stream", "gzip-stream"];

async fn send(proxy: &Proxy, token: &str, id: &str, way: &str, text: &str) {
    let body = json!({ "model": "gpt-4o-mini", "diagnosis": { "of": "canaryDiagnosis7" },
        "api_key": "canaryMember5", "messages": [{ "role": "user", "content": text }] });
    let mut request = chat(proxy, token, id, &body.to_string());
    request.headers_mut().insert("x-way", way.parse().unwrap());
    let answer = read(client().request(request).await.unwrap()).await;
    assert!(!answer.body.is_empty());
}

/// Every captured body in the journal's directory.
fn bodies(proxy: &Proxy) -> Vec<Value> {
    let files = files_below(&proxy.dir.path().join("data/journal"));
    let files = files.iter().filter(|path| path.extension().is_some_and(|it| it == "bodies"));
    let text: String = files.map(|path| std::fs::read_to_string(path).unwrap()).collect();
    // The last line may be on its way.
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["stream"] == "body").collect()
}

/// The bodies that `logs show` tells of, without what no rule found.
fn story_bodies(proxy: &Proxy, id: &str) -> Vec<Value> {
    let output = proxy.command(&["logs", "show", id, "-o", "json"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let story: Value = serde_json::from_slice(&output.stdout).unwrap();
    let bodies = story["bodies"].as_array().unwrap().clone();
    assert_eq!(bodies.len(), 2, "{story}");
    for body in &bodies {
        assert_eq!(body["request_id"], *id);
        assert!(body["body"].as_str().unwrap().contains("[redacted:credentials]"));
    }
    let table = proxy.command(&["logs", "show", id]);
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(table.contains("request body (application/json, "), "{table}");
    bodies
}

/// What the bodies say is found through the API by auditors, not by viewers.
async fn words_are_found_by_those_who_may_read_them(proxy: &Proxy, sent: usize) {
    let path = "/manage/logs?q=%22and%20on%22&stream=record&limit=1000";
    for (role, expected) in [("auditor", sent), ("viewer", 0), ("operator", 0)] {
        let wanted = json!({ "name": role, "role": role });
        let (status, key) = proxy.manage(Method::POST, "/manage/keys", wanted).await;
        assert_eq!(status, 201, "{key}");
        let key = key["key"].as_str().unwrap_or_else(|| panic!("{key}"));
        let ask = Request::get(proxy.url(path)).header("authorization", format!("Bearer {key}"));
        let answer = read(client().request(ask.body(whole("")).unwrap()).await.unwrap()).await;
        let page: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(page["matched"], expected, "{role}: {page}");
        assert_eq!(page["searched"]["bodies"], expected > 0, "{role}: {page}");
    }
    let (_, page) = proxy.manage(Method::GET, &format!("{path}&bodies=false"), json!({})).await;
    assert_eq!(page["matched"], 0, "{page}");
    let entries = proxy.command(&["logs", "search", "action:logs.search", "-o", "raw"]);
    let entries = String::from_utf8_lossy(&entries.stdout).into_owned();
    assert_eq!(entries.matches("record+bodies").count(), 1, "the auditor's: {entries}");
}

fn assert_nowhere(proxy: &Proxy, secrets: &[&str]) {
    let mut searched = 0;
    for file in files_below(proxy.dir.path()) {
        // What the operator wrote.
        if file.ends_with("providers.yaml") || file.ends_with("config.yaml") {
            continue;
        }
        let bytes = std::fs::read(&file).unwrap();
        searched += bytes.len();
        for secret in secrets {
            let at = memchr::memmem::find(&bytes, secret.as_bytes());
            let around =
                at.map(|at| String::from_utf8_lossy(&bytes[at.saturating_sub(200)..at + 50]));
            assert!(at.is_none(), "{secret} in {}: …{}", file.display(), around.unwrap());
        }
    }
    println!("{} secrets nowhere in {searched} bytes", secrets.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_of_a_body_is_written_anywhere() {
    let upstream = provider(handler(echo)).await;
    let config = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(config.path(), RULES).unwrap();
    let environment = [
        ("CAPTURE_BODIES", "all"),
        ("LOG_LEVEL", "trace"),
        ("JOURNAL_SYNC", "each"),
        ("LLM_PROXY_CONFIG", config.path().to_str().unwrap()),
    ];
    let mut proxy = Proxy::before(&format!("http://{upstream}"), &environment).await;
    let token = proxy.token().await;
    let mut sent = 0;
    for (at, canary) in CANARIES.iter().enumerate() {
        for way in WAYS {
            let id = format!("req-{at}-{way}");
            send(&proxy, &token, &id, way, &format!("so {canary}, and on")).await;
            sent += 1;
        }
    }
    for at in 0..CANARIES.len() {
        let record = proxy.record(&format!("req-{at}-plain")).await;
        let flags = "request,response,request_redacted,response_redacted";
        assert_eq!(record["captured"], flags, "{record}");
    }
    until("all bodies are kept", async || (bodies(&proxy).len() == 2 * sent).then_some(())).await;
    for body in bodies(&proxy) {
        let text = body["body"].as_str().unwrap();
        // What is said in pieces, put together again.
        let payloads = text.lines().filter_map(|line| line.strip_prefix("data: "));
        let events = payloads.filter_map(|event| serde_json::from_str::<Value>(event).ok());
        let said: String = events
            .filter_map(|event| Some(event["choices"][0]["delta"]["content"].as_str()?.to_owned()))
            .collect();
        let whole = if said.is_empty() { text } else { &said };
        assert!(whole.contains("so [redacted:") && whole.contains(", and on"), "{whole}");
        assert!(body["redactions"].as_u64().unwrap() > 0 && body["truncated"] == false);
    }
    let mut secrets = CANARIES.to_vec();
    secrets.extend(["canaryDiagnosis7", "canaryPassword8", "canaryMember5", &token]);
    assert_nowhere(&proxy, &secrets);
    assert_eq!(
        proxy.metric("llm_proxy_bodies_captured_total{side=\"request\"}").await,
        sent as f64
    );
    assert!(proxy.metric("llm_proxy_bodies_bytes_total").await > 1000.0);
    words_are_found_by_those_who_may_read_them(&proxy, sent).await;
    let while_hot = story_bodies(&proxy, "req-0-plain");
    proxy.stop().await;
    assert_nowhere(&proxy, &secrets);
    // Sealed at the end, and still the same lines.
    let sealed = files_below(&proxy.dir.path().join("data/logs/v1/bodies"));
    assert!(sealed.iter().any(|path| path.extension().is_some_and(|it| it == "parquet")));
    assert_eq!(story_bodies(&proxy, "req-0-plain"), while_hot);
    // And nothing of a body on standard output, redacted or not.
    let shown = std::fs::read_to_string(proxy.dir.path().join("stdout")).unwrap();
    assert!(shown.contains("\"captured\":") && !shown.contains(", and on"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_wins_over_its_project_and_a_project_over_the_setting() {
    let upstream = provider(handler(echo)).await;
    let base = format!("http://{upstream}");
    let proxy = Proxy::before(&base, &[("CAPTURE_BODIES", "errors")]).await;
    let created = proxy.token_of("acme", Value::Null).await;
    let token = created["token"].as_str().unwrap();
    let wishes = async |project: Value, own: Value| {
        let path = format!("/manage/projects/{}", created["project_id"].as_str().unwrap());
        let body = json!({ "capture_bodies": project });
        assert_eq!(proxy.manage(Method::PATCH, &path, body).await.0, 200);
        let path = format!("/manage/tokens/{}", created["id"].as_str().unwrap());
        let body = json!({ "capture_bodies": own });
        assert_eq!(proxy.manage(Method::PATCH, &path, body).await.0, 200);
    };
    let mut number = 0;
    let mut check = async |project: Value, own: Value, way: &str, expected: bool| {
        wishes(project.clone(), own.clone()).await;
        number += 1;
        let id = format!("req-{number}");
        send(&proxy, token, &id, way, "hello").await;
        let record = proxy.record(&id).await;
        assert_eq!(record["captured"].is_string(), expected, "{project} {own} {way}: {record}");
    };
    check(Value::Null, Value::Null, "plain", false).await;
    check(Value::Null, Value::Null, "error", true).await;
    check(json!("all"), Value::Null, "plain", true).await;
    check(json!("all"), json!("off"), "error", false).await;
    check(json!("off"), json!("errors"), "error", true).await;
    check(json!("off"), json!("errors"), "plain", false).await;
    check(json!("off"), Value::Null, "error", false).await;
    let body = json!({ "capture_bodies": "some" });
    let path = format!("/manage/tokens/{}", created["id"].as_str().unwrap());
    assert_eq!(proxy.manage(Method::PATCH, &path, body).await.0, 400);
}

#[test]
fn rules_can_be_tried_before_they_decide() {
    let config = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(config.path(), RULES).unwrap();
    let body = tempfile::NamedTempFile::new().unwrap();
    let run = |text: &[u8], arguments: &[&str]| {
        std::fs::write(body.path(), text).unwrap();
        let mut command = binary();
        command.args(["logs", "redact"]).arg(body.path()).args(arguments);
        let output = command.env("LLM_PROXY_CONFIG", config.path()).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (status, out, err) = run(br#"{"diagnosis":"x","a":"EMP-1-b, bob@example.com"}"#, &[]);
    assert_eq!(
        out,
        r#"{"diagnosis":"[redacted:path]","a":"[redacted:employee], [redacted:email]"}"#
    );
    assert_eq!(status, Some(0), "{err}");
    let told = "replaced: email 1, path 1, employee 1; \
        rules: credentials, email, card, phone, path, employee\n";
    assert_eq!(err, told);
    let (status, out, err) = run(b"nothing to see", &[]);
    assert_eq!((status, out.as_str()), (Some(1), "nothing to see"), "{err}");
    let (status, out, err) = run(b"\xff", &["--content-type", "image/png"]);
    assert_eq!((status, out.as_str()), (Some(2), ""), "{err}");
    assert!(err.contains("left out"), "{err}");
    let (status, _, err) = run(b"x", &["--provider", "nobody"]);
    assert!(status == Some(2) && err.contains("there is no provider 'nobody'"), "{err}");

    std::fs::write(
        config.path(),
        "redaction: {builtin: [all], patterns: [{name: A, regex: '('}], \
        paths: ['a..b'], more: 1}\n",
    )
    .unwrap();
    let (status, _, err) = run(b"x", &[]);
    assert_eq!(status, Some(2));
    for problem in [
        "redaction.builtin[0]: must be one of",
        "redaction.patterns[0]: a name is",
        "redaction.paths[0]: must be names",
        "redaction.more: unknown key",
    ] {
        assert!(err.contains(problem), "{problem} in {err}");
    }
}
