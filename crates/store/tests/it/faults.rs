//! What can befall a file: locked, deleted, replaced, read-only, damaged, of
//! another release, and used by two processes.

use std::{
    os::unix::fs::{MetadataExt, PermissionsExt},
    time::{Duration, Instant},
};

use domain::{
    audit::{Actor, EntryContext},
    token::TokenHash,
};
use store::{EntryFilter, ErrorKind, Page, ProjectFilter, Store};

use crate::harness::{Counting, Database, create_project, keys, options, seqs};

async fn begin_kind(store: &Store) -> Option<ErrorKind> {
    let begun = store.begin(Actor::root(), EntryContext::default()).await;
    begun.err().map(|error| error.kind())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_stores_on_one_file_share_one_dense_sequence() {
    let database = Database::new();
    let stores = [database.open().await, database.open().await];
    let mut tasks = tokio::task::JoinSet::new();
    for at in 0..24 {
        let store = stores[at % 2].clone();
        tasks.spawn(async move { create_project(&store, &format!("p{at}")).await });
    }
    assert_eq!(tasks.join_all().await.len(), 24);
    assert_eq!(seqs(&stores[0]).await, (1..=24).collect::<Vec<u64>>());
    let page = Page { limit: 1000, cursor: None };
    let listing = stores[1].projects(&ProjectFilter::default(), &page).await.unwrap();
    assert_eq!(listing.items.len(), 24);
    assert_eq!(stores[0].changes_since(0, 100).await.unwrap().items.len(), 24);
}

#[tokio::test]
async fn a_lock_held_elsewhere_is_unavailable_soon_and_passes() {
    let database = Database::new();
    database.open().await.close().await;
    let mut options = options(&database.path());
    options.wait_max = Duration::from_millis(300);
    let clock = std::sync::Arc::clone(&database.clock);
    let rng = std::sync::Arc::new(Counting::new());
    let store = Store::open(options, keys(7, &[]), clock, rng).await.unwrap();
    let mut raw = database.raw().await;
    sqlx::query("BEGIN EXCLUSIVE").execute(&mut raw).await.unwrap();

    let started = Instant::now();
    assert_eq!(begin_kind(&store).await, Some(ErrorKind::Unavailable));
    assert_eq!(store.ping().await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert!(started.elapsed() < Duration::from_secs(5));
    assert!(store.tokens_by_hash(&[TokenHash::from_bytes([1; 32])]).await.is_ok());

    sqlx::query("ROLLBACK").execute(&mut raw).await.unwrap();
    store.ping().await.unwrap();
}

#[tokio::test]
async fn a_deleted_or_replaced_file_is_unavailable() {
    let database = Database::new();
    let store = database.open().await;
    store.ping().await.unwrap();
    let aside = database.directory.path().join("aside");
    std::fs::rename(database.path(), &aside).unwrap();
    let check = async || {
        assert_eq!(begin_kind(&store).await, Some(ErrorKind::Unavailable));
        assert_eq!(store.ping().await.unwrap_err().kind(), ErrorKind::Unavailable);
        let error = store.changes_since(0, 1).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        let error = store.tokens_by_hash(&[]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
    };
    check().await;
    std::fs::write(database.path(), b"").unwrap();
    check().await;
    std::fs::rename(&aside, database.path()).unwrap();
    store.ping().await.unwrap();
}

#[tokio::test]
async fn files_are_for_their_owner_only() {
    let database = Database::new();
    std::fs::write(database.path(), b"").unwrap();
    std::fs::set_permissions(database.path(), PermissionsExt::from_mode(0o644)).unwrap();
    let store = database.open().await;
    create_project(&store, "private").await;
    for file in std::fs::read_dir(database.directory.path()).unwrap() {
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().mode() & 0o777, 0o600, "{:?}", file.path());
    }
}

#[tokio::test]
async fn damage_is_named() {
    let database = Database::new();
    std::fs::write(database.path(), [b'x'; 8192]).unwrap();
    let error = database.try_open(keys(7, &[])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");

    let missing = Database::new();
    let options = options(&missing.path());
    let error = Store::migration_status(&options).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(!missing.path().exists(), "asking creates nothing");
}

#[tokio::test]
async fn migrations_are_told_and_guarded() {
    let database = Database::new();
    let options = options(&database.path());
    let done = Store::migrate(&options, &*database.clock).await.unwrap();
    assert!(done.iter().all(|migration| migration.applied_at.is_some()));
    assert_eq!(Store::migration_status(&options).await.unwrap(), done);
    database.tamper("INSERT INTO schema_migrations VALUES (999, 'later', 'x', 0)").await;
    let error = database.try_open(keys(7, &[])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    database.tamper("DELETE FROM schema_migrations WHERE version = 999").await;
    database.tamper("UPDATE schema_migrations SET checksum = 'x'").await;
    let error = database.try_open(keys(7, &[])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
}

#[tokio::test]
async fn a_touched_entry_is_not_shown_as_if_it_were_true() {
    for statement in [
        "UPDATE audit_pending SET leaf = replace(leaf, '\"v\":1', '\"v\":2')",
        "UPDATE audit_opening SET value = '\"forged\"' WHERE path = '/change/after/name'",
    ] {
        let database = Database::new();
        let store = database.open().await;
        create_project(&store, "true").await;
        database.tamper(statement).await;
        let shown = store.audit_entries(&EntryFilter::default(), &Page::default()).await;
        assert_eq!(shown.unwrap_err().kind(), ErrorKind::Corrupt, "{statement}");
    }
}
