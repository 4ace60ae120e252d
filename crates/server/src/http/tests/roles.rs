//! Every route against every kind of caller, from the table.

use serde_json::json;

use super::{
    super::{
        openapi,
        routes::{Access, ROUTES, Verb},
    },
    harness::{Server, ask, get, patch, post},
};

const NOBODY: &str = "00000000-0000-7000-8000-000000000000";

#[tokio::test]
async fn every_route_enforces_its_role() {
    let server = Server::start().await;
    let mut callers = vec![(None, None), (Some("root"), Some(super::harness::ROOT.to_owned()))];
    for role in ["admin", "operator", "auditor", "viewer"] {
        callers.push((Some(role), Some(server.key(role, None).await.1)));
    }
    let (revoked, revoked_key) = server.key("admin", None).await;
    server.call(ask("DELETE", &format!("/manage/keys/{revoked}"))).await;
    for route in ROUTES {
        let path = route.path.replace("{id}", NOBODY);
        // A tail has no end to wait for: whoever is let in is told of the cursor.
        let path = if path.ends_with("/tail") { format!("{path}?cursor=x") } else { path };
        for (role, key) in &callers {
            let expected = match (route.access, *role) {
                (Access::Open, _) => 200,
                // Management keys are not the metrics token.
                (Access::Metrics, _) | (_, None) => 401,
                (Access::Role(_), Some("root")) => 0,
                (Access::Role(permission), Some(role)) => {
                    let role = domain::role::Role::parse(role).unwrap();
                    if permission.granted_to(role) { 0 } else { 403 }
                }
            };
            let reply = server.call(ask(route.method.as_str(), &path).key(key.as_deref())).await;
            let status = match reply.status {
                401 | 403 => reply.status,
                // Let in: what becomes of an empty request is not the point.
                _ if expected == 0 => 0,
                status => status,
            };
            assert_eq!(status, expected, "{:?} {path} as {role:?}: {}", route.method, reply.raw);
        }
        if matches!(route.access, Access::Role(_)) {
            let ask = ask(route.method.as_str(), &path).key(Some(&revoked_key));
            assert_eq!(server.call(ask).await.status, 401, "revoked at {path}");
        }
        // So many refusals would make the network wait.
        server.clock.advance_micros(4_000_000);
    }
    let scraped = server.call(get("/metrics").key(Some("scrape-me"))).await;
    assert_eq!(scraped.status, 200);
    assert!(scraped.raw.contains("llm_proxy_build_info{"), "{}", scraped.raw);
    let ask = get("/metrics").key(Some("scrape-me")).header("accept", "application/json");
    assert!(server.call(ask).await.raw.contains("llm_proxy_build_info"));
}

#[test]
fn whatever_changes_something_leaves_an_entry() {
    for route in ROUTES {
        let changes = route.method != Verb::Get;
        assert_eq!(route.action.is_some(), changes, "{:?} {}", route.method, route.path);
    }
}

#[test]
fn the_description_holds_every_route() {
    let document = openapi::document("0.0.0", Some("/metrics"));
    let mut described = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            described.push((method.to_uppercase(), path.clone()));
            for reference in references(operation) {
                let name = reference.rsplit('/').next().unwrap();
                assert!(document["components"]["schemas"][name].is_object(), "{name} is missing");
            }
        }
    }
    let mut routed: Vec<_> = ROUTES
        .iter()
        .map(|route| (route.method.as_str().to_owned(), route.path.replace("{*", "{")))
        .collect();
    described.sort();
    routed.sort();
    assert_eq!(described, routed);
    for schema in document["components"]["schemas"].as_object().unwrap().values() {
        for reference in references(schema) {
            let name = reference.rsplit('/').next().unwrap();
            assert!(document["components"]["schemas"][name].is_object(), "{name} is missing");
        }
    }
}

fn references(value: &serde_json::Value) -> Vec<String> {
    match value {
        serde_json::Value::Object(object) => object
            .iter()
            .flat_map(|(key, value)| match value.as_str() {
                Some(text) if key == "$ref" => vec![text.to_owned()],
                _ => references(value),
            })
            .collect(),
        serde_json::Value::Array(items) => items.iter().flat_map(references).collect(),
        _ => Vec::new(),
    }
}

#[tokio::test]
async fn a_limited_key_reaches_its_projects_only() {
    let server = Server::start().await;
    let (own, other) = (server.project("own").await, server.project("other").await);
    let (own_token, _) = server.token(&own).await;
    let (other_token, _) = server.token(&other).await;
    let (_, operator) = server.key("operator", Some(&[&own])).await;
    let (_, admin) = server.key("admin", Some(&[&own])).await;
    let list = |path: &str| get(path).key(Some(&operator));
    for (path, id) in [("/manage/projects", &own), ("/manage/tokens", &own_token)] {
        let reply = server.call(list(path)).await;
        let items = reply.body["items"].as_array().unwrap();
        let ids: Vec<_> = items.iter().map(|item| item["id"].as_str().unwrap()).collect();
        assert_eq!(ids, [id.as_str()], "{path}");
    }
    let reply = server.call(list(&format!("/manage/tokens?projectId={other}"))).await;
    assert_eq!(reply.body["items"], json!([]));
    let check = async |what: super::harness::Ask, expected: u16| {
        let named = format!("{} {}", what.method, what.path);
        assert_eq!(server.call(what.key(Some(&operator))).await.status, expected, "{named}");
    };
    let new_token = |project: &str| json!({ "project_id": project, "duration_minutes": 5 });
    check(get(&format!("/manage/projects/{own}")), 200).await;
    check(get(&format!("/manage/projects/{other}")), 404).await;
    check(patch(&format!("/manage/projects/{other}"), json!({ "name": "mine" })), 404).await;
    check(ask("POST", &format!("/manage/projects/{other}/tokens/revoke")), 404).await;
    check(get(&format!("/manage/tokens/{other_token}")), 404).await;
    check(patch(&format!("/manage/tokens/{other_token}"), json!({ "is_active": false })), 404)
        .await;
    check(ask("DELETE", &format!("/manage/tokens/{other_token}")), 404).await;
    check(post("/manage/tokens", new_token(&other)), 400).await;
    check(post("/manage/tokens", new_token(&own)), 201).await;
    check(post("/manage/projects", json!({ "name": "third" })), 403).await;
    check(get("/manage/log-level"), 403).await;
    let new_key = post("/manage/keys", json!({ "name": "escape", "role": "admin" }));
    assert_eq!(server.call(new_key.key(Some(&admin))).await.status, 403);
    let untouched = server.call(get(&format!("/manage/tokens/{other_token}"))).await;
    assert_eq!(untouched.body["is_active"], true);
}

#[tokio::test]
async fn guessing_is_slowed_down_by_network() {
    let server = Server::start().await;
    let guess = |client: &str, what: &str| {
        get("/manage/projects").key(Some(what)).header("x-forwarded-for", client)
    };
    // An old key in somebody's script does not keep its neighbours out.
    let mut statuses = Vec::new();
    for _ in 0..40 {
        statuses.push(server.call(guess("192.0.2.7", "mk-old")).await.status);
    }
    assert_eq!(statuses.iter().filter(|status| **status == 401).count(), 30);
    let right = get("/manage/projects").header("x-forwarded-for", "192.0.2.7");
    assert_eq!(server.call(right).await.status, 200);
    statuses.clear();
    for at in 0..40 {
        statuses.push(server.call(guess("192.0.2.7", &format!("mk-guess-{at}"))).await.status);
    }
    assert_eq!(statuses.iter().filter(|status| **status == 401).count(), 29);
    let limited = server.call(guess("192.0.2.200", "mk-another")).await;
    assert_eq!((limited.status, limited.text("code").as_str()), (429, "rate_limited"));
    assert!(limited.header("retry-after").is_some());
    // Not even the right key helps while the network waits; others go on.
    let right = get("/manage/projects").header("x-forwarded-for", "192.0.2.7");
    assert_eq!(server.call(right).await.status, 429);
    assert_eq!(server.call(get("/manage/projects")).await.status, 200);
    server.clock.advance_micros(60_000_000);
    let right = get("/manage/projects").header("x-forwarded-for", "192.0.2.7");
    assert_eq!(server.call(right).await.status, 200);
}
