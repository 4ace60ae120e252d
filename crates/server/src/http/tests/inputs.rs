//! Bad input, each with the answer that names it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::harness::{Ask, Server, ask, get, patch, post};
use crate::readiness::Check;

async fn check(server: &Server, what: Ask, status: u16, code: &str, said: &str) {
    let named = format!("{} {} {:?}", what.method, what.path, what.body);
    let named: String = named.chars().take(200).collect();
    let reply = server.call(what).await;
    assert_eq!(
        (reply.status, reply.text("code").as_str()),
        (status, code),
        "{named}: {}",
        reply.raw
    );
    assert!(reply.text("error").contains(said), "{named}: {}", reply.raw);
    let keys: Vec<_> = reply.body.as_object().unwrap().keys().cloned().collect();
    assert_eq!(keys, ["code", "error", "request_id"], "{named}");
    assert_eq!(reply.header("x-request-id"), Some(reply.text("request_id").as_str()), "{named}");
    assert!(reply.header("x-correlation-id").is_some(), "{named}");
    assert!(reply.header("traceresponse").is_some(), "{named}");
    assert_eq!(reply.header("cache-control"), Some("no-store"), "{named}");
}

#[tokio::test]
async fn projects_refuse_bad_input() {
    let server = Server::start().await;
    let id = server.project("first").await;
    let invalid = async |body: Value, said: &str| {
        check(&server, post("/manage/projects", body), 400, "invalid_request", said).await;
    };
    invalid(json!({}), "name is required").await;
    invalid(json!({ "name": "" }), "name must have").await;
    invalid(json!({ "name": "a".repeat(101) }), "name must have").await;
    invalid(json!({ "name": "a\u{1b}b" }), "name must not hold control").await;
    invalid(json!({ "name": "sk-abcdefghijklmnopqrstuvwxyz" }), "name must not hold a cred").await;
    invalid(json!({ "name": 7 }), "name must be a string").await;
    invalid(json!({ "name": "a", "nmae": "b" }), "unknown field nmae").await;
    invalid(json!({ "name": "a", "api_key": "sk-****wxyz" }), "api_key is an obfuscated").await;
    invalid(json!({ "name": "a", "api_key": "sk with space" }), "api_key holds").await;
    invalid(json!({ "name": "a", "api_key": "" }), "api_key must have").await;
    invalid(json!({ "name": "a", "provider_keys": { "nobody": "sk-x" } }), "not configured").await;
    invalid(json!({ "name": "a", "provider_keys": { "openai": null } }), "provider_keys").await;
    invalid(
        json!({ "name": "a", "api_key": "sk-1", "provider_keys": { "openai": "sk-2" } }),
        "same key",
    )
    .await;
    invalid(json!({ "name": "a", "labels": { "a b": "c" } }), "labels").await;
    invalid(json!({ "name": "a", "capture_bodies": "some" }), "capture_bodies must be").await;
    let duplicate = post("/manage/projects", json!({ "name": "first" }));
    check(&server, duplicate, 409, "duplicate_name", "name").await;
    let path = format!("/manage/projects/{id}");
    let null = patch(&path, json!({ "name": null }));
    check(&server, null, 400, "invalid_request", "name must not be null").await;
    let active = patch(&path, json!({ "is_active": "yes" }));
    check(&server, active, 400, "invalid_request", "is_active must be true or false").await;
    let stale = patch(&path, json!({ "name": "b" })).header("if-match", "\"999\"");
    check(&server, stale, 409, "version_conflict", "changed since").await;
    let etag = patch(&path, json!({ "name": "b" })).header("if-match", "999");
    check(&server, etag, 400, "invalid_request", "If-Match").await;
    let read = server.call(get(&path)).await;
    let version = read.header("etag").unwrap().to_owned();
    let fresh = patch(&path, json!({ "name": "b" })).header("if-match", &version);
    assert_eq!(server.call(fresh).await.status, 200);
}

#[tokio::test]
async fn tokens_and_keys_refuse_bad_input() {
    let server = Server::start().await;
    let project = server.project("p").await;
    let invalid = async |mut body: Value, said: &str| {
        let fields = body.as_object_mut().unwrap();
        fields.entry("project_id").or_insert_with(|| project.clone().into());
        fields.entry("duration_minutes").or_insert_with(|| 5.into());
        check(&server, post("/manage/tokens", body), 400, "invalid_request", said).await;
    };
    invalid(json!({ "project_id": "x" }), "project_id must be a UUID").await;
    let nobody = "00000000-0000-7000-8000-000000000000";
    invalid(json!({ "project_id": nobody }), "project_id names no project").await;
    invalid(json!({ "duration_minutes": 0 }), "between 1 and 525600").await;
    invalid(json!({ "duration_minutes": 525_601 }), "between 1 and 525600").await;
    invalid(json!({ "duration_minutes": 1.5 }), "duration_minutes must be a whole number").await;
    invalid(json!({ "duration_minutes": "5" }), "duration_minutes must be a whole number").await;
    invalid(json!({ "max_requests": 0 }), "max_requests must be between").await;
    invalid(json!({ "max_requests": -1 }), "max_requests must be a whole number").await;
    invalid(json!({ "rate_limit_rpm": 0 }), "rate_limit_rpm must be between").await;
    invalid(json!({ "allowed_models": [] }), "allowed_models must not be empty").await;
    invalid(json!({ "allowed_models": "gpt" }), "allowed_models must be a list").await;
    invalid(json!({ "description": "d".repeat(1025) }), "description takes").await;
    invalid(json!({ "token": "sk-mine" }), "unknown field token").await;
    let missing = post("/manage/tokens", json!({ "project_id": project }));
    check(&server, missing, 400, "invalid_request", "duration_minutes is required").await;
    let keys = async |body: Value, said: &str| {
        check(&server, post("/manage/keys", body), 400, "invalid_request", said).await;
    };
    keys(json!({ "name": "k" }), "role is required").await;
    keys(json!({ "name": "k", "role": "king" }), "role must be").await;
    let past = json!({ "name": "k", "role": "viewer", "expires_at": "2020-01-01T00:00:00Z" });
    keys(past, "expires_at must be in the future").await;
    keys(json!({ "name": "k", "role": "viewer", "expires_at": "soon" }), "RFC 3339").await;
    keys(json!({ "name": "k", "role": "viewer", "project_ids": [] }), "must not be empty").await;
    keys(json!({ "name": "k", "role": "viewer", "project_ids": ["x"] }), "UUID").await;
    let level = ask("PUT", "/manage/log-level");
    let level = async |body: Value, said: &str| {
        let ask = level.clone().body(body.to_string());
        check(&server, ask, 400, "invalid_request", said).await;
    };
    level(json!({ "level": "loud" }), "level must be one of").await;
    level(json!({ "level": "debug", "ttl": 0 }), "ttl must be between").await;
    level(json!({ "level": "debug", "project_id": nobody }), "names no project").await;
}

#[tokio::test]
async fn paths_methods_bodies_and_pages_are_checked() {
    let server = Server::start().await;
    let nobody = "00000000-0000-7000-8000-000000000000";
    for path in [
        "/manage",
        "/manage/",
        "/manage/nothing",
        "/manage/projects/",
        "/manage/projects/not-an-id",
        "/manage/projects/%00",
    ] {
        check(&server, get(path), 404, "not_found", "no such").await;
    }
    check(&server, get(&format!("/manage/tokens/{nobody}")), 404, "not_found", "token").await;
    let reply = server.call(ask("DELETE", &format!("/manage/projects/{nobody}"))).await;
    assert_eq!((reply.status, reply.header("allow")), (405, Some("get, patch")));
    let reply = server.call(ask("PUT", "/manage/tokens")).await;
    assert_eq!((reply.status, reply.header("allow")), (405, Some("get, post")));
    for bad in ["limit=0", "limit=1001", "limit=x", "limit=", "cursor=%21%21", "cursor=zzzz"] {
        let said = bad.split('=').next().unwrap();
        for list in ["projects", "tokens", "keys"] {
            let ask = get(&format!("/manage/{list}?{bad}"));
            check(&server, ask, 400, "invalid_request", said).await;
        }
    }
    let unknown = get("/manage/tokens?project_id=1");
    check(&server, unknown, 400, "invalid_request", "unknown query parameter project_id").await;
    let post = |body: &str| ask("POST", "/manage/projects").body(body.to_owned());
    for bad in ["", "{", "[]", "null", "\"x\"", "{\"name\":\"a\"}x", "{\"name\":\"\u{0}\"}"] {
        check(&server, post(bad), 400, "invalid_request", "").await;
    }
    let deep = format!("{{\"name\":{}1{}}}", "[".repeat(10_000), "]".repeat(10_000));
    check(&server, post(&deep), 400, "invalid_request", "").await;
    let broken = ask("POST", "/manage/projects").body(&b"{\"name\":\"\xff\"}"[..]);
    check(&server, broken, 400, "invalid_request", "").await;
    let huge = format!("{{\"name\":\"{}\"}}", "a".repeat(1 << 20));
    check(&server, post(&huge), 413, "body_too_large", "1048576").await;
    let ticket = post("{\"name\":\"a\"}").header("x-audit-ticket", "a b");
    check(&server, ticket, 400, "invalid_request", "X-Audit-Ticket").await;
    let ids = get("/manage/nothing")
        .header("x-request-id", "mine")
        .header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    let reply = server.call(ids).await;
    assert_eq!(reply.text("request_id"), "mine");
    assert_eq!(reply.header("x-correlation-id"), Some("mine"));
    let trace = reply.header("traceresponse").unwrap();
    assert!(trace.starts_with("00-0af7651916cd43dd8448eb211c80319c-"), "{trace}");
}

#[tokio::test]
async fn pages_follow_each_other() {
    let server = Server::start().await;
    let mut made = Vec::new();
    for at in 0..5 {
        made.push(server.project(&format!("p{at}")).await);
    }
    let mut seen = Vec::new();
    let mut cursor = String::new();
    loop {
        let reply = server.call(get(&format!("/manage/projects?limit=2{cursor}"))).await;
        let items = reply.body["items"].as_array().unwrap().clone();
        assert!(items.len() <= 2);
        seen.extend(items.iter().map(|item| item["id"].as_str().unwrap().to_owned()));
        match reply.body["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    seen.sort();
    made.sort();
    assert_eq!(seen, made);
}

#[tokio::test]
async fn health_says_what_fails() {
    let server = Server::start().await;
    for path in ["/health", "/live"] {
        let reply = server.call(get(path).key(None)).await;
        assert_eq!((reply.status, reply.text("status").as_str()), (200, "ok"));
        assert_eq!(reply.text("version"), "0.0.0-test");
    }
    assert_eq!(server.call(get("/ready?x=1").key(None)).await.status, 200);
    let failing = Arc::new(AtomicBool::new(true));
    let seen = Arc::clone(&failing);
    server.readiness.watch(Check::Journal, move || match seen.load(Ordering::Relaxed) {
        true => Err("the disk is full".to_owned()),
        false => Ok(()),
    });
    let directory = Arc::clone(&server.management.manage.directory);
    server.readiness.watch(Check::Database, move || directory.health());
    let reply = server.call(get("/ready").key(None)).await;
    assert_eq!((reply.status, reply.text("status").as_str()), (503, "unavailable"));
    let checks = json!({ "database": "ok", "journal": "the disk is full" });
    assert_eq!(reply.body["checks"], checks);
    failing.store(false, Ordering::Relaxed);
    assert_eq!(server.call(get("/ready").key(None)).await.status, 200);
    server.readiness.stopping();
    assert_eq!(server.call(get("/ready").key(None)).await.text("status"), "stopping");
    let head = server.call(ask("HEAD", "/health").key(None)).await;
    assert_eq!((head.status, head.raw.as_str()), (200, ""));
}

#[tokio::test]
async fn a_locked_database_is_said_and_passes() {
    let server = Server::start().await;
    let locked = server.lock().await;
    let create = post("/manage/projects", json!({ "name": "late" }));
    check(&server, create.clone(), 503, "unavailable", "").await;
    assert_eq!(server.call(get("/manage/projects")).await.status, 200);
    locked.rollback().await.unwrap();
    assert_eq!(server.call(create).await.status, 201);
}

#[tokio::test]
async fn a_client_that_leaves_cannot_halve_a_change() {
    let server = Server::start().await;
    for at in 0..60usize {
        let create = post("/manage/projects", json!({ "name": format!("gone-{at}") }));
        let bytes = create.bytes();
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let sent = if at % 3 == 0 { bytes.len() - at % 7 } else { bytes.len() };
        stream.write_all(&bytes[..sent]).await.unwrap();
        if at % 2 == 0 {
            // Leaves while the change is on its way, or when it is done.
            for _ in 0..at {
                tokio::task::yield_now().await;
            }
        } else {
            stream.shutdown().await.unwrap();
            let mut answer = [0; 1];
            drop(stream.read(&mut answer).await);
        }
    }
    // A change that began is done before this one, or never was.
    assert_eq!(server.call(post("/manage/projects", json!({ "name": "last" }))).await.status, 201);
    server.tasks.close();
    server.stop.cancel();
    server.tasks.wait().await;
    let page = store::Page { limit: 1000, cursor: None };
    let projects = server.store().projects(&store::ProjectFilter::default(), &page).await.unwrap();
    let filter = store::EntryFilter {
        action: Some(domain::audit::Action::ProjectCreate),
        ..store::EntryFilter::default()
    };
    let entries = server.store().audit_entries(&filter, &page).await.unwrap();
    assert!(projects.items.len() > 20, "{}", projects.items.len());
    assert_eq!(projects.items.len(), entries.items.len());
}
