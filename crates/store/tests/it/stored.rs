//! The audit tables as a verifier reads them: every column that somebody
//! changed shows, and nothing is needed but the file.

use std::time::Duration;

use store::{Lead, Sequenced, Store, Stored, StoredRow};
use tokio::sync::mpsc;

use crate::harness::{Database, create_project, options};

async fn filled(database: &Database) -> Store {
    let store = database.open().await;
    for name in ["a", "b", "c", "d"] {
        create_project(&store, name).await;
    }
    let Lead::Leading { epoch, size } =
        store.lead("i1", Duration::from_secs(30), None).await.unwrap()
    else {
        panic!("nobody else leads");
    };
    let moved = store.sequence(epoch, size, 3).await.unwrap();
    assert!(matches!(moved, Sequenced::Done { size: 3, .. }), "{moved:?}");
    store
}

/// All rows, the last number of the producer, and stray openings.
async fn read(database: &Database) -> (Vec<StoredRow>, u64, u64) {
    let (sender, mut receiver) = mpsc::channel(1);
    let options = options(&database.path());
    tokio::spawn(async move { Store::stored_entries(&options, sender).await });
    let mut rows = Vec::new();
    while let Some(stored) = receiver.recv().await {
        match stored.unwrap() {
            Stored::Rows(page) => rows.extend(page),
            Stored::Totals { producers, openings_stray } => {
                return (rows, producers["i1/db"], openings_stray);
            }
        }
    }
    panic!("no totals came");
}

#[tokio::test]
async fn rows_come_in_order_with_their_openings() {
    let database = Database::new();
    let _store = filled(&database).await;
    let (rows, given, stray) = read(&database).await;
    let places: Vec<_> = rows.iter().map(|row| (row.index, row.seq)).collect();
    assert_eq!(places, [(Some(0), 1), (Some(1), 2), (Some(2), 3), (None, 4)]);
    assert!(rows.iter().all(|row| row.is_derived && row.openings_damaged.is_empty()));
    assert!(rows.iter().all(|row| !row.openings.is_empty()));
    assert_eq!((given, stray), (4, 0));
}

#[tokio::test]
async fn every_changed_column_shows() {
    let database = Database::new();
    let _store = filled(&database).await;
    for statement in [
        "UPDATE audit_entry SET id = '01980000-0000-7000-8000-000000000001' WHERE idx = 0",
        "UPDATE audit_entry SET producer = 'i2/db' WHERE idx = 0",
        "UPDATE audit_entry SET seq = 99 WHERE idx = 0",
        "UPDATE audit_entry SET at = at + 1 WHERE idx = 0",
        "UPDATE audit_entry SET action = 'project.list' WHERE idx = 0",
        "UPDATE audit_entry SET result = 'denied' WHERE idx = 0",
        "UPDATE audit_entry SET reason_code = 'x' WHERE idx = 0",
        "UPDATE audit_entry SET actor_kind = 'key' WHERE idx = 0",
        "UPDATE audit_entry SET actor_id = 'x' WHERE idx = 0",
        "UPDATE audit_entry SET project_id = NULL WHERE idx = 0",
        "UPDATE audit_entry SET token_id = 'x' WHERE idx = 0",
        "UPDATE audit_entry SET target_type = 'token' WHERE idx = 0",
        "UPDATE audit_entry SET target_id = 'x' WHERE idx = 0",
        "UPDATE audit_entry SET trace_id = 'x' WHERE idx = 0",
        "UPDATE audit_entry SET method = 'x' WHERE idx = 0",
        "UPDATE audit_entry SET route = 'x' WHERE idx = 0",
        "UPDATE audit_entry SET instance = 'x' WHERE idx = 0",
        "UPDATE audit_entry SET leaf = replace(leaf, 'success', 'denied') WHERE idx = 0",
        "UPDATE audit_entry SET leaf_hash = 'x' WHERE idx = 0",
        "UPDATE audit_pending SET leaf_hash = 'x' WHERE seq = 4",
        "UPDATE audit_pending SET leaf = replace(leaf, 'success', 'denied') WHERE seq = 4",
    ] {
        let database = Database::new();
        let _store = filled(&database).await;
        database.tamper(statement).await;
        let (rows, _, _) = read(&database).await;
        let changed = if statement.contains("pending") { 3 } else { 0 };
        for (at, row) in rows.iter().enumerate() {
            assert_eq!(row.is_derived, at != changed, "{statement}: row {at}");
        }
    }
}

#[tokio::test]
async fn openings_that_were_touched_show() {
    for (statement, damaged, stray) in [
        ("UPDATE audit_opening SET salt = 'x' WHERE path = '/change/after/name'", true, 0),
        ("UPDATE audit_opening SET lookup = 'x'", true, 0),
        ("DELETE FROM audit_entry WHERE idx = 2", false, 1),
    ] {
        let database = Database::new();
        let _store = filled(&database).await;
        database.tamper(statement).await;
        let (rows, _, openings_stray) = read(&database).await;
        let shows = rows.iter().any(|row| !row.openings_damaged.is_empty());
        assert_eq!((shows, openings_stray > 0), (damaged, stray > 0), "{statement}");
    }
}

#[tokio::test]
async fn a_database_that_is_not_there_is_said() {
    let database = Database::new();
    let (sender, mut receiver) = mpsc::channel(1);
    Store::stored_entries(&options(&database.path()), sender).await;
    assert!(receiver.recv().await.unwrap().is_err());
}
