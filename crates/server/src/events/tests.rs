//! Entries of events with a real journal, and what a next process finds.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::{collections::BTreeMap, path::Path};

use domain::{
    audit::{Leaf, Opening, TargetKind, Word, parse_openings},
    context::ClientAddress,
    ids::InstanceId,
    time::ManualClock,
};
use logstore::{Journal, fs::StdFs};

use super::{
    denials::{FailedLogin, Totals},
    restore::{PreviousEnd, restore},
    *,
};
use crate::{
    http::tests::harness::{START, journal, open_store},
    system::SystemRng,
};

const PRODUCER: &str = "test/journal";

/// Begins where files say that the last process ended.
async fn begin(dir: &Path, journal: &Journal, clock: &Arc<ManualClock>) -> (Events, Restored) {
    let fs: Arc<dyn logstore::fs::Fs> = Arc::new(StdFs);
    let instance = InstanceId::parse("test").unwrap();
    let seq = entries(journal).last().map_or(0, |(leaf, _)| leaf.seq);
    let restored = restore(&fs, dir, &instance, PRODUCER, seq).unwrap();
    let parts = Parts {
        intake: journal.intake(),
        origin: open_store(dir, clock.clone()).await.journal_origin(),
        version: "0.0.0",
        clock: clock.clone(),
        rng: Arc::new(SystemRng),
        watches_clock: false,
    };
    let denials = Arc::new(Denials::new(clock.clone()));
    let events = Events::begin(Mailbox::default(), denials, parts, restored.clone()).unwrap();
    (events, restored)
}

/// Leaves of the journal with their openings, in the order of the lines. Only
/// whole files tell: openings are shown to no follower.
fn entries(journal: &Journal) -> Vec<(Leaf, Vec<Opening>)> {
    let mut names: Vec<_> =
        std::fs::read_dir(journal.dir()).unwrap().map(|it| it.unwrap().path()).collect();
    names.retain(|path| path.extension().is_some_and(|it| it == "jsonl"));
    names.sort();
    let mut found = Vec::new();
    let mut openings: BTreeMap<_, Vec<Opening>> = BTreeMap::new();
    for path in names {
        for line in std::fs::read_to_string(path).unwrap().lines() {
            if let Some((id, told)) = parse_openings(line.as_bytes()) {
                openings.insert(id.to_string(), told);
                continue;
            }
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            if let Some(leaf) = line["leaf"].as_str() {
                let leaf = Leaf::parse(leaf.as_bytes()).unwrap();
                let told = openings.remove(&leaf.id.to_string()).unwrap_or_default();
                found.push((leaf, told));
            }
        }
    }
    found
}

fn login(reason: &'static str) -> FailedLogin {
    let client = "192.0.2.7".parse().unwrap();
    FailedLogin {
        reason,
        status: 401,
        context: EntryContext::default(),
        client: ClientAddress { peer: client, client },
        credential: None,
    }
}

fn search(text: &str) -> Event {
    let draft = EntryDraft::new(Action::LogsSearch).target(TargetKind::Record, "all").note(text);
    Event { draft, actor: Actor::root(), context: EntryContext::default() }
}

fn start() -> Event {
    Event::of_system(EntryDraft::new(Action::SystemStart))
}

/// What the entries of the producer say by reason.
fn told(found: &[(Leaf, Vec<Opening>)]) -> Totals {
    let mut totals = Totals::new();
    for (leaf, _) in found {
        let refusal = [Action::AuthFailed, Action::AccessDenied, Action::AccessDeniedAggregate];
        if refusal.contains(&leaf.action) {
            let count = leaf.details.as_ref().and_then(|it| it.get("count")?.as_u64());
            *totals.entry(leaf.reason_code.clone().unwrap()).or_default() += count.unwrap_or(1);
        }
    }
    totals
}

/// Every entry with totals agrees with all refusals before it.
fn check_totals(found: &[(Leaf, Vec<Opening>)]) {
    let numbers: Vec<u64> = found.iter().map(|(leaf, _)| leaf.seq).collect();
    assert_eq!(numbers, (1..=found.len() as u64).collect::<Vec<_>>(), "dense, in order");
    for (at, (leaf, openings)) in found.iter().enumerate() {
        assert_eq!(leaf.sealed.len(), openings.len(), "{}", leaf.action);
        assert!(openings.iter().all(|it| it.open(&leaf.sealed[&it.path]).is_some()));
        let carried = leaf.details.as_ref().and_then(|it| it.get("denied_totals")?.as_object());
        let Some(carried) = carried else { continue };
        let carried: Totals =
            carried.iter().map(|(k, v)| (Word::lossy(k), v.as_u64().unwrap())).collect();
        assert_eq!(carried, told(&found[..at]), "{} {}", leaf.seq, leaf.action);
    }
}

#[tokio::test]
async fn numbers_and_totals_go_on_over_clean_ends_and_crashes() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(START));
    let mut refused = 0;
    for round in 0..4u64 {
        let journal = journal(dir.path(), &clock);
        let (events, restored) = begin(dir.path(), &journal, &clock).await;
        let expected = match round {
            0 => PreviousEnd::None,
            round if round % 2 == 1 => PreviousEnd::Clean,
            _ => PreviousEnd::Crash,
        };
        assert_eq!(restored.previous_end, expected, "round {round}");
        events.enter_with_totals(start()).await.unwrap();
        let id = events.enter_first(search("why, in words")).await.unwrap();
        let (last, openings) = entries(&journal).pop().unwrap();
        assert_eq!(last.id, id, "what was waited for is there");
        assert!(openings.iter().any(|opening| opening.path == "/why/note"));
        for _ in 0..100 {
            events.denials().login_failed(login("key_unknown"));
            events.denials().login_failed(login("key_missing"));
            refused += 2;
        }
        let heard = events.denials().counted();
        assert_eq!(heard.values().sum::<u64>(), refused, "totals go on");
        if round % 2 == 0 {
            let stop = Event::of_system(EntryDraft::new(Action::SystemStop));
            events.enter_with_totals(stop).await.unwrap();
            events.stop();
        } else {
            // A crash: the counts are noted, the window is never written.
            let noted = || {
                let fs: Arc<dyn logstore::fs::Fs> = Arc::new(StdFs);
                let instance = InstanceId::parse("test").unwrap();
                let found = restore(&fs, dir.path(), &instance, PRODUCER, 0).unwrap();
                found.counted().values().sum::<u64>()
            };
            for _ in 0..2000 {
                if noted() == refused {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            assert_eq!(noted(), refused);
        }
        journal.close();
    }
    let journal = journal(dir.path(), &clock);
    let (events, _) = begin(dir.path(), &journal, &clock).await;
    events.enter_with_totals(start()).await.unwrap();
    events.stop();
    let found = entries(&journal);
    check_totals(&found);
    assert_eq!(told(&found).values().sum::<u64>(), refused, "every refusal is entered once");
    journal.close();
}

#[tokio::test]
async fn a_flood_costs_entries_by_key_and_loses_no_count() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(START));
    let journal = journal(dir.path(), &clock);
    let (events, _) = begin(dir.path(), &journal, &clock).await;
    let (threads, each) = (4u64, 25_000u64);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                for at in 0..each {
                    let reason = if at % 3 == 0 { "key_missing" } else { "key_unknown" };
                    events.denials().login_failed(login(reason));
                }
            });
        }
    });
    let heartbeat = Event::of_system(EntryDraft::new(Action::AuditHeartbeat));
    events.enter_with_totals(heartbeat).await.unwrap();
    let found = entries(&journal);
    check_totals(&found);
    assert_eq!(told(&found).values().sum::<u64>(), threads * each);
    assert_eq!(found.len(), 2 * (5 + 1) + 1, "two keys, one window");
    events.stop();
    journal.close();
}

#[tokio::test]
async fn nothing_is_taken_once_it_ended() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(START));
    let journal = journal(dir.path(), &clock);
    let (events, _) = begin(dir.path(), &journal, &clock).await;
    events.enter(search("last")).await.unwrap();
    events.stop();
    assert_eq!(entries(&journal).len(), 1, "what waited is written");
    assert!(matches!(events.enter(search("late")).await, Err(Unwritten::Failed)));
    assert!(matches!(events.enter_first(search("late")).await, Err(Unwritten::Failed)));
    journal.close();
    assert!(!events.is_writable());
}
