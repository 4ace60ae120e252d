//! What every backend must do alike: generic functions, and one line of macro
//! for each backend.

use domain::{
    audit::{Action, Actor, EntryContext, EntryDraft, TargetKind},
    ids::{InstanceId, ProjectId, RequestId, TokenId},
    role::Role,
    secret::Secret,
    time::Timestamp,
    token::TokenHash,
};
use store::{
    ChangedId, Changes, Entries, EntryFilter, ErrorKind, ManagementKeyPatch, NewManagementKey,
    NewToken, Page, ProjectFilter, ProjectPatch, Store, TokenFilter, TokenPatch, Usage,
};
use uuid::Uuid;

use crate::harness::{self, Counting, Database, NOW, begin, create_project, create_token};

macro_rules! conformance {
    ($backend:ident: $open:expr => $($case:ident),+ $(,)?) => {
        mod $backend {
            use super::*;
            $(
                #[tokio::test]
                async fn $case() {
                    let database = $open;
                    super::$case(&database, database.open().await).await;
                }
            )+
        }
    };
}

conformance!(sqlite: Database::new() =>
    projects, provider_keys, tokens, token_batches, management_keys, settings, pages,
    directory, changes, usage, entries, rollback, failed_statement, bounds);

async fn projects(_: &Database, store: Store) {
    let project = create_project(&store, "alpha").await;
    assert_eq!(store.project(project.id).await.unwrap(), Some(project.clone()));
    assert_eq!(store.project(ProjectId(Uuid::nil())).await.unwrap(), None);

    let mut tx = begin(&store).await;
    let taken = tx.create_project(harness::new_project("alpha")).await.unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::Conflict);
    let patch = ProjectPatch { is_active: Some(false), ..ProjectPatch::default() };
    let stale = tx.update_project(project.id, Some(9), patch.clone()).await.unwrap_err();
    assert_eq!(stale.kind(), ErrorKind::Conflict);
    let missing = tx.project(ProjectId(Uuid::nil())).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);

    // A refusal does not spoil the transaction.
    let updated = tx.update_project(project.id, Some(1), patch).await.unwrap();
    assert_eq!((updated.after.rev, updated.after.deactivated_at), (2, Some(NOW)));
    let same = tx.update_project(project.id, Some(2), ProjectPatch::default()).await.unwrap();
    assert!(same.is_noop() && same.change().is_empty());
    let entry = EntryDraft::new(Action::ProjectUpdate).change(updated.change());
    assert!(tx.commit(entry).await.unwrap().change_seq.is_some());
    assert_eq!(store.project(project.id).await.unwrap(), Some(updated.after));
}

async fn provider_keys(_: &Database, store: Store) {
    let project = create_project(&store, "keys").await;
    let key = &store.provider_keys(project.id).await.unwrap()["openai"];
    assert_eq!(key.expose(), "sk-provider-secret-of-keys-0123456789");

    let mut tx = begin(&store).await;
    let patch = |provider: &str, key: Option<&str>| ProjectPatch {
        provider_keys: [(provider.to_owned(), key.map(Secret::new))].into(),
        ..ProjectPatch::default()
    };
    let one = tx.update_project(project.id, None, patch("openai", Some("sk-two"))).await.unwrap();
    assert_eq!(one.change().fields().len(), 1);
    let two = tx.update_project(project.id, None, patch("anthropic", Some("k"))).await.unwrap();
    assert_eq!(two.after.provider_keys.len(), 2);
    let gone = tx.update_project(project.id, None, patch("openai", None)).await.unwrap();
    assert_eq!(gone.after.provider_keys.len(), 1);
    let shown = gone.after.provider_keys["anthropic"].obfuscated.clone();
    let error = tx.update_project(project.id, None, patch("openai", Some(&shown))).await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Invalid);
    let entries = Entries::one(EntryDraft::new(Action::ProjectUpdate).change(one.change()))
        .and(EntryDraft::new(Action::ProjectUpdate).change(gone.change()));
    assert_eq!(tx.commit(entries).await.unwrap().entry_ids.len(), 2);

    let keys = store.provider_keys(project.id).await.unwrap();
    assert_eq!(keys.keys().collect::<Vec<_>>(), ["anthropic"]);
    let page = Page { limit: 1, cursor: None };
    let newest = store.audit_entries(&EntryFilter::default(), &page).await.unwrap();
    let change = serde_json::to_value(&newest.items[0].change).unwrap();
    let expected = serde_json::json!({"openai": {"changed": true}});
    assert_eq!(change["after"]["provider_keys"], expected);
}

async fn tokens(_: &Database, store: Store) {
    let project = create_project(&store, "tokens").await;
    let (_, row) = create_token(&store, &project).await;
    assert_eq!(store.token(row.id).await.unwrap(), Some(row.clone()));
    assert_eq!(store.token(TokenId(Uuid::nil())).await.unwrap(), None);

    let mut tx = begin(&store).await;
    let patch = TokenPatch {
        expires_at: Some(Some(NOW.plus_micros(1_000_000))),
        max_requests: Some(Some(10)),
        rate_limit_rpm: Some(Some(60)),
        allowed_models: Some(Some(vec!["gpt-4*".to_owned()])),
        description: Some(Some("for tests".to_owned())),
        ..TokenPatch::default()
    };
    let updated = tx.update_token(row.id, Some(1), patch).await.unwrap();
    assert_eq!(updated.change().fields().len(), 5);
    let revoked = tx.revoke_token(row.id).await.unwrap();
    assert_eq!((revoked.after.is_active, revoked.after.revoked_at), (false, Some(NOW)));
    assert!(tx.revoke_token(row.id).await.unwrap().is_noop());
    assert!(tx.commit(EntryDraft::new(Action::TokenRevoke)).await.is_ok());
    assert_eq!(store.token(row.id).await.unwrap(), Some(revoked.after));

    let mut tx = begin(&store).await;
    let patch = TokenPatch { is_active: Some(true), ..TokenPatch::default() };
    let back = tx.update_token(row.id, None, patch.clone()).await.unwrap_err();
    assert_eq!(back.kind(), ErrorKind::Conflict);
    let idle = tx.create_token(new_token(&project, 7)).await.unwrap();
    let off = TokenPatch { is_active: Some(false), ..TokenPatch::default() };
    let off = tx.update_token(idle.id, None, off).await.unwrap();
    assert_eq!((off.after.is_active, off.after.revoked_at), (false, None));
    let on = tx.update_token(idle.id, None, patch).await.unwrap();
    assert_eq!((on.after.is_active, on.after.revoked_at), (true, None));
    let orphan = NewToken { project_id: ProjectId(Uuid::nil()), ..new_token(&project, 1) };
    assert_eq!(tx.create_token(orphan).await.unwrap_err().kind(), ErrorKind::NotFound);
}

fn new_token(project: &store::Project, byte: u8) -> NewToken {
    NewToken {
        project_id: project.id,
        hash: TokenHash::from_bytes([byte; 32]),
        obfuscated: "sk-****".to_owned(),
        expires_at: None,
        max_requests: None,
        rate_limit_rpm: None,
        allowed_models: None,
        labels: Default::default(),
        description: None,
        capture_bodies: None,
    }
}

async fn token_batches(_: &Database, store: Store) {
    let project = create_project(&store, "batch").await;
    let other = create_project(&store, "other").await;
    let (_, first) = create_token(&store, &project).await;
    create_token(&store, &project).await;
    let (_, kept) = create_token(&store, &other).await;
    let mut tx = begin(&store).await;
    assert!(!tx.revoke_token(first.id).await.unwrap().is_noop());
    let batch = tx.revoke_project_tokens(project.id).await.unwrap();
    assert_eq!((batch.revoked.len(), batch.already_revoked_count, batch.total_tokens), (1, 1, 2));
    assert!(tx.commit(EntryDraft::new(Action::TokenRevokeBatch)).await.is_ok());
    let active = TokenFilter { active_only: true, ..TokenFilter::default() };
    let listing = store.tokens(&active, &Page::default()).await.unwrap();
    assert_eq!(listing.items.iter().map(|token| token.id).collect::<Vec<_>>(), [kept.id]);
}

async fn management_keys(_: &Database, store: Store) {
    let hash = TokenHash::from_bytes([3; 32]);
    let mut tx = begin(&store).await;
    let new = NewManagementKey {
        name: "ops".to_owned(),
        hash,
        obfuscated: "mk-****abcd".to_owned(),
        role: Role::Operator,
        project_ids: Some(vec![ProjectId(Uuid::nil())]),
        expires_at: Some(NOW.plus_micros(10)),
    };
    let key = tx.create_management_key(new.clone()).await.unwrap();
    let again = NewManagementKey { hash: TokenHash::from_bytes([5; 32]), ..new.clone() };
    let taken = tx.create_management_key(again.clone()).await.unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::Conflict);
    let entry = EntryDraft::new(Action::KeyCreate).target(TargetKind::Key, key.id);
    assert_eq!(tx.commit(entry).await.unwrap().change_seq, None);
    assert_eq!(store.management_key_by_hash(&hash).await.unwrap(), Some(key.clone()));
    let unknown = TokenHash::from_bytes([4; 32]);
    assert_eq!(store.management_key_by_hash(&unknown).await.unwrap(), None);
    assert!(key.is_usable(NOW) && !key.is_usable(NOW.plus_micros(10)));

    let mut tx = begin(&store).await;
    let patch = ManagementKeyPatch { role: Some(Role::Viewer), ..Default::default() };
    assert!(tx.update_management_key(key.id, Some(1), patch).await.is_ok());
    let revoked = tx.revoke_management_key(key.id).await.unwrap();
    assert!(!revoked.after.is_usable(NOW));
    // A revoked key gives its name back.
    assert!(tx.create_management_key(again).await.is_ok());
    assert!(tx.commit(EntryDraft::new(Action::KeyRevoke)).await.is_ok());
    let listing = store.management_keys(&Page::default()).await.unwrap();
    assert!(listing.items.len() == 2 && listing.items.contains(&revoked.after));
}

async fn settings(_: &Database, store: Store) {
    for (value, rev) in [(Some("debug"), Some(1)), (Some("info"), Some(2)), (None, None)] {
        let mut tx = begin(&store).await;
        let updated = tx.put_setting("log_level", value).await.unwrap();
        assert_eq!(updated.after.as_ref().map(|setting| setting.rev), rev);
        let entry = EntryDraft::new(Action::LogLevelChange).change(updated.change());
        assert!(tx.commit(entry).await.is_ok());
        let stored = store.setting("log_level").await.unwrap();
        assert_eq!(stored.as_ref().map(|setting| setting.value.as_str()), value);
        assert_eq!(store.settings().await.unwrap().len(), usize::from(value.is_some()));
    }
}

async fn pages(database: &Database, store: Store) {
    let mut names = Vec::new();
    for at in 0..5 {
        database.clock.advance_micros(1000);
        names.push(create_project(&store, &format!("p{at}")).await.name);
    }
    names.reverse();
    let mut seen = Vec::new();
    let mut page = Page { limit: 2, cursor: None };
    loop {
        let listing = store.projects(&ProjectFilter::default(), &page).await.unwrap();
        assert!(listing.items.iter().all(|project| project.provider_keys.len() == 1));
        seen.extend(listing.items.into_iter().map(|project| project.name));
        page.cursor = listing.next_cursor;
        if page.cursor.is_none() {
            break;
        }
    }
    assert_eq!(seen, names);
    let none = ProjectFilter { ids: Some(Vec::new()), ..ProjectFilter::default() };
    assert!(store.projects(&none, &Page::default()).await.unwrap().items.is_empty());
    for bad in [
        Page { limit: 0, cursor: None },
        Page { limit: 1001, cursor: None },
        Page { limit: 1, cursor: Some("' OR 1".to_owned()) },
    ] {
        let error = store.projects(&ProjectFilter::default(), &bad).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        let error = store.audit_entries(&EntryFilter::default(), &bad).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
}

async fn directory(_: &Database, store: Store) {
    let project = create_project(&store, "directory").await;
    let (token, row) = create_token(&store, &project).await;
    let hash = token.hash(store.token_hash_key());
    let mut hashes = vec![TokenHash::from_bytes([9; 32]); 255];
    hashes.push(hash);
    let found = store.tokens_by_hash(&hashes).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].hash, found[0].token.id), (hash, row.id));
    assert_eq!(found[0].project, project);
    assert_eq!(found[0].keys["openai"].expose(), "sk-provider-secret-of-directory-0123456789");
    assert_eq!(store.tokens_by_id(&[row.id]).await.unwrap()[0].hash, hash);
    assert!(store.tokens_by_hash(&[]).await.unwrap().is_empty());
    hashes.push(hash);
    let error = store.tokens_by_hash(&hashes).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

async fn changes(_: &Database, store: Store) {
    let nothing = Changes { seq: 0, items: Vec::new(), reset: false };
    assert_eq!(store.changes_since(0, 100).await.unwrap(), nothing);
    let project = create_project(&store, "changes").await;
    let (_, token) = create_token(&store, &project).await;
    let all = store.changes_since(0, 100).await.unwrap();
    let items = vec![ChangedId::Project(project.id), ChangedId::Token(token.id)];
    assert_eq!(all, Changes { seq: 2, items, reset: false });
    let first = store.changes_since(0, 1).await.unwrap();
    assert_eq!((first.seq, first.items.len()), (1, 1));
    assert!(store.changes_since(2, 100).await.unwrap().items.is_empty());
    // A number from the future: this is an older copy of the database.
    assert!(store.changes_since(3, 100).await.unwrap().reset);
}

async fn usage(_: &Database, store: Store) {
    let project = create_project(&store, "usage").await;
    let (_, token) = create_token(&store, &project).await;
    let instance = InstanceId::parse("i1").unwrap();
    let report =
        |count, at| Usage { token_id: token.id, count, last_used_at: Timestamp::from_micros(at) };
    // (uses, last used, journal position, counted, total, newest use)
    for (count, at, seq, counted, total, newest) in [
        (3, 100, 10, true, 3, 100),
        (3, 100, 10, false, 3, 100),
        (5, 90, 9, false, 3, 100),
        (2, 50, 11, true, 5, 100),
        (1, 200, 12, true, 6, 200),
    ] {
        let mut tx = store.begin_operational().await.unwrap();
        let uses = [report(count, at)];
        assert_eq!(tx.add_usage(&uses, &instance, seq).await.unwrap(), counted);
        tx.commit().await.unwrap();
        let row = store.token(token.id).await.unwrap().unwrap();
        assert_eq!(row.request_count, total);
        assert_eq!(row.last_used_at, Some(Timestamp::from_micros(newest)));
    }
    let mut dropped = store.begin_operational().await.unwrap();
    assert!(dropped.add_usage(&[report(9, 300)], &instance, 13).await.unwrap());
    drop(dropped);
    assert_eq!(store.usage_position(&instance).await.unwrap(), 12);
    let other = InstanceId::parse("i2").unwrap();
    assert_eq!(store.usage_position(&other).await.unwrap(), 0);
    // A journal that lost its end sets its own position back, never forward.
    for (instance, seq, moved, position) in [
        (&instance, 12, false, 12),
        (&instance, 20, false, 12),
        (&other, 3, false, 0),
        (&instance, 8, true, 8),
    ] {
        let mut tx = store.begin_operational().await.unwrap();
        assert_eq!(tx.rewind_usage(instance, seq).await.unwrap(), moved);
        tx.commit().await.unwrap();
        assert_eq!(store.usage_position(instance).await.unwrap(), position);
    }
    let mut tx = store.begin_operational().await.unwrap();
    assert!(tx.add_usage(&[report(1, 300)], &instance, 9).await.unwrap());
    tx.commit().await.unwrap();
}

async fn entries(database: &Database, store: Store) {
    let project = create_project(&store, "entries").await;
    database.clock.advance_micros(1_000_000);
    let context =
        EntryContext { request_id: RequestId::parse(b"req-77"), ..EntryContext::default() };
    let key = domain::ids::ManagementKeyId::new(NOW, &Counting::new());
    let actor = Actor::key(key, "Ada", Role::Admin);
    let tx = store.begin(actor, context).await.unwrap();
    let denied = EntryDraft::new(Action::AuthFailed).denied("forbidden").project(project.id);
    let id = tx.commit(denied).await.unwrap().audit_id();

    let find = async |filter: EntryFilter| {
        let listing = store.audit_entries(&filter, &Page::default()).await.unwrap();
        listing.items.iter().map(|entry| entry.id).collect::<Vec<_>>()
    };
    let all = EntryFilter::default();
    assert_eq!(find(all.clone()).await.len(), 2);
    assert_eq!(find(EntryFilter { action: Some(Action::AuthFailed), ..all.clone() }).await, [id]);
    assert_eq!(find(EntryFilter { request_id: Some("req-77".into()), ..all.clone() }).await, [id]);
    assert_eq!(find(EntryFilter { since: Some(NOW.plus_micros(1)), ..all.clone() }).await, [id]);
    assert_eq!(find(EntryFilter { until: Some(NOW), ..all.clone() }).await.len(), 0);
    assert_eq!(find(EntryFilter { project_id: Some(project.id), ..all }).await.len(), 2);

    let entry = store.audit_entry(id).await.unwrap().unwrap();
    assert_eq!(entry.actor.name.as_deref(), Some("Ada"));
    assert_eq!(entry.request_id.as_deref(), Some("req-77"));
    let leaf = store.audit_leaf(id).await.unwrap().unwrap();
    let parsed = domain::audit::Leaf::parse(leaf.as_bytes()).unwrap();
    assert_eq!(parsed.log.as_str(), store.audit_origin());
    assert_eq!(store.audit_pending().await.unwrap(), 2);
}

async fn rollback(_: &Database, store: Store) {
    for _ in 0..3 {
        let mut tx = begin(&store).await;
        assert!(tx.create_project(harness::new_project("ghost")).await.is_ok());
        drop(tx);
    }
    create_project(&store, "real").await;
    let mut tx = begin(&store).await;
    assert!(tx.create_project(harness::new_project("ghost")).await.is_ok());
    tx.rollback().await.unwrap();
    create_project(&store, "also real").await;
    assert_eq!(harness::seqs(&store).await, [1, 2]);
    assert_eq!(store.changes_since(0, 100).await.unwrap().seq, 2);
}

async fn failed_statement(_: &Database, store: Store) {
    let project = create_project(&store, "failed").await;
    let mut tx = begin(&store).await;
    assert!(tx.create_token(new_token(&project, 1)).await.is_ok());
    let twice = tx.create_token(new_token(&project, 1)).await.unwrap_err();
    assert_eq!(twice.kind(), ErrorKind::Conflict);
    let refused = tx.commit(EntryDraft::new(Action::TokenCreate)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Internal);
    assert!(
        store.tokens(&TokenFilter::default(), &Page::default()).await.unwrap().items.is_empty()
    );
    assert_eq!(harness::seqs(&store).await, [1]);
}

async fn bounds(_: &Database, store: Store) {
    let mut tx = begin(&store).await;
    for name in ["", "  ", "a\nb", &"x".repeat(201)] {
        let error = tx.create_project(harness::new_project(name)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{name:?}");
    }
    let mut bad = harness::new_project("ok");
    bad.provider_keys.insert("no spaces".to_owned(), Secret::new("key"));
    assert_eq!(tx.create_project(bad).await.unwrap_err().kind(), ErrorKind::Invalid);
    let detail = EntryDraft::new(Action::ProjectCreate)
        .detail(domain::audit::Detail::Level(domain::audit::Word::lossy("x")));
    assert_eq!(tx.commit(detail).await.unwrap_err().kind(), ErrorKind::Internal);
}
