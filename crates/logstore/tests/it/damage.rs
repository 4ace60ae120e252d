//! Every byte of a small journal flipped, every length cut: no panic, nothing
//! lost before the damage, and always said.

use std::{path::Path, sync::Arc};

use logstore::{
    JournalConfig,
    check::check,
    fs::{Fs, StdFs},
    scan::Scanner,
};

use crate::{
    fake::FakeFs,
    support::{config, open, opening, record, until},
};

const DIR: &str = "/journal";
const NAME: &str = "/journal/test-1-000000000001.jsonl";

/// Some batches with every kind of line.
fn small_journal() -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(config(dir.path()), Arc::new(StdFs));
    let intake = journal.intake();
    for number in 1..4 {
        intake.reserve().unwrap();
        intake.open(opening(number));
        let before = journal.accounts().batches;
        until("the opening is appended", || journal.accounts().batches > before);
        if number != 2 {
            intake.finish(record(number), None);
        }
    }
    until("two are stored", || journal.accounts().stored == 2);
    journal.close();
    std::fs::read(dir.path().join("test-1-000000000001.jsonl")).unwrap()
}

/// The ends of all batches.
fn batch_ends(bytes: &[u8]) -> Vec<u64> {
    let fs = FakeFs::new(1);
    fs.put(Path::new(NAME), bytes);
    let mut scanner = Scanner::new(fs.open_read(Path::new(NAME)).unwrap(), 1);
    let mut ends = Vec::new();
    while let Some(batch) = scanner.next_batch().unwrap() {
        ends.push(batch.end);
    }
    ends
}

fn start_over(bytes: &[u8]) -> (FakeFs, u64) {
    let fs = FakeFs::new(1);
    fs.put(Path::new(NAME), bytes);
    let settings = JournalConfig { reserve_bytes: 1, ..config(Path::new(DIR)) };
    let (journal, report) = open(settings, Arc::new(fs.clone()));
    journal.close();
    (fs, report.torn_bytes + report.damaged_bytes)
}

#[test]
fn every_flipped_byte_is_found_and_survived() {
    let whole = small_journal();
    let ends = batch_ends(&whole);
    assert_eq!(ends.last(), Some(&(whole.len() as u64)));
    for at in 0..whole.len() {
        for flip in [0x01, 0x80, whole[at] ^ b'\n'] {
            let mut bytes = whole.clone();
            bytes[at] ^= flip;
            if bytes == whole {
                continue;
            }
            let found = batch_ends(&bytes);
            let before = ends.iter().filter(|end| **end <= at as u64);
            assert!(before.clone().all(|end| found.contains(end)), "byte {at} ^ {flip:#x}");
            assert!(found.len() < ends.len(), "byte {at} ^ {flip:#x} went unseen");
        }
        if at % 23 == 0 {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x01;
            let (_, said) = start_over(&bytes);
            assert!(said > 0, "byte {at}");
        }
    }
}

#[test]
fn every_length_is_a_torn_tail_at_worst() {
    let whole = small_journal();
    let ends = batch_ends(&whole);
    for length in 0..whole.len() {
        let found = batch_ends(&whole[..length]);
        let expected: Vec<u64> = ends.iter().copied().filter(|end| *end <= length as u64).collect();
        assert_eq!(found, expected, "length {length}");
        if length % 17 == 0 {
            let (fs, _) = start_over(&whole[..length]);
            let fs: Arc<dyn Fs> = Arc::new(fs);
            let report = check(&fs, Path::new(DIR)).unwrap();
            assert_eq!(report.findings, Vec::<String>::new(), "length {length}");
        }
    }
}
