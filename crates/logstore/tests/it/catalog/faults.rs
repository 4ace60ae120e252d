//! Every operation fails once, or is the last of its process, with and without
//! power: what was acknowledged is found once, whatever step was under way.

use std::{io::ErrorKind, path::Path, sync::Arc, time::Duration};

use logstore::{
    catalog::{CatalogError, Erase, Policy},
    fs::Fs,
};

use super::harness::{HOUR, Ledger, Place, project_of};
use crate::fake::{FakeFs, Fault};

const DIR: &str = "/data";

fn place(fs: &FakeFs) -> Place {
    let shared: Arc<dyn Fs> = Arc::new(fs.clone());
    let place = Place::new(shared, Path::new(DIR));
    place.clock.advance_micros(3 * HOUR);
    place
}

/// One process that does all there is to do. An error ends it early.
fn live(place: &Place, ledger: &Ledger, base: u128) -> Result<(), CatalogError> {
    let catalog = place.catalog()?;
    let Some(journal) = place.journal() else { return Err(CatalogError::NotTurned) };
    for round in 0..2 {
        for number in 1..6 {
            ledger.write(&journal, base + round * 5 + number);
        }
        journal.turn(Duration::from_secs(20)).ok_or(CatalogError::NotTurned)?;
        catalog.seal_closed(journal.closed_to())?;
        catalog.drop_sealed(journal.committed())?;
    }
    while catalog.compact_one()?.is_some() {}
    catalog.sweep()?;
    journal.close();
    catalog.seal_closed(journal.closed_to())?;
    catalog.drop_sealed(journal.committed())?;
    Ok(())
}

fn operations(work: impl Fn(&Place)) -> u64 {
    let fs = FakeFs::new(1);
    work(&place(&fs));
    fs.operations()
}

/// What may happen at an operation.
const FAULTS: [(Fault, bool); 4] = [
    (Fault::Stop, false),
    (Fault::Stop, true),
    (Fault::Once(ErrorKind::StorageFull), false),
    (Fault::Once(ErrorKind::PermissionDenied), false),
];

#[test]
fn every_operation_may_fail_or_be_the_last() {
    let count = operations(|place| live(place, &Ledger::default(), 0).unwrap());
    assert!(count > 100, "{count} operations");
    for at in 0..count {
        // Each fault meets each kind of operation: neighbours are alike.
        let (fault, power_lost) = FAULTS[usize::try_from(at).unwrap() % FAULTS.len()];
        let context = format!("{fault:?} at {at}, power lost: {power_lost}");
        let (mut fs, ledger) = (FakeFs::new(at + 1), Ledger::default());
        fs.fault_after(at + 1, fault);
        let ended = live(&place(&fs), &ledger, 0);
        if fault == Fault::Stop {
            fs = fs.reboot(power_lost);
        }
        if !power_lost {
            // What a reader sees between the two processes.
            ledger.assert_kept(&place(&fs), &format!("{context}: before the restart ({ended:?})"));
        }
        // How operations fall differs a little: the fault may come only here.
        if live(&place(&fs), &ledger, 1000).is_err() {
            fs = fs.reboot(false);
            live(&place(&fs), &ledger, 2000).unwrap_or_else(|error| panic!("{context}: {error:?}"));
        }
        if !power_lost {
            ledger.assert_kept(&place(&fs), &context);
        }
        assert!(ledger.stored().iter().filter(|number| **number > 1000).count() >= 10, "{context}");
        place(&fs).assert_consistent(&context);
    }
}

/// Fills a store, then prunes and erases.
fn take_away(place: &Place) -> Result<(), CatalogError> {
    let catalog = place.catalog()?;
    catalog.erase(&Erase::Project(project_of(1)))?;
    let policy = Policy { traces_micros: HOUR, ..Policy::default() };
    catalog.prune(&policy, false)?;
    catalog.sweep()?;
    Ok(())
}

#[test]
fn what_is_taken_away_goes_and_nothing_else_whenever_it_is_cut_off() {
    let filled = || {
        let (fs, ledger) = (FakeFs::new(7), Ledger::default());
        live(&place(&fs), &ledger, 0).unwrap();
        (fs, ledger)
    };
    let later = |fs: &FakeFs| {
        let place = place(fs);
        place.clock.advance_micros(48 * HOUR);
        place
    };
    let (fs, ledger) = filled();
    let before = fs.operations();
    take_away(&later(&fs)).unwrap();
    let count = fs.operations() - before;
    assert!(count > 20, "{count} operations");
    let kept: Vec<u128> =
        ledger.stored().into_iter().filter(|it| project_of(*it) != project_of(1)).collect();
    for at in 0..count {
        let (fault, power_lost) = FAULTS[usize::try_from(at).unwrap() % FAULTS.len()];
        let context = format!("{fault:?} at {at}");
        let (mut fs, _) = filled();
        fs.fault_after(at + 1, fault);
        let ended = take_away(&later(&fs));
        if fault == Fault::Stop {
            fs = fs.reboot(power_lost);
        }
        let found = later(&fs).records();
        assert!(found.values().all(|outcomes| outcomes.len() == 1), "{context} {ended:?}");
        assert!(kept.iter().all(|number| found.contains_key(number)), "{context} {ended:?}");
        if take_away(&later(&fs)).is_err() {
            fs = fs.reboot(false);
            take_away(&later(&fs)).unwrap_or_else(|error| panic!("{context}: {error:?}"));
        }
        let found: Vec<u128> = later(&fs).records().into_keys().collect();
        assert_eq!(found, kept, "{context}");
        later(&fs).assert_consistent(&context);
    }
}
