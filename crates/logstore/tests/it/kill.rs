//! kill -9 under load, many times over, with the ledger in another process.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use logstore::{
    JournalConfig, Sync,
    check::check,
    fs::{Fs, StdFs},
};

use crate::{
    fake::Dice,
    support::{config, open, opening, record, records},
};

const CHILD_DIR: &str = "JOURNAL_KILL_TEST_DIR";
const CHILD_BASE: &str = "JOURNAL_KILL_TEST_BASE";
const ROUNDS: u128 = 12;
const NUMBERS_PER_ROUND: u128 = 1_000_000_000;
/// Every so manyth request is opened and never ends.
const UNFINISHED_EVERY: u128 = 10;

fn settings(dir: &Path) -> JournalConfig {
    JournalConfig {
        sync: Sync::Interval(Duration::from_millis(20)),
        file_bytes_max: 200_000,
        ..config(dir)
    }
}

/// The process that is killed: a test of its own when it is not called.
#[test]
#[expect(clippy::disallowed_methods, reason = "its parent sets its environment; it paces itself")]
fn child() {
    let (Ok(dir), Ok(base)) = (std::env::var(CHILD_DIR), std::env::var(CHILD_BASE)) else { return };
    let base: u128 = base.parse().unwrap();
    let (journal, _) = open(settings(Path::new(&dir)), Arc::new(StdFs));
    let intake = journal.intake();
    for number in base + 1.. {
        while intake.reserve().is_err() {
            std::thread::yield_now();
        }
        intake.open(opening(number));
        if number % UNFINISHED_EVERY == 0 && number < base + 5_000 {
            continue;
        }
        if number % 7 == 0 {
            std::thread::sleep(Duration::from_micros(200));
        }
        let acknowledge = move |stored: bool| {
            assert!(stored);
            writeln!(std::io::stdout(), "stored {number}").unwrap();
        };
        intake.finish(record(number), Some(Box::new(acknowledge)));
    }
}

/// Runs one process and kills it after some acknowledgements; returns them.
fn one_life(dir: &Path, base: u128, kill_after: u64) -> Vec<u128> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kill::child", "--nocapture"])
        .env(CHILD_DIR, dir)
        .env(CHILD_BASE, base.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).split(b'\n');
    let mut acknowledged = Vec::new();
    let mut killed = false;
    while let Some(Ok(line)) = lines.next() {
        let line = String::from_utf8(line).unwrap();
        let Some(number) = line.split_once("stored ").map(|(_, number)| number) else { continue };
        // The last line may be cut in two.
        let Ok(number) = number.parse::<u128>() else { continue };
        if number > base && number < base + NUMBERS_PER_ROUND {
            acknowledged.push(number);
        }
        if acknowledged.len() as u64 >= kill_after && !killed {
            child.kill().unwrap();
            killed = true;
        }
    }
    child.wait().unwrap();
    assert!(killed, "the child ended by itself");
    // A cut number may look like a smaller one that was never used.
    acknowledged.pop();
    acknowledged
}

#[test]
fn nothing_acknowledged_is_lost_or_doubled() {
    let dir = tempfile::tempdir().unwrap();
    let mut dice = Dice(0x5eed);
    let mut acknowledged = Vec::new();
    let mut must_be_interrupted = Vec::new();
    for round in 0..ROUNDS {
        let base = round * NUMBERS_PER_ROUND;
        let stored = one_life(dir.path(), base, 1 + dice.below(800));
        let newest = stored.iter().copied().max().unwrap_or(base);
        // What was handed over before an acknowledged record is appended too.
        let unfinished = (base + 1..newest).filter(|n| n % UNFINISHED_EVERY == 0);
        must_be_interrupted.extend(unfinished.filter(|number| *number < base + 5_000));
        acknowledged.extend(stored);
    }
    let (journal, _) = open(settings(dir.path()), Arc::new(StdFs));
    journal.close();
    let fs: Arc<dyn Fs> = Arc::new(StdFs);
    let mut found = std::collections::HashMap::new();
    for (number, outcome) in records(&fs, dir.path()) {
        assert_eq!(found.insert(number, outcome), None, "record {number} is there twice");
    }
    for number in acknowledged {
        assert_eq!(found.get(&number).map(String::as_str), Some("ok"), "record {number}");
    }
    for number in must_be_interrupted {
        let outcome = found.get(&number).map(String::as_str);
        assert_eq!(outcome, Some("interrupted"), "record {number}");
    }
    let report = check(&fs, dir.path()).unwrap();
    assert_eq!(report.findings, Vec::<String>::new());
    assert_eq!((report.starts, report.open), (u64::try_from(ROUNDS).unwrap() + 1, 0));
}
