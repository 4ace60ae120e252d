//! Each step as it should go, on real files.

use std::{sync::Arc, time::Duration};

use domain::{record::Envelope, time::Timestamp};
use logstore::{
    Journal,
    catalog::{Erase, EventKind, Policy, SealedFile, Sealer, SealerConfig, snapshot},
    fs::StdFs,
    segment::Dataset,
};

use super::harness::{HOUR, Ledger, Place, START, named, project_of};
use crate::{
    bodies::with_body,
    support::{instance, until},
};

const DAY: i64 = 24 * HOUR;

fn place() -> (tempfile::TempDir, Place) {
    let dir = tempfile::tempdir().unwrap();
    let place = Place::new(Arc::new(StdFs), dir.path());
    (dir, place)
}

/// Journals with a rotation after each list of records.
fn write(place: &Place, ledger: &Ledger, lists: &[(u128, u128)]) {
    let journal = place.journal().unwrap();
    for (from, to) in lists {
        for number in *from..*to {
            ledger.write(&journal, number);
        }
        journal.turn(Duration::from_secs(20)).unwrap();
    }
    journal.close();
}

fn journal_files(place: &Place) -> usize {
    let names = place.fs.list(&logstore::journal_dir(&place.dir)).unwrap();
    names.iter().filter(|name| name.ends_with(".jsonl")).count()
}

#[test]
fn sealed_lines_come_back_exactly_and_the_journal_goes_behind_its_readers() {
    let (_dir, place) = place();
    let ledger = Ledger::default();
    write(&place, &ledger, &[(1, 40), (40, 80), (80, 100)]);
    let before = place.lines();
    assert_eq!(before.len(), 99 * 2);
    let catalog = place.catalog().unwrap();
    let report = place.seal(&catalog);
    assert!(report.files >= 3, "{report:?}");
    assert_eq!(report.rows, 99 * 2);
    assert_eq!(place.lines(), before, "the same lines in the same place of the sequence");
    let files = journal_files(&place);
    assert_eq!(catalog.drop_sealed(40).unwrap(), 0, "a reader is at line 40");
    assert_eq!(journal_files(&place), files);
    assert!(catalog.drop_sealed(u64::MAX).unwrap() >= 3);
    assert_eq!(journal_files(&place), 1, "the newest file says what is open");
    assert_eq!(place.lines(), before);
    place.assert_consistent("sealed");
    let sealed = place.events.lock().iter().filter(|it| it.kind == EventKind::Sealed).count();
    assert_eq!(sealed as u64, report.segments, "each segment is told of once");
    // Two dates and two streams.
    let snapshot = snapshot(&*place.fs, &place.dir).unwrap();
    let dates: std::collections::BTreeSet<&str> =
        snapshot.segments.iter().map(|it| it.info.date()).collect();
    assert_eq!(dates.into_iter().collect::<Vec<_>>(), ["date=2025-11-22", "date=2025-11-23"]);
    assert_eq!(snapshot.rows(Dataset::Records), 99);
    // The next start goes on behind what is sealed.
    write(&place, &ledger, &[(100, 110)]);
    ledger.assert_kept(&place, "after a restart");
    place.assert_consistent("after a restart");
}

#[test]
fn numbers_that_are_sealed_are_never_given_out_again() {
    let (_dir, place) = place();
    let ledger = Ledger::default();
    write(&place, &ledger, &[(1, 20)]);
    place.seal(&place.catalog().unwrap());
    std::fs::remove_dir_all(logstore::journal_dir(&place.dir)).unwrap();
    write(&place, &ledger, &[(20, 30)]);
    place.seal(&place.catalog().unwrap());
    ledger.assert_kept(&place, "without the journal");
}

#[test]
fn hours_and_days_come_together_row_for_row() {
    let (_dir, place) = place();
    let ledger = Ledger::default();
    write(&place, &ledger, &[(1, 30), (30, 60), (60, 90), (90, 120)]);
    let before = place.lines();
    let catalog = place.catalog().unwrap();
    place.seal(&catalog);
    let sealed = snapshot(&*place.fs, &place.dir).unwrap().segments.len();
    assert!(sealed >= 12, "four files, three kinds of segments: {sealed}");
    place.clock.advance_micros(2 * HOUR);
    let mut made = 0;
    while catalog.compact_one().unwrap().is_some() {
        made += 1;
    }
    assert_eq!(made, 3, "records of two dates, traces of one");
    assert_eq!(catalog.sweep().unwrap(), sealed as u64);
    assert_eq!(place.lines(), before);
    place.assert_consistent("compacted");
    let snapshot = snapshot(&*place.fs, &place.dir).unwrap();
    assert_eq!(snapshot.segments.len(), 3);
    assert!(snapshot.segments.iter().all(|it| it.info.level == 1));
    let events = place.events.lock();
    let merged = events.iter().filter(|it| it.kind == EventKind::Compacted);
    let replaced: Vec<usize> = merged.map(|it| it.replaced.len()).collect();
    assert_eq!((replaced.len(), replaced.iter().sum()), (3, sealed), "{replaced:?}");
}

#[test]
fn retention_drops_dates_by_dataset_and_then_the_oldest_by_size() {
    let (_dir, place) = place();
    let ledger = Ledger::default();
    write(&place, &ledger, &[(1, 40), (40, 80)]);
    let catalog = place.catalog().unwrap();
    place.seal(&catalog);
    let policy = Policy { traces_micros: DAY, ..Policy::default() };
    assert_eq!(catalog.prune(&policy, false).unwrap().files, 0, "nothing is old");
    // The date ends fourteen hours later, and a day after that it is old.
    place.clock.advance_micros(14 * HOUR + DAY);
    let files = |wanted: &dyn Fn(&SealedFile) -> bool| {
        let segments = snapshot(&*place.fs, &place.dir).unwrap().segments;
        segments.iter().filter(|it| wanted(&it.info)).count() as u64
    };
    // How many there are depends on when the writer turned its files.
    let of_traces = files(&|file| file.dataset == Dataset::Traces);
    let dry = catalog.prune(&policy, true).unwrap();
    assert_eq!((dry.files, dry.rows), (of_traces, 79));
    assert_eq!(catalog.prune(&policy, false).unwrap(), dry);
    let rows = |dataset| snapshot(&*place.fs, &place.dir).unwrap().rows(dataset);
    assert_eq!((rows(Dataset::Records), rows(Dataset::Traces)), (79, 0));
    catalog.sweep().unwrap();
    let traces = place.dir.join("logs/v1/traces/date=2025-11-23");
    assert!(!traces.exists(), "the directory of the date goes with its last file");
    place.assert_consistent("pruned by age");

    let held = |file: &SealedFile| file.date() == "date=2025-11-22";
    let small = Policy { bytes_max: Some(1), hold: Arc::new(held), ..Policy::default() };
    let (to_hold, all) = (files(&held), files(&|_| true));
    let report = catalog.prune(&small, false).unwrap();
    assert!(to_hold > 0 && to_hold < all, "{to_hold} of {all}");
    assert_eq!((report.files, report.held), (all - to_hold, to_hold));
    assert!(report.bytes_over > 0, "what is held is larger than the cap");
    let left = snapshot(&*place.fs, &place.dir).unwrap().segments;
    assert!(left.iter().all(|it| held(&it.info)) && left.len() as u64 == to_hold);
    place.assert_consistent("pruned by size");
}

#[test]
fn an_erasure_takes_one_project_and_nothing_else() {
    let (_dir, place) = place();
    let ledger = Ledger::default();
    write(&place, &ledger, &[(1, 60), (60, 100)]);
    let catalog = place.catalog().unwrap();
    place.seal(&catalog);
    catalog.drop_sealed(u64::MAX).unwrap();
    let before = place.records();
    let report = catalog.erase(&Erase::Project(project_of(1))).unwrap();
    assert_eq!(report.rows, 50);
    assert_eq!(report.failed, Vec::<String>::new());
    let mut expected = before;
    expected.retain(|number, _| project_of(*number) != project_of(1));
    assert_eq!(place.records(), expected);
    place.assert_consistent("erased");
    // Nothing of it is left in any file.
    let needle = project_of(1).to_string();
    for path in walk(&place.dir) {
        let bytes = std::fs::read(&path).unwrap();
        let found = bytes.windows(needle.len()).any(|window| window == needle.as_bytes());
        assert!(!found, "{}", path.display());
    }
    let again = catalog.erase(&Erase::Project(project_of(1))).unwrap();
    assert_eq!((again.rows, again.rewritten), (0, 0));
    let erased = catalog.erase(&Erase::Project(project_of(2))).unwrap();
    assert_eq!(erased.rows, 49);
    assert_eq!(place.records().len(), 0);
    place.assert_consistent("all erased");
}

#[test]
fn an_end_user_goes_with_bodies_and_traces_also_after_merging() {
    let (_dir, place) = place();
    for round in 0..3u128 {
        let journal = place.journal().unwrap();
        let intake = journal.intake();
        for number in round * 10 + 1..=round * 10 + 10 {
            let (mut record, mut bodies) = with_body(number, "what was said");
            let user = if number.is_multiple_of(5) { "erika.mustermann" } else { "somebody" };
            record.end_user = Some(user.into());
            bodies[0].end_user = Some(user.into());
            let trace = format!(
                "{{\"ts\":\"{START}\",\"level\":\"warn\",\"msg\":\"failed for {user}\",\
                 \"request_id\":\"{}\",\"stream\":\"trace\"}}",
                record.request_id,
            );
            intake.reserve().unwrap();
            intake.finish_with_bodies(record, bodies, None);
            intake.line(logstore::Stream::Trace, trace.into_bytes()).unwrap();
        }
        journal.turn(Duration::from_secs(20)).unwrap();
        journal.close();
    }
    let catalog = place.catalog().unwrap();
    place.seal(&catalog);
    catalog.drop_sealed(u64::MAX).unwrap();
    // The newest file says what is open, and has bodies of nobody.
    let rows = |dataset| snapshot(&*place.fs, &place.dir).unwrap().rows(dataset);
    let all = || [Dataset::Records, Dataset::Bodies, Dataset::Traces].map(rows);
    assert_eq!(all(), [30, 30, 30]);
    let merged = catalog.compact_all().unwrap();
    assert!(merged.merged > merged.made, "{merged:?}");
    assert_eq!(all(), [30, 30, 30], "merged");
    place.assert_consistent("merged with bodies");
    let report = catalog.erase(&Erase::EndUser("erika.mustermann".to_owned())).unwrap();
    assert_eq!((report.rows, report.failed), (18, Vec::new()));
    assert_eq!(all(), [24, 24, 24]);
    place.assert_consistent("erased an end user");
    for path in walk(&place.dir.join("logs")) {
        let bytes = std::fs::read(&path).unwrap();
        let found = memchr::memmem::find(&bytes, b"erika.mustermann");
        assert!(found.is_none(), "{}", path.display());
    }
    let bodies = logstore::bodies::of_records(&place.fs, &place.dir, &[record_id(5), record_id(6)]);
    assert_eq!(bodies.unwrap().lines.len(), 1, "those of others are still found");
    let again = catalog.erase(&Erase::EndUser("erika.mustermann".to_owned())).unwrap();
    assert_eq!((again.rows, again.rewritten), (0, 0));
}

fn record_id(number: u128) -> domain::ids::RecordId {
    crate::support::record(number).record_id
}

/// The clock of the machine is set back while lines are written.
#[test]
fn a_clock_that_goes_back_an_hour_and_a_year_loses_nothing() {
    const YEAR: i64 = 365 * DAY;
    let (_dir, place) = place();
    let ledger = Ledger::default();
    for (at, step) in [0, -HOUR, -YEAR, YEAR + 2 * HOUR].into_iter().enumerate() {
        place.clock.advance_micros(step);
        let from = at as u128 * 20 + 1;
        write(&place, &ledger, &[(from, from + 10), (from + 10, from + 20)]);
        let catalog = place.catalog().unwrap();
        place.seal(&catalog);
        catalog.drop_sealed(u64::MAX).unwrap();
        let policy = Policy { traces_micros: DAY, records_micros: 30 * DAY, ..Policy::default() };
        assert_eq!(catalog.prune(&policy, false).unwrap().files, 0, "nothing is old: {step}");
        while catalog.compact_one().unwrap().is_some() {}
        catalog.sweep().unwrap();
        let context = format!("the clock went by {step}");
        ledger.assert_kept(&place, &context);
        place.assert_consistent(&context);
    }
    assert_eq!(place.records().len(), 80);
}

fn walk(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(walk(&path)),
            false => found.push(path),
        }
    }
    found
}

#[test]
fn a_dead_instances_journal_is_adopted_under_its_own_name() {
    let (_dir, place) = place();
    let ledger = Ledger::default();
    let envelope = Envelope { instance: named("gone-7"), version: "0" };
    let config = place.journal_config().unwrap();
    let (fs, clock) = (Arc::clone(&place.fs), place.clock.clone());
    let journal = Journal::open(config, envelope, fs, clock, Box::new(())).unwrap().0;
    for number in 1..30 {
        ledger.write(&journal, number);
    }
    // Its process ends without an end of this one.
    let intake = journal.intake();
    intake.reserve().unwrap();
    intake.open(crate::support::opening(500));
    until("the opening is appended", || journal.accounts().queue_items == 0);
    drop(journal);
    write(&place, &ledger, &[(100, 120)]);
    let catalog = place.catalog().unwrap();
    let adopted = catalog.adopt().unwrap();
    assert_eq!(adopted.len(), 1);
    assert_eq!((adopted[0].instance.as_str(), adopted[0].interrupted), ("gone-7", 1));
    ledger.assert_kept(&place, "adopted");
    assert_eq!(place.records().get(&500).map(Vec::len), Some(1));
    let names = place.fs.list(&logstore::journal_dir(&place.dir)).unwrap();
    assert!(!names.iter().any(|name| name.starts_with("gone-7")), "{names:?}");
    place.assert_consistent("adopted");
    assert_eq!(catalog.adopt().unwrap(), []);
}

#[test]
fn the_sealer_keeps_up_with_a_journal_and_ends_with_it() {
    let (_dir, place) = place();
    let ledger = Ledger::default();
    let catalog = Arc::new(place.catalog().unwrap());
    let journal = Arc::new(place.journal().unwrap());
    let required = {
        let journal = Arc::clone(&journal);
        Box::new(move || journal.committed())
    };
    let config = SealerConfig {
        upkeep_interval: Duration::ZERO,
        drop_interval: Duration::from_millis(20),
        ..SealerConfig::new(required, Policy::default())
    };
    let sealer = Sealer::start(Arc::clone(&catalog), journal.closed_files(), config).unwrap();
    for number in 1..100 {
        ledger.write(&journal, number);
        if number % 25 == 0 {
            journal.turn(Duration::from_secs(20)).unwrap();
        }
    }
    until("what is closed is sealed", || catalog.figures().sealed_to >= journal.closed_to());
    until("and the journal's files go", || journal_files(&place) == 1);
    journal.close();
    assert!(sealer.stop(Duration::from_secs(20)));
    ledger.assert_kept(&place, "at the end");
    place.assert_consistent("at the end");
    let hot = snapshot(&*place.fs, &place.dir).unwrap().hot;
    let waiting: usize = hot.iter().map(|part| part.files.len()).sum();
    assert_eq!(waiting, 1, "only the file that the next start goes on from");
}

#[test]
fn clock_steps_and_disorder_change_dates_and_nothing_else() {
    let (_dir, place) = place();
    let ledger = Ledger::default();
    write(&place, &ledger, &[(1, 10)]);
    place.clock.advance_micros(-365 * DAY);
    write(&place, &ledger, &[(10, 20)]);
    place.clock.advance_micros(2 * 365 * DAY);
    write(&place, &ledger, &[(20, 30)]);
    let before = place.lines();
    let catalog = place.catalog().unwrap();
    place.seal(&catalog);
    catalog.compact_all().unwrap();
    assert_eq!(place.lines(), before);
    place.assert_consistent("after clock steps");
    assert!(Timestamp::EPOCH < START && instance().as_str() == "test-1");
}
