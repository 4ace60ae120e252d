//! Makes a manifest and the files fit together again: what a crash left, what a
//! damaged manifest forgot, what somebody put back by hand.
//!
//! Files that no manifest lists are judged by their names, because a name is
//! given only to a whole, synced file. Never removes one whose lines are not
//! known to be elsewhere: in a listed segment, or in the journal.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use domain::{ids::InstanceId, time::Timestamp};

use super::{
    CatalogError, Problem,
    books::{Books, PerDataset},
    files,
    manifest::{Loaded, Manifest, SealedFile, listed_path},
    naming::{SegmentName, ids_path},
    snapshot::beyond,
};
use crate::{
    fs::Fs,
    segment::{Dataset, Segment},
};

/// A manifest that fits the files, and what must happen for it.
pub(crate) struct Fitted {
    pub(crate) manifest: Manifest,
    /// It differs from what was loaded.
    pub(crate) changed: bool,
    /// Files that count for nothing.
    pub(crate) remove: Vec<String>,
    pub(crate) problems: Vec<Problem>,
}

struct Orphan {
    dataset: Dataset,
    file: String,
    name: SegmentName,
}

impl Orphan {
    fn covers(&self, other: &SealedFile) -> bool {
        self.name.first_seq <= other.first_seq && other.last_seq <= self.name.last_seq
    }

    fn is_beside(&self, other: &SealedFile) -> bool {
        other.dataset == self.dataset
            && Some(other.date()) == self.file.split('/').nth(1)
            && other.overlaps(self.name.first_seq, self.name.last_seq)
    }
}

/// Fits what was loaded to the files of one instance.
pub(crate) fn fit(
    fs: &Arc<dyn Fs>,
    data_dir: &Path,
    instance: &InstanceId,
    loaded: Loaded,
    journal: &[(u64, PathBuf)],
    now: Timestamp,
) -> Result<Fitted, CatalogError> {
    // What a damaged manifest listed may be the newer state of a listed file.
    let forgetful = !loaded.problems.is_empty() || loaded.manifest.is_none();
    let manifest = loaded.manifest.unwrap_or_else(|| Manifest::empty(instance));
    let problems = loaded.problems;
    let mut fitted = Fitted { manifest, changed: false, remove: Vec::new(), problems };
    let (mut orphans, present) = orphans_of(&**fs, data_dir, instance, &fitted.manifest)?;
    if orphans.is_empty() {
        return Ok(fitted);
    }
    let before = fitted.manifest.sealed_to;
    let sealed_to = sealed_to(before, &orphans, journal);
    orphans.sort_by(|a, b| {
        let key = |it: &Orphan| (std::cmp::Reverse(it.name.level), it.name.first_seq);
        key(a).cmp(&key(b))
    });
    let mut taken: HashSet<String> = HashSet::new();
    for orphan in orphans {
        if orphan.name.first_seq > sealed_to {
            // The journal still has these lines: they are sealed again.
            fitted.remove.push(orphan.file);
            continue;
        }
        let beside: Vec<&SealedFile> =
            fitted.manifest.segments.iter().filter(|it| orphan.is_beside(it)).collect();
        let here = |it: &&SealedFile| present.contains(&it.file);
        let replaced = beside.iter().all(|it| orphan.covers(it) && !taken.contains(&it.file));
        let counts = match beside.iter().any(here) {
            // Half of a step that the list does not know: its input still counts.
            true => forgetful && replaced,
            false => replaced,
        };
        if !counts {
            fitted.remove.push(orphan.file);
            continue;
        }
        match describe(fs, data_dir, &orphan) {
            Ok(sealed) => {
                let old: Vec<String> = beside.iter().map(|it| it.file.clone()).collect();
                old.iter().for_each(|file| fitted.manifest.retire(file, now));
                taken.insert(sealed.file.clone());
                fitted.problems.push(Problem {
                    path: listed_path(data_dir, &sealed.file),
                    what: "no manifest listed it; it is listed again".to_owned(),
                });
                fitted.manifest.segments.push(sealed);
                fitted.changed = true;
            }
            Err(error) => fitted.problems.push(Problem {
                path: listed_path(data_dir, &orphan.file),
                what: format!("no manifest lists it and it cannot be read: {error}"),
            }),
        }
    }
    if fitted.changed || sealed_to != before {
        fitted.changed = true;
        fitted.manifest.sealed_to = sealed_to;
        count_again(&mut fitted.manifest, before);
    }
    Ok(fitted)
}

/// Files that no list knows, and the names of all that are there.
fn orphans_of(
    fs: &dyn Fs,
    data_dir: &Path,
    instance: &InstanceId,
    manifest: &Manifest,
) -> Result<(Vec<Orphan>, HashSet<String>), CatalogError> {
    let listed = manifest.segments.iter().map(|segment| segment.file.as_str());
    let retired = manifest.retired.iter().map(|retired| retired.file.as_str());
    let known: HashSet<&str> = listed.chain(retired).collect();
    let (mut orphans, mut present) = (Vec::new(), HashSet::new());
    for dataset in Dataset::ALL.iter().copied() {
        for (file, name) in files::segments_of(fs, data_dir, dataset, instance)? {
            present.insert(file.clone());
            if !known.contains(file.as_str()) {
                orphans.push(Orphan { dataset, file, name });
            }
        }
    }
    Ok((orphans, present))
}

/// Up to where the journal must have been sealed for these files to exist: what
/// was ever rewritten was sealed before, and a journal file goes only when its
/// segments are listed.
fn sealed_to(listed: u64, orphans: &[Orphan], journal: &[(u64, PathBuf)]) -> u64 {
    let in_journal = |name: &SegmentName| {
        let skipped = beyond(journal, name.first_seq.saturating_sub(1));
        journal.get(skipped).is_some_and(|(first_seq, _)| *first_seq <= name.first_seq)
    };
    let proofs = orphans.iter().filter(|it| it.name.level > 0 || !in_journal(&it.name));
    proofs.map(|it| it.name.last_seq).fold(listed, u64::max)
}

/// Lines that no manifest counted cannot be counted now; rows can.
fn count_again(manifest: &mut Manifest, sealed_before: u64) {
    let mut rows = PerDataset::default();
    for segment in &manifest.segments {
        rows.add(segment.dataset, segment.rows);
    }
    for dataset in Dataset::ALL {
        rows.add(*dataset, manifest.books.pruned.get(*dataset));
        rows.add(*dataset, manifest.books.erased.get(*dataset));
    }
    manifest.books.rows = rows;
    if manifest.sealed_to != sealed_before {
        let Books { rows, pruned, erased, .. } = manifest.books.clone();
        let first_line = manifest.sealed_to + 1;
        manifest.books = Books { first_line, rows, pruned, erased, ..Books::default() };
    }
}

/// What a manifest says of a file, read from the file.
fn describe(
    fs: &Arc<dyn Fs>,
    data_dir: &Path,
    orphan: &Orphan,
) -> Result<SealedFile, CatalogError> {
    let path = listed_path(data_dir, &orphan.file);
    let segment = Segment::open(fs, &path)?;
    let (min_ts, max_ts) = segment.times();
    if segment.instance().is_some_and(|owner| *owner != orphan.name.instance) {
        let what = "it belongs to another instance".to_owned();
        return Err(CatalogError::Contradiction { path, what });
    }
    let size = |path: &Path| fs.identity(path).map(|identity| identity.bytes);
    let bytes = size(&path).map_err(CatalogError::io("read", &path))?;
    Ok(SealedFile {
        dataset: orphan.dataset,
        file: orphan.file.clone(),
        level: orphan.name.level,
        rows: segment.rows(),
        bytes,
        ids_bytes: size(&ids_path(&path)).unwrap_or(0),
        sha256: files::sha256(&**fs, &path).map_err(CatalogError::io("read", &path))?,
        ids_sha256: files::sha256(&**fs, &ids_path(&path)).unwrap_or_default(),
        first_seq: orphan.name.first_seq,
        last_seq: orphan.name.last_seq,
        min_ts,
        max_ts,
    })
}
