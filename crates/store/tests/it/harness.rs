//! A database in a directory of its own, and short words for what tests do.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use domain::{
    audit::{Action, Actor, EntryContext, EntryDraft, TargetKind},
    ids::InstanceId,
    labels::Labels,
    rng::Rng,
    secret::Secret,
    time::{ManualClock, Timestamp},
    token::Token,
};
use sqlx::{Connection, SqliteConnection};
use store::{AuditedTx, EncryptionKeys, NewProject, NewToken, Options, Project, Store, TokenRow};
use uuid::Uuid;

pub(crate) const NOW: Timestamp = Timestamp::from_micros(1_795_428_000_000_000);

/// Counts up from a random place, so that nothing repeats, not even between
/// two stores on one file.
pub(crate) struct Counting(AtomicU64);

impl Counting {
    #[expect(clippy::disallowed_methods, reason = "two processes must not repeat each other")]
    pub(crate) fn new() -> Self {
        let mut seed = [0; 8];
        getrandom::fill(&mut seed).unwrap();
        Self(AtomicU64::new(u64::from_le_bytes(seed)))
    }
}

impl Rng for Counting {
    fn next_u64(&self) -> u64 {
        self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed)
    }

    fn fill_secure(&self, buffer: &mut [u8]) {
        for chunk in buffer.chunks_mut(8) {
            chunk.copy_from_slice(&self.next_u64().to_le_bytes()[..chunk.len()]);
        }
    }
}

pub(crate) struct Database {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) clock: Arc<ManualClock>,
}

impl Database {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self { directory, clock: Arc::new(ManualClock::at(NOW)) }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("llm-proxy.db")
    }

    pub(crate) async fn open(&self) -> Store {
        self.try_open(keys(7, &[])).await.unwrap()
    }

    pub(crate) async fn try_open(&self, keys: EncryptionKeys) -> store::Result<Store> {
        let rng = Arc::new(Counting::new());
        Store::open(options(&self.path()), keys, Arc::clone(&self.clock) as _, rng).await
    }

    /// Another program's connection to the same file.
    pub(crate) async fn raw(&self) -> SqliteConnection {
        SqliteConnection::connect(&format!("sqlite://{}", self.path().display())).await.unwrap()
    }

    /// Runs one statement behind the store's back.
    pub(crate) async fn tamper(&self, statement: &'static str) {
        let mut raw = self.raw().await;
        let done = sqlx::query(statement).execute(&mut raw).await.unwrap();
        assert!(done.rows_affected() > 0, "{statement}");
        raw.close().await.unwrap();
    }
}

pub(crate) fn options(path: &Path) -> Options {
    let mut options = Options::new(path, InstanceId::parse("i1").unwrap(), Uuid::nil());
    options.wait_max = Duration::from_secs(10);
    options
}

pub(crate) fn keys(current: u8, old: &[u8]) -> EncryptionKeys {
    let key = |byte: u8| Secret::new(STANDARD.encode([byte; 32]));
    let old: Vec<Secret> = old.iter().map(|byte| key(*byte)).collect();
    EncryptionKeys::parse(&key(current), &old).unwrap()
}

pub(crate) fn new_project(name: &str) -> NewProject {
    let key = Secret::new(format!("sk-provider-secret-of-{name}-0123456789"));
    NewProject {
        name: name.to_owned(),
        provider_keys: BTreeMap::from([("openai".to_owned(), key)]),
        is_active: true,
        labels: Labels::default(),
        capture_bodies: None,
    }
}

pub(crate) async fn begin(store: &Store) -> AuditedTx {
    store.begin(Actor::root(), EntryContext::default()).await.unwrap()
}

pub(crate) async fn create_project(store: &Store, name: &str) -> Project {
    let mut tx = begin(store).await;
    let project = tx.create_project(new_project(name)).await.unwrap();
    let entry = EntryDraft::new(Action::ProjectCreate)
        .project(project.id)
        .target(TargetKind::Project, project.id)
        .revisions(None, Some(project.rev))
        .change(domain::audit::Change::created(&project));
    assert_eq!(tx.commit(entry).await.unwrap().entry_ids.len(), 1);
    project
}

pub(crate) async fn create_token(store: &Store, project: &Project) -> (Token, TokenRow) {
    let token = Token::generate(&Counting::new());
    let mut tx = begin(store).await;
    let new = NewToken::new(project.id, &token, store.token_hash_key());
    let row = tx.create_token(new).await.unwrap();
    let entry = EntryDraft::new(Action::TokenCreate).project(project.id).token(row.id);
    assert!(tx.commit(entry).await.unwrap().change_seq.is_some());
    (token, row)
}

/// The sequence numbers of all entries, oldest first.
pub(crate) async fn seqs(store: &Store) -> Vec<u64> {
    let page = store::Page { limit: 1000, cursor: None };
    let listing = store.audit_entries(&Default::default(), &page).await.unwrap();
    assert!(listing.next_cursor.is_none());
    listing.items.iter().rev().map(|entry| entry.seq).collect()
}
