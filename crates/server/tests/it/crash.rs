//! kill -9: what was answered is recorded, once; what was open becomes
//! `interrupted`, once; and uses are counted, once.

use std::{
    collections::HashMap,
    process::Stdio,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    harness::{Ask, Client, Dice, Home, Seen, eventually, say},
    load::{Load, mixture, plain},
};

/// What happened this long before a kill must be in the journal. The writer's
/// batch takes about a millisecond; the rest is for a busy machine.
const BATCH: Duration = Duration::from_millis(250);

/// A client's account up to a kill.
struct Round {
    seen: Vec<Seen>,
    killed_at: Instant,
}

impl Round {
    /// Whether this moment lies so long before the kill that nothing about it
    /// may be missing.
    fn is_settled(&self, at: Instant) -> bool {
        at + BATCH < self.killed_at
    }

    fn check(&self, home: &Home, records: &HashMap<String, Value>) {
        for seen in &self.seen {
            let record = records.get(&seen.id);
            // Forwarded, so opened before: the opening leaves `interrupted`.
            if self.is_settled(seen.sent_at) && home.provider.ledger().entry(&seen.id).is_some() {
                assert!(record.is_some(), "no record of {seen:?}");
            }
            let Some((status, head_at)) = seen.head else { continue };
            if self.is_settled(head_at) {
                assert!(record.is_some(), "no record of {seen:?}");
            }
            let Some(record) = record else { continue };
            if seen.whole_at.is_some_and(|at| self.is_settled(at)) {
                assert_ne!(record["outcome"], "interrupted", "{seen:?}");
                assert_eq!(record["status_code"], status.as_u16(), "{seen:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_answered_is_missing_or_doubled_after_kills() {
    let mut dice = Dice::thrown("kills");
    let home = Home::new().await;
    let proxy = home.start().await;
    let token = proxy.token(&home, "p", None).await;
    proxy.stop().await;
    let mut rounds = Vec::new();
    for number in 0..4 {
        let mut proxy = home.start().await;
        let tag = format!("r{number}");
        let load = Load::begin(16, &tag, proxy.address, &token, mixture, &mut dice);
        tokio::time::sleep(dice.millis(350, 1100)).await;
        let killed_at = Instant::now();
        proxy.kill();
        rounds.push(Round { seen: load.ended().await, killed_at });
        // Killed again while it recovers, or soon after.
        for _ in 0..dice.below(3) {
            let mut again = home.spawn(Stdio::null());
            tokio::time::sleep(dice.millis(1, 250)).await;
            again.kill();
        }
    }
    let proxy = home.start().await;
    home.check();
    let records = home.records_by_id();
    for round in &rounds {
        round.check(&home, &records);
    }
    let seen: usize = rounds.iter().map(|round| round.seen.len()).sum();
    let interrupted = records.values().filter(|r| r["outcome"] == "interrupted").count();
    say(&format!("{seen} requests, {} records, {interrupted} interrupted", records.len()));
    assert!(interrupted > 0, "kills under load interrupt something");
    assert!(records.len() <= seen, "records of requests that nobody sent");
    check_ledger(&home, &records);
    let used = records.values().filter(|r| r["attempts"].as_u64() > Some(0)).count();
    assert_eq!(proxy.uses(&token).await, used as u64, "uses are counted once");
    proxy.stop().await;
    // Another start finds nothing left to do.
    let proxy = home.start().await;
    assert_eq!(home.records_by_id().len(), records.len());
    assert_eq!(proxy.uses(&token).await, used as u64);
    proxy.stop().await;
    home.check();
}

/// What the provider says it answered to the end agrees with the record.
fn check_ledger(home: &Home, records: &HashMap<String, Value>) {
    for item in home.provider.ledger().page(None).items {
        assert_eq!(item.count, 1, "forwarded once: {item:?}");
        let Some(record) = records.get(&*item.request_id) else { continue };
        if record["outcome"] == "ok" {
            assert_eq!(record["upstream_status_code"], item.status, "{item:?}");
            let reported = item.usage.and_then(|usage| usage.total_tokens);
            assert_eq!(record["total_tokens"].as_u64(), reported, "{item:?}");
        }
    }
    let forwarded = |record: &&Value| record["outcome"] == "ok";
    for record in records.values().filter(forwarded) {
        let id = record["request_id"].as_str().unwrap();
        assert!(home.provider.ledger().entry(id).is_some(), "answered by nobody: {record}");
    }
}

/// How a run ends before the next one.
#[derive(Clone, Copy, PartialEq)]
enum Ending {
    Kill,
    Terminate,
}

async fn quota(ending: Ending, name: &str) {
    const MAX_REQUESTS: u64 = 400;
    let mut dice = Dice::thrown(name);
    let home = Home::new().await;
    let proxy = home.start().await;
    let token = proxy.token(&home, "p", Some(MAX_REQUESTS)).await;
    proxy.stop().await;
    let mut good = 0;
    let mut sent: HashMap<String, (Seen, Instant)> = HashMap::new();
    for number in 0..4 {
        let mut proxy = home.start().await;
        let tag = format!("q{number}");
        let load = Load::begin(8, &tag, proxy.address, &token, plain, &mut dice);
        let share = 20 + dice.below(80);
        eventually("a share of the quota is used", async || (load.sent() >= share).then_some(()))
            .await;
        let ended_at = Instant::now();
        let seen = match ending {
            Ending::Kill => {
                proxy.kill();
                load.ended().await
            }
            Ending::Terminate => {
                proxy.terminate();
                let seen = load.ended().await;
                assert_eq!(proxy.ended().await.code(), Some(0));
                seen
            }
        };
        good += seen.iter().filter(|seen| seen.is_good()).count() as u64;
        sent.extend(seen.into_iter().map(|seen| (seen.id.clone(), (seen, ended_at))));
    }
    // What is left is used up by more at once than there is.
    let proxy = home.start().await;
    let load = Load::begin(8, "last", proxy.address, &token, plain, &mut dice);
    eventually("the quota is used up", async || (load.sent() >= MAX_REQUESTS + 100).then_some(()))
        .await;
    let seen = load.end().await;
    let refused = seen.iter().filter(|seen| !seen.is_good());
    assert!(refused.clone().count() > 0);
    for seen in refused {
        let said = (seen.status(), seen.code.as_deref());
        assert_eq!(said, (Some(429), Some("quota_exceeded")), "{seen:?}");
    }
    good += seen.iter().filter(|seen| seen.is_good()).count() as u64;
    proxy.stop().await;
    let proxy = home.start().await;
    let records = home.records_by_id();
    let used = records.values().filter(|r| r["attempts"].as_u64() > Some(0)).count() as u64;
    assert_eq!(used, MAX_REQUESTS, "records of uses");
    assert_eq!(proxy.uses(&token).await, MAX_REQUESTS, "counted uses");
    let forwarded = home.provider.ledger().page(None).items;
    let unrecorded: Vec<_> =
        forwarded.iter().filter(|item| !records.contains_key(&*item.request_id)).collect();
    say(&format!("{name}: {good} good, {} without a record", unrecorded.len()));
    for item in &unrecorded {
        // The batch at hand when the process was killed, and nothing before.
        let (seen, killed_at) = &sent[&*item.request_id];
        assert!(ending == Ending::Kill && seen.sent_at + BATCH > *killed_at, "{seen:?}");
    }
    assert!(good <= MAX_REQUESTS + unrecorded.len() as u64);
    if ending == Ending::Terminate {
        assert_eq!(good, MAX_REQUESTS);
        assert_eq!(forwarded.len() as u64, MAX_REQUESTS);
    }
    proxy.stop().await;
    home.check();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quota_is_exact_over_restarts() {
    quota(Ending::Terminate, "quota over restarts").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quota_over_kills_misses_only_what_the_batch_at_hand_held() {
    quota(Ending::Kill, "quota over kills").await;
}

/// With `JOURNAL_SYNC=each` the last byte of an answer comes behind its record.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_sync_each_an_answer_is_in_the_journal_before_its_last_byte() {
    let mut dice = Dice::thrown("sync each");
    let mut home = Home::new().await;
    home.set("JOURNAL_SYNC", "each");
    let mut proxy = home.start().await;
    let token = proxy.token(&home, "p", None).await;
    let mut answered = Vec::new();
    for number in 0..5 {
        let load = Load::begin(4, &format!("l{number}"), proxy.address, &token, plain, &mut dice);
        let client = Client::new();
        for kind in ["plain", "stream", "refused"] {
            let id = format!("{kind}-{number}");
            let ask = match kind {
                "plain" => Ask::chat(&token, &id),
                "stream" => Ask::chat(&token, &id).streamed().told("chunks=5"),
                _ => Ask { path: "/v1/a//b", ..Ask::chat(&token, &id) },
            };
            let seen = client.ask(proxy.address, &ask).await;
            assert!(seen.whole_at.is_some(), "{seen:?}");
            answered.push(id);
        }
        // Immediately after the last byte.
        proxy.kill();
        let seen = load.ended().await;
        answered.extend(seen.into_iter().filter(|s| s.whole_at.is_some()).map(|s| s.id));
        proxy = home.start().await;
    }
    let records = home.records_by_id();
    for id in &answered {
        let record = records.get(id).unwrap_or_else(|| panic!("no record of {id}"));
        assert_ne!(record["outcome"], "interrupted", "{record}");
    }
    proxy.stop().await;
    home.check();
}

/// A loss of power takes the end of the journal, and the database stays: what
/// comes then is counted from the first request on, whatever happens next.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uses_are_counted_behind_a_journal_that_lost_its_end() {
    let mut dice = Dice::thrown("power loss");
    let home = Home::new().await;
    let mut proxy = home.start().await;
    let token = proxy.token(&home, "p", None).await;
    let load = Load::begin(4, "before", proxy.address, &token, plain, &mut dice);
    eventually("requests", async || (load.sent() >= 60).then_some(())).await;
    let before = load.end().await.len() as u64;
    let store = home.other_store().await;
    let id = token.id.parse().unwrap();
    eventually("the database has counted them", async || {
        let row = store.token(id).await.unwrap().unwrap();
        (row.request_count == before).then_some(())
    })
    .await;
    store.close().await;
    proxy.kill();
    let newest = home.journal_files().pop().unwrap();
    let bytes = std::fs::metadata(&newest).unwrap().len();
    let cut = bytes / 4 + dice.below(bytes / 4);
    std::fs::File::options().write(true).open(&newest).unwrap().set_len(cut).unwrap();
    // Killed before it can have done much more than begin its file.
    let mut again = home.spawn(Stdio::null());
    tokio::time::sleep(dice.millis(1, 200)).await;
    again.kill();
    let mut proxy = home.start().await;
    let client = Client::new();
    for number in 0..7 {
        let ask = Ask::chat(&token, format!("after-{number}"));
        assert!(client.ask(proxy.address, &ask).await.is_good());
    }
    proxy.settled().await;
    proxy.kill();
    let proxy = home.start().await;
    let records = home.records();
    let interrupted = records.iter().filter(|r| r["outcome"] == "interrupted").count() as u64;
    // Requests whose end was lost, and that had been counted, count again.
    assert_eq!(proxy.uses(&token).await, before + interrupted + 7);
    let lost = records.iter().filter(|r| r["outcome"] != "interrupted").count() as u64;
    assert!(lost < before + 7, "the cut took records");
    proxy.stop().await;
    home.check();
}
