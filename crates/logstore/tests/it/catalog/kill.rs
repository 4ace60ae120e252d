//! kill -9, two hundred times, of a process that writes, seals, merges and drops
//! journal files without a pause.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use logstore::{
    Journal, Sync,
    catalog::{
        Catalog, CatalogConfig, CatalogEvent, CatalogObserver, Policy, Sealer, SealerConfig,
    },
    fs::StdFs,
};

use super::harness::{Place, record_at};
use crate::{
    fake::Dice,
    support::{SystemClock, envelope, instance, opening},
};

const CHILD_DIR: &str = "CATALOG_KILL_TEST_DIR";
const CHILD_BASE: &str = "CATALOG_KILL_TEST_BASE";
const LIVES: u128 = 200;
const NUMBERS_PER_LIFE: u128 = 1_000_000;
/// Closed lines that may wait to be sealed.
const WAITING_MAX: u64 = 200;
/// How often everything is looked at.
const LOOK_EVERY: u128 = 50;

/// The process that is killed: a test of its own when it is not called.
#[test]
#[expect(clippy::disallowed_methods, reason = "its parent sets its environment")]
fn child() {
    let (Ok(dir), Ok(base)) = (std::env::var(CHILD_DIR), std::env::var(CHILD_BASE)) else { return };
    let base: u128 = base.parse().unwrap();
    let (fs, clock) = (Arc::new(StdFs), Arc::new(SystemClock));
    let place = Place::new(fs.clone(), Path::new(&dir));
    let config =
        CatalogConfig { grace: Duration::ZERO, ..CatalogConfig::new(&dir, instance(), "0") };
    let catalog = Catalog::open(config, fs.clone(), clock.clone(), Box::new(Steps)).unwrap().0;
    let catalog = Arc::new(catalog);
    let config = logstore::JournalConfig {
        sync: Sync::Interval(Duration::from_millis(20)),
        file_bytes_max: 12_000,
        ..place.journal_config().unwrap()
    };
    let journal = Journal::open(config, envelope(), fs, clock, Box::new(())).unwrap().0;
    let journal = Arc::new(journal);
    let reader = Arc::clone(&journal);
    let config = SealerConfig {
        upkeep_interval: Duration::ZERO,
        drop_interval: Duration::from_millis(1),
        ..SealerConfig::new(Box::new(move || reader.committed()), keeps_all())
    };
    let _sealer = Sealer::start(Arc::clone(&catalog), journal.closed_files(), config).unwrap();
    let intake = journal.intake();
    for number in base + 1.. {
        while intake.reserve().is_err() {
            std::thread::yield_now();
        }
        intake.open(opening(number));
        if number % 10 == 0 && number < base + 500 {
            continue;
        }
        // So much waits to be sealed that a life can end at every step.
        while journal.closed_to() > catalog.figures().sealed_to + WAITING_MAX {
            std::thread::sleep(Duration::from_micros(500));
        }
        let acknowledge = move |stored: bool| {
            assert!(stored);
            writeln!(std::io::stdout(), "stored {number}").unwrap();
        };
        intake.finish(record_at(number), Some(Box::new(acknowledge)));
    }
}

/// Says on stdout that a segment was sealed or made of others.
struct Steps;

impl CatalogObserver for Steps {
    fn told(&self, _: &CatalogEvent) -> bool {
        writeln!(std::io::stdout(), "step done").is_ok()
    }
}

/// What a life must have seen before it is ended.
#[derive(Clone, Copy)]
enum End {
    Stored(u64),
    Steps(u64),
}

fn keeps_all() -> Policy {
    let century = 100 * 366 * 86_400_000_000;
    Policy {
        records_micros: century,
        bodies_micros: century,
        traces_micros: century,
        entries_micros: century,
        ..Policy::default()
    }
}

/// Runs one process and kills it after some acknowledgements or steps of the
/// catalog; returns the acknowledged records.
fn one_life(dir: &Path, base: u128, end: End) -> Vec<u128> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "catalog::kill::child", "--nocapture"])
        .env(CHILD_DIR, dir)
        .env(CHILD_BASE, base.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).split(b'\n');
    let (mut acknowledged, mut steps, mut killed) = (Vec::new(), 0, false);
    while let Some(Ok(line)) = lines.next() {
        let line = String::from_utf8(line).unwrap();
        steps += u64::from(line.contains("step done"));
        let number = line.split_once("stored ").and_then(|(_, number)| number.parse().ok());
        let own = base + 1..base + NUMBERS_PER_LIFE;
        acknowledged.extend(number.filter(|number| own.contains(number)));
        let over = match end {
            End::Stored(count) => acknowledged.len() as u64 >= count,
            End::Steps(count) => steps >= count,
        };
        if over && !killed {
            child.kill().unwrap();
            killed = true;
        }
    }
    child.wait().unwrap();
    assert!(killed, "the child ended by itself");
    // The last line may be cut in two and look like a smaller number.
    acknowledged.pop();
    acknowledged
}

#[test]
fn nothing_acknowledged_is_lost_or_doubled_by_two_hundred_kills() {
    let dir = tempfile::tempdir().unwrap();
    let place = Place::new(Arc::new(StdFs), dir.path());
    let mut dice = Dice(0xca7a);
    let mut acknowledged = Vec::new();
    for life in 0..LIVES {
        let end = match life % 2 {
            0 => End::Stored(1 + dice.below(120)),
            _ => End::Steps(1 + dice.below(5)),
        };
        acknowledged.extend(one_life(dir.path(), life * NUMBERS_PER_LIFE, end));
        if (life + 1) % LOOK_EVERY != 0 {
            continue;
        }
        let found = place.records();
        for (number, outcomes) in &found {
            assert_eq!(outcomes.len(), 1, "life {life}: record {number} is there as {outcomes:?}");
        }
        for number in &acknowledged {
            let outcome = found.get(number).map(|outcomes| outcomes[0].as_str());
            assert_eq!(outcome, Some("ok"), "life {life}: record {number}");
        }
        place.assert_consistent(&format!("life {life}"));
    }
    let sealed = logstore::catalog::sealed_to(&StdFs, dir.path(), &instance()).unwrap();
    assert!(sealed > 100, "the killed processes sealed up to line {sealed} only");
}
