//! Encryption keys: wrong, changed, missing; ciphertexts that were touched; and
//! no secret in the clear.

use domain::{
    audit::{Action, Actor, EntryContext, EntryDraft},
    credential::TagPeriod,
    token::Token,
};
use store::{ErrorKind, Store, TAG_PERIODS_KEPT, Use};

use crate::harness::{Database, create_project, create_token, keys, seqs};

#[tokio::test]
async fn a_wrong_key_is_refused_and_changes_nothing() {
    let database = Database::new();
    database.open().await.close().await;
    let error = database.try_open(keys(8, &[])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.public().contains("ENCRYPTION_KEY"), "{error}");
    database.open().await.close().await;
}

#[tokio::test]
async fn the_encryption_key_can_change() {
    let database = Database::new();
    let store = database.open().await;
    let project = create_project(&store, "kept").await;
    let (token, _) = create_token(&store, &project).await;
    store.close().await;

    let store = database.try_open(keys(8, &[7])).await.unwrap();
    assert_works(&store, &token).await;
    assert_eq!(seqs(&store).await, [1, 2, 3], "the change has its entry");
    store.close().await;

    // The old key is not needed any more, and does not fit any more.
    let store = database.try_open(keys(8, &[])).await.unwrap();
    assert_works(&store, &token).await;
    assert_eq!(seqs(&store).await, [1, 2, 3]);
    store.close().await;
    assert!(database.try_open(keys(7, &[])).await.is_err());
}

async fn rotate(store: &Store, weeks: &[u32]) -> bool {
    let mut tx = store.begin(Actor::system(), EntryContext::default()).await.unwrap();
    let weeks: Vec<TagPeriod> = weeks.iter().copied().map(TagPeriod).collect();
    let changed = tx.rotate_tag_keys(&weeks).await.unwrap();
    if changed {
        let draft = EntryDraft::new(Action::ConfigChange);
        drop(tx.commit(draft).await.unwrap());
    } else {
        tx.rollback().await.unwrap();
    }
    changed
}

#[tokio::test]
async fn tag_keys_are_made_once_kept_for_a_year_and_wrapped_anew() {
    let database = Database::new();
    let store = database.open().await;
    assert!(rotate(&store, &[2900, 2901]).await);
    assert!(!rotate(&store, &[2900, 2901]).await);
    let tags = async |store: &Store| {
        let keys = store.tag_keys().await.unwrap();
        keys.into_values().map(|key| key.tag(b"sk-leaked")).collect::<Vec<_>>()
    };
    let before = tags(&store).await;
    assert_eq!(before.len(), 2);
    store.close().await;
    let store = database.try_open(keys(8, &[7])).await.unwrap();
    assert_eq!(tags(&store).await, before, "another encryption key, the same tags");
    store.close().await;
    let store = database.try_open(keys(8, &[])).await.unwrap();
    assert_eq!(tags(&store).await, before);
    assert!(rotate(&store, &[2901 + TAG_PERIODS_KEPT]).await);
    assert_eq!(tags(&store).await[0], before[1], "what is too old is gone");
    assert_eq!(tags(&store).await.len(), 2);
    // A key moved to another week does not open.
    let swap = "UPDATE meta SET value = (SELECT m.value FROM meta m WHERE m.name = \
                'credential_tag_key/2961') WHERE name = 'credential_tag_key/2901'";
    database.tamper(swap).await;
    assert_eq!(store.tag_keys().await.unwrap_err().kind(), ErrorKind::Corrupt);
}

#[tokio::test]
async fn a_token_is_new_once_and_once_from_each_network() {
    let database = Database::new();
    let store = database.open().await;
    let project = create_project(&store, "uses").await;
    let (_, token) = create_token(&store, &project).await;
    let note = async |network: &str| {
        let mut tx = store.begin(Actor::system(), EntryContext::default()).await.unwrap();
        let told = tx.note_use(token.id, network).await.unwrap();
        drop(tx.commit(EntryDraft::new(Action::TokenFirstUse)).await.unwrap());
        told
    };
    assert!(!store.is_known_use(token.id, "192.0.2.0").await.unwrap());
    assert_eq!(note("192.0.2.0").await, Use::First);
    assert_eq!(note("192.0.2.0").await, Use::Known);
    assert_eq!(note("198.51.100.0").await, Use::NewNetwork);
    assert!(store.is_known_use(token.id, "198.51.100.0").await.unwrap());
    assert!(!store.is_known_use(token.id, "203.0.113.0").await.unwrap());
    for file in std::fs::read_dir(database.directory.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(9).any(|part| part == b"192.0.2.0"), "networks stand as hashes");
    }
}

async fn assert_works(store: &Store, token: &Token) {
    let hash = token.hash(store.token_hash_key());
    let found = store.tokens_by_hash(&[hash]).await.unwrap();
    assert_eq!(found[0].keys["openai"].expose(), "sk-provider-secret-of-kept-0123456789");
}

#[tokio::test]
async fn a_key_record_that_is_gone_is_not_made_anew() {
    let database = Database::new();
    let store = database.open().await;
    create_project(&store, "rows").await;
    store.close().await;
    database.tamper("DELETE FROM meta WHERE name = 'token_hash_key'").await;
    let error = database.try_open(keys(7, &[])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
}

#[tokio::test]
async fn ciphertexts_do_not_open_elsewhere_and_hurt_nobody_else() {
    let database = Database::new();
    let store = database.open().await;
    let (one, two) = (create_project(&store, "one").await, create_project(&store, "two").await);
    let (token, _) = create_token(&store, &one).await;
    let (other, _) = create_token(&store, &two).await;
    database
        .tamper(
            "UPDATE provider_keys SET ciphertext = (SELECT k.ciphertext FROM provider_keys k \
             JOIN projects p ON p.id = k.project_id WHERE p.name = 'two') WHERE project_id = \
             (SELECT id FROM projects WHERE name = 'one')",
        )
        .await;
    let error = store.provider_keys(one.id).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    let hash = |token: &Token| token.hash(store.token_hash_key());
    let found = store.tokens_by_hash(&[hash(&token), hash(&other)]).await.unwrap();
    for row in found {
        let damaged = row.project.id == one.id;
        assert_eq!(row.keys.is_empty(), damaged);
        assert_eq!(row.damaged_keys.is_empty(), !damaged);
    }
}

#[tokio::test]
async fn no_secret_is_in_the_clear() {
    let database = Database::new();
    let store = database.open().await;
    let project = create_project(&store, "canary").await;
    let (token, _) = create_token(&store, &project).await;
    let mut files = 0;
    for file in std::fs::read_dir(database.directory.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        let holds = |text: &str| bytes.windows(text.len()).any(|part| part == text.as_bytes());
        assert!(!holds(token.expose()));
        assert!(!holds("sk-provider-secret-of-canary-0123456789"));
        files += 1;
    }
    assert!(files >= 2, "the database and its journal");
}
