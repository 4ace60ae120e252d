//! What is old goes: whole dates of a dataset by age, then the oldest files of
//! all datasets until the rest fits under a size.
//!
//! Never goes: what a hold covers, and by size an entry younger than its floor.

use std::sync::Arc;

use domain::{ids::InstanceId, time::Timestamp};

use super::{
    CatalogError, SealedFile,
    event::EventKind,
    naming::{DAY_MICROS, date_of_dir},
    seal::event,
    store::{Catalog, Lists},
};
use crate::segment::Dataset;

/// Entries are kept at least as long, whatever the size: 183 days.
pub const ENTRIES_FLOOR_MICROS: i64 = 183 * DAY_MICROS;

/// Says that a file must stay, whatever its age and size.
pub type Hold = Arc<dyn Fn(&SealedFile) -> bool + Send + Sync>;

/// How long what is kept.
#[derive(Clone)]
pub struct Policy {
    pub records_micros: i64,
    pub bodies_micros: i64,
    pub traces_micros: i64,
    pub entries_micros: i64,
    /// Of all segments together.
    pub bytes_max: Option<u64>,
    pub hold: Hold,
}

impl std::fmt::Debug for Policy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Policy").field("bytes_max", &self.bytes_max).finish_non_exhaustive()
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            records_micros: 90 * DAY_MICROS,
            bodies_micros: 14 * DAY_MICROS,
            traces_micros: 14 * DAY_MICROS,
            entries_micros: 400 * DAY_MICROS,
            bytes_max: None,
            hold: Arc::new(|_| false),
        }
    }
}

impl Policy {
    fn age_micros(&self, dataset: Dataset) -> i64 {
        match dataset {
            Dataset::Records => self.records_micros,
            Dataset::Bodies => self.bodies_micros,
            Dataset::Traces => self.traces_micros,
            Dataset::Entries => self.entries_micros.max(ENTRIES_FLOOR_MICROS),
        }
    }

    /// Its date ended longer ago than its dataset is kept.
    fn is_old(&self, file: &SealedFile, now: Timestamp) -> bool {
        let end = date_of_dir(file.date()).map(|day| day.plus_micros(DAY_MICROS));
        let age = self.age_micros(file.dataset);
        end.is_some_and(|end| end.plus_micros(age) <= now)
    }

    fn may_go_by_size(&self, file: &SealedFile, now: Timestamp) -> bool {
        let young = file.max_ts.plus_micros(ENTRIES_FLOOR_MICROS) > now;
        !(file.dataset == Dataset::Entries && young)
    }
}

/// What retention dropped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PruneReport {
    pub files: u64,
    pub rows: u64,
    pub bytes: u64,
    /// Would have gone, but for a hold.
    pub held: u64,
    /// What is left is larger than the policy allows all the same.
    pub bytes_over: u64,
    /// What went, relative to `logs/v1`.
    pub dropped: Vec<String>,
}

impl Catalog {
    /// Drops what the policy no longer keeps. With `dry`, only says what would
    /// go.
    pub fn prune(&self, policy: &Policy, dry: bool) -> Result<PruneReport, CatalogError> {
        let now = self.clock.now();
        self.step(|lists| {
            let (report, going) = choose(lists, policy, now);
            if dry || going.is_empty() {
                return Ok(report);
            }
            for (owner, file) in &going {
                let Some((instance, manifest)) = lists.by_instance.get_mut(owner) else { continue };
                manifest.retire(&file.file, now);
                manifest.books.pruned.add(file.dataset, file.rows);
                manifest.note(event(EventKind::Pruned, instance, file, Vec::new()));
            }
            for (instance, manifest) in lists.by_instance.values_mut() {
                if going.iter().any(|(owner, _)| owner == instance.as_str()) {
                    self.save(instance, manifest)?;
                }
            }
            self.figures.lock().files_pruned += report.files;
            self.tell(lists)?;
            Ok(report)
        })
    }
}

type Going = Vec<(String, SealedFile)>;

fn choose(lists: &Lists, policy: &Policy, now: Timestamp) -> (PruneReport, Going) {
    let mut report = PruneReport::default();
    let mut going: Going = Vec::new();
    let mut kept: Vec<(&InstanceId, &SealedFile)> = Vec::new();
    for (instance, manifest) in lists.by_instance.values() {
        for file in &manifest.segments {
            let old = policy.is_old(file, now);
            if old && !(policy.hold)(file) {
                going.push((instance.as_str().to_owned(), file.clone()));
            } else {
                report.held += u64::from(old);
                kept.push((instance, file));
            }
        }
    }
    if let Some(bytes_max) = policy.bytes_max {
        let mut bytes: u64 = kept.iter().map(|(_, file)| file.bytes_all()).sum();
        kept.sort_by_key(|(_, file)| (file.max_ts, file.first_seq));
        for (instance, file) in kept {
            if bytes <= bytes_max {
                break;
            }
            if !policy.may_go_by_size(file, now) {
                continue;
            }
            if (policy.hold)(file) {
                report.held += 1;
                continue;
            }
            bytes -= file.bytes_all();
            going.push((instance.as_str().to_owned(), file.clone()));
        }
        report.bytes_over = bytes.saturating_sub(bytes_max);
    }
    for (_, file) in &going {
        report.files += 1;
        report.rows += file.rows;
        report.bytes += file.bytes_all();
        report.dropped.push(file.file.clone());
    }
    (report, going)
}
