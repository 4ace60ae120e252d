//! The audit log of a whole process: what it says of starts and ends, of a
//! journal that fails or is tampered with, of first uses, and that a refusal is
//! entered once whatever happens to the process.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use http::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{
    harness::{Ask, Client, Credential, Dice, Home, Proxy, eventually, say},
    load::{Load, plain},
};

/// The entries of the journal's producer, sealed or not, in their order.
fn entries(home: &Home) -> Vec<Value> {
    let output =
        home.run(&["logs", "search", "--stream", "entry", "-o", "json", "--limit", "100000"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let mut found: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    found.retain(|entry| entry["producer"].as_str().unwrap().ends_with("/journal"));
    found.sort_by_key(|entry| entry["seq"].as_u64());
    found
}

fn leaf(entry: &Value) -> Value {
    serde_json::from_str(entry["leaf"].as_str().unwrap()).unwrap()
}

fn of<'a>(entries: &'a [Value], action: &str) -> Vec<&'a Value> {
    entries.iter().filter(|entry| entry["action"] == action).collect()
}

/// Refusals by reason as the entries tell them; numbers must be dense, and
/// every entry that carries totals must agree with those before it.
fn refusals(entries: &[Value]) -> BTreeMap<String, u64> {
    let mut told = BTreeMap::new();
    for (at, entry) in entries.iter().enumerate() {
        assert_eq!(entry["seq"], at as u64 + 1, "dense numbers: {entry}");
        let leaf = leaf(entry);
        if ["access.denied", "access.denied.aggregate", "auth.failed"]
            .contains(&leaf["action"].as_str().unwrap())
        {
            let count = leaf["details"]["count"].as_u64().unwrap_or(1);
            *told.entry(leaf["reason_code"].as_str().unwrap().to_owned()).or_insert(0) += count;
        }
        if let Some(carried) = leaf["details"].get("denied_totals") {
            assert_eq!(*carried, json!(told), "totals carried by {entry}");
        }
    }
    told
}

async fn refuse(proxy: &Proxy, token: &Credential, times: u64, begin: &str) {
    let unknown = Credential { secret: format!("sk-{}", "x".repeat(43)), ..token.clone() };
    for at in 0..times {
        let ask = Ask::chat(&unknown, format!("{begin}-{at}"));
        assert_eq!(Client::new().ask(proxy.address, &ask).await.status(), Some(401));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn starts_ends_and_refusals_are_entered_over_clean_ends_and_kills() {
    let home = Home::new().await;
    let mut expected = 0;
    for round in 0..4 {
        let mut proxy = home.start().await;
        let token = proxy.token(&home, &format!("p-{round}"), None).await;
        refuse(&proxy, &token, 12, &format!("refused-{round}")).await;
        expected += 12;
        if round % 2 == 0 {
            proxy.stop().await;
        } else {
            // Longer than counts wait to be noted: what a kill takes is bounded.
            tokio::time::sleep(Duration::from_millis(400)).await;
            proxy.kill();
        }
    }
    home.start().await.stop().await;
    let found = entries(&home);
    let told = refusals(&found);
    assert_eq!(told, BTreeMap::from([("token_not_found".to_owned(), expected)]));
    let starts = of(&found, "system.start");
    let ends: Vec<_> = starts
        .iter()
        .map(|it| leaf(it)["details"]["previous_end"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(ends, ["none", "clean", "crash", "clean", "crash"]);
    let unaccounted = leaf(starts[2])["details"]["unaccounted_ms"].clone();
    assert_eq!(unaccounted, 200, "a tenth of a second and the sync interval");
    let stops = of(&found, "system.stop");
    assert_eq!(stops.len(), 3);
    assert!(stops.iter().all(|it| leaf(it)["details"]["signal"] == "SIGTERM"));
    home.check();
}

/// Whatever stands in the fields that a client writes: a refusal's entry is one
/// line of plain text, and nobody in it is anybody else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_clients_write_nothing_into_their_entries() {
    let home = Home::new().await;
    let proxy = home.start().await;
    let evil = "a\u{202e}b\u{2028}c \",\"actor\":{\"kind\":\"root\"},\"x\":\" %s%n ${jndi:x} =1+1";
    let long = "y".repeat(8_000);
    for (name, value) in [
        ("user-agent", evil),
        ("user-agent", &long),
        ("x-request-id", evil),
        ("x-correlation-id", evil),
        ("traceparent", evil),
        ("x-forwarded-for", "203.0.113.66"),
        ("forwarded", "for=203.0.113.66"),
        ("x-actor", "root"),
        ("origin", evil),
        ("x-api-key", evil),
    ] {
        let mut stream = tokio::net::TcpStream::connect(proxy.address).await.unwrap();
        let path = "/v1/chat/completions%22%2C%22actor%22%3A%0d%0a";
        let body = json!({ "model": evil, "user": evil }).to_string();
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\n{name}: {value}\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 40"), "{name}");
    }
    proxy.stop().await;
    let found = entries(&home);
    let denied = of(&found, "access.denied");
    assert!(denied.len() >= 5, "{}", denied.len());
    for entry in &found {
        let text = entry["leaf"].as_str().unwrap();
        assert!(text.is_ascii() && text.len() < 4096, "{text}");
        assert!(!text.contains("root") && !text.contains("203.0.113.66"), "{text}");
    }
    assert!(denied.iter().all(|entry| entry["actor_kind"] == "anonymous"));
    home.check();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_first_used_once() {
    let home = Home::new().await;
    let mut proxy = home.start().await;
    let token = proxy.token(&home, "p", None).await;
    for at in 0..3 {
        let seen = Client::new().ask(proxy.address, &Ask::chat(&token, format!("use-{at}"))).await;
        assert!(seen.is_good());
    }
    let firsts = async || {
        let output = home.run(&[
            "logs",
            "search",
            "action:token.first_use",
            "--stream",
            "entry",
            "-o",
            "json",
        ]);
        let text = String::from_utf8(output.stdout).unwrap();
        let found: Vec<Value> = text.lines().map(|it| serde_json::from_str(it).unwrap()).collect();
        found
    };
    let found = eventually("the first use", async || {
        Some(firsts().await).filter(|found| !found.is_empty())
    })
    .await;
    assert_eq!(found.len(), 1);
    assert_eq!(
        (&found[0]["token_id"], &found[0]["reason_code"]),
        (&json!(token.id), &json!("first_use"))
    );
    proxy.kill();
    let proxy = home.start().await;
    let seen = Client::new().ask(proxy.address, &Ask::chat(&token, "again")).await;
    assert!(seen.is_good());
    proxy.stop().await;
    assert_eq!(firsts().await.len(), 1, "a restart makes no second first");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_configuration_shows_at_the_next_start() {
    let mut home = Home::new().await;
    home.start().await.stop().await;
    home.start().await.stop().await;
    home.set("RETENTION_TRACES", "3d");
    home.start().await.stop().await;
    let changes = || {
        let output = home.run(&[
            "logs",
            "search",
            "action:config.change",
            "--stream",
            "entry",
            "-o",
            "json",
        ]);
        let text = String::from_utf8(output.stdout).unwrap();
        let found = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        found.filter(|it| it["target_id"] == "configuration").count()
    };
    assert_eq!(changes(), 2, "the first configuration, and the other one");
    let starts = entries(&home);
    let digests: Vec<_> = of(&starts, "system.start")
        .iter()
        .map(|it| leaf(it)["details"]["sha256"].clone())
        .collect();
    assert!(digests[0] == digests[1] && digests[1] != digests[2], "{digests:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journal_taken_away_is_entered() {
    let home = Home::new().await;
    let proxy = home.start().await;
    let token = proxy.token(&home, "p", None).await;
    assert!(Client::new().ask(proxy.address, &Ask::chat(&token, "before")).await.is_good());
    std::fs::remove_file(home.journal_files().pop().unwrap()).unwrap();
    eventually("it is entered", async || {
        let found = entries(&home);
        let tampered = of(&found, "system.journal_tampered").pop().cloned()?;
        assert_eq!(leaf(&tampered)["details"]["finding"], "unlinked");
        Some(())
    })
    .await;
    proxy.stop().await;
}

async fn fail_login(proxy: &Proxy) {
    let mut stream = tokio::net::TcpStream::connect(proxy.address).await.unwrap();
    let request = "GET /manage/projects HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
                   authorization: Bearer mk-wrong-wrong-wrong\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
}

/// The row of the policy for a journal that cannot be written.
async fn full_disk(policy: &'static str) {
    let mut home = Home::new().await;
    std::fs::create_dir_all(home.data_dir()).unwrap();
    let Some(disk) = crate::faults::SmallDisk::mount(&home.journal_dir(), 4) else { return };
    home.set("AUDIT_POLICY", policy);
    let mut dice = Dice::thrown("policy");
    let proxy = home.start().await;
    let token = proxy.token(&home, "p", None).await;
    let load = Load::begin(4, "load", proxy.address, &token, plain, &mut dice);
    eventually("load runs", async || (load.sent() > 50).then_some(())).await;
    disk.fill();
    eventually("the journal fails", async || {
        let (status, failing) = proxy.ready().await;
        (status == 503 && failing.contains_key("disk")).then_some(())
    })
    .await;
    let seen = Client::new().ask(proxy.address, &Ask::chat(&token, "full")).await;
    let expected = if policy == "strict" { Some(503) } else { Some(200) };
    assert_eq!(seen.status(), expected, "{seen:?}");
    let body = json!({ "name": "not now" });
    for (method, path, body) in [
        (Method::POST, "/manage/projects", Some(body)),
        (Method::GET, "/manage/projects", None),
        (Method::GET, "/manage/logs?limit=1", None),
    ] {
        let begun = Instant::now();
        let (status, said) = proxy.manage(method.clone(), path, body).await;
        assert_eq!((status, &said["code"]), (503, &json!("audit_unavailable")), "{method} {path}");
        assert!(begun.elapsed() < Duration::from_secs(10), "a hang");
    }
    // Refused all the same, and counted.
    for _ in 0..20 {
        fail_login(&proxy).await;
    }
    if policy == "available" {
        refuse(&proxy, &token, 20, "in-the-dark").await;
    }
    disk.make_room();
    eventually("ready", async || (proxy.ready().await.0 == 200).then_some(())).await;
    let seen = load.end().await;
    let books = proxy.settled().await;
    say(&format!("{policy}: {} requests, {books:?}", seen.len()));
    let served = seen.iter().filter(|seen| seen.is_good()).count() as u64;
    if policy == "available" {
        assert!(seen.iter().all(|seen| seen.is_good()), "every request is served");
        assert!(books.lost > 0 && books.stored + books.lost >= served, "{books:?}");
    }
    let mut proxy = proxy;
    proxy.terminate();
    assert_eq!(proxy.ended().await.code(), Some(i32::from(books.lost > 0)));
    home.start().await.stop().await;
    let found = entries(&home);
    let told = refusals(&found);
    assert_eq!(told.get("key_unknown"), Some(&20), "{told:?}");
    let by_token = told.get("token_not_found").copied();
    assert_eq!(by_token, (policy == "available").then_some(20), "{told:?}");
    let degraded = of(&found, "system.degraded");
    assert!(!degraded.is_empty(), "what went wrong is entered");
    assert_eq!(leaf(degraded[0])["details"]["finding"], "disk_full");
    home.check();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_under_strict_refuses_everything_that_needs_an_entry() {
    full_disk("strict").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_under_available_serves_and_counts() {
    full_disk("available").await;
}
