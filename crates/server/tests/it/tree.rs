//! The audit tree of a real server: what was answered is in it once, whatever
//! kills the process; what somebody copied back is noticed; commands work beside
//! a server and without one.

use std::{collections::BTreeMap, net::SocketAddr, path::Path, process::Stdio};

use domain::audit::{
    Leaf,
    tree::{Frontier, NodeHash, SignedCheckpoint, consistency_proof, verify_consistency},
};
use http::Method;
use serde_json::{Value, json};
use tlog::Reader;

use crate::harness::{Client, Dice, Home, Proxy, eventually, say, text};

/// The published checkpoint.
fn checkpoint(home: &Home) -> Option<SignedCheckpoint> {
    Reader::of_dir(home.data_dir()).checkpoint().expect("a checkpoint or none")
}

/// All leaves under the published checkpoint, which they must have the root of.
fn leaves(data_dir: &Path) -> Vec<Leaf> {
    let reader = Reader::of_dir(data_dir);
    let checkpoint = reader.checkpoint().unwrap().expect("a checkpoint");
    let keyring = reader.keyring().unwrap().expect("keys");
    checkpoint.verify(keyring.at(checkpoint.size()), &[]).expect("signed by us");
    let mut frontier = Frontier::default();
    let mut found = Vec::new();
    for bundle in reader.leaves_from(0, checkpoint.size()) {
        for leaf in bundle.unwrap().1 {
            frontier.append(NodeHash::of_leaf(&leaf));
            found.push(Leaf::parse(&leaf).expect("a leaf"));
        }
    }
    assert_eq!((frontier.size(), frontier.root()), (checkpoint.size(), checkpoint.root()));
    found
}

/// Numbers of every producer are dense and rising in the order of the tree.
fn assert_dense(leaves: &[Leaf]) {
    let mut last: BTreeMap<&str, u64> = BTreeMap::new();
    for leaf in leaves {
        let seq = last.entry(leaf.producer.as_str()).or_default();
        assert_eq!(leaf.seq, *seq + 1, "{}", leaf.producer);
        *seq = leaf.seq;
    }
}

/// Waits until nothing waits for its place.
async fn sequenced(home: &Home, proxy: &Proxy) {
    eventually("everything is in the tree", async || {
        let (_, page) = proxy.manage(Method::GET, "/manage/audit?limit=1", None).await;
        let newest = page["items"][0]["index"].as_u64();
        let size = checkpoint(home).map_or(0, |checkpoint| checkpoint.size());
        newest.filter(|newest| *newest < size)
    })
    .await;
}

/// Creates projects until the process is gone; the ids that were answered.
async fn change_until_killed(address: SocketAddr, tag: String) -> Vec<String> {
    let client = Client::new();
    let mut answered = Vec::new();
    for number in 0.. {
        let body = json!({ "name": format!("{tag}-{number}") });
        match client.manage(address, Method::POST, "/manage/projects", Some(body)).await {
            Some((201, body)) => answered.push(body["id"].as_str().unwrap().to_owned()),
            Some(other) => panic!("{other:?}"),
            None => break,
        }
    }
    answered
}

/// How many rounds; `AUDIT_KILL_ROUNDS` asks for more than CI has time for.
fn rounds() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "a test's own switch")]
    let asked = std::env::var("AUDIT_KILL_ROUNDS").ok();
    asked.and_then(|rounds| rounds.parse().ok()).unwrap_or(12)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_exactly_one_entry_whatever_kills_the_process() {
    let mut dice = Dice::thrown("audit kills");
    let home = Home::new().await;
    let mut answered = Vec::new();
    let mut published: Vec<SignedCheckpoint> = Vec::new();
    let rounds = rounds();
    for round in 0..rounds {
        let mut proxy = home.start().await;
        let changing = tokio::spawn(change_until_killed(proxy.address, format!("r{round}")));
        tokio::time::sleep(dice.millis(5, 1600)).await;
        proxy.kill();
        answered.extend(changing.await.unwrap());
        published.extend(checkpoint(&home));
        // Killed again while it opens the tree, or soon after.
        for _ in 0..dice.below(2) {
            let mut again = home.spawn(Stdio::null());
            tokio::time::sleep(dice.millis(1, 300)).await;
            again.kill();
            published.extend(checkpoint(&home));
        }
    }
    let proxy = home.start().await;
    sequenced(&home, &proxy).await;
    let mut projects = Vec::new();
    let mut path = "/manage/projects?limit=1000".to_owned();
    loop {
        let (_, page) = proxy.manage(Method::GET, &path, None).await;
        let items = page["items"].as_array().unwrap().iter();
        projects.extend(items.map(|item| item["id"].as_str().unwrap().to_owned()));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("/manage/projects?limit=1000&cursor={cursor}");
    }
    proxy.stop().await;
    let leaves = leaves(home.data_dir());
    assert_dense(&leaves);
    let mut entries: BTreeMap<String, u32> = BTreeMap::new();
    for leaf in leaves.iter().filter(|leaf| leaf.action.as_str() == "project.create") {
        *entries.entry(leaf.project_id.unwrap().to_string()).or_default() += 1;
    }
    assert!(entries.values().all(|count| *count == 1), "an entry twice");
    let mut created: Vec<&String> = entries.keys().collect();
    projects.sort();
    created.sort();
    assert_eq!(created, projects.iter().collect::<Vec<_>>(), "change and entry");
    assert!(answered.iter().all(|id| entries.contains_key(id)), "what was answered is there");
    // Whatever was published is the beginning of what there is now.
    let reader = Reader::of_dir(home.data_dir());
    let last = reader.checkpoint().unwrap().unwrap();
    for old in &published {
        let (from, to) = (old.size(), last.size());
        let proof = consistency_proof(&mut reader.hashes(to), from, to).unwrap();
        let (old, last) = ((from, old.root()), (to, last.root()));
        verify_consistency(old, last, &proof).expect("a beginning");
    }
    say(&format!("{rounds} rounds, {} changes, {} checkpoints", projects.len(), published.len()));
    assert!(projects.len() as u64 > rounds, "changes were made");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_or_tree_of_an_earlier_day_is_noticed() {
    let home = Home::new().await;
    let proxy = home.start().await;
    proxy.manage(Method::POST, "/manage/projects", Some(json!({ "name": "before" }))).await;
    sequenced(&home, &proxy).await;
    proxy.stop().await;
    let kept = tempfile::tempdir().unwrap();
    let copy = |from: &Path, to: &Path| {
        let done = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status();
        assert!(done.unwrap().success());
    };
    copy(&home.database(), &kept.path().join("db"));
    copy(&home.data_dir().join("tlog"), &kept.path().join("tlog"));
    let proxy = home.start().await;
    proxy.manage(Method::POST, "/manage/projects", Some(json!({ "name": "after" }))).await;
    sequenced(&home, &proxy).await;
    proxy.stop().await;
    let before = leaves(home.data_dir()).len();

    // The database of before: nothing can be changed until somebody says so.
    std::fs::copy(kept.path().join("db"), home.database()).unwrap();
    for side in ["-wal", "-shm"] {
        let path = home.database().with_file_name(format!("llm-proxy.db{side}"));
        if path.exists() {
            std::fs::remove_file(path).unwrap();
        }
    }
    let proxy = home.start().await;
    let body = json!({ "name": "refused" });
    let (status, refused) = proxy.manage(Method::POST, "/manage/projects", Some(body)).await;
    assert_eq!((status, &refused["code"]), (503, &json!("audit_unavailable")), "{refused}");
    let (ready, checks) = proxy.ready().await;
    assert_eq!(ready, 503);
    assert!(checks["audit"].contains("ROLLBACK"), "{checks:?}");
    proxy.stop().await;
    let refused = home.run(&["audit", "rebuild"]);
    assert!(!refused.status.success());
    assert!(text(&refused.stderr).contains("older copy"), "{}", text(&refused.stderr));
    let done = home.run(&["audit", "recover"]);
    assert!(done.status.success(), "{}", text(&done.stderr));
    let proxy = home.start().await;
    let body = json!({ "name": "again" });
    let (status, _) = proxy.manage(Method::POST, "/manage/projects", Some(body)).await;
    assert_eq!(status, 201);
    sequenced(&home, &proxy).await;
    proxy.stop().await;
    let all = leaves(home.data_dir());
    assert_dense(&all);
    assert!(all.len() > before);
    let recovered = all.iter().find(|leaf| {
        leaf.reason_code.as_ref().is_some_and(|code| code.as_str() == "audit_rollback")
    });
    assert!(recovered.is_some(), "what was done is an entry");

    // The tiles of before: nothing is signed over them; they are made anew.
    std::fs::remove_dir_all(home.data_dir().join("tlog")).unwrap();
    copy(&kept.path().join("tlog"), &home.data_dir().join("tlog"));
    let proxy = home.start().await;
    eventually("the tree is not believed", async || {
        (proxy.metric("llm_proxy_audit_failing").await > 0.0).then_some(())
    })
    .await;
    proxy.stop().await;
    let done = home.run(&["audit", "recover"]);
    assert!(done.status.success(), "{}", text(&done.stderr));
    let proxy = home.start().await;
    sequenced(&home, &proxy).await;
    proxy.stop().await;
    assert_dense(&leaves(home.data_dir()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_read_entries_beside_a_server_and_without_one() {
    let home = Home::new().await;
    let proxy = home.start().await;
    proxy.manage(Method::POST, "/manage/projects", Some(json!({ "name": "listed" }))).await;
    sequenced(&home, &proxy).await;
    let listed = |what: &str| {
        let done = home.run(&["audit", "list", "--action", "project.create"]);
        let out = text(&done.stdout);
        assert!(done.status.success(), "{what}: {}", text(&done.stderr));
        assert!(out.starts_with("INDEX") && out.contains("project.create"), "{what}: {out}");
    };
    listed("beside a server");
    let tailed = home.run(&["audit", "tail", "--after", "0", "--limit", "1", "-o", "json"]);
    let line: Value = serde_json::from_str(text(&tailed.stdout).trim()).unwrap();
    assert_eq!(line["index"], 1);
    proxy.stop().await;
    listed("without a server");
    let directory = home.data_dir().display().to_string();
    let shown = home.run(&["audit", "--data-dir", &directory, "show", "0"]);
    assert!(text(&shown.stdout).contains("leaf_hash"), "{}", text(&shown.stderr));
    let exported = home.run(&["audit", "export"]);
    let lines: Vec<Value> =
        text(&exported.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (last, entries) = lines.split_last().expect("lines");
    assert_eq!(last["entries"], entries.len());
    assert!(SignedCheckpoint::parse(last["checkpoint"].as_str().unwrap().as_bytes()).is_ok());
    let dense = entries.iter().enumerate().all(|(at, line)| line["index"] == at);
    assert!(dense, "every entry in its place");
    // What the commands did has its place too, and the tree is whole.
    assert_dense(&leaves(home.data_dir()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checkpoints_leave_by_standard_output_and_by_a_command() {
    let mut home = Home::new().await;
    let kept = tempfile::tempdir().unwrap();
    let file = kept.path().join("checkpoints");
    home.set("AUDIT_CHECKPOINT_COMMAND", format!("cat >> {}", file.display()));
    let shown = kept.path().join("lines");
    let proxy = home.start_showing(std::fs::File::create(&shown).unwrap().into()).await;
    proxy.manage(Method::POST, "/manage/projects", Some(json!({ "name": "told" }))).await;
    sequenced(&home, &proxy).await;
    let told = eventually("a line with a checkpoint", async || {
        let lines = std::fs::read_to_string(&shown).unwrap_or_default();
        let lines = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.into_iter().find_map(|line| line["checkpoint"].as_str().map(str::to_owned))
    })
    .await;
    assert!(SignedCheckpoint::parse(told.as_bytes()).is_ok(), "{told}");
    eventually("the command kept one", async || {
        let kept = std::fs::read_to_string(&file).ok()?;
        kept.contains("\n\u{2014} llm-proxy/audit/").then_some(())
    })
    .await;
    proxy.stop().await;
}
