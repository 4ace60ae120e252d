//! What a reader may open now: listed segments, and the journal files beyond
//! them. Takes no lock: it looks until what it saw fits together.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use domain::ids::InstanceId;

use super::{
    CatalogError, Problem,
    manifest::{self, SealedFile, listed_path},
};
use crate::{fs::Fs, journal_dir, recover::all_files, segment::Dataset};

/// How often the world may move while it is looked at.
const LOOKS_MAX: usize = 8;

/// A segment and what the manifest says of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SegmentRef {
    pub path: PathBuf,
    pub instance: InstanceId,
    pub info: SealedFile,
}

/// What is not sealed of one instance: lines numbered above `after_seq`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HotPart {
    pub instance: InstanceId,
    pub after_seq: u64,
    /// Files by their first line, in order. A file's lines numbered at or past
    /// the next file's first do not count.
    pub files: Vec<(u64, PathBuf)>,
}

impl HotPart {
    /// The bodies beside one of the files, if there are any.
    pub fn bodies(path: &Path) -> PathBuf {
        path.with_extension("bodies")
    }
}

/// Every line once: in a segment or in a hot part.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Snapshot {
    /// By dataset, then time.
    pub segments: Vec<SegmentRef>,
    pub hot: Vec<HotPart>,
    /// What a reader cannot see, or sees in an older state.
    pub problems: Vec<Problem>,
    /// The manifests that this was read from.
    numbers: BTreeMap<String, u64>,
}

impl Snapshot {
    /// False once a manifest was replaced: a file that is gone then is no
    /// problem, and a new snapshot has its rows.
    pub fn is_current(&self, fs: &dyn Fs, data_dir: &Path) -> bool {
        numbers(fs, data_dir).is_ok_and(|now| now == self.numbers)
    }

    pub fn rows(&self, dataset: Dataset) -> u64 {
        let of = self.segments.iter().filter(|segment| segment.info.dataset == dataset);
        of.map(|segment| segment.info.rows).sum()
    }
}

fn numbers(fs: &dyn Fs, data_dir: &Path) -> Result<BTreeMap<String, u64>, CatalogError> {
    let mut numbers = BTreeMap::new();
    for instance in manifest::instances(fs, data_dir)? {
        let number = manifest::newest_number(fs, data_dir, &instance)?;
        numbers.insert(instance.as_str().to_owned(), number);
    }
    Ok(numbers)
}

/// Looks at a data directory. A directory without journal and segments gives an
/// empty snapshot.
pub fn snapshot(fs: &dyn Fs, data_dir: &Path) -> Result<Snapshot, CatalogError> {
    let mut looks = 1;
    loop {
        let before = numbers(fs, data_dir)?;
        let (mut seen, whole) = look(fs, data_dir)?;
        let moved = numbers(fs, data_dir)? != before;
        if (!moved && whole) || looks == LOOKS_MAX {
            seen.numbers = before;
            return Ok(seen);
        }
        looks += 1;
    }
}

/// One look, and whether it fits together.
fn look(fs: &dyn Fs, data_dir: &Path) -> Result<(Snapshot, bool), CatalogError> {
    let mut seen = Snapshot::default();
    let mut sealed: BTreeMap<String, u64> = BTreeMap::new();
    for instance in manifest::instances(fs, data_dir)? {
        let loaded = manifest::load(fs, data_dir, &instance)?;
        let instead = match loaded.manifest {
            Some(_) => "an older one is used",
            None => "no other is left: what this instance has sealed cannot be searched",
        };
        for mut problem in loaded.problems {
            problem.what = format!("{}; {instead}", problem.what);
            seen.problems.push(problem);
        }
        let Some(manifest) = loaded.manifest else { continue };
        sealed.insert(instance.as_str().to_owned(), manifest.sealed_to);
        seen.segments.extend(manifest.segments.into_iter().map(|info| SegmentRef {
            path: listed_path(data_dir, &info.file),
            instance: instance.clone(),
            info,
        }));
    }
    seen.segments.sort_by(|a, b| {
        let key = |it: &SegmentRef| (it.info.dataset, it.info.min_ts, it.info.first_seq);
        key(a).cmp(&key(b))
    });
    let dir = journal_dir(data_dir);
    let mut journals: BTreeMap<String, HotPart> = BTreeMap::new();
    for (instance, first_seq, path) in
        all_files(fs, &dir).map_err(CatalogError::io("list", &dir))?
    {
        let after_seq = sealed.get(instance.as_str()).copied().unwrap_or(0);
        let part = || HotPart { instance: instance.clone(), after_seq, files: Vec::new() };
        journals
            .entry(instance.as_str().to_owned())
            .or_insert_with(part)
            .files
            .push((first_seq, path));
    }
    let mut whole = true;
    for (_, mut part) in journals {
        part.files.sort();
        let known = part.after_seq > 0;
        let needed = beyond(&part.files, part.after_seq);
        part.files.drain(..needed);
        // A gap behind what is sealed: a file was sealed and removed meanwhile.
        if let Some((first_seq, path)) = part.files.first()
            && known
            && *first_seq > part.after_seq + 1
        {
            whole = false;
            let what = format!("lines from {} to it are missing", part.after_seq + 1);
            seen.problems.push(Problem { path: path.clone(), what });
        }
        if !part.files.is_empty() {
            seen.hot.push(part);
        }
    }
    Ok((seen, whole))
}

/// How many files hold only lines up to `seq`.
pub(crate) fn beyond(files: &[(u64, PathBuf)], seq: u64) -> usize {
    let after =
        files.iter().skip(1).take_while(|(first_seq, _)| *first_seq <= seq.saturating_add(1));
    after.count()
}
