//! Whoever follows a journal sees every line once, in order, whatever was sealed
//! and removed before it came there.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use logstore::{cursor::Cursor, follow::Follower, fs::StdFs, journal_dir};

use super::harness::{Ledger, Place};
use crate::support::{instance, until};

fn place() -> (tempfile::TempDir, Place) {
    let dir = tempfile::tempdir().unwrap();
    let place = Place::new(Arc::new(StdFs), dir.path());
    (dir, place)
}

/// As another process follows: nobody waits for it.
fn follower(place: &Place) -> Follower {
    let cursor = Cursor { instance: instance(), seq: 0 };
    Follower::new(Arc::clone(&place.fs), &journal_dir(&place.dir), cursor)
}

fn poll(follower: &mut Follower, lines: &mut Vec<String>) {
    let mut deliver = |run: &[u8]| {
        let run = std::str::from_utf8(run).unwrap();
        assert!(run.ends_with('\n'));
        lines.extend(run.lines().map(str::to_owned));
        Ok(())
    };
    follower.poll(&mut deliver).unwrap();
}

fn expected(place: &Place) -> Vec<String> {
    place.lines().into_values().flatten().collect()
}

#[test]
fn a_slow_follower_goes_on_through_segments() {
    let (_dir, place) = place();
    let ledger = Ledger::default();
    let catalog = place.catalog().unwrap();
    let journal = place.journal().unwrap();
    let (mut follower, mut lines) = (follower(&place), Vec::new());
    let write = |numbers: std::ops::Range<u128>| {
        let count = numbers.clone().count();
        let before = ledger.stored().len();
        numbers.for_each(|number| ledger.write(&journal, number));
        until("all are stored", || ledger.stored().len() == before + count);
    };
    write(1..10);
    poll(&mut follower, &mut lines);
    assert!(!lines.is_empty());
    for first in [10, 30, 50] {
        write(first..first + 20);
        journal.turn(Duration::from_secs(20)).unwrap();
        catalog.seal_closed(journal.closed_to()).unwrap();
        catalog.drop_sealed(u64::MAX).unwrap();
    }
    write(70..75);
    poll(&mut follower, &mut lines);
    assert_eq!((lines, follower.missing()), (expected(&place), 0));

    // One that comes when all is sealed but the newest file.
    let (mut late, mut lines) = (self::follower(&place), Vec::new());
    poll(&mut late, &mut lines);
    assert_eq!((lines, late.missing()), (expected(&place), 0));
    journal.close();
}

#[test]
fn what_is_nowhere_any_more_is_counted() {
    let (_dir, place) = place();
    let ledger = Ledger::default();
    let catalog = place.catalog().unwrap();
    let journal = place.journal().unwrap();
    (1..20).for_each(|number| ledger.write(&journal, number));
    journal.turn(Duration::from_secs(20)).unwrap();
    (20..30).for_each(|number| ledger.write(&journal, number));
    journal.close();
    let all = expected(&place);
    catalog.seal_closed(journal.closed_to()).unwrap();
    catalog.drop_sealed(u64::MAX).unwrap();
    let snapshot = logstore::catalog::snapshot(&*place.fs, &place.dir).unwrap();
    let lost = &snapshot.segments[0];
    let mut bytes = std::fs::read(&lost.path).unwrap();
    bytes.iter_mut().for_each(|byte| *byte = !*byte);
    std::fs::write(&lost.path, bytes).unwrap();
    std::fs::remove_file(lost.path.with_extension("ids")).unwrap();
    let (mut follower, mut lines) = (follower(&place), Vec::new());
    poll(&mut follower, &mut lines);
    assert_eq!(follower.missing(), lost.info.rows);
    assert_eq!(lines.len() as u64 + lost.info.rows, all.len() as u64);
}

#[test]
fn a_follower_beside_a_writer_and_a_sealer_misses_nothing() {
    let (_dir, place) = place();
    let ledger = Ledger::default();
    let catalog = place.catalog().unwrap();
    let journal = place.journal().unwrap();
    let written = AtomicBool::new(false);
    let (mut follower, mut lines) = (follower(&place), Vec::new());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for first in (1..400).step_by(20) {
                (first..first + 20).for_each(|number| ledger.write(&journal, number));
                journal.turn(Duration::from_secs(20)).unwrap();
                catalog.seal_closed(journal.closed_to()).unwrap();
                catalog.drop_sealed(u64::MAX).unwrap();
            }
            written.store(true, Ordering::Release);
        });
        while !written.load(Ordering::Acquire) {
            poll(&mut follower, &mut lines);
        }
    });
    journal.close();
    poll(&mut follower, &mut lines);
    assert_eq!((lines, follower.missing()), (expected(&place), 0));
    assert!(ledger.stored().len() > 300);
}
