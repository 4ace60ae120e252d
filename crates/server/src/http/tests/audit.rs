//! What the audit log hears of reads, refusals and people who send nonsense.

use std::{collections::BTreeMap, sync::Arc};

use domain::audit::{Action, Outcome};
use serde_json::{Value, json};
use store::{EntryFilter, Page};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{
    super::routes::{Access, ROUTES, Verb},
    harness::{Ask, ROOT, Server, ask, get, patch, post},
};

async fn entries(server: &Server, action: Action) -> Vec<Value> {
    let filter = EntryFilter { action: Some(action), ..EntryFilter::default() };
    let page = Page { limit: 1000, cursor: None };
    let found = server.store().audit_entries(&filter, &page).await.unwrap();
    found.items.iter().map(|entry| serde_json::to_value(entry).unwrap()).collect()
}

/// Reads of what belongs to no project and is no line leave none: settings that
/// say nothing of anybody.
const UNREAD: &[&str] = &["/manage/openapi.json", "/manage/log-level"];

#[tokio::test]
async fn every_read_leaves_an_entry_once_in_a_while() {
    let server = Server::start().await;
    let project = server.project("p").await;
    let (token, _) = server.token(&project).await;
    let (auditor, key) = server.key("auditor", None).await;
    for route in ROUTES.iter().filter(|route| route.method == Verb::Get) {
        if !matches!(route.access, Access::Role(_)) || UNREAD.contains(&route.path) {
            assert_eq!(route.reads, None, "{}", route.path);
            continue;
        }
        let tells_of_itself = ["/manage/logs", "/manage/requests/", "/manage/usage"];
        let Some(action) = route.reads else {
            let told = tells_of_itself.iter().any(|begin| route.path.starts_with(begin));
            let told = told || route.path.contains("/audit");
            assert!(told, "{} is read and nobody hears of it", route.path);
            continue;
        };
        let id = if route.path.contains("tokens") { &token } else { &project };
        // Who may not list keys is refused, and that is an entry of its own.
        let key = if action == Action::KeyList { ROOT } else { key.as_str() };
        let path = route.path.replace("{id}", id);
        let before = entries(&server, action).await.len();
        for _ in 0..3 {
            let reply = server.call(get(&path).key(Some(key))).await;
            assert_eq!(reply.status, 200, "{path}: {}", reply.raw);
        }
        let found = entries(&server, action).await;
        assert_eq!(found.len(), before + 1, "{path}");
        assert_eq!(found[0]["result"], "success", "{path}");
        if key != ROOT {
            assert_eq!(found[0]["actor"]["id"], auditor.as_str(), "{path}");
        }
        if route.path.contains("{id}") {
            assert_eq!(found[0]["target"]["id"], id.as_str(), "{path}");
        }
        server.clock.advance_micros(10 * 60 * 1_000_000);
        server.call(get(&path).key(Some(key))).await;
        assert_eq!(entries(&server, action).await.len(), before + 2, "{path}, later");
    }
    let named = server.call(get("/manage/projects?name=p&limit=5").key(Some(&key))).await;
    let again = server.call(get("/manage/projects?limit=5&name=p").key(Some(&key))).await;
    assert_eq!((named.status, again.status), (200, 200));
    let found = entries(&server, Action::ProjectList).await;
    assert_eq!(found[0]["details"]["query"], "limit=5&name=p", "{}", found[0]);
    assert_eq!(found.len(), 3, "one query, however it is written");
}

#[tokio::test]
async fn a_read_of_nothing_leaves_no_entry() {
    let server = Server::start().await;
    let path = "/manage/projects/00000000-0000-7000-8000-000000000000";
    assert_eq!(server.call(get(path)).await.status, 404);
    assert!(entries(&server, Action::ProjectRead).await.is_empty());
}

#[tokio::test]
async fn an_action_may_ask_for_a_reason() {
    let required = vec![Action::ProjectCreate, Action::LogsExport, Action::ProjectList];
    let server = Server::start_asking(required).await;
    let new = || post("/manage/projects", json!({ "name": "p" }));
    let export = || get("/manage/logs?limit=5").header("accept", "application/x-ndjson");
    for ask in [new(), export(), get("/manage/projects"), new().header("x-audit-reason", " ")] {
        let refused = server.call(ask).await;
        assert_eq!((refused.status, refused.text("code").as_str()), (400, "reason_required"));
    }
    for ask in [new(), export(), get("/manage/projects")] {
        let reply = server.call(ask.header("x-audit-reason", "because")).await;
        assert!(reply.status < 300, "{}", reply.raw);
    }
    let found = entries(&server, Action::ProjectCreate).await;
    assert_eq!((found.len(), &found[0]["note"]), (1, &json!("because")));
}

/// Refusals that the server counted, by reason.
fn counted(server: &Server) -> BTreeMap<String, u64> {
    let counted = server.management.manage.events.denials().counted();
    counted.into_iter().map(|(reason, count)| (reason.to_string(), count)).collect()
}

#[tokio::test]
async fn every_failed_login_and_every_forbidden_call_is_counted() {
    let server = Server::start().await;
    let (_, viewer) = server.key("viewer", None).await;
    let (revoked_id, revoked) = server.key("admin", None).await;
    server.call(ask("DELETE", &format!("/manage/keys/{revoked_id}"))).await;
    let list = |key: Option<&str>| get("/manage/projects").key(key);
    for (key, status) in [(None, 401), (Some("mk-unknown"), 401), (Some(revoked.as_str()), 401)] {
        assert_eq!(server.call(list(key)).await.status, status);
    }
    assert_eq!(server.call(get("/manage/keys").key(Some(&viewer))).await.status, 403);
    assert_eq!(server.call(get("/metrics").key(Some("wrong-token"))).await.status, 401);
    for _ in 0..40 {
        server.call(list(Some("mk-again-and-again"))).await;
    }
    let counted = counted(&server);
    let of = |reason: &str| counted.get(reason).copied().unwrap_or(0);
    assert_eq!((of("key_missing"), of("key_revoked"), of("forbidden")), (1, 1, 1), "{counted:?}");
    assert_eq!(of("metrics_token"), 1);
    assert_eq!(of("key_unknown") + of("key_limited"), 41, "{counted:?}");
    assert!(of("key_limited") >= 10, "{counted:?}");
}

/// Nobody becomes somebody else by saying so.
#[tokio::test]
async fn headers_name_no_actor() {
    let server = Server::start().await;
    let (id, key) = server.key("operator", None).await;
    let mut forged = post("/manage/projects", json!({ "name": "p", "actor": "root" }));
    assert_eq!(server.call(forged.clone().key(Some(&key))).await.status, 400);
    forged.body = json!({ "name": "p" }).to_string().into();
    for (name, value) in [
        ("x-actor", "root"),
        ("x-user", "root"),
        ("x-forwarded-user", "root"),
        ("x-remote-user", "root"),
        ("x-audit-actor", "root"),
        ("x-llm-proxy-actor", "root"),
        ("on-behalf-of", "root"),
        ("x-on-behalf-of", "root"),
        ("x-role", "admin"),
    ] {
        forged = forged.header(name, value);
    }
    assert_eq!(server.call(forged.key(Some(&key))).await.status, 201);
    let found = entries(&server, Action::ProjectCreate).await;
    assert_eq!(found[0]["actor"]["kind"], "key");
    assert_eq!(found[0]["actor"]["id"], id.as_str());
    assert_eq!(found[0]["actor"]["role"], "operator");
    assert_eq!(found[0].get("on_behalf_of"), None);
}

/// What a line of a journal or a terminal could be broken with.
const EVIL: &[&str] = &[
    "a\u{202e}b",
    "a\u{2028}b\u{2029}c",
    "\",\"actor\":{\"kind\":\"root\"},\"x\":\"",
    "\u{1b}[2Jgone",
    "%s%n%x{0}${jndi:ldap://x}",
    "=HYPERLINK(\"http://x\")",
    "\u{feff}\u{200b}hidden",
];

#[tokio::test]
async fn text_that_others_wrote_breaks_no_entry() {
    let server = Server::start().await;
    let clean = |text: &str| {
        assert!(!text.chars().any(domain::audit::is_deceptive), "{text:?}");
    };
    for (at, evil) in EVIL.iter().enumerate() {
        let name: String = evil.chars().filter(|c| !c.is_control()).collect();
        let body = json!({
            "name": format!("{at} {name}"), "labels": { "team": "a" },
            "api_key": "sk-provider-key-0123456789",
        });
        let made = server.call(post("/manage/projects", body)).await;
        // Some names are refused; none passes through.
        if made.status != 201 {
            assert_eq!(made.status, 400, "{}", made.raw);
        }
        let header: String = evil.chars().filter(|c| !c.is_control()).collect();
        let body = json!({ "name": format!("plain-{at}"), "labels": { "team": "a" } });
        let reply = server
            .call(
                post("/manage/projects", body)
                    .header("x-audit-reason", &header)
                    .header("user-agent", &header)
                    .header("x-request-id", &header)
                    .header("x-correlation-id", &header)
                    .header("traceparent", &header)
                    .header("x-forwarded-for", &header),
            )
            .await;
        assert_eq!(reply.status, 201, "{}", reply.raw);
        let ticket = post("/manage/projects", json!({ "name": format!("ticket-{at}") }));
        let refused = server.call(ticket.header("x-audit-ticket", &header)).await;
        assert!(refused.status == 400 || refused.status == 201, "{}", refused.raw);
        let id = reply.text("id");
        let described = json!({
            "project_id": id, "duration_minutes": 5, "description": header,
            "labels": { "app": header },
        });
        server.call(post("/manage/tokens", described)).await;
        server.call(get(&format!("/manage/projects?name={}", percent(evil)))).await;
    }
    let huge = "x".repeat(1 << 20);
    let refused = server.call(post("/manage/projects", json!({ "name": huge }))).await;
    assert!((400..500).contains(&refused.status), "{}", refused.status);
    let page = Page { limit: 1000, cursor: None };
    let found = server.store().audit_entries(&EntryFilter::default(), &page).await.unwrap();
    assert!(found.items.len() > EVIL.len() * 3);
    for entry in found.items {
        let leaf = server.store().audit_leaf(entry.id).await.unwrap().unwrap();
        clean(&leaf);
        assert!(leaf.is_ascii(), "{leaf}");
        assert_eq!(entry.actor.kind, domain::audit::ActorKind::Root);
        assert_eq!(entry.result, Outcome::Success);
        let shown = serde_json::to_string(&entry).unwrap();
        clean(&shown);
        let mut line = Vec::new();
        domain::audit::write_line(&leaf, "0.0.0", &mut line).unwrap();
        assert!(!line.contains(&b'\n') && !line.contains(&b'\r'));
    }
}

fn percent(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[tokio::test]
async fn a_leaked_credential_has_the_tags_of_its_refusals() {
    let server = Server::start().await;
    let manage = &server.management.manage;
    let denials = manage.events.denials();
    let now = manage.clock.now();
    denials.tags().renew(&manage.store, now).await.unwrap();
    let leaked = domain::secret::Secret::new("sk-leaked-canary-0123456789");
    let tag = denials.mark_secret(&leaked).tag.unwrap();
    let body = json!({ "credential": leaked.expose() });
    let reply = server.call(post("/manage/audit/tag", body)).await;
    assert_eq!(reply.status, 200, "{}", reply.raw);
    assert_eq!(reply.body["items"][0]["tag"], &*tag);
    assert_eq!(reply.body["items"].as_array().unwrap().len(), 1, "the next week is not here yet");
    assert!(reply.header("audit-id").is_some());
    let entry = entries(&server, Action::AuditRead).await;
    assert!(!entry[0].to_string().contains("canary") && !entry[0].to_string().contains(&*tag));
    let (_, viewer) = server.key("viewer", None).await;
    let body = json!({ "credential": "x" });
    assert_eq!(server.call(post("/manage/audit/tag", body).key(Some(&viewer))).await.status, 403);
    // A year and more later the key is gone, and with it what it could tell.
    let week = 7 * 24 * 3600 * 1_000_000;
    server.clock.advance_micros(70 * week);
    denials.tags().renew(&manage.store, manage.clock.now()).await.unwrap();
    let body = json!({ "credential": leaked.expose() });
    let later = server.call(post("/manage/audit/tag", body)).await;
    assert_ne!(later.body["items"][0]["tag"], &*tag);
    assert_eq!(later.body["items"].as_array().unwrap().len(), 1);
    assert_ne!(denials.mark_secret(&leaked).tag.unwrap(), tag);
}

/// How many disconnects CI has time for, and how many `LLM_PROXY_TEST_VOLUME`
/// asks for.
#[expect(clippy::disallowed_methods, reason = "the size of a test is not configuration")]
fn disconnects() -> usize {
    if std::env::var_os("LLM_PROXY_TEST_VOLUME").is_some() { 2_000 } else { 240 }
}

#[tokio::test]
async fn a_client_that_leaves_cuts_no_change_from_its_entry() {
    let server = Arc::new(Server::start().await);
    let project = server.project("p").await;
    let (token, _) = server.token(&project).await;
    let (all, idle) = (disconnects(), server.tasks.len());
    let mut cut = 0;
    for round in 0..all / 8 {
        let asks = (0..8).map(|at| {
            let number = round * 8 + at;
            let ask = match number % 3 {
                0 => post("/manage/projects", json!({ "name": format!("cut-{number}") })),
                1 => {
                    post("/manage/tokens", json!({ "project_id": project, "duration_minutes": 5 }))
                }
                _ => {
                    patch(&format!("/manage/tokens/{token}"), json!({ "max_requests": number + 1 }))
                }
            };
            // Spread over the whole life of a request, from its first byte on.
            let after = std::time::Duration::from_micros((number as u64 * 7919) % 12_000);
            tokio::spawn(leave(server.address, ask, after))
        });
        for gone in asks.collect::<Vec<_>>() {
            cut += usize::from(gone.await.unwrap());
        }
    }
    assert!(cut > all / 8, "{cut} of {all} were cut");
    // What was begun ends; whoever watches the directory stays.
    let mut quiet = 0;
    while quiet < 20 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        quiet = if server.tasks.len() == idle { quiet + 1 } else { 0 };
    }
    let page = Page { limit: 1000, cursor: None };
    let mut seen = BTreeMap::new();
    let mut cursor = None;
    loop {
        let page = Page { cursor: cursor.clone(), ..page.clone() };
        let found = server.store().audit_entries(&EntryFilter::default(), &page).await.unwrap();
        for entry in found.items {
            let target = entry.target.map(|target| target.id.to_string()).unwrap_or_default();
            *seen.entry((entry.action.as_str(), target)).or_insert(0u64) += 1;
        }
        cursor = found.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    let store = server.store();
    let of = |action: Action| seen.iter().filter(|((name, _), _)| *name == action.as_str()).count();
    let mut projects = 0;
    let mut cursor = None;
    loop {
        let page = Page { cursor: cursor.clone(), ..page.clone() };
        let found = store.projects(&store::ProjectFilter::default(), &page).await.unwrap();
        for project in &found.items {
            let key = ("project.create", project.id.to_string());
            assert_eq!(seen.get(&key), Some(&1), "{} has one entry", project.name);
        }
        projects += found.items.len();
        cursor = found.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(of(Action::ProjectCreate), projects, "no entry without its project");
    let mut tokens = 0;
    let mut cursor = None;
    loop {
        let page = Page { cursor: cursor.clone(), ..page.clone() };
        let found = store.tokens(&store::TokenFilter::default(), &page).await.unwrap();
        for token in &found.items {
            let key = ("token.create", token.id.to_string());
            assert_eq!(seen.get(&key), Some(&1));
        }
        tokens += found.items.len();
        cursor = found.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(of(Action::TokenCreate), tokens, "no entry without its token");
    // Each update made one revision, and each revision its entry.
    let rev = store.token(token.parse().unwrap()).await.unwrap().unwrap().rev;
    let updates = seen.get(&("token.update", token)).copied().unwrap_or(0);
    assert_eq!(updates + 1, rev);
}

/// Sends a request and goes away after a while; says whether before the answer.
async fn leave(address: std::net::SocketAddr, ask: Ask, after: std::time::Duration) -> bool {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(&ask.bytes()).await.unwrap();
    let mut byte = [0];
    tokio::time::timeout(after, stream.read(&mut byte)).await.is_err()
}
