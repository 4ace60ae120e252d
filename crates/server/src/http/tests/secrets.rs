//! Canaries: secrets are in the one answer that hands them out and nowhere else.

use std::{fmt::Write as _, sync::Arc};

use parking_lot::Mutex;
use serde_json::json;
use store::{EntryFilter, Page};
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

use super::harness::{ROOT, Server, ask, get, patch, post};

/// Keeps every event of this thread, whatever its level.
#[derive(Clone, Default)]
struct Captured(Arc<Mutex<String>>);

impl Visit for Captured {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        writeln!(self.0.lock(), "{field}={value:?}").unwrap();
    }
}

impl Subscriber for Captured {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, attributes: &span::Attributes<'_>) -> span::Id {
        attributes.record(&mut self.clone());
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, values: &span::Record<'_>) {
        values.record(&mut self.clone());
    }
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, event: &Event<'_>) {
        event.record(&mut self.clone());
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

#[tokio::test]
async fn canaries_are_nowhere_else() {
    let captured = Captured::default();
    let _captured = tracing::subscriber::set_default(captured.clone());
    let server = Server::start().await;
    let provider = "sk-canary-provider-0f1e2d3c4b5a6978";
    let rotated = "canaryrotatedwithoutanyprefix00112233";
    let guess = "mk-canary-guess-99887766554433221100aabbccddee";
    let mut said = String::new();
    let mut hear = async |what| {
        let reply = server.call(what).await;
        said.push_str(&reply.head);
        said.push_str(&reply.raw);
        reply
    };
    let body = json!({ "name": "canary", "api_key": provider });
    let project = hear(post("/manage/projects", body)).await.text("id");
    let path = format!("/manage/projects/{project}");
    hear(patch(&path, json!({ "provider_keys": { "anthropic": rotated } }))).await;
    hear(patch(&path, json!({ "api_key": rotated }))).await;
    hear(patch(&path, json!({ "name": provider }))).await;
    hear(patch(&path, json!({ (provider): "x" }))).await;
    hear(patch(&path, json!({ "is_active": provider }))).await;
    hear(post("/manage/projects", json!(provider))).await;
    hear(post("/manage/projects", json!({ "name": "canary", "api_key": provider }))).await;
    hear(get(&format!("/manage/projects?{provider}=1"))).await;
    hear(get("/manage/projects").key(Some(guess))).await;
    hear(get("/manage/projects").key(None).header("authorization", &format!("Basic {guess}")))
        .await;
    let reason = ask("POST", &format!("{path}/tokens/revoke"))
        .header("x-audit-reason", &format!("leaked {provider} by mail"))
        .header("user-agent", provider)
        .header("x-request-id", provider);
    hear(reason).await;
    // These two hand a secret out, so their answers are not heard.
    let (_, token) = server.token(&project).await;
    let (_, key) = server.key("admin", None).await;
    for list in ["/manage/projects", "/manage/tokens", "/manage/keys", "/manage/openapi.json"] {
        hear(get(list).key(Some(&key))).await;
    }
    hear(get(&path)).await;
    let page = Page { limit: 1000, cursor: None };
    let entries = server.store().audit_entries(&EntryFilter::default(), &page).await.unwrap();
    assert!(entries.items.len() >= 6);
    let entries = serde_json::to_string(&entries.items).unwrap();
    server.management.manage.directory.refresh_project(project.parse().unwrap()).await;
    let mut places = vec![
        ("answers", said.clone().into_bytes()),
        ("entries", entries.into_bytes()),
        ("traces", captured.0.lock().clone().into_bytes()),
    ];
    let mut paths = vec![server.dir.path().to_owned()];
    while let Some(path) = paths.pop() {
        match path.is_dir() {
            true => paths.extend(std::fs::read_dir(path).unwrap().map(|it| it.unwrap().path())),
            false => places.push(("files", std::fs::read(path).unwrap())),
        }
    }
    for secret in [provider, rotated, guess, &token, &key, ROOT] {
        for (place, bytes) in &places {
            let found = memchr::memmem::find(bytes, secret.as_bytes());
            assert_eq!(found, None, "{secret} stands in {place}");
        }
    }
}
