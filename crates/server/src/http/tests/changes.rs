//! What each change does and what it leaves in the audit log.

use domain::{ids::TokenId, secret::Secret};
use serde_json::{Value, json};
use store::{EntryFilter, Page};

use super::{
    super::routes::{ROUTES, Route},
    harness::{Ask, Reply, Server, ask, get, patch, post},
};
use dataplane::ports::{Directory as _, Found};

/// A change by a mutating route, and what it is done to.
struct Scenario {
    ask: Ask,
    /// Type and id of the target; an empty id is read from the answer.
    target: (&'static str, String),
}

/// Every mutating route needs one: a new route without it fails the test.
async fn scenario(server: &Server, route: &Route, at: usize) -> Scenario {
    let project = server.project(&format!("scenario-{at}")).await;
    let (token, _) = server.token(&project).await;
    let (key, _) = server.key("viewer", None).await;
    let method = route.method.as_str();
    let path = |id: &str| route.path.replace("{id}", id);
    let body = |id: &str, body: Value| ask(method, &path(id)).body(body.to_string());
    let (ask, target) = match (method, route.path) {
        ("POST", "/manage/projects") => {
            (body("", json!({ "name": "made" })), ("project", String::new()))
        }
        ("PATCH", "/manage/projects/{id}") => {
            (body(&project, json!({ "name": "renamed" })), ("project", project))
        }
        ("POST", "/manage/projects/{id}/tokens/revoke") => {
            (ask(method, &path(&project)), ("project", project))
        }
        ("POST", "/manage/tokens") => {
            let new = json!({ "project_id": project, "duration_minutes": 5 });
            (body("", new), ("token", String::new()))
        }
        ("PATCH", "/manage/tokens/{id}") => {
            (body(&token, json!({ "max_requests": 7 })), ("token", token))
        }
        ("DELETE", "/manage/tokens/{id}") => (ask(method, &path(&token)), ("token", token)),
        ("POST", "/manage/keys") => {
            (body("", json!({ "name": "made", "role": "viewer" })), ("key", String::new()))
        }
        ("PATCH", "/manage/keys/{id}") => (body(&key, json!({ "role": "auditor" })), ("key", key)),
        ("DELETE", "/manage/keys/{id}") => (ask(method, &path(&key)), ("key", key)),
        ("PUT", "/manage/log-level") => {
            (body("", json!({ "level": "debug", "ttl": 60 })), ("setting", "log_level".into()))
        }
        ("POST", "/manage/logs/compact" | "/manage/logs/adopt") => {
            let target = if route.path.ends_with("adopt") {
                ("journal", "others")
            } else {
                ("segment", "all")
            };
            (ask(method, route.path), (target.0, target.1.to_owned()))
        }
        ("POST", "/manage/audit/tag") => {
            let leaked = json!({ "credential": "sk-leaked-canary-0123456789" });
            (body("", leaked), ("setting", "credential_tag_key".into()))
        }
        ("POST", "/manage/audit/verify") => (body("", json!({})), ("instance", "test".to_owned())),
        ("POST", "/manage/logs/prune") => (body("", json!({})), ("segment", "all".into())),
        ("POST", "/manage/logs/erase") => {
            (body("", json!({ "project_id": project })), ("project", project))
        }
        (method, path) => panic!("{method} {path} changes something and has no scenario"),
    };
    Scenario { ask, target }
}

async fn entry(server: &Server, reply: &Reply) -> Value {
    let id = reply.header("audit-id").expect("a change names its entry").parse().unwrap();
    let entry = server.store().audit_entry(id).await.unwrap().expect("the entry is there");
    serde_json::to_value(entry).unwrap()
}

#[tokio::test]
async fn every_change_leaves_its_entry() {
    let server = Server::start().await;
    let (admin, admin_key) = server.key("admin", None).await;
    for (at, route) in ROUTES.iter().filter(|route| route.action.is_some()).enumerate() {
        let Scenario { ask, target } = scenario(&server, route, at).await;
        let named = format!("{} {}", ask.method, route.path);
        let ask = ask
            .key(Some(&admin_key))
            .header("x-request-id", &format!("request-{at}"))
            .header("x-audit-reason", "because of the test")
            .header("x-audit-ticket", "OPS-7")
            .header("x-forwarded-for", "192.0.2.9")
            .header("user-agent", "auditor/1.0");
        let reply = server.call(ask.clone()).await;
        assert_eq!(reply.status, route.answer.0, "{named}: {}", reply.raw);
        let entry = entry(&server, &reply).await;
        assert_eq!(entry["action"], route.action.unwrap().as_str(), "{named}");
        assert_eq!(entry["result"], "success", "{named}");
        assert_eq!(entry["actor"]["kind"], "key", "{named}");
        assert_eq!(entry["actor"]["id"], admin.as_str(), "{named}");
        assert_eq!(entry["actor"]["role"], "admin", "{named}");
        assert_eq!(entry["target"]["type"], target.0, "{named}");
        let id = if target.1.is_empty() { reply.text("id") } else { target.1 };
        assert_eq!(entry["target"]["id"], id.as_str(), "{named}");
        assert_eq!(entry["request_id"], format!("request-{at}"), "{named}");
        assert_eq!(entry["client_ip"], "192.0.2.9", "{named}");
        assert_eq!(entry["user_agent"], "auditor/1.0", "{named}");
        assert_eq!(entry["route"], route.path, "{named}");
        assert_eq!(entry["method"], route.method.as_str(), "{named}");
        let text = entry.to_string();
        assert!(text.contains("OPS-7") && text.contains("because of the test"), "{text}");
    }
}

async fn entries(server: &Server) -> usize {
    let page = Page { limit: 1000, cursor: None };
    server.store().audit_entries(&EntryFilter::default(), &page).await.unwrap().items.len()
}

#[tokio::test]
async fn what_changes_nothing_leaves_no_entry() {
    let server = Server::start().await;
    let project = server.project("same").await;
    let (token, _) = server.token(&project).await;
    let (key, _) = server.key("viewer", None).await;
    let path = format!("/manage/tokens/{token}");
    assert_eq!(server.call(ask("DELETE", &path)).await.status, 204);
    assert_eq!(server.call(ask("DELETE", &format!("/manage/keys/{key}"))).await.status, 204);
    let before = entries(&server).await;
    for again in [
        ask("DELETE", &path),
        ask("DELETE", &format!("/manage/keys/{key}")),
        patch(&format!("/manage/projects/{project}"), json!({ "name": "same" })),
        patch(&format!("/manage/projects/{project}"), json!({})),
    ] {
        let reply = server.call(again).await;
        assert!(reply.status < 300, "{}", reply.raw);
        assert_eq!(reply.header("audit-id"), None);
    }
    let refused = server.call(patch(&path, json!({ "is_active": true }))).await;
    assert_eq!((refused.status, refused.text("code").as_str()), (409, "conflict"));
    assert_eq!(entries(&server).await, before);
}

#[tokio::test]
async fn switching_a_token_off_can_be_taken_back_and_revoking_it_cannot() {
    let server = Server::start().await;
    let project = server.project("switch").await;
    let (token, _) = server.token(&project).await;
    let path = format!("/manage/tokens/{token}");
    let off = server.call(patch(&path, json!({ "is_active": false }))).await;
    assert_eq!((&off.body["is_active"], &off.body["revoked_at"]), (&json!(false), &Value::Null));
    let on = server.call(patch(&path, json!({ "is_active": true }))).await;
    assert_eq!((on.status, &on.body["is_active"]), (200, &json!(true)));
    // What is only switched off is still revoked by its project's batch.
    server.call(patch(&path, json!({ "is_active": false }))).await;
    let batch = format!("/manage/projects/{project}/tokens/revoke");
    let batch = server.call(ask("POST", &batch)).await;
    let expected = json!({ "revoked_count": 1, "already_revoked_count": 0, "total_tokens": 1 });
    assert_eq!(batch.body, expected);
    let refused = server.call(patch(&path, json!({ "is_active": true }))).await;
    assert_eq!((refused.status, refused.text("code").as_str()), (409, "conflict"));
}

#[tokio::test]
async fn views_have_the_fields_of_the_contract() {
    let server = Server::start().await;
    let fields =
        |value: &Value| -> Vec<String> { value.as_object().unwrap().keys().cloned().collect() };
    let body = json!({
        "name": "full", "api_key": "sk-provider-0123456789", "labels": { "team": "a" },
        "provider_keys": { "anthropic": "sk-ant-0123456789abcdef" }, "capture_bodies": "off",
    });
    let project = server.call(post("/manage/projects", body)).await;
    assert_eq!(project.status, 201);
    assert_eq!(
        fields(&project.body),
        [
            "api_key",
            "capture_bodies",
            "created_at",
            "deactivated_at",
            "id",
            "is_active",
            "labels",
            "name",
            "provider_keys",
            "updated_at"
        ]
    );
    assert_eq!(project.body["api_key"], "sk-****6789");
    assert_eq!(
        project.body["provider_keys"],
        json!({ "openai": "sk-****6789", "anthropic": "sk-****cdef" })
    );
    let body = json!({
        "project_id": project.text("id"), "duration_minutes": 60, "max_requests": 5,
        "rate_limit_rpm": 6, "allowed_models": ["gpt-4*"], "labels": { "app": "x" },
        "description": "for x", "capture_bodies": "off",
    });
    let token = server.call(post("/manage/tokens", body)).await;
    assert_eq!(token.status, 201);
    assert_eq!(
        fields(&token.body),
        [
            "allowed_models",
            "capture_bodies",
            "created_at",
            "description",
            "expires_at",
            "id",
            "is_active",
            "labels",
            "last_used_at",
            "max_requests",
            "project_id",
            "rate_limit_rpm",
            "request_count",
            "revoked_at",
            "token"
        ]
    );
    assert_eq!(token.text("token").len(), 46);
    let end = super::harness::START.plus_micros(3_600_000_000).to_string();
    assert_eq!(token.text("expires_at"), end);
    let shown = server.call(get(&format!("/manage/tokens/{}", token.text("id")))).await;
    assert!(shown.text("token").starts_with("sk-****"));
    let forever = json!({ "project_id": project.text("id"), "duration_minutes": null });
    let forever = server.call(post("/manage/tokens", forever)).await;
    assert_eq!((forever.status, &forever.body["expires_at"]), (201, &Value::Null));
    let cleared = patch(
        &format!("/manage/tokens/{}", token.text("id")),
        json!({ "max_requests": null, "allowed_models": null, "duration_minutes": 1 }),
    );
    let cleared = server.call(cleared).await;
    assert_eq!(cleared.body["max_requests"], Value::Null);
    assert_eq!(cleared.body["rate_limit_rpm"], 6);
    let end = super::harness::START.plus_micros(60_000_000).to_string();
    assert_eq!(cleared.text("expires_at"), end);
}

#[tokio::test]
async fn a_revocation_is_known_before_it_is_answered() {
    let server = Server::start().await;
    let manage = &server.management.manage;
    let project = server.project("p").await;
    let hash = |token: &str| manage.store.token_hash_key().hash(&Secret::new(token));
    let grant = async |token: &str| {
        let hash = hash(token);
        match manage.directory.find(&hash) {
            Found::Grant(grant) => grant,
            _ => manage.directory.load(hash).await.unwrap().expect("the token is known"),
        }
    };
    let (first, first_token) = server.token(&project).await;
    let running = grant(&first_token).await;
    assert!(running.token_active && running.project_active);
    assert_eq!(running.keys["openai"].header, "Bearer sk-provider-key-0123456789");
    assert!(running.keys["openai"].header.is_sensitive());
    server.call(ask("DELETE", &format!("/manage/tokens/{first}"))).await;
    assert!(!grant(&first_token).await.token_active);
    assert!(!running.live.terminate.is_cancelled(), "running requests end by themselves");
    server.call(ask("DELETE", &format!("/manage/tokens/{first}?terminate=true"))).await;
    assert!(running.live.terminate.is_cancelled());
    // The count survives the end of what ran.
    let (second, second_token) = server.token(&project).await;
    let running = grant(&second_token).await;
    assert!(running.live.take_use(Some(10)));
    let path = format!("/manage/projects/{project}?terminate=true");
    server.call(patch(&path, json!({ "is_active": false }))).await;
    assert!(!grant(&second_token).await.project_active);
    assert!(running.live.terminate.is_cancelled());
    let path = format!("/manage/projects/{project}");
    server.call(patch(&path, json!({ "is_active": true }))).await;
    let again = grant(&second_token).await;
    assert!(again.project_active && !again.live.terminate.is_cancelled());
    assert_eq!(again.live.used(), 1);
    let shown = server.call(get(&format!("/manage/tokens/{second}"))).await;
    assert_eq!(shown.body["request_count"], 1);
    let batch = server.call(ask("POST", &format!("{path}/tokens/revoke"))).await;
    let expected = json!({ "revoked_count": 1, "already_revoked_count": 1, "total_tokens": 2 });
    assert_eq!(batch.body, expected);
    assert!(!grant(&second_token).await.token_active);
    let rest = patch(&path, json!({ "revoke_tokens": true }));
    assert_eq!(server.call(rest).await.status, 200);
    let _: TokenId = second.parse().unwrap();
}

#[tokio::test]
async fn a_revoked_management_key_is_refused_at_once() {
    let server = Server::start().await;
    let (id, key) = server.key("viewer", None).await;
    let list = || get("/manage/projects").key(Some(&key));
    assert_eq!(server.call(list()).await.status, 200);
    let path = format!("/manage/keys/{id}");
    let promoted = server.call(patch(&path, json!({ "role": "admin" }))).await;
    assert_eq!(promoted.status, 200, "{}", promoted.raw);
    assert_eq!(server.call(get("/manage/keys").key(Some(&key))).await.status, 200);
    assert_eq!(server.call(ask("DELETE", &path)).await.status, 204);
    assert_eq!(server.call(list()).await.status, 401);
    let end = super::harness::START.plus_micros(1_000_000).to_string();
    let body = json!({ "name": "short", "role": "viewer", "expires_at": end });
    let short = server.call(post("/manage/keys", body)).await.text("key");
    let list = || get("/manage/projects").key(Some(&short));
    assert_eq!(server.call(list()).await.status, 200);
    server.clock.advance_micros(1_000_000);
    assert_eq!(server.call(list()).await.status, 401);
}

#[tokio::test]
async fn levels_are_set_and_revert() {
    let server = Server::start().await;
    let project = server.project("p").await;
    let put = |body: Value| ask("PUT", "/manage/log-level").body(body.to_string());
    let shown = server.call(get("/manage/log-level")).await;
    assert_eq!(shown.body["level"], shown.body["configured"]);
    let set = server.call(put(json!({ "level": "trace", "ttl": 60 }))).await;
    assert_eq!((set.status, set.text("level").as_str()), (200, "trace"));
    let scoped = json!({ "level": "debug", "ttl": 30, "project_id": project });
    let set = server.call(put(scoped)).await;
    assert_eq!(set.body["overrides"][0]["project_id"], project.as_str());
    server.clock.advance_micros(31_000_000);
    let shown = server.call(get("/manage/log-level")).await;
    assert_eq!(shown.body["overrides"], json!([]));
    assert_eq!(shown.text("level"), "trace");
    server.clock.advance_micros(30_000_000);
    let shown = server.call(get("/manage/log-level")).await;
    assert_eq!(shown.body["level"], shown.body["configured"]);
}
