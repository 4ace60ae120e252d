//! Indexes in the tree: given once, in order, by one sequencer; and what the
//! database says after somebody has been at its tables.

use std::time::Duration;

use domain::{
    audit::{
        Action, Actor, Detail, EntryContext, EntryDraft, Origin, SealedEntry, Text, Word, leaf_hash,
    },
    ids::InstanceId,
};
use store::{
    EntryFilter, ErrorKind, Gap, JournalEntry, Lead, Page, Remembered, Sequenced, Store, Taken,
};

use crate::harness::{Counting, Database, NOW, begin, create_project};

const HELD: Duration = Duration::from_secs(30);

async fn lead(store: &Store, holder: &str) -> (u64, u64) {
    match store.lead(holder, HELD, None).await.unwrap() {
        Lead::Leading { epoch, size } => (epoch, size),
        following => panic!("{following:?}"),
    }
}

/// Everything that waits; returns the new size and what was odd.
async fn sequence(store: &Store) -> (u64, Vec<Gap>, Vec<String>) {
    let (epoch, size) = lead(store, "i1").await;
    match store.sequence(epoch, size, 100).await.unwrap() {
        Sequenced::Done { size, gaps, damaged, .. } => (size, gaps, damaged),
        Sequenced::Lost => panic!("nobody else sequences"),
    }
}

async fn all(store: &Store) -> Vec<(Option<u64>, u64)> {
    let page = Page { limit: 1000, cursor: None };
    let listing = store.audit_entries(&EntryFilter::default(), &page).await.unwrap();
    listing.items.iter().map(|entry| (entry.index, entry.seq)).collect()
}

fn gap(expected: u64, found: u64) -> Gap {
    Gap { producer: "i1/db".to_owned(), expected, found }
}

/// An entry as the journal of this instance makes one.
fn born(store: &Store, seq: u64) -> SealedEntry {
    let origin = Origin {
        log: Word::lossy(store.audit_origin()),
        producer: Word::lossy("i1/journal"),
        instance: InstanceId::parse("i1").unwrap(),
        boot: Word::lossy("boot"),
    };
    let draft = EntryDraft::new(Action::AccessDenied)
        .denied("token_not_found")
        .detail(Detail::Path(Text::new("/v1/chat/completions")));
    let context = EntryContext::default();
    draft.seal(&Actor::anonymous(), &context, &origin, seq, NOW, &Counting::new()).unwrap()
}

fn line_of(entry: &SealedEntry) -> JournalEntry {
    JournalEntry { leaf: entry.text.clone(), openings: entry.openings.clone() }
}

#[tokio::test]
async fn entries_get_dense_indexes_in_order_and_stay_one_list() {
    let database = Database::new();
    let store = database.open().await;
    for name in ["a", "b", "c"] {
        create_project(&store, name).await;
    }
    let page = Page { limit: 2, cursor: None };
    let first = store.audit_entries(&EntryFilter::default(), &page).await.unwrap();
    assert_eq!(first.items.iter().map(|it| it.index).collect::<Vec<_>>(), [None, None]);
    // The page goes on behind an entry that has its index by now.
    let (epoch, size) = lead(&store, "i1").await;
    let moved = store.sequence(epoch, size, 2).await.unwrap();
    assert!(matches!(moved, Sequenced::Done { size: 2, moved: 2, .. }), "{moved:?}");
    let page = Page { limit: 2, cursor: first.next_cursor };
    let rest = store.audit_entries(&EntryFilter::default(), &page).await.unwrap();
    assert_eq!(rest.items.iter().map(|it| (it.index, it.seq)).collect::<Vec<_>>(), [(Some(0), 1)]);
    assert_eq!(all(&store).await, [(None, 3), (Some(1), 2), (Some(0), 1)]);
    let page = Page { limit: 1, cursor: None };
    let mut seen = Vec::new();
    let mut next = Some(page);
    while let Some(page) = next {
        let listing = store.audit_entries(&EntryFilter::default(), &page).await.unwrap();
        seen.extend(listing.items.iter().map(|entry| entry.seq));
        next = listing.next_cursor.map(|cursor| Page { limit: 1, cursor: Some(cursor) });
    }
    assert_eq!(seen, [3, 2, 1]);
    assert_eq!(sequence(&store).await, (3, vec![], vec![]));
    assert_eq!(sequence(&store).await, (3, vec![], vec![]));
    let leaves = store.sequenced_leaves(1, 10).await.unwrap();
    let entries = store.sequenced_entries(&EntryFilter::default(), 1..10, 10).await.unwrap();
    assert_eq!(leaves, entries.iter().map(|it| it.leaf.clone()).collect::<Vec<_>>());
    assert_eq!(entries[1].index, 2);
    let id = entries[0].id;
    assert_eq!(store.sequenced_entry(id).await.unwrap().unwrap(), entries[0]);
    assert_eq!(store.audit_entry_at(1).await.unwrap().unwrap().id, id);
    assert_eq!(store.entry_counts().1, 0);
    // Whoever writes lines finds them in whichever table they are.
    create_project(&store, "d").await;
    let own = store.own_leaves_after(1, 10).await.unwrap();
    assert_eq!(own.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), [2, 3, 4]);
}

#[tokio::test]
async fn of_two_sequencers_one_is_told_that_it_is_not() {
    let database = Database::new();
    let (first, second) = (database.open().await, database.open().await);
    create_project(&first, "a").await;
    let (epoch, size) = lead(&first, "one").await;
    let following = second.lead("two", HELD, None).await.unwrap();
    assert!(matches!(following, Lead::Following { holder, .. } if holder == "one"));
    // The first one stands still for longer than its lease.
    database.clock.advance_micros(31_000_000);
    let (other, _) = lead(&second, "two").await;
    let moved = second.sequence(other, 0, 10).await.unwrap();
    assert!(matches!(moved, Sequenced::Done { size: 1, .. }));
    create_project(&first, "b").await;
    assert_eq!(first.sequence(epoch, size, 10).await.unwrap(), Sequenced::Lost);
    assert_eq!(first.sequence(other, 0, 10).await.unwrap(), Sequenced::Lost);
    let renewed = first.lead("one", HELD, Some(epoch)).await.unwrap();
    assert!(matches!(renewed, Lead::Following { .. }));
    assert_eq!(
        second.lead("two", HELD, Some(other)).await.unwrap(),
        Lead::Leading { epoch: other, size: 1 }
    );
    let moved = second.sequence(other, 1, 10).await.unwrap();
    assert!(matches!(moved, Sequenced::Done { size: 2, .. }));
    assert_eq!(all(&first).await, [(Some(1), 2), (Some(0), 1)]);
}

#[tokio::test]
async fn rows_that_somebody_took_away_before_they_had_an_index_are_missed() {
    // (what was done, the gaps that a round finds)
    for (statement, gaps) in [
        ("DELETE FROM audit_pending WHERE seq = 2", vec![gap(2, 3)]),
        ("DELETE FROM audit_pending WHERE seq = 3", vec![gap(3, 4)]),
        ("DELETE FROM audit_pending", vec![gap(1, 4)]),
    ] {
        let database = Database::new();
        let store = database.open().await;
        for name in ["a", "b", "c"] {
            create_project(&store, name).await;
        }
        let written = store.own_leaves_after(0, 10).await.unwrap();
        database.tamper(statement).await;
        // The journal had their lines: they come back from there.
        let instance = InstanceId::parse("i1").unwrap();
        let (epoch, size) = lead(&store, "i1").await;
        let found = store.sequence(epoch, size, 100).await.unwrap();
        let Sequenced::Done { gaps: found, .. } = found else { panic!("{found:?}") };
        assert_eq!(found, gaps, "{statement}");
        let lines: Vec<JournalEntry> = written
            .into_iter()
            .map(|(_, leaf)| JournalEntry { leaf, openings: Vec::new() })
            .collect();
        let taken = store.take_journal_entries(&instance, &lines, 9).await.unwrap();
        assert!(taken.altered.is_empty() && taken.foreign == 0, "{taken:?}");
        let again = store.take_journal_entries(&instance, &lines, 9).await.unwrap();
        assert_eq!(again, Taken::default(), "{statement}");
    }
}

#[tokio::test]
async fn a_row_that_was_altered_is_set_aside_and_comes_back_from_the_journal() {
    let database = Database::new();
    let store = database.open().await;
    for name in ["a", "b"] {
        create_project(&store, name).await;
    }
    let (_, leaf) = store.own_leaves_after(0, 1).await.unwrap().remove(0);
    let forged = "UPDATE audit_pending SET leaf = replace(leaf, 'success', 'denied') WHERE seq = 1";
    database.tamper(forged).await;
    let (size, _, damaged) = sequence(&store).await;
    assert_eq!((size, damaged.len()), (1, 1));
    let line = JournalEntry { leaf: leaf.clone(), openings: Vec::new() };
    let instance = InstanceId::parse("i1").unwrap();
    let taken = store.take_journal_entries(&instance, &[line], 5).await.unwrap();
    assert_eq!(taken.altered, damaged);
    assert_eq!(store.audit_cursor(&instance).await.unwrap(), 5);
    let (size, _, damaged) = sequence(&store).await;
    assert_eq!((size, damaged.len()), (2, 0));
    assert_eq!(store.sequenced_leaves(1, 1).await.unwrap(), [leaf]);
}

#[tokio::test]
async fn entries_of_the_journal_are_taken_once() {
    let database = Database::new();
    let store = database.open().await;
    let instance = InstanceId::parse("i1").unwrap();
    let entries: Vec<SealedEntry> = (1..=3).map(|seq| born(&store, seq)).collect();
    let lines: Vec<JournalEntry> = entries.iter().map(line_of).collect();
    let take = async |lines: &[JournalEntry], seq| {
        let taken = store.take_journal_entries(&instance, lines, seq).await.unwrap();
        (taken.inserted, taken.foreign)
    };
    assert_eq!(take(&lines[..2], 7).await, (2, 0));
    assert_eq!(take(&lines, 9).await, (1, 0));
    assert_eq!(sequence(&store).await, (3, vec![], vec![]));
    assert_eq!(take(&lines, 8).await, (0, 0));
    assert_eq!(store.audit_cursor(&instance).await.unwrap(), 9);
    assert_eq!(store.producer_seq("i1/journal").await.unwrap(), 3);
    let shown = store.audit_entry(entries[0].leaf.id).await.unwrap().unwrap();
    assert_eq!(shown.details["path"], "/v1/chat/completions");
    assert!(shown.erased.is_empty());
    // Another chain's, and an opening that opens nothing.
    let other = Database::new();
    let stranger = born(&other.open().await, 4);
    let mut liar = line_of(&born(&store, 4));
    liar.openings[0].value = "\"/forged\"".to_owned();
    assert_eq!(take(&[line_of(&stranger), liar], 10).await, (1, 1));
    assert_eq!(all(&store).await[0], (None, 4));
    assert!(store.rewind_audit_cursor(&instance, 4).await.unwrap());
    assert!(!store.rewind_audit_cursor(&instance, 4).await.unwrap());
}

#[tokio::test]
async fn rows_are_made_anew_from_the_leaves_of_the_tree() {
    let statements = [
        "UPDATE audit_entry SET idx = idx + 100 WHERE idx = 1",
        "UPDATE audit_entry SET action = 'project.list' WHERE idx = 1",
        "UPDATE audit_entry SET project_id = NULL WHERE idx = 0",
        "UPDATE audit_entry SET at = at + 1 WHERE idx = 0",
        "UPDATE audit_entry SET actor_id = 'somebody' WHERE idx = 0",
        "UPDATE audit_entry SET leaf = replace(leaf, 'success', 'denied') WHERE idx = 2",
        "UPDATE audit_entry SET leaf_hash = 'x' WHERE idx = 2",
        "DELETE FROM audit_entry WHERE idx = 0",
        "DELETE FROM audit_entry",
    ];
    for statement in statements {
        let database = Database::new();
        let store = database.open().await;
        for name in ["a", "b", "c"] {
            create_project(&store, name).await;
        }
        assert_eq!(sequence(&store).await.0, 3);
        let leaves = store.sequenced_leaves(0, 10).await.unwrap();
        let before = store.sequenced_entries(&EntryFilter::default(), 0..10, 10).await.unwrap();
        let kept = store.restore_entries(0, &leaves).await.unwrap();
        assert_eq!((kept.kept, kept.added + kept.replaced), (3, 0));
        database.tamper(statement).await;
        let done = store.restore_entries(0, &leaves).await.unwrap();
        assert!(done.added + done.replaced > 0, "{statement}: {done:?}");
        store.restore_size(3).await.unwrap();
        assert_eq!(
            store.sequenced_entries(&EntryFilter::default(), 0..10, 10).await.unwrap(),
            before,
            "{statement}"
        );
        let done = store.restore_entries(0, &leaves).await.unwrap();
        assert_eq!(done.kept, 3, "{statement}");
    }
}

#[tokio::test]
async fn a_database_of_an_hour_ago_is_brought_up_to_the_tree() {
    let database = Database::new();
    let store = database.open().await;
    create_project(&store, "a").await;
    sequence(&store).await;
    let mut raw = database.raw().await;
    let copy = database.directory.path().join("copy.db");
    let statement = format!("VACUUM INTO '{}'", copy.display());
    sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&mut raw).await.unwrap();
    create_project(&store, "b").await;
    sequence(&store).await;
    let leaves = store.sequenced_leaves(0, 10).await.unwrap();
    let older = Database::new();
    std::fs::copy(&copy, older.path()).unwrap();
    let restored = older.open().await;
    assert_eq!(restored.audit_chain().await.unwrap().size, 1);
    restored.refuse_changes(Some("the database is older than the audit log"));
    let refused = restored.begin(Actor::root(), EntryContext::default()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::AuditUnavailable);
    let done = restored.restore_entries(0, &leaves).await.unwrap();
    assert_eq!((done.kept, done.added), (1, 1));
    restored.restore_size(2).await.unwrap();
    restored.refuse_changes(None);
    // Numbers go on behind those of the tree.
    let id = begin(&restored).await.commit(EntryDraft::new(Action::SystemRecovered)).await;
    let entry = restored.audit_entry(id.unwrap().audit_id()).await.unwrap().unwrap();
    assert_eq!(entry.seq, 3);
    assert_eq!(sequence(&restored).await, (3, vec![], vec![]));
}

#[tokio::test]
async fn a_checkpoint_is_remembered_and_another_of_its_size_is_a_fork() {
    let database = Database::new();
    let store = database.open().await;
    let checkpoint = |size: u64, root: &str| Remembered {
        size,
        root: root.to_owned(),
        at: NOW,
        note: format!("origin\n{size}\n{root}\n"),
    };
    for size in [1, 2, 2, 700] {
        store.remember_checkpoint(&checkpoint(size, "aa")).await.unwrap();
    }
    let fork = store.remember_checkpoint(&checkpoint(2, "bb")).await.unwrap_err();
    assert_eq!(fork.kind(), ErrorKind::Corrupt);
    let chain = store.audit_chain().await.unwrap();
    assert_eq!(chain.published, Some(checkpoint(700, "aa")));
}

#[tokio::test]
async fn filters_find_what_is_sealed_and_what_is_not() {
    let database = Database::new();
    let store = database.open().await;
    let project = create_project(&store, "100% _alpha_").await;
    create_project(&store, "beta").await;
    let entry = born(&store, 1);
    let instance = InstanceId::parse("i1").unwrap();
    store.take_journal_entries(&instance, &[line_of(&entry)], 1).await.unwrap();
    let find = async |filter: EntryFilter| {
        let listing = store.audit_entries(&filter, &Page::default()).await;
        listing.map(|listing| listing.items.len()).map_err(|error| error.kind())
    };
    let search = |text: &str| EntryFilter { search: Some(text.into()), ..EntryFilter::default() };
    for round in 0..2 {
        assert_eq!(find(search("_ALPHA_")).await, Ok(1), "{round}");
        assert_eq!(find(search("0% _")).await, Ok(1));
        assert_eq!(find(search("%eta")).await, Ok(0));
        assert_eq!(find(search("chat/comp")).await, Ok(1));
        assert_eq!(find(search("")).await, Err(ErrorKind::Invalid));
        let hash = leaf_hash(entry.text.as_bytes()).to_string();
        let by_hash = EntryFilter { leaf_hash: Some(hash), ..EntryFilter::default() };
        assert_eq!(find(by_hash).await, Ok(1));
        let denied = EntryFilter {
            result: Some(domain::audit::Outcome::Denied),
            reason_code: Some("token_not_found".into()),
            ..EntryFilter::default()
        };
        assert_eq!(find(denied).await, Ok(1));
        let target = EntryFilter {
            target_id: Some(project.id.to_string()),
            actor_kind: Some(domain::audit::ActorKind::Root),
            ..EntryFilter::default()
        };
        assert_eq!(find(target).await, Ok(1));
        sequence(&store).await;
    }
}
