#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::path::Path;

use domain::{
    audit::{Action, Actor, EntryContext, EntryDraft, TargetKind},
    ids::{InstanceId, RecordId},
    labels::Labels,
    provider::Operation,
    record::{Envelope, Opening, Record},
    secret::Secret,
    time::ManualClock,
    token::Token,
};
use logstore::{CommitObserver, Journal, JournalConfig, fs::StdFs};
use store::{NewProject, NewToken, TokenPatch};

use super::{
    usage::{UsageCounter, UsageObserver, Used},
    *,
};
use crate::{
    http::tests::harness::{START, open_store, providers},
    system::SystemRng,
};

struct World {
    store: Store,
    clock: Arc<ManualClock>,
    directory: Arc<TokenDirectory>,
    stop: CancellationToken,
    dir: tempfile::TempDir,
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn directory(
    store: &Store,
    clock: &Arc<ManualClock>,
    config: Config,
) -> (Arc<TokenDirectory>, CancellationToken) {
    let stop = CancellationToken::new();
    let tasks = TaskTracker::new();
    let clock = clock.clone();
    let directory =
        TokenDirectory::start(store.clone(), providers(), clock, config, &tasks, stop.clone());
    (directory.await.unwrap(), stop)
}

async fn world(change: impl FnOnce(&mut Config)) -> World {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(START));
    let store = open_store(dir.path(), Arc::clone(&clock)).await;
    let mut config = Config::new(Duration::from_secs(60));
    config.poll_interval = Duration::from_millis(20);
    change(&mut config);
    let (directory, stop) = directory(&store, &clock, config).await;
    World { store, clock, directory, stop, dir }
}

async fn project(store: &Store) -> ProjectId {
    let mut tx = store.begin(Actor::system(), EntryContext::default()).await.unwrap();
    let project = tx
        .create_project(NewProject {
            name: "p".to_owned(),
            provider_keys: [("openai".to_owned(), Secret::new("sk-provider-0123456789"))].into(),
            labels: Labels::default(),
            capture_bodies: None,
            is_active: true,
        })
        .await
        .unwrap();
    let draft = EntryDraft::new(Action::ProjectCreate).target(TargetKind::Project, project.id);
    drop(tx.commit(draft).await.unwrap());
    project.id
}

async fn token(store: &Store, project: ProjectId, max: Option<u64>) -> (TokenId, TokenHash) {
    let token = Token::generate(&SystemRng);
    let key = store.token_hash_key();
    let mut tx = store.begin(Actor::system(), EntryContext::default()).await.unwrap();
    let new = NewToken { max_requests: max, ..NewToken::new(project, &token, key) };
    let row = tx.create_token(new).await.unwrap();
    let draft = EntryDraft::new(Action::TokenCreate).target(TargetKind::Token, row.id);
    drop(tx.commit(draft).await.unwrap());
    (row.id, token.hash(key))
}

/// As another instance would: this directory is not told.
async fn deactivate(store: &Store, id: TokenId) {
    let mut tx = store.begin(Actor::system(), EntryContext::default()).await.unwrap();
    let patch = TokenPatch { is_active: Some(false), ..TokenPatch::default() };
    tx.update_token(id, None, patch).await.unwrap();
    let draft = EntryDraft::new(Action::TokenUpdate).target(TargetKind::Token, id);
    drop(tx.commit(draft).await.unwrap());
}

/// Waits for something that happens in the background.
async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(tokio::time::Instant::now() < deadline, "{what} did not come");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn is_active(directory: &TokenDirectory, hash: &TokenHash) -> Option<bool> {
    match directory.find(hash) {
        Found::Grant(grant) => Some(grant.token_active),
        _ => None,
    }
}

#[tokio::test]
async fn unknown_hashes_are_looked_up_once_and_remembered() {
    let world = world(|_| {}).await;
    let project = project(&world.store).await;
    let (id, hash) = token(&world.store, project, None).await;
    assert!(matches!(world.directory.find(&hash), Found::Unknown));
    let asked = (0..200).map(|_| world.directory.load(hash));
    let mut grants = Vec::new();
    for load in asked.collect::<Vec<_>>() {
        grants.push(load.await.unwrap().expect("the token is known"));
    }
    assert!(grants.iter().all(|grant| grant.token_id == id));
    let first = &grants[0];
    assert!(grants.iter().all(|grant| Arc::ptr_eq(&grant.live, &first.live)));
    assert!(matches!(world.directory.find(&hash), Found::Grant(_)));
    let nobody = TokenHash::from_bytes([9; 32]);
    assert!(world.directory.load(nobody).await.unwrap().is_none());
    assert!(matches!(world.directory.find(&nobody), Found::Absent));
    world.clock.advance_micros(31_000_000);
    assert!(!matches!(world.directory.find(&nobody), Found::Absent));
}

#[tokio::test]
async fn many_askers_share_few_questions_and_waiters_are_bounded() {
    let world = world(|config| config.bounds.waiters = 300).await;
    let asked: Vec<_> = (0..1000u32)
        .map(|at| {
            let mut bytes = [0; 32];
            bytes[..4].copy_from_slice(&at.to_le_bytes());
            let directory = Arc::clone(&world.directory);
            tokio::spawn(async move { directory.load(TokenHash::from_bytes(bytes)).await })
        })
        .collect();
    let (mut absent, mut refused) = (0, 0);
    for asked in asked {
        match asked.await.unwrap() {
            Ok(None) => absent += 1,
            Ok(Some(_)) => panic!("nobody has these tokens"),
            Err(Unavailable) => refused += 1,
        }
    }
    assert_eq!(absent + refused, 1000);
    assert!(absent >= 300, "{absent}");
    assert!(refused > 0, "the bound holds");
}

#[tokio::test]
async fn changes_of_other_instances_are_followed() {
    let world = world(|_| {}).await;
    let project = project(&world.store).await;
    let (id, hash) = token(&world.store, project, None).await;
    let grant = world.directory.load(hash).await.unwrap().unwrap();
    assert!(grant.live.take_use(None));
    deactivate(&world.store, id).await;
    eventually("the change", || is_active(&world.directory, &hash) == Some(false)).await;
    match world.directory.find(&hash) {
        Found::Grant(new) => assert!(Arc::ptr_eq(&new.live, &grant.live), "the count goes on"),
        found => panic!("{found:?}"),
    }
    // Tried too early, then created elsewhere: the absence does not stay.
    let early = Token::generate(&SystemRng);
    let key = world.store.token_hash_key();
    let hash = early.hash(key);
    assert!(world.directory.load(hash).await.unwrap().is_none());
    let mut tx = world.store.begin(Actor::system(), EntryContext::default()).await.unwrap();
    let row = tx.create_token(NewToken::new(project, &early, key)).await.unwrap();
    let draft = EntryDraft::new(Action::TokenCreate).target(TargetKind::Token, row.id);
    drop(tx.commit(draft).await.unwrap());
    eventually("the creation", || !matches!(world.directory.find(&hash), Found::Absent)).await;
    assert!(world.directory.load(hash).await.unwrap().is_some());
}

#[tokio::test]
async fn with_the_store_away_known_tokens_go_on_for_a_while() {
    let world = world(|_| {}).await;
    let project = project(&world.store).await;
    let (_, hash) = token(&world.store, project, None).await;
    world.directory.load(hash).await.unwrap().unwrap();
    let nobody = TokenHash::from_bytes([9; 32]);
    assert!(world.directory.load(nobody).await.unwrap().is_none());
    world.store.close().await;
    world.clock.advance_micros(59_000_000);
    assert!(matches!(world.directory.find(&hash), Found::Grant(_)));
    assert!(world.directory.load(TokenHash::from_bytes([8; 32])).await.is_err());
    world.clock.advance_micros(2_000_000);
    assert!(matches!(world.directory.find(&hash), Found::Stale));
    assert!(!matches!(world.directory.find(&nobody), Found::Absent));
    assert!(world.directory.silent_since().is_some());
}

#[tokio::test]
async fn a_refresh_that_cannot_read_fails_closed() {
    let world = world(|_| {}).await;
    let project = project(&world.store).await;
    let (id, hash) = token(&world.store, project, None).await;
    world.directory.load(hash).await.unwrap().unwrap();
    world.store.close().await;
    world.directory.refresh_tokens(&[id]).await;
    assert!(matches!(world.directory.find(&hash), Found::Unknown));
    assert!(world.directory.load(hash).await.is_err());
}

#[tokio::test]
async fn memory_is_bounded_and_counts_survive_eviction() {
    let world = world(|config| {
        config.bounds.grants = 8;
        config.bounds.absent = 64;
    })
    .await;
    let project = project(&world.store).await;
    let mut hashes = Vec::new();
    for _ in 0..20 {
        let (id, hash) = token(&world.store, project, None).await;
        world.clock.advance_micros(1_000_000);
        let grant = world.directory.load(hash).await.unwrap().unwrap();
        assert!(grant.live.take_use(None));
        grant.live.last_used_us.store(world.clock.now().as_micros(), Ordering::Relaxed);
        hashes.push((id, hash));
    }
    eventually("eviction", || world.directory.sizes().0 <= 9).await;
    let (id, hash) = hashes[0];
    assert!(matches!(world.directory.find(&hash), Found::Unknown), "the longest unused goes");
    assert_eq!(world.directory.used(id), Some(1), "its count stays until it is surely stored");
    for at in 0..2000u32 {
        let mut bytes = [7; 32];
        bytes[..4].copy_from_slice(&at.to_le_bytes());
        assert!(world.directory.load(TokenHash::from_bytes(bytes)).await.unwrap().is_none());
    }
    assert!(world.directory.sizes().1 <= 64);
}

#[tokio::test]
async fn uses_are_counted_once_across_failures_and_restarts() {
    let world = world(|_| {}).await;
    let project = project(&world.store).await;
    let (id, hash) = token(&world.store, project, Some(10)).await;
    let instance = InstanceId::parse("test").unwrap();
    let used = |count| [Used { token_id: id, count, last_used_at: START }];
    let counted = async |store: &Store| store.token(id).await.unwrap().unwrap().request_count;
    let counter = UsageCounter::open(world.store.clone(), instance.clone(), 0).await.unwrap();
    counter.committed(used(2), 5);
    counter.committed(used(9), 5);
    counter.committed(used(1), 7);
    counter.flush().await.unwrap();
    counter.flush().await.unwrap();
    assert_eq!(counted(&world.store).await, 3);
    // What was committed and not flushed is replayed by the next process.
    counter.committed(used(4), 9);
    drop(counter);
    let counter = UsageCounter::open(world.store.clone(), instance, 9).await.unwrap();
    assert_eq!(counter.position(), 7);
    counter.committed(used(3), 7);
    counter.committed(used(4), 9);
    counter.flush().await.unwrap();
    assert_eq!(counted(&world.store).await, 7);
    let (fresh, stop) = directory(&world.store, &world.clock, world.directory.config).await;
    let grant = fresh.load(hash).await.unwrap().unwrap();
    let taken = (0..10).filter(|_| grant.live.take_use(grant.max_requests)).count();
    assert_eq!(taken, 3, "ten in all, over two lives of the process");
    stop.cancel();
    // A store that is away loses nothing.
    world.store.close().await;
    counter.committed(used(1), 12);
    assert!(counter.flush().await.is_err());
    let store = open_store(Path::new(world.dir.path()), Arc::clone(&world.clock)).await;
    assert_eq!(counted(&store).await, 7);
}

fn use_of(token_id: TokenId, project_id: ProjectId) -> Box<Record> {
    let ids = crate::http::tests::harness::ids();
    let opening = Opening {
        record_id: RecordId::new(START, &SystemRng),
        ts: START,
        request_id: ids.request_id,
        correlation_id: ids.correlation_id,
        trace_id: ids.trace.trace_id,
        span_id: ids.trace.span_id,
        parent_span_id: None,
        project_id,
        project: "p".into(),
        token_id,
        labels: None,
        client_ip: None,
        provider: "openai".into(),
        operation: Operation::Chat,
        method: "POST".into(),
        path: "/v1/chat/completions".into(),
        http_version: "1.1",
    };
    Box::new(Record::interrupted(opening, START))
}

#[tokio::test]
async fn uses_are_exact_after_a_crash_by_the_journal() {
    let world = world(|_| {}).await;
    let project = project(&world.store).await;
    let (id, _) = token(&world.store, project, Some(10)).await;
    let instance = InstanceId::parse("test").unwrap();
    let dir = world.dir.path().join("journal");
    let counter = async || {
        let last = Journal::last_committed(&dir, &instance, &StdFs).unwrap();
        UsageCounter::open(world.store.clone(), instance.clone(), last).await.unwrap()
    };
    let open = |observer: Box<dyn CommitObserver>| {
        let envelope = Envelope { instance: instance.clone(), version: "0.0.0-test" };
        let config = JournalConfig::new(&dir);
        let clock = world.clock.clone();
        Journal::open(config, envelope, Arc::new(StdFs), clock, observer).unwrap().0
    };
    let write = |journal: &Journal, uses: usize| {
        let intake = journal.intake();
        for _ in 0..uses {
            intake.reserve().unwrap();
            intake.finish(use_of(id, project), None);
        }
        journal.close();
    };
    let counted = async || world.store.token(id).await.unwrap().unwrap().request_count;
    // The observer tells; nobody flushes: the process dies.
    let first = counter().await;
    let journal = open(Box::new(UsageObserver(Arc::clone(&first))));
    first.replay(&journal).unwrap();
    write(&journal, 3);
    drop((journal, first));
    assert_eq!(counted().await, 0);
    for _ in 0..2 {
        let next = counter().await;
        let journal = open(Box::new(UsageObserver(Arc::clone(&next))));
        next.replay(&journal).unwrap();
        next.flush().await.unwrap();
        assert_eq!(counted().await, 3, "replayed once");
        journal.close();
    }
    // Somebody deletes the journal: counting goes on all the same, also when
    // the process dies before it flushed.
    std::fs::remove_dir_all(&dir).unwrap();
    let next = counter().await;
    let journal = open(Box::new(UsageObserver(Arc::clone(&next))));
    next.replay(&journal).unwrap();
    write(&journal, 2);
    next.flush().await.unwrap();
    assert_eq!(counted().await, 5);
    let next = counter().await;
    let journal = open(Box::new(UsageObserver(Arc::clone(&next))));
    next.replay(&journal).unwrap();
    write(&journal, 1);
    drop((journal, next));
    let next = counter().await;
    let journal = open(Box::new(UsageObserver(Arc::clone(&next))));
    next.replay(&journal).unwrap();
    next.flush().await.unwrap();
    assert_eq!(counted().await, 6);
    journal.close();
    // A loss of power takes lines that were counted already: those that take
    // their numbers count all the same.
    let file = newest_file(&dir);
    let kept = std::fs::read(&file).unwrap();
    for _ in 0..3 {
        let next = counter().await;
        let journal = open(Box::new(UsageObserver(Arc::clone(&next))));
        next.replay(&journal).unwrap();
        write(&journal, 5);
        next.flush().await.unwrap();
        journal.close();
        std::fs::remove_file(newest_file(&dir)).unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), kept);
    }
    assert_eq!(counted().await, 21);
}

fn newest_file(dir: &Path) -> std::path::PathBuf {
    let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|ending| ending == "jsonl")).max().unwrap()
}
