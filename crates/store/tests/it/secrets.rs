//! Encryption keys: wrong, changed, missing; ciphertexts that were touched; and
//! no secret in the clear.

use domain::token::Token;
use store::{ErrorKind, Store};

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
