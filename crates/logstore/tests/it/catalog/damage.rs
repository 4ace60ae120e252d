//! Files that are missing, cut or bent are named, and the rest is still found.

use std::{path::PathBuf, sync::Arc, time::Duration};

use logstore::{
    catalog::{snapshot, verify::verify},
    fs::StdFs,
    segment::{Dataset, Segment},
};

use super::harness::{Ledger, Place};
use crate::support::until;

fn sealed() -> (tempfile::TempDir, Place, Ledger) {
    let dir = tempfile::tempdir().unwrap();
    let place = Place::new(Arc::new(StdFs), dir.path());
    let ledger = Ledger::default();
    let journal = place.journal().unwrap();
    for round in 0..3 {
        for number in 1..30 {
            ledger.write(&journal, round * 100 + number);
        }
        journal.turn(Duration::from_secs(20)).unwrap();
    }
    journal.close();
    let catalog = place.catalog().unwrap();
    place.seal(&catalog);
    catalog.drop_sealed(u64::MAX).unwrap();
    (dir, place, ledger)
}

fn findings(place: &Place, deep: bool) -> Vec<String> {
    verify(&place.fs, &place.dir, deep).unwrap().findings
}

fn newest_manifest(place: &Place) -> PathBuf {
    let dir = place.dir.join("logs/v1/_manifest/test-1");
    let number =
        |path: &PathBuf| -> u64 { path.file_stem().unwrap().to_str().unwrap().parse().unwrap() };
    let found = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    found.max_by_key(number).unwrap()
}

fn flip(path: &std::path::Path, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    let at = at % bytes.len();
    bytes[at] ^= 0x10;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn damaged_segments_are_named_and_the_others_are_read() {
    let (_dir, place, _) = sealed();
    let segments = snapshot(&*place.fs, &place.dir).unwrap().segments;
    let records: Vec<_> =
        segments.iter().filter(|it| it.info.dataset == Dataset::Records).collect();
    assert!(records.len() >= 3);
    flip(&records[0].path, 100);
    std::fs::remove_file(&records[1].path).unwrap();
    let bytes = std::fs::read(&records[2].path).unwrap();
    std::fs::write(&records[2].path, &bytes[..bytes.len() / 2]).unwrap();
    let found = findings(&place, true);
    for broken in &records[..3] {
        let name = broken.path.file_name().unwrap().to_str().unwrap();
        assert!(found.iter().any(|finding| finding.contains(name)), "{name}: {found:?}");
    }
    for sound in records.iter().skip(3) {
        assert_eq!(Segment::open(&place.fs, &sound.path).unwrap().rows(), sound.info.rows);
    }
    // Opening for writing removes and forgets nothing.
    let before = snapshot(&*place.fs, &place.dir).unwrap().segments;
    place.catalog().unwrap();
    assert_eq!(snapshot(&*place.fs, &place.dir).unwrap().segments, before);
}

#[test]
fn a_damaged_side_index_is_named_and_costs_only_time() {
    let (_dir, place, ledger) = sealed();
    let segments = snapshot(&*place.fs, &place.dir).unwrap().segments;
    let broken = segments.iter().find(|it| it.info.dataset == Dataset::Records).unwrap();
    flip(&broken.path.with_extension("ids"), 40);
    let name = broken.path.file_name().unwrap().to_str().unwrap();
    let found = findings(&place, true);
    assert!(found.iter().any(|finding| finding.contains(name)), "{found:?}");
    std::fs::remove_file(broken.path.with_extension("ids")).unwrap();
    let found = findings(&place, false);
    assert!(found.iter().any(|finding| finding.contains(name)), "{found:?}");
    ledger.assert_kept(&place, "without a side index");
}

#[test]
fn a_damaged_manifest_is_named_and_what_it_added_is_found_again() {
    let (_dir, place, ledger) = sealed();
    let before = place.lines();
    flip(&newest_manifest(&place), 200);
    let damaged = snapshot(&*place.fs, &place.dir).unwrap();
    let newest = damaged.problems.iter().find(|it| it.path == newest_manifest(&place)).unwrap();
    assert!(newest.what.ends_with("; an older one is used"), "{newest}");
    place.catalog().unwrap();
    assert_eq!(snapshot(&*place.fs, &place.dir).unwrap().problems, []);
    assert_eq!(place.lines(), before);
    place.assert_consistent("a manifest was damaged");
    ledger.assert_kept(&place, "a manifest was damaged");
}

#[test]
fn with_all_manifests_damaged_nobody_is_told_of_an_older_one() {
    let (_dir, place, ledger) = sealed();
    let before = place.lines();
    let dir = newest_manifest(&place).parent().unwrap().to_owned();
    for entry in std::fs::read_dir(dir).unwrap() {
        flip(&entry.unwrap().path(), 200);
    }
    let damaged = snapshot(&*place.fs, &place.dir).unwrap();
    assert!(damaged.problems.len() > 1 && damaged.segments.is_empty(), "{damaged:?}");
    for problem in &damaged.problems {
        assert!(problem.what.contains("; no other is left: what this instance has sealed"));
    }
    place.catalog().unwrap();
    assert_eq!(place.lines(), before);
    ledger.assert_kept(&place, "all manifests were damaged");
}

#[test]
fn without_any_manifest_the_files_tell() {
    for compacted in [false, true] {
        let (_dir, place, ledger) = sealed();
        if compacted {
            place.catalog().unwrap().compact_all().unwrap();
        }
        let before = place.lines();
        std::fs::remove_dir_all(place.dir.join("logs/v1/_manifest")).unwrap();
        place.catalog().unwrap();
        assert_eq!(place.lines(), before, "compacted: {compacted}");
        place.assert_consistent("rebuilt");
        // And the numbers that are taken stay taken.
        let journal = place.journal().unwrap();
        ledger.write(&journal, 1000);
        journal.close();
        ledger.assert_kept(&place, "rebuilt");
        place.assert_consistent("rebuilt and gone on");
    }
}

#[test]
fn damage_inside_a_closed_journal_file_is_kept_aside_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let place = Place::new(Arc::new(StdFs), dir.path());
    let ledger = Ledger::default();
    let journal = place.journal().unwrap();
    for number in 1..40 {
        ledger.write(&journal, number);
        // Small batches: damage takes the whole of one.
        until("it is stored", || ledger.stored().len() == usize::try_from(number).unwrap());
    }
    journal.turn(Duration::from_secs(20)).unwrap();
    journal.close();
    let file = logstore::journal_dir(&place.dir).join("test-1-000000000001.jsonl");
    let middle = std::fs::metadata(&file).unwrap().len() / 2;
    flip(&file, usize::try_from(middle).unwrap());
    let catalog = place.catalog().unwrap();
    let report = place.seal(&catalog);
    assert!(report.rows > 0);
    catalog.drop_sealed(u64::MAX).unwrap();
    let torn = std::fs::read_dir(logstore::journal_dir(&place.dir).join("torn")).unwrap();
    let kept: Vec<String> =
        torn.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert!(kept.iter().any(|name| name.ends_with(".damaged")), "{kept:?}");
    let found = findings(&place, true);
    assert!(found.iter().any(|finding| finding.contains("are damaged")), "{found:?}");
    assert_eq!(found.len(), 1, "{found:?}");
}

#[test]
fn a_directory_that_cannot_be_written_is_still_read() {
    use std::os::unix::fs::PermissionsExt as _;
    let (_dir, place, ledger) = sealed();
    let manifests = place.dir.join("logs/v1/_manifest/test-1");
    let mode = |bits| std::fs::Permissions::from_mode(bits);
    std::fs::set_permissions(&manifests, mode(0o500)).unwrap();
    ledger.assert_kept(&place, "read only");
    assert_eq!(findings(&place, false), Vec::<String>::new());
    std::fs::set_permissions(&manifests, mode(0o700)).unwrap();
}
