//! Random work on files that fail at any operation, against the simplest model:
//! what was acknowledged is there exactly once, nothing is there twice, and the
//! books balance.

use std::{collections::HashMap, io::ErrorKind, path::Path, sync::Arc, time::Duration};

use logstore::{Journal, JournalConfig, Sync, check::check, fs::Fs};
use parking_lot::Mutex;

use crate::{
    bodies::{kept, with_body},
    fake::{Dice, FakeFs, Fault},
    support::{SystemClock, committed, config, envelope, opening, record, records},
};

const DIR: &str = "/journal";
/// Enough to have met every operation at least once for each fault.
const SEEDS: u64 = 80;

/// What the model knows of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Nothing,
    Stored,
    Lost,
}

#[derive(Default)]
struct Ledger {
    told: Mutex<HashMap<u128, Told>>,
}

fn settings(sync: Sync) -> JournalConfig {
    JournalConfig { sync, file_bytes_max: 6_000, linger: Duration::ZERO, ..config(Path::new(DIR)) }
}

/// One process: opens, works until it is done or dead. False if it could not
/// even start.
fn live(fs: &FakeFs, sync: Sync, next: &mut u128, dice: &mut Dice, ledger: &Arc<Ledger>) -> bool {
    let shared: Arc<dyn Fs> = Arc::new(fs.clone());
    let opened =
        Journal::open(settings(sync), envelope(), shared, Arc::new(SystemClock), Box::new(()));
    let Ok((journal, _)) = opened else { return false };
    let intake = journal.intake();
    for _ in 0..dice.below(40) {
        *next += 1;
        let number = *next;
        if intake.reserve().is_err() {
            continue;
        }
        let (opens, ends) = (dice.below(3) > 0, dice.below(6) > 0);
        if opens {
            intake.open(opening(number));
        }
        if dice.below(3) == 0 {
            std::thread::yield_now();
        }
        if ends {
            ledger.told.lock().insert(number, Told::Nothing);
            let ledger = Arc::clone(ledger);
            let tell = move |stored| {
                let told = if stored { Told::Stored } else { Told::Lost };
                ledger.told.lock().insert(number, told);
            };
            if dice.below(2) == 0 {
                let (record, bodies) = with_body(number, "a body");
                intake.finish_with_bodies(record, bodies, Some(Box::new(tell)));
            } else {
                intake.finish(record(number), Some(Box::new(tell)));
            }
        }
        assert!(journal.accounts().balance());
    }
    let report = journal.close();
    assert!(report.accounts.balance(), "{:?}", report.accounts);
    true
}

fn verify(fs: &FakeFs, ledger: &Ledger, seed: u64) {
    let shared: Arc<dyn Fs> = Arc::new(fs.clone());
    let mut times: HashMap<u128, Vec<String>> = HashMap::new();
    for (id, outcome) in records(&shared, Path::new(DIR)) {
        times.entry(id).or_default().push(outcome);
    }
    for (id, outcomes) in &times {
        assert_eq!(outcomes.len(), 1, "seed {seed}: record {id} is there as {outcomes:?}");
    }
    for (id, told) in ledger.told.lock().iter() {
        if *told == Told::Stored {
            let found = times.get(id).map(|outcomes| outcomes[0].as_str());
            assert_eq!(found, Some("ok"), "seed {seed}: acknowledged record {id}");
        }
    }
    let bodies = kept(fs, Path::new(DIR));
    for line in committed(&shared, Path::new(DIR), 0) {
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        if line["captured"] == "request" {
            let id = &line["record_id"];
            let found = bodies.iter().filter(|(_, body)| body["record_id"] == *id).count();
            assert_eq!(found, 1, "seed {seed}: bodies of record {id}");
        }
    }
    let report = check(&shared, Path::new(DIR)).unwrap();
    assert_eq!(report.findings, Vec::<String>::new(), "seed {seed}");
    assert_eq!(report.open, 0, "seed {seed}: a finished start leaves nothing open");
}

fn run(seed: u64, sync: Sync, power_lost: bool, fault: impl Fn(&mut Dice) -> Fault) {
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut fs = FakeFs::new(seed + 1);
    let ledger = Arc::new(Ledger::default());
    let mut next = 0;
    for _ in 0..6 {
        fs.fault_after(1 + dice.below(60), fault(&mut dice));
        live(&fs, sync, &mut next, &mut dice, &ledger);
        fs = fs.reboot(power_lost);
    }
    // One last start without faults settles what is open.
    let shared: Arc<dyn Fs> = Arc::new(fs.clone());
    let (journal, _) = crate::support::open(settings(sync), shared);
    journal.close();
    verify(&fs, &ledger, seed);
}

#[test]
fn a_process_that_dies_at_any_operation_loses_nothing_acknowledged() {
    for seed in 0..SEEDS {
        run(seed, Sync::Os, false, |_| Fault::Stop);
    }
}

#[test]
fn a_loss_of_power_takes_nothing_that_was_synced() {
    for seed in 0..SEEDS {
        run(seed, Sync::Each, true, |_| Fault::Stop);
    }
}

#[test]
fn one_failing_operation_is_survived() {
    let kinds = [ErrorKind::StorageFull, ErrorKind::PermissionDenied, ErrorKind::InvalidInput];
    for seed in 0..SEEDS {
        let sync = if seed % 2 == 0 { Sync::Each } else { Sync::Interval(Duration::ZERO) };
        run(seed, sync, false, |dice| Fault::Once(kinds[usize::try_from(dice.below(3)).unwrap()]));
    }
}
