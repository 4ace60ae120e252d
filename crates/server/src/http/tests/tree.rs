//! The audit tree over the API: lists with indexes, exports, proofs, receipts,
//! the files.

use domain::audit::{
    leaf_hash,
    tree::{Keyring, NodeHash, Receipt, SignedCheckpoint, VerifierKey, verify_inclusion},
};
use serde_json::{Value, json};

use super::harness::{Reply, Server, ask, get, patch, post};

/// Waits until everything that was committed until now is in the tree.
async fn settled(server: &Server) -> u64 {
    let mut status = server.management.manage.tree.status.clone();
    let settled = async {
        loop {
            let pending = server.store().audit_pending().await.unwrap();
            let chain = server.store().audit_chain().await.unwrap();
            let size = status.borrow_and_update().checkpoint.as_ref().map_or(0, |it| it.size());
            if pending == 0 && size == chain.size && size > 0 {
                return size;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), settled).await.expect("sequenced")
}

fn keys(server: &Server) -> Vec<VerifierKey> {
    let text = std::fs::read_to_string(server.dir.path().join("tlog/keys")).unwrap();
    Keyring::parse(&text).unwrap().spans().iter().map(|span| span.key.clone()).collect()
}

fn items(reply: &Reply) -> Vec<Value> {
    assert_eq!(reply.status, 200, "{}", reply.raw);
    reply.body["items"].as_array().unwrap().clone()
}

#[tokio::test]
async fn entries_are_listed_with_their_place() {
    let server = Server::start().await;
    let project = server.project("=SUM(1)").await;
    let (token, _) = server.token(&project).await;
    let name = json!({ "description": "@cmd|' /C calc'!A0" });
    assert_eq!(server.call(patch(&format!("/manage/tokens/{token}"), name)).await.status, 200);
    let size = settled(&server).await;
    let listed = server.call(get("/manage/audit?limit=1000")).await;
    let found: Vec<Value> =
        items(&listed).into_iter().filter(|item| item["index"].is_u64()).collect();
    let indexes: Vec<u64> = found.iter().map(|item| item["index"].as_u64().unwrap()).collect();
    assert_eq!(indexes, (0..size).rev().collect::<Vec<_>>());
    let note = listed.text("checkpoint");
    let checkpoint = SignedCheckpoint::parse(note.as_bytes()).unwrap();
    checkpoint.verify(&keys(&server), &[]).unwrap();
    let check = async |query: &str, expected: usize| {
        let reply = server.call(get(&format!("/manage/audit?{query}"))).await;
        assert_eq!(items(&reply).len(), expected, "{query}: {}", reply.raw);
    };
    check("action=token.create", 1).await;
    check(&format!("token_id={token}&action=token.update"), 1).await;
    check("target_type=project&result=success&actor_kind=root", 1).await;
    check("action=project.create&search=%3Dsum", 1).await;
    check("action=project.create&search=nothing", 0).await;
    check("route=/manage/tokens/%7Bid%7D", 1).await;
    check("after=0&limit=1", 1).await;
    for bad in ["action=x", "result=maybe", "token_id=7", "since=tomorrowish", "after=-1", "x=1"] {
        let reply = server.call(get(&format!("/manage/audit?{bad}"))).await;
        assert_eq!(reply.status, 400, "{bad}: {}", reply.raw);
    }
    let first = server.call(get("/manage/audit/0")).await;
    let by_id = server.call(get(&format!("/manage/audit/{}", first.text("id")))).await;
    assert_eq!((first.status, &first.body), (200, &by_id.body));
    for absent in ["999999", "x", "00000000-0000-7000-8000-000000000000"] {
        assert_eq!(server.call(get(&format!("/manage/audit/{absent}"))).await.status, 404);
    }
}

#[tokio::test]
async fn exports_carry_what_proves_them() {
    let server = Server::start().await;
    let project = server.project("=SUM(1)").await;
    server.token(&project).await;
    settled(&server).await;
    let ask = get("/manage/audit").header("accept", "application/x-ndjson");
    let reply = server.call(ask).await;
    assert_eq!(reply.status, 200, "{}", reply.raw);
    let lines: Vec<Value> =
        reply.raw.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    // The sizes of chunks stand between them.
    let lines: Vec<&Value> = lines.iter().filter(|line| line.is_object()).collect();
    let (last, entries) = lines.split_last().expect("lines");
    let note = last["checkpoint"].as_str().unwrap();
    let checkpoint = SignedCheckpoint::parse(note.as_bytes()).unwrap();
    assert_eq!(last["entries"].as_u64(), Some(checkpoint.size()));
    let mut root = domain::audit::tree::Frontier::default();
    for (at, line) in entries.iter().enumerate() {
        assert_eq!(line["index"].as_u64(), Some(at as u64));
        let leaf = line["leaf"].as_str().unwrap();
        assert_eq!(line["leaf_hash"], leaf_hash(leaf.as_bytes()).to_string());
        assert!(line["openings"].is_array());
        root.append(NodeHash::of_leaf(leaf.as_bytes()));
    }
    assert_eq!(root.root(), checkpoint.root());
    let ask = get("/manage/audit?action=project.create").header("accept", "text/csv");
    let csv = server.call(ask).await.raw;
    assert!(csv.contains("\r\nindex,ts,id,action,"), "{csv}");
    assert!(csv.contains("project.create") && csv.contains("\r\ncheckpoint,"), "{csv}");
    assert!(!csv.contains("\n=") && !csv.contains(",="), "{csv}");
    // The export is an entry itself.
    let entry = server.call(get("/manage/audit?action=audit.export")).await;
    assert_eq!(items(&entry).len(), 2);
}

#[tokio::test]
async fn a_change_gives_a_receipt_that_verifies_alone() {
    let server = Server::start().await;
    let body = json!({ "name": "receipted" });
    let created = server.call(post("/manage/projects?receipt=1", body)).await;
    assert_eq!(created.status, 201, "{}", created.raw);
    let entry = created.header("audit-id").unwrap().to_owned();
    let receipt = Receipt::parse(created.text("receipt").as_bytes()).unwrap();
    let leaf = receipt.extra.clone().expect("the leaf is in it");
    receipt.verify(NodeHash::of_leaf(&leaf), &keys(&server), &[]).unwrap();
    let parsed = domain::audit::Leaf::parse(&leaf).unwrap();
    assert_eq!(parsed.id.to_string(), entry);
    let proof = server.call(get(&format!("/manage/audit/{entry}/proof"))).await.body;
    let hashes: Vec<NodeHash> = proof["hashes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|hash| NodeHash::from_base64(hash.as_str().unwrap()).unwrap())
        .collect();
    let index = proof["index"].as_u64().unwrap();
    let checkpoint =
        SignedCheckpoint::parse(proof["checkpoint"].as_str().unwrap().as_bytes()).unwrap();
    let (size, root) = (checkpoint.size(), checkpoint.root());
    let hash = NodeHash::of_leaf(proof["leaf"].as_str().unwrap().as_bytes());
    verify_inclusion(hash, index, size, &hashes, root).unwrap();
    // An answer without a body gets one for its receipt.
    let project = created.text("id");
    let (token, _) = server.token(&project).await;
    let revoked = server.call(ask("DELETE", &format!("/manage/tokens/{token}?receipt=1"))).await;
    assert_eq!(revoked.status, 200, "{}", revoked.raw);
    assert!(Receipt::parse(revoked.text("receipt").as_bytes()).is_ok());
    let nothing = server.call(patch(&format!("/manage/projects/{project}?receipt=1"), json!({})));
    assert_eq!(nothing.await.body.get("receipt"), None, "no entry, no receipt");
}

#[tokio::test]
async fn the_files_of_the_tree_are_served_to_auditors() {
    let server = Server::start().await;
    server.project("p").await;
    let size = settled(&server).await;
    let (_, auditor) = server.key("auditor", None).await;
    let read = async |path: &str| server.call(get(path).key(Some(&auditor))).await;
    let note = read("/manage/audit/checkpoint").await;
    assert_eq!(note.header("content-type"), Some("text/plain; charset=utf-8"));
    assert!(SignedCheckpoint::parse(note.raw.as_bytes()).is_ok());
    let ask = get("/manage/audit/checkpoint").header("accept", "application/json");
    let shown = server.call(ask).await.body;
    assert_eq!(shown["origin"], server.store().audit_origin());
    for path in ["checkpoint", "keys", &format!("tile/entries/000.p/{size}")] {
        let reply = read(&format!("/audit/tlog/{path}")).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.raw);
    }
    for absent in ["", "signer.json", "../audit/signing.key", "tile/9/000", "tile/0/001", "x"] {
        let reply = read(&format!("/audit/tlog/{absent}")).await;
        assert_eq!(reply.status, 404, "{absent}: {}", reply.raw);
    }
}

#[tokio::test]
async fn a_key_limited_to_projects_sees_their_entries_and_no_tiles() {
    let server = Server::start().await;
    let (own, other) = (server.project("own").await, server.project("other").await);
    settled(&server).await;
    let (_, key) = server.key("auditor", Some(&[&own])).await;
    let listed = server.call(get("/manage/audit").key(Some(&key))).await;
    let found = items(&listed);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0]["project_id"], own.as_str());
    let all = server.call(get("/manage/audit?action=project.create")).await;
    let foreign = items(&all).into_iter().find(|item| item["project_id"] == other.as_str());
    let id = foreign.unwrap()["id"].as_str().unwrap().to_owned();
    let reply = server.call(get(&format!("/manage/audit/{id}")).key(Some(&key))).await;
    assert_eq!(reply.status, 404);
    let reply = server.call(get(&format!("/manage/audit/{id}/proof")).key(Some(&key))).await;
    assert_eq!(reply.status, 404);
    let reply = server.call(get("/audit/tlog/checkpoint").key(Some(&key))).await;
    assert_eq!(reply.status, 403);
    let ask = get("/manage/audit").header("accept", "application/x-ndjson");
    let export = server.call(ask.key(Some(&key))).await;
    assert!(!export.raw.contains(&other), "{}", export.raw);
}

#[tokio::test]
async fn the_server_verifies_its_tree_and_its_database() {
    let server = Server::start().await;
    server.project("p").await;
    settled(&server).await;
    let order = || post("/manage/audit/verify", json!({ "records": true }));
    let good = server.call(order()).await;
    assert_eq!(good.status, 200, "{}", good.raw);
    assert_eq!(good.text("verdict"), "verified", "{}", good.raw);
    assert!(good.header("audit-id").is_some());
    settled(&server).await;
    let path = server.dir.path().join("tlog/tile/entries/000.p/1");
    let dir = path.parent().unwrap();
    let newest = std::fs::read_dir(dir).unwrap().map(|it| it.unwrap().path());
    let newest = newest.max_by_key(|path| {
        path.file_name().and_then(|name| name.to_str()?.parse::<u64>().ok()).unwrap_or(0)
    });
    let newest = newest.unwrap();
    let mut bytes = std::fs::read(&newest).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    std::fs::write(&newest, bytes).unwrap();
    let bad = server.call(order()).await;
    assert_eq!(bad.text("verdict"), "tampered", "{}", bad.raw);
}
