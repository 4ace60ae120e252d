//! Captured bodies beside the journal: where they stand, what they survive, and
//! that they never cost a record.

use std::{io::ErrorKind, ops::ControlFlow, path::Path, sync::Arc};

use domain::{
    body::Body,
    capture::{Fate, Side},
    record::Record,
    redact::{Rules, Source},
};
use logstore::{
    Journal, JournalConfig, Sync, bodies,
    fs::{Fs, StdFs},
};
use serde_json::Value;

use crate::{
    fake::{FakeFs, Fault},
    support::{committed, config, open, record, until},
};

const DIR: &str = "/journal";

/// A record that says that its request is kept, and the body that it means.
pub(crate) fn with_body(number: u128, text: &str) -> (Box<Record>, Vec<Body>) {
    let mut record = record(number);
    record.captured.request = Fate::Kept { truncated: false, redacted: false };
    let source = Source { bytes: text.as_bytes(), content_type: None, cut: false };
    let redacted = Rules::default().redact(&source, &[]).unwrap();
    let body = Body { bytes: text.len() as u64, ..Body::of(&record, Side::Request, redacted) };
    (record, vec![body])
}

fn finish(journal: &Journal, number: u128, text: &str) {
    let intake = journal.intake();
    intake.reserve().unwrap();
    let (record, bodies) = with_body(number, text);
    intake.finish_with_bodies(record, bodies, None);
}

/// Every body of every file, with the name of its file.
pub(crate) fn kept(fs: &dyn Fs, dir: &Path) -> Vec<(String, Value)> {
    let mut kept = Vec::new();
    for (_, _, path) in bodies::files(fs, dir).unwrap() {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        bodies::read(fs, &path, &mut |_, line| {
            kept.push((name.clone(), serde_json::from_slice(line).unwrap()));
            ControlFlow::Continue(())
        })
        .unwrap();
    }
    kept
}

#[test]
fn a_body_stands_beside_its_records_file() {
    use std::os::unix::fs::MetadataExt as _;
    let dir = tempfile::tempdir().unwrap();
    let settings = JournalConfig { file_bytes_max: 4000, ..config(dir.path()) };
    let (journal, _) = open(settings, Arc::new(StdFs));
    for number in 1..9 {
        finish(&journal, number, &format!("{{\"n\":{number},\"to\":\"bob@example.com\"}}"));
        until("it is stored", || journal.accounts().stored == number as u64);
    }
    let accounts = journal.accounts();
    journal.close();
    assert_eq!((accounts.bodies_stored, accounts.bodies_lost), (8, 0));
    let kept = kept(&StdFs, dir.path());
    let ids: Vec<&str> =
        kept.iter().map(|(_, body)| body["request_id"].as_str().unwrap()).collect();
    assert_eq!(ids, (1..9).map(|n| format!("req-{n}")).collect::<Vec<_>>());
    assert_eq!(kept[0].1["body"], "{\"n\":1,\"to\":\"[redacted:email]\"}");
    assert_eq!(kept[0].1["stream"], "body");
    let mut names: Vec<&str> = kept.iter().map(|(name, _)| name.as_str()).collect();
    names.dedup();
    assert!(names.len() > 1, "bodies turn with the journal: {names:?}");
    for name in names {
        let path = dir.path().join(name);
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert!(path.with_extension("jsonl").exists());
    }
    // Nothing of a body is in the journal.
    let fs: Arc<dyn Fs> = Arc::new(StdFs);
    let lines = committed(&fs, dir.path(), 0).join("\n");
    assert!(lines.contains("\"captured\":\"request\"") && !lines.contains("[redacted"), "{lines}");
}

#[test]
fn every_length_of_a_bodies_file_is_recovered() {
    let fs = FakeFs::new(1);
    let settings = JournalConfig { reserve_bytes: 1, ..config(Path::new(DIR)) };
    let (journal, _) = open(settings.clone(), Arc::new(fs.clone()));
    for number in 1..4 {
        finish(&journal, number, "text");
        until("it is stored", || journal.accounts().stored == number as u64);
    }
    journal.close();
    let (_, _, path) = bodies::files(&fs, Path::new(DIR)).unwrap().remove(0);
    let read = |path: &Path| {
        let file = fs.open_read(path).unwrap();
        let mut whole = vec![0; usize::try_from(file.identity().unwrap().bytes).unwrap()];
        file.read_at(&mut whole, 0).unwrap();
        whole
    };
    let beside = path.with_extension("jsonl");
    let (whole, records) = (read(&path), read(&beside));
    assert_eq!(kept(&fs, Path::new(DIR)).len(), 3);
    for length in 0..whole.len() {
        let fs = FakeFs::new(1);
        fs.put(&path, &whole[..length]);
        fs.put(&beside, &records);
        let before = kept(&fs, Path::new(DIR));
        let (journal, report) = open(settings.clone(), Arc::new(fs.clone()));
        journal.close();
        assert_eq!(kept(&fs, Path::new(DIR)), before, "length {length}");
        let left = fs.identity(&path).map_or(0, |file| file.bytes);
        assert_eq!(report.bodies_torn_bytes, length as u64 - left, "length {length}");
    }
}

#[test]
fn a_disk_that_takes_no_bodies_still_takes_records() {
    for operation in 1..8 {
        let fs = FakeFs::new(7);
        let settings = JournalConfig {
            sync: Sync::Each,
            check_interval: std::time::Duration::from_secs(60),
            ..config(Path::new(DIR))
        };
        let (journal, _) = open(settings, Arc::new(fs.clone()));
        finish(&journal, 1, "before");
        until("the first is stored", || journal.accounts().synced == 1);
        fs.fault_after(operation, Fault::Once(ErrorKind::StorageFull));
        for number in 2..5 {
            // A journal that failed takes no more.
            if journal.intake().reserve().is_err() {
                continue;
            }
            let (record, bodies) = with_body(number, "during");
            journal.intake().finish_with_bodies(record, bodies, None);
            until("it is stored or lost", || journal.accounts().in_flight == 0);
        }
        let accounts = journal.accounts();
        journal.close();
        let shared: Arc<dyn Fs> = Arc::new(fs.clone());
        let kept = kept(&fs, Path::new(DIR));
        let lines = committed(&shared, Path::new(DIR), 0);
        let records: Vec<Value> = lines
            .iter()
            .map(|line| serde_json::from_str(line).unwrap())
            .filter(|line: &Value| line["stream"] == "record")
            .collect();
        for record in &records {
            let said = record["captured"].as_str().unwrap();
            let is_kept = kept.iter().any(|(_, body)| body["record_id"] == record["record_id"]);
            assert_eq!(said == "request", is_kept, "{said} in operation {operation}");
            assert!(is_kept || said == "request_omitted_disk", "{said}");
        }
        if operation == 1 {
            assert_eq!((records.len(), accounts.lost.total()), (4, 0));
            assert!(accounts.bodies_lost >= 1);
        }
    }
}

#[test]
fn bodies_without_room_are_left_out_and_counted() {
    // A writer that lets its batch grow.
    let dir = tempfile::tempdir().unwrap();
    let settings =
        JournalConfig { linger: std::time::Duration::from_millis(200), ..config(dir.path()) };
    let (journal, _) = open(settings, Arc::new(StdFs));
    let text = "a word ".repeat(1 << 17);
    let (_, bodies) = with_body(1, &text);
    for number in 1..60 {
        journal.intake().reserve().unwrap();
        let (record, _) = with_body(number, "");
        journal.intake().finish_with_bodies(record, bodies.clone(), None);
    }
    until("all are stored", || journal.accounts().stored == 59);
    let accounts = journal.accounts();
    journal.close();
    assert_eq!(accounts.bodies_stored + accounts.bodies_lost, 59);
    assert!(accounts.bodies_lost >= 20, "{accounts:?}");
    let fs: Arc<dyn Fs> = Arc::new(StdFs);
    let said = committed(&fs, dir.path(), 0).join("\n");
    let omitted = said.matches("\"captured\":\"request_omitted_disk\"").count() as u64;
    assert_eq!(omitted, accounts.bodies_lost);
}

#[test]
fn bodies_are_proven_and_do_not_outlive_their_journal_file() {
    let dir = tempfile::tempdir().unwrap();
    let fs: Arc<dyn Fs> = Arc::new(StdFs);
    let settings = JournalConfig { file_bytes_max: 4000, ..config(dir.path()) };
    let (journal, _) = open(settings.clone(), Arc::clone(&fs));
    for number in 1..30 {
        finish(&journal, number, "text");
        until("it is stored", || journal.accounts().stored == number as u64);
    }
    journal.close();
    let report = logstore::check::check(&fs, dir.path()).unwrap();
    assert_eq!((report.findings, report.bodies), (Vec::new(), 29));
    let all = bodies::files(&*fs, dir.path()).unwrap();
    assert!(all.len() > 2, "{all:?}");
    let (first, second) = (&all[0].2, &all[1].2);
    let mut bytes = std::fs::read(first).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(first, bytes).unwrap();
    std::fs::remove_file(second.with_extension("jsonl")).unwrap();
    let found = logstore::check::check(&fs, dir.path()).unwrap().findings.join("\n");
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    assert!(found.contains(&format!("{}: ", name(first))), "{found}");
    assert!(found.contains(&format!("{}: it stands beside no journal file", name(second))));
    let (journal, report) = open(settings, Arc::clone(&fs));
    journal.close();
    assert_eq!((report.bodies_orphaned, second.exists(), first.exists()), (1, false, true));
    assert!(!dir.path().join("torn").join(name(second)).exists());
}
