//! Orders on what is kept, by command beside the server that writes it: they go
//! through its admin socket, leave their entries, and lose nothing of others.

use std::process::Stdio;

use serde_json::{Value, json};

use crate::harness::{Ask, Home, Proxy, eventually, text};

const USER: &str = "erika.mustermann";

/// So many requests of one user and as many of another.
const EACH: usize = 6;

/// Sends and returns the ids, those of the user first.
async fn fill(home: &Home, proxy: &Proxy, prefix: &str) -> Vec<String> {
    let token = proxy.token(home, prefix, None).await;
    let mut ids = Vec::new();
    for user in [USER, "somebody"] {
        for number in 0..EACH {
            let id = format!("{prefix}-{user}-{number}");
            let body = json!({"model": "gpt-4o", "user": user,
                "messages": [{"role": "user", "content": format!("the words of {user}")}]});
            let ask = Ask::chat(&token, &id).saying(body.to_string());
            assert!(proxy.client.ask(proxy.address, &ask).await.is_good(), "{id}");
            ids.push(id);
        }
    }
    let all = ids.len() as f64;
    eventually("all is stored", async || {
        (proxy.metric("llm_proxy_records_stored_total").await >= all).then_some(())
    })
    .await;
    ids
}

/// The answer to an order that worked.
fn ordered(home: &Home, arguments: &[&str]) -> Value {
    let all = [&["logs"], arguments, &["-o", "json", "--reason", "a test"]].concat();
    let output = home.run(&all);
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {out}{err}");
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {out}"))
}

fn count(home: &Home, query: &str) -> String {
    text(&home.run(&["logs", "search", query, "--count", "--stream", "record"]).stdout)
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_go_through_the_socket_and_leave_entries() {
    let mut home = Home::new().await;
    home.set("CAPTURE_BODIES", "all");
    let proxy = home.start().await;
    let ids = fill(&home, &proxy, "own").await;

    // A second process refuses to write here, and reads freely.
    let mut second = home.spawn(Stdio::null());
    assert!(!second.ended().await.success());
    assert!(home.errors().contains("another process"), "{}", home.errors());
    assert_eq!(count(&home, "*"), "12\n");

    let made = ordered(&home, &["compact"]);
    assert!(made["rows"].is_u64(), "{made}");
    let listed = home.run(&["logs", "segments", "-o", "json"]);
    let listed = text(&listed.stdout);
    assert!(listed.contains("records") && listed.contains("bodies"), "{listed}");
    assert_eq!(count(&home, "\"the words of\""), "12\n", "sealed bodies are searched");

    let kept = ordered(&home, &["prune", "--dry-run"]);
    assert_eq!((&kept["files"], &kept["dropped"]), (&json!(0), &json!([])));
    assert_eq!(ordered(&home, &["prune"])["files"], 0, "nothing is old");

    // Another instance's journal, left by a process that was killed.
    let other = Home::new().await;
    let mut dead = other.start().await;
    let strangers = fill(&other, &dead, "other").await;
    dead.kill();
    for file in other.journal_files() {
        std::fs::copy(&file, home.journal_dir().join(file.file_name().unwrap())).unwrap();
    }
    let adopted = ordered(&home, &["adopt"]);
    assert_eq!(adopted["instances"].as_array().unwrap().len(), 1, "{adopted}");
    assert_eq!(count(&home, "*"), "24\n");

    let erased = ordered(&home, &["erase", "--user", USER]);
    assert_eq!(erased["failed"], json!([]));
    assert!(erased["rows"].as_u64().unwrap() >= 4 * EACH as u64, "records and bodies: {erased}");
    assert_eq!(count(&home, &format!("user:{USER}")), "0\n");
    assert_eq!(count(&home, &format!("\"words of {USER}\"")), "0\n");
    for id in ids.iter().chain(&strangers) {
        let expected = if id.contains(USER) { "0\n" } else { "1\n" };
        assert_eq!(count(&home, &format!("request_id:{id}")), expected, "{id}");
    }
    proxy.stop().await;
    let deep = home.run(&["logs", "check", "--deep"]);
    assert_eq!(deep.status.code(), Some(0), "{}", text(&deep.stdout));
    for action in ["segment.sealed", "segment.compacted", "segment.pruned", "logs.erase"] {
        let found = home.run(&["logs", "search", &format!("action:{action}"), "--count"]);
        assert_ne!(text(&found.stdout), "0\n", "{action}");
    }
    let found = home.run(&["logs", "search", "actor_kind:local action:logs.erase", "--count"]);
    assert_eq!(text(&found.stdout), "1\n", "who ordered it, by the socket");
}
