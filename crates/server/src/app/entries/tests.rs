//! Lines of entries with a real store and a real journal.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::time::Duration;

use domain::{
    audit::{Action, Actor, EntryContext, EntryDraft, TargetKind},
    time::ManualClock,
};
use logstore::{Journal, fs::StdFs};

use super::*;
use crate::http::tests::harness::{START, journal, open_store};

async fn commit(store: &Store, names: std::ops::Range<u32>) {
    for name in names {
        let tx = store.begin(Actor::root(), EntryContext::default()).await.unwrap();
        let draft = EntryDraft::new(Action::LogLevelChange)
            .target(TargetKind::Setting, format!("setting-{name}"))
            .note("only for those who may read it");
        drop(tx.commit(draft).await.unwrap());
    }
}

fn begin(store: &Store, journal: &Journal, dir: &Path) -> EntryLines {
    let fs: Arc<dyn Fs> = Arc::new(StdFs);
    let seq = last_written(&fs, dir, store.producer()).unwrap();
    let envelope =
        Envelope { instance: domain::ids::InstanceId::parse("test").unwrap(), version: "0.0.0" };
    EntryLines::begin(store.clone(), journal.intake(), envelope, seq)
}

/// The lines of entries in the journal.
fn lines(journal: &Journal) -> Vec<serde_json::Value> {
    let mut found = Vec::new();
    journal
        .follower(0)
        .poll(&mut |lines| {
            for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                found.push(serde_json::from_slice(line).unwrap());
            }
            Ok(())
        })
        .unwrap();
    found
}

#[tokio::test]
async fn every_entry_gets_one_line_whenever_the_process_dies() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(START));
    let store = open_store(dir.path(), clock.clone()).await;
    // Committed while nobody wrote lines, as before a crash.
    commit(&store, 0..300).await;
    let first = journal(dir.path(), &clock);
    let writer = begin(&store, &first, dir.path());
    commit(&store, 300..303).await;
    let both = async {
        while lines(&first).len() < 303 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), both).await.expect("all lines");
    commit(&store, 303..305).await;
    writer.stop().await;
    first.close();
    // The second process begins with entries that the first one never saw.
    commit(&store, 305..307).await;
    let second = journal(dir.path(), &clock);
    begin(&store, &second, dir.path()).stop().await;
    begin(&store, &second, dir.path()).stop().await;
    let found = lines(&second);
    let numbers: Vec<u64> = found.iter().map(|line| line["seq"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=307).collect::<Vec<_>>());
    for (number, line) in found.iter().enumerate() {
        assert_eq!(line["target_id"], format!("setting-{number}"));
        assert_eq!(
            (&line["stream"], &line["action"]),
            (&"entry".into(), &"log_level.change".into())
        );
        let leaf = line["leaf"].as_str().unwrap();
        assert!(domain::audit::Leaf::parse(leaf.as_bytes()).is_ok());
        assert!(!line.to_string().contains("only for those"), "sealed values stay sealed");
    }
    second.close();
}
