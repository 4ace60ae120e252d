//! Sealed segments against the entries that name them.

use std::{collections::BTreeSet, path::Path};

use domain::audit::verify::{Class, Leaves, Report};
use logstore::{
    catalog::{SealedSum, sums},
    fs::StdFs,
};

use super::known::with_causes;

/// Reads every listed file of the data directory.
pub(super) fn check(data_dir: &Path, leaves: &Leaves, report: &mut Report) {
    let (mut held, mut untold, mut listed) = (0u64, 0u64, BTreeSet::new());
    let mut each = |sum: SealedSum| {
        let SealedSum { file, listed: promised, found, is_untold } = sum;
        listed.insert(file.clone());
        let place = format!("logs/v1/{file}");
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                let index = leaves.segments().get(&file).map(|hash| hash.index);
                let text = format_args!("the sealed file cannot be read: {error}");
                report.find(Class::Segment, index, place, text);
                return;
            }
        };
        let entry = leaves.segments().get(&file);
        let Some((hash, sha256)) = entry.and_then(|hash| hash.sha256.as_ref().map(|it| (hash, it)))
        else {
            if is_untold {
                untold += 1;
            } else {
                let text = "no entry names this file";
                report.find(Class::Segment, entry.map(|it| it.index), place, text);
            }
            return;
        };
        held += 1;
        if found != *sha256 {
            let text = "the sealed file is not the one that its entry names";
            report.find(Class::Segment, hash.index, place, text);
        } else if promised != found {
            let text = "the manifest lists another checksum than its entry";
            report.find(Class::Segment, hash.index, place, text);
        }
    };
    if let Err(error) = sums(&StdFs, data_dir, &mut each) {
        report.incomplete.push(format!("the segments cannot be read: {}", with_causes(&error)));
        return;
    }
    let alive = leaves.segments().iter().filter(|(_, hash)| hash.sha256.is_some());
    for (file, hash) in alive.filter(|(file, _)| !listed.contains(*file)) {
        let place = format!("logs/v1/{file}");
        if leaves.segments_are_complete() {
            let text = "the sealed file is gone, and no entry says so";
            report.find(Class::Segment, hash.index, place, text);
        } else {
            report.unchecked.push(format!("{place}: it is gone, perhaps merged with many others"));
        }
    }
    if untold > 0 {
        report.unchecked.push(format!("{untold} sealed files, whose entries are still to come"));
    }
    report.checked.push(format!("{held} sealed files against their entries"));
}
