//! The journal doing its job.

use std::{
    ops::ControlFlow,
    sync::{Arc, mpsc},
    time::Duration,
};

use domain::{
    fields,
    query::{Expr, FieldRef, Literal, Test},
    record::Record,
};
use logstore::{
    CommitObserver, Journal, JournalConfig, NoRoom, Stream, Sync,
    check::check,
    cursor::{Cursor, CursorStore},
    engine::{self, Search, Sources},
    fs::{Fs, StdFs},
};
use parking_lot::Mutex;

use crate::support::{
    committed, config, instance, open, open_observed, opening, record, records, until,
};

fn std_fs() -> Arc<dyn Fs> {
    Arc::new(StdFs)
}

fn store(journal: &Journal, number: u128) {
    let intake = journal.intake();
    let (told, stored) = mpsc::sync_channel(1);
    intake.reserve().unwrap();
    intake.open(opening(number));
    let tell = move |ok| told.send(ok).unwrap();
    intake.finish(record(number), Some(Box::new(tell)));
    assert!(stored.recv_timeout(Duration::from_secs(20)).unwrap());
}

#[test]
fn a_record_goes_in_once_and_comes_out_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, report) = open(config(dir.path()), std_fs());
    assert_eq!(report, logstore::RecoveryReport::default());
    store(&journal, 1);
    let lines = committed(&std_fs(), dir.path(), 0);
    let mut expected = Vec::new();
    record(1).write_json(&crate::support::envelope(), &mut expected);
    assert_eq!(lines, [String::from_utf8(expected).unwrap()]);
    let closed = journal.close();
    let accounts = closed.accounts;
    assert!(closed.synced && accounts.balance());
    assert_eq!((accounts.accepted, accounts.stored, accounts.in_flight), (1, 1, 0));
    assert_eq!(journal.intake().reserve(), Err(NoRoom::Failed));
}

#[test]
fn an_opening_without_an_end_is_interrupted_exactly_once() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(config(dir.path()), std_fs());
    journal.intake().reserve().unwrap();
    journal.intake().open(opening(5));
    journal.close();
    let (journal, report) = open(config(dir.path()), std_fs());
    assert_eq!(report.interrupted, 1);
    journal.close();
    let (journal, report) = open(config(dir.path()), std_fs());
    assert_eq!(report.interrupted, 0);
    let mut replayed = Vec::new();
    journal.replay(0, &mut |record| replayed.push((record.token_id, record.attempts))).unwrap();
    assert_eq!(replayed, [(Some(opening(5).token_id), 1)]);
    journal.close();
    assert_eq!(records(&std_fs(), dir.path()), [(5, "interrupted".to_owned())]);
    assert!(check(&std_fs(), dir.path()).unwrap().is_consistent());
}

struct Told(Arc<Mutex<Vec<(usize, u64)>>>);

impl CommitObserver for Told {
    fn committed(&mut self, records: &[Box<Record>], last_seq: u64) {
        self.0.lock().push((records.len(), last_seq));
    }
}

#[test]
fn rotation_keeps_order_numbers_and_openings() {
    let dir = tempfile::tempdir().unwrap();
    let settings = JournalConfig { file_bytes_max: 3_000, ..config(dir.path()) };
    let told = Arc::new(Mutex::new(Vec::new()));
    let (journal, _) = open_observed(settings, std_fs(), Box::new(Told(Arc::clone(&told))));
    let mut follower = journal.follower(0);
    let intake = journal.intake();
    intake.reserve().unwrap();
    intake.open(opening(1000));
    for number in 1..=50 {
        store(&journal, number);
    }
    intake.finish(record(1000), None);
    until("all are stored", || journal.accounts().stored == 51);
    journal.close();
    let mut lines = 0;
    follower
        .poll(&mut |run| {
            lines += run.iter().filter(|b| **b == b'\n').count();
            Ok(())
        })
        .unwrap();
    assert_eq!((lines, follower.missing()), (51, 0));
    assert_eq!(told.lock().iter().map(|(count, _)| count).sum::<usize>(), 51);
    let report = check(&std_fs(), dir.path()).unwrap();
    assert!(report.files > 5 && report.is_consistent(), "{report:?}");
    assert_eq!((report.records, report.open), (51, 0));
}

#[test]
fn room_is_bounded_and_given_back() {
    let dir = tempfile::tempdir().unwrap();
    let settings = JournalConfig { queue_bytes_max: 10_000, ..config(dir.path()) };
    let (journal, _) = open(settings, std_fs());
    let intake = journal.intake();
    intake.reserve().unwrap();
    intake.reserve().unwrap();
    assert_eq!(intake.reserve(), Err(NoRoom::Full));
    assert_eq!(intake.line(Stream::Trace, vec![b'{'; 20_000]), Err(NoRoom::Full));
    intake.release_coalesced();
    intake.reserve().unwrap();
    intake.finish(record(1), None);
    until("the record is stored", || journal.accounts().stored == 1);
    let accounts = journal.accounts();
    assert!(accounts.balance());
    assert_eq!((accounts.coalesced, accounts.in_flight, accounts.traces_dropped), (1, 1, 1));
}

#[test]
fn a_file_taken_away_is_noticed_and_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(config(dir.path()), std_fs());
    store(&journal, 1);
    std::fs::remove_file(dir.path().join("test-1-000000000001.jsonl")).unwrap();
    until("a new file is begun", || journal.accounts().file_reopens > 0);
    store(&journal, 2);
    journal.close();
    assert_eq!(records(&std_fs(), dir.path()), [(2, "ok".to_owned())]);
    let rescued = dir.path().join("torn/test-1-000000000001.jsonl.rescued");
    assert!(std::fs::read_to_string(rescued).unwrap().contains("req-1"));
}

#[test]
fn a_failing_disk_refuses_counts_and_comes_back() {
    use crate::fake::{FakeFs, Fault};
    let fs = FakeFs::new(3);
    let settings = config(std::path::Path::new("/journal"));
    let (journal, _) = open(settings, Arc::new(fs.clone()));
    let intake = journal.intake();
    intake.reserve().unwrap();
    fs.fault_after(1, Fault::Stop);
    intake.finish(record(1), None);
    until("the loss is counted", || journal.accounts().lost.total() == 1);
    assert_eq!(intake.reserve(), Err(NoRoom::Failed));
    assert!(journal.accounts().balance());
    fs.fault_after(u64::MAX / 2, Fault::Stop);
    until("it takes requests again", || intake.reserve().is_ok());
    intake.finish(record(2), None);
    until("the next is stored", || journal.accounts().stored == 1);
    journal.close();
}

#[test]
fn cursors_survive_and_never_stand_ahead() {
    let dir = tempfile::tempdir().unwrap();
    let cursors = CursorStore::new(std_fs(), dir.path(), "stdout").unwrap();
    assert_eq!(cursors.load().unwrap(), None);
    cursors.save(&Cursor { instance: instance(), seq: 1_000 }).unwrap();
    assert_eq!(cursors.load().unwrap(), Some(Cursor { instance: instance(), seq: 1_000 }));
    let (journal, _) = open(config(dir.path()), std_fs());
    journal.close();
    assert_eq!(cursors.load().unwrap(), Some(Cursor { instance: instance(), seq: 0 }));
    assert!(CursorStore::new(std_fs(), dir.path(), "../x").is_err());
}

fn found(dir: &std::path::Path, search: &Search) -> Vec<String> {
    let sources = Sources::open(&std_fs(), dir).unwrap();
    let mut ids = Vec::new();
    let report = engine::search(&sources, search, &mut |hit| {
        let line: serde_json::Value = serde_json::from_slice(hit.line).unwrap();
        ids.push(line["request_id"].as_str().unwrap().to_owned());
        ControlFlow::Continue(())
    });
    assert!(report.unwrap().is_complete());
    ids
}

#[test]
fn search_finds_beside_the_writer() {
    let dir = tempfile::tempdir().unwrap();
    let settings =
        JournalConfig { file_bytes_max: 3_000, ..config(&logstore::journal_dir(dir.path())) };
    let (journal, _) = open(JournalConfig { sync: Sync::Os, ..settings }, std_fs());
    for number in 1..=20 {
        store(&journal, number);
    }
    let field = FieldRef::Known(fields::find("request_id").unwrap());
    let test = Test::Any(vec![Literal::Text("req-17".to_owned())]);
    let by_id = Search::new(Expr::Field(field, test));
    assert_eq!(found(dir.path(), &by_id), ["req-17"]);
    // All have the same time: the one written last is the newest.
    let newest = Search { limit: Some(2), ..Search::new(Expr::All) };
    assert_eq!(found(dir.path(), &newest), ["req-20", "req-19"]);
    let word = |word: &str| Search::new(Expr::Text(word.to_owned()));
    assert_eq!(found(dir.path(), &word("chat")).len(), 20);
    assert_eq!(found(dir.path(), &word("nowhere")).len(), 0);
}
