//! Searches over a directory that is being worked on, and over files that are
//! damaged or of another time.

use std::{
    collections::BTreeSet,
    ops::ControlFlow,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use domain::{
    fields,
    query::{Expr, FieldRef, Literal, Test},
};
use logstore::{
    catalog::{Catalog, CatalogConfig, SegmentRef, snapshot},
    engine::{self, Report, Search, Sources},
    fs::{Fs, StdFs},
    segment::{BATCH_ROWS, Dataset, Decoder, FORMAT, SealOptions, SegmentInfo, SegmentWriter},
};
use sha2::Digest as _;
use uuid::Uuid;

use super::harness::{Ledger, Place};
use crate::support::instance;

const RECORDS: u128 = 3_000;

fn by_id(number: u128) -> Search {
    let id = Literal::Text(Uuid::from_u128(number).to_string());
    let field = FieldRef::Known(fields::find("record_id").unwrap());
    Search::new(Expr::Field(field, Test::Any(vec![id])))
}

/// The numbers of the records that a search finds, in its order.
fn found(fs: &Arc<dyn Fs>, dir: &Path, search: &Search) -> (Vec<u128>, Report) {
    let sources = Sources::open(fs, dir).unwrap();
    let mut numbers = Vec::new();
    let report = engine::search(&sources, search, &mut |hit| {
        let line: serde_json::Value = serde_json::from_slice(hit.line).unwrap();
        let id: Uuid = line["record_id"].as_str().unwrap().parse().unwrap();
        numbers.push(id.as_u128());
        ControlFlow::Continue(())
    });
    (numbers, report.unwrap())
}

/// Three closed files of the journal, sealed.
fn sealed() -> (tempfile::TempDir, Place, Vec<SegmentRef>) {
    let dir = tempfile::tempdir().unwrap();
    let place = Place::new(Arc::new(StdFs), dir.path());
    let (journal, ledger) = (place.journal().unwrap(), Ledger::default());
    for round in 0..3 {
        for number in 1..=RECORDS / 3 {
            ledger.write(&journal, round * RECORDS / 3 + number);
        }
        journal.turn(Duration::from_secs(60)).unwrap();
    }
    journal.close();
    let catalog = place.catalog().unwrap();
    place.seal(&catalog);
    catalog.drop_sealed(u64::MAX).unwrap();
    let listed = snapshot(&*place.fs, &place.dir).unwrap().segments.into_iter();
    let records = listed.filter(|it| it.info.dataset == Dataset::Records).collect();
    (dir, place, records)
}

/// The largest of the segments: each has its part of the lines.
fn largest(segments: &[SegmentRef]) -> &SegmentRef {
    segments.iter().max_by_key(|it| it.info.bytes).unwrap()
}

fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).unwrap();
    change(&mut bytes);
    std::fs::write(path, bytes).unwrap();
}

/// Damages one of the segments; a search names its file and finds all of the rest,
/// and all but `lost` rows of that one.
fn check_damage(what: &str, damage: impl FnOnce(&Path), named: &str, lost_most: u64) {
    let (_dir, place, segments) = sealed();
    let victim = largest(&segments);
    damage(&victim.path);
    let (numbers, report) = found(&place.fs, &place.dir, &Search::new(Expr::All));
    let names: Vec<String> = report.problems.iter().map(ToString::to_string).collect();
    let stem = victim.path.file_stem().unwrap().to_str().unwrap();
    let is_named = |text: &String| text.contains(stem) && text.contains(named);
    assert!(names.iter().any(is_named), "{what}: {names:?}");
    assert!(!report.is_complete(), "{what}");
    let all = u64::try_from(RECORDS).unwrap();
    let once: BTreeSet<u128> = numbers.iter().copied().collect();
    assert_eq!(once.len(), numbers.len(), "{what}: nothing twice");
    let least = all - lost_most.min(victim.info.rows);
    assert!(numbers.len() as u64 >= least, "{what}: {} of {all}", numbers.len());
    assert!(lost_most == 0 || (numbers.len() as u64) < all, "{what}: nothing is lost?");
    // By its id, too, each of the others is found, and what is missing is said.
    let (other, report) = found(&place.fs, &place.dir, &by_id(numbers[0]));
    assert_eq!(other, [numbers[0]], "{what}");
    assert!(report.problems.iter().all(|it| it.path.to_string_lossy().contains(stem)), "{what}");
}

#[test]
fn damaged_segments_are_named_by_a_search_and_the_rest_is_found() {
    let flip = |path: &Path| {
        change(path, |bytes| {
            let from = bytes.len() / 3;
            let to = bytes.len().min(from + 64 * 1024);
            bytes[from..to].iter_mut().for_each(|byte| *byte ^= 0x5a);
        });
    };
    check_damage("64 KiB flipped", flip, "as they were written", u64::MAX);
    let cut = |path: &Path| change(path, |bytes| bytes.truncate(bytes.len() / 2));
    check_damage("truncated", cut, ".parquet", u64::MAX);
    let remove = |path: &Path| std::fs::remove_file(path).unwrap();
    check_damage("missing", remove, "open", u64::MAX);
    let remove = |path: &Path| std::fs::remove_file(path.with_extension("ids")).unwrap();
    check_damage("no side index", remove, ".ids", 0);
    let bend = |path: &Path| {
        change(&path.with_extension("ids"), |bytes| {
            let last = bytes.len() - 50;
            bytes[last] ^= 1;
        })
    };
    check_damage("a bent side index", bend, ".ids", 0);
}

/// What a newer build wrote is refused by name, whatever this one could make of it.
#[test]
fn segments_of_a_newer_format_are_refused_by_name() {
    const TAIL_BYTES: usize = 88;
    let newer = |path: &Path| {
        change(&path.with_extension("ids"), |bytes| {
            let tail = bytes.len() - TAIL_BYTES;
            bytes[tail..tail + 8].copy_from_slice(&(FORMAT + 1).to_le_bytes());
            let end = bytes.len() - 4;
            let crc = crc32c::crc32c(&bytes[tail..end]);
            bytes[end..].copy_from_slice(&crc.to_le_bytes());
        })
    };
    check_damage("newer", newer, "this build reads up to", u64::MAX);
}

/// Searches beside a writer, a sealer and a merger: every record that was stored
/// before is found, each exactly once, and nothing is said to be missing.
#[test]
fn searches_see_each_line_once_while_files_are_sealed_and_merged() {
    let dir = tempfile::tempdir().unwrap();
    let place = Place::new(Arc::new(StdFs), dir.path());
    let (ledger, journal) = (Ledger::default(), place.journal().unwrap());
    // What is replaced stays for its minute, as in production.
    let config = CatalogConfig::new(&place.dir, instance(), "0");
    let (catalog, _) =
        Catalog::open(config, Arc::clone(&place.fs), place.clock.clone(), Box::new(())).unwrap();
    let (written, searches) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for first in (1..600).step_by(20) {
                (first..first + 20).for_each(|number| ledger.write(&journal, number));
                journal.turn(Duration::from_secs(20)).unwrap();
                catalog.seal_closed(journal.closed_to()).unwrap();
                catalog.drop_sealed(u64::MAX).unwrap();
                if first % 100 == 1 {
                    catalog.compact_all().unwrap();
                }
            }
            written.store(true, Ordering::Release);
        });
        while !written.load(Ordering::Acquire) {
            let stored: BTreeSet<u128> = ledger.stored().into_iter().collect();
            let (numbers, report) = found(&place.fs, &place.dir, &Search::new(Expr::All));
            assert_eq!(report.problems, []);
            let seen: BTreeSet<u128> = numbers.iter().copied().collect();
            assert_eq!(seen.len(), numbers.len(), "a record came twice");
            assert!(seen.is_superset(&stored), "{:?}", stored.difference(&seen));
            if let Some(number) = stored.last() {
                assert_eq!(found(&place.fs, &place.dir, &by_id(*number)).0, [*number]);
            }
            searches.fetch_add(1, Ordering::Relaxed);
        }
    });
    journal.close();
    assert!(searches.load(Ordering::Relaxed) > 0);
    assert!(catalog.figures().compactions > 0);
}

const CHILD_DIR: &str = "SEARCH_STREAM_TEST_DIR";
/// Rows of a file, and links to it: as many instances that overlap in time.
const WIDE_ROWS: u64 = 6_000;
const LINKS: u64 = 12;
const WIDE_BYTES: usize = 3_000;
const PEAK_KIB_MAX: u64 = 120 * 1024;

/// The process whose memory is looked at: a test of its own when it is not called.
#[test]
#[expect(clippy::disallowed_methods, reason = "its parent sets its environment")]
fn child() {
    let Ok(dir) = std::env::var(CHILD_DIR) else { return };
    let fs: Arc<dyn Fs> = Arc::new(StdFs);
    let sources = Sources::open(&fs, Path::new(&dir)).unwrap();
    let (mut rows, mut bytes) = (0u64, 0);
    let report = engine::search(&sources, &Search::new(Expr::All), &mut |hit| {
        rows += 1;
        bytes += hit.line.len();
        ControlFlow::Continue(())
    });
    assert!(report.unwrap().is_complete());
    assert_eq!(rows, WIDE_ROWS * LINKS);
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak_kib: u64 = line.split_whitespace().next().unwrap().parse().unwrap();
    assert!(bytes as u64 / 1024 > PEAK_KIB_MAX * 3 / 2, "{bytes} bytes are too few to tell");
    assert!(peak_kib < PEAK_KIB_MAX, "{bytes} bytes of lines took {peak_kib} KiB");
}

/// One segment of wide rows, listed by several instances.
fn wide(dir: &Path) {
    let fs: Arc<dyn Fs> = Arc::new(StdFs);
    let place = Place::new(Arc::clone(&fs), dir);
    let (journal, ledger) = (place.journal().unwrap(), Ledger::default());
    (1..10).for_each(|number| ledger.write(&journal, number));
    journal.close();
    place.seal(&place.catalog().unwrap());
    let manifests = dir.join("logs/v1/_manifest");
    let manifest = newest(&manifests.join("test-1"));
    std::fs::remove_dir_all(dir.join("logs")).unwrap();
    std::fs::remove_dir_all(logstore::journal_dir(dir)).unwrap();
    let (first, info) = write_wide(dir, &*fs);
    for link in 0..LINKS {
        let name = format!("i-{link}");
        let file =
            format!("records/date={}/{name}-000000000001-{WIDE_ROWS:012}-L0.parquet", info.date);
        let path = dir.join("logs/v1").join(&file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::hard_link(&first, &path).unwrap();
        std::fs::hard_link(first.with_extension("ids"), path.with_extension("ids")).unwrap();
        let mut manifest = manifest.clone();
        let listed = serde_json::json!({
            "dataset": "records", "file": file, "level": 0, "rows": info.rows,
            "bytes": info.bytes, "ids_bytes": info.ids_bytes, "sha256": info.sha256,
            "first_seq": info.first_seq, "last_seq": info.last_seq,
            "min_ts": info.min_ts, "max_ts": info.max_ts,
        });
        manifest["segments"] = serde_json::Value::Array(vec![listed]);
        manifest["instance"] = name.clone().into();
        manifest["number"] = 1.into();
        manifest.as_object_mut().unwrap().remove("sha256");
        let mut text = serde_json::to_string(&manifest).unwrap();
        text.pop();
        let sum = sha2::Sha256::digest(&text);
        let sum: String = sum.iter().map(|byte| format!("{byte:02x}")).collect();
        text.push_str(&format!(",\"sha256\":\"{sum}\"}}\n"));
        std::fs::create_dir_all(manifests.join(&name)).unwrap();
        std::fs::write(manifests.join(&name).join("1.json"), text).unwrap();
    }
}

fn newest(manifests: &Path) -> serde_json::Value {
    let files = std::fs::read_dir(manifests).unwrap().map(|entry| entry.unwrap().path());
    serde_json::from_slice(&std::fs::read(files.max().unwrap()).unwrap()).unwrap()
}

fn write_wide(dir: &Path, fs: &dyn Fs) -> (PathBuf, SegmentInfo) {
    let options = SealOptions { instance: instance(), version: "0".to_owned(), zstd_level: 1 };
    let path = dir.join("wide.parquet");
    let ids = path.with_extension("ids");
    let mut writer = SegmentWriter::create(fs, &path, &ids, Dataset::Records, &options).unwrap();
    let mut decoder = Decoder::new(Dataset::Records, None);
    for number in 0..WIDE_ROWS {
        decoder.push(wide_line(number).as_bytes(), number + 1).unwrap();
        if decoder.rows() == BATCH_ROWS {
            writer.write(&decoder.finish()).unwrap();
        }
    }
    writer.write(&decoder.finish()).unwrap();
    (path, writer.finish().unwrap())
}

fn wide_line(number: u64) -> String {
    let ts = super::harness::START.plus_micros(i64::try_from(number).unwrap() * 1_000);
    let text: String = (0..WIDE_BYTES as u64 / 16)
        .map(|at| format!("{:016x}", (number * 7919 + at).wrapping_mul(0x9e37_79b9_7f4a_7c15)))
        .collect();
    format!(
        "{{\"schema\":1,\"stream\":\"record\",\"record_id\":\"{}\",\"ts\":\"{ts}\",\
         \"level\":\"error\",\"msg\":\"request completed\",\"error\":\"{text}\"}}",
        Uuid::from_u128(u128::from(number) + 1)
    )
}

#[test]
fn many_wide_rows_stream() {
    let dir = tempfile::tempdir().unwrap();
    wide(dir.path());
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "catalog::search::child", "--nocapture"])
        .env(CHILD_DIR, dir.path())
        .status()
        .unwrap();
    assert!(status.success());
}
