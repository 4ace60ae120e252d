//! The list of one instance's segments: `_manifest/<instance>/<n>.json`.
//!
//! **Format 1.** One JSON object and a newline: `format`, `instance`, `number`,
//! `written_at`, `sealed_to` (every journal line up to it is in segments, was
//! the journal's own, or is counted as missing), `books`
//! ([`Books`]), `segments`, `retired` (files that nobody should open any more,
//! with the time), `events` (not yet acknowledged, see [`mod@super::event`]), and
//! last `sha256` over all bytes before `,"sha256":"`. A reader refuses a
//! `format` above its own; keys may be added within one.
//!
//! Each is the whole list, written beside, synced, renamed and synced again, so
//! the newest valid one counts. A few older ones stay: should the newest be
//! damaged, what it added is found again from the files (see [`mod@super::rebuild`]).

use std::{
    io,
    path::{Path, PathBuf},
};

use domain::{ids::InstanceId, time::Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{
    CatalogError, Problem,
    books::Books,
    event::CatalogEvent,
    files,
    naming::{self, UNFINISHED, manifest_dir, manifests_dir},
};
use crate::{fs::Fs, segment::Dataset};

/// The version that this build writes and the newest that it reads.
pub const MANIFEST_FORMAT: u64 = 1;
/// Manifests kept beside the newest.
const OLDER_KEPT: usize = 3;
/// No manifest is larger: about 200 000 segments.
const MANIFEST_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Events that wait for an observer; the oldest go first.
const EVENTS_MAX: usize = 10_000;
const CHECKSUM_KEY: &str = ",\"sha256\":\"";

/// One sealed file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SealedFile {
    #[serde(with = "dataset_name")]
    pub dataset: Dataset,
    /// Relative to `logs/v1`.
    pub file: String,
    pub level: u32,
    pub rows: u64,
    pub bytes: u64,
    pub ids_bytes: u64,
    pub sha256: String,
    /// Of its side index; empty where nobody knows.
    #[serde(default)]
    pub ids_sha256: String,
    pub first_seq: u64,
    pub last_seq: u64,
    pub min_ts: Timestamp,
    pub max_ts: Timestamp,
}

impl SealedFile {
    /// `date=2026-11-23`.
    pub fn date(&self) -> &str {
        self.file.split('/').nth(1).unwrap_or_default()
    }

    /// Its file and its side index together.
    pub fn bytes_all(&self) -> u64 {
        self.bytes + self.ids_bytes
    }

    pub(crate) fn overlaps(&self, first_seq: u64, last_seq: u64) -> bool {
        self.first_seq <= last_seq && first_seq <= self.last_seq
    }
}

mod dataset_name {
    use serde::{Deserialize, Deserializer, Serializer, de};

    use super::Dataset;

    pub(super) fn serialize<S: Serializer>(it: &Dataset, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(it.as_str())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Dataset, D::Error> {
        let name = String::deserialize(from)?;
        let known = Dataset::ALL.iter().copied().find(|dataset| dataset.as_str() == name);
        known.ok_or_else(|| de::Error::custom("not a dataset"))
    }
}

/// A file that is out of the list and not yet removed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Retired {
    pub file: String,
    pub at: Timestamp,
}

/// See the module's page.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Manifest {
    format: u64,
    instance: String,
    pub number: u64,
    pub written_at: Timestamp,
    pub sealed_to: u64,
    pub books: Books,
    pub segments: Vec<SealedFile>,
    #[serde(default)]
    pub retired: Vec<Retired>,
    #[serde(default)]
    pub events: Vec<CatalogEvent>,
}

impl Manifest {
    /// Nothing is sealed yet.
    pub fn empty(instance: &InstanceId) -> Self {
        Self {
            format: MANIFEST_FORMAT,
            instance: instance.as_str().to_owned(),
            number: 0,
            written_at: Timestamp::EPOCH,
            sealed_to: 0,
            books: Books { first_line: 1, ..Books::default() },
            segments: Vec::new(),
            retired: Vec::new(),
            events: Vec::new(),
        }
    }

    /// Keeps an event until somebody has it.
    pub(crate) fn note(&mut self, event: CatalogEvent) {
        self.events.push(event);
        if self.events.len() > EVENTS_MAX {
            let oldest = self.events.remove(0);
            tracing::error!(file = oldest.file, "an event of a segment found no observer in time");
        }
    }

    /// Takes a segment out of the list; its file goes later.
    pub(crate) fn retire(&mut self, file: &str, at: Timestamp) {
        self.segments.retain(|segment| segment.file != file);
        self.retired.push(Retired { file: file.to_owned(), at });
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec(self).expect("plain fields always serialise");
        bytes.pop();
        let sum = hex(&Sha256::digest(&bytes));
        bytes.extend_from_slice(CHECKSUM_KEY.as_bytes());
        bytes.extend_from_slice(sum.as_bytes());
        bytes.extend_from_slice(b"\"}\n");
        bytes
    }

    /// What is wrong with the bytes, for people, where something is.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let damaged = || "its checksum does not fit".to_owned();
        let end = bytes.strip_suffix(b"\"}\n").ok_or_else(damaged)?;
        let at = memchr::memmem::rfind(end, CHECKSUM_KEY.as_bytes()).ok_or_else(damaged)?;
        let (body, sum) = end.split_at(at);
        if hex(&Sha256::digest(body)).as_bytes() != &sum[CHECKSUM_KEY.len()..] {
            return Err(damaged());
        }
        #[derive(Deserialize)]
        struct Version {
            format: u64,
        }
        let version: Version =
            serde_json::from_slice(bytes).map_err(|_| "it is no manifest".to_owned())?;
        if version.format > MANIFEST_FORMAT {
            return Err(format!(
                "its format {} is newer than this build's {MANIFEST_FORMAT}",
                version.format
            ));
        }
        serde_json::from_slice(bytes).map_err(|error| format!("it cannot be read: {error}"))
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes every write");
        text
    })
}

/// The manifest that counts, and what stood in the way of a newer one.
#[derive(Debug, Default)]
pub struct Loaded {
    pub manifest: Option<Manifest>,
    /// Damaged or unreadable manifests, by name. With any, files that the
    /// manifest does not list may belong to a newer one.
    pub problems: Vec<Problem>,
}

/// Instances that have manifests.
pub(crate) fn instances(fs: &dyn Fs, data_dir: &Path) -> Result<Vec<InstanceId>, CatalogError> {
    let dir = manifests_dir(data_dir);
    let mut found: Vec<InstanceId> = files::list(fs, &dir)
        .map_err(CatalogError::io("list", &dir))?
        .iter()
        .filter_map(|name| InstanceId::parse(name))
        .collect();
    found.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    Ok(found)
}

fn numbers(fs: &dyn Fs, dir: &Path) -> io::Result<Vec<u64>> {
    let names = files::list(fs, dir)?;
    let number = |name: &String| -> Option<u64> {
        let digits = name.strip_suffix(".json")?;
        digits.parse().ok().filter(|number: &u64| number.to_string() == digits)
    };
    let mut numbers: Vec<u64> = names.iter().filter_map(number).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

fn path_of(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number}.json"))
}

/// The number of the newest manifest, valid or not; 0 without one.
pub(crate) fn newest_number(
    fs: &dyn Fs,
    data_dir: &Path,
    instance: &InstanceId,
) -> Result<u64, CatalogError> {
    let dir = manifest_dir(data_dir, instance);
    let numbers = numbers(fs, &dir).map_err(CatalogError::io("list", &dir))?;
    Ok(numbers.last().copied().unwrap_or(0))
}

/// Reads the newest valid manifest of an instance.
pub fn load(fs: &dyn Fs, data_dir: &Path, instance: &InstanceId) -> Result<Loaded, CatalogError> {
    let dir = manifest_dir(data_dir, instance);
    let mut loaded = Loaded::default();
    for number in numbers(fs, &dir).map_err(CatalogError::io("list", &dir))?.into_iter().rev() {
        let path = path_of(&dir, number);
        let problem = match files::read_whole(fs, &path, MANIFEST_BYTES_MAX) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => error.to_string(),
            Ok(bytes) => match Manifest::parse(&bytes) {
                Err(what) => what,
                Ok(manifest) if manifest.number != number => "it has another number".to_owned(),
                Ok(manifest) if manifest.instance != instance.as_str() => {
                    format!("it belongs to {}", manifest.instance)
                }
                Ok(manifest) => {
                    loaded.manifest = Some(manifest);
                    return Ok(loaded);
                }
            },
        };
        loaded.problems.push(Problem { path, what: problem });
    }
    Ok(loaded)
}

/// Writes the manifest as the next one. On failure nobody knows whether it
/// counts: whoever goes on loads again.
pub(crate) fn save(
    fs: &dyn Fs,
    data_dir: &Path,
    instance: &InstanceId,
    manifest: &mut Manifest,
    now: Timestamp,
) -> Result<(), CatalogError> {
    let dir = manifest_dir(data_dir, instance);
    let existing = numbers(fs, &dir).map_err(CatalogError::io("list", &dir))?;
    let newest = existing.last().copied().unwrap_or(0).max(manifest.number);
    manifest.number = newest + 1;
    manifest.written_at = now;
    let path = path_of(&dir, manifest.number);
    files::create_dirs(fs, data_dir, &dir).map_err(CatalogError::io("create", &dir))?;
    let unfinished = path.with_extension(format!("json{UNFINISHED}"));
    files::write_new(fs, &unfinished, &manifest.to_bytes())
        .and_then(|()| fs.rename(&unfinished, &path))
        .and_then(|()| fs.sync_dir(&dir))
        .map_err(CatalogError::io("write", &path))?;
    let extra = existing.len().saturating_sub(OLDER_KEPT);
    for number in &existing[..extra] {
        let path = path_of(&dir, *number);
        if let Err(error) = files::remove(fs, &path) {
            tracing::warn!(%error, path = %path.display(), "could not remove an old manifest");
        }
    }
    Ok(())
}

/// Makes sure that what [`load`] found is on the disk, before anything is
/// removed because of it; removes what a crash left half written.
pub(crate) fn settle(
    fs: &dyn Fs,
    data_dir: &Path,
    instance: &InstanceId,
) -> Result<(), CatalogError> {
    let dir = manifest_dir(data_dir, instance);
    let names = files::list(fs, &dir).map_err(CatalogError::io("list", &dir))?;
    if names.is_empty() {
        return Ok(());
    }
    for name in names.iter().filter(|name| name.ends_with(UNFINISHED)) {
        let path = dir.join(name);
        files::remove(fs, &path).map_err(CatalogError::io("remove", &path))?;
    }
    fs.sync_dir(&dir).map_err(CatalogError::io("sync", &dir))
}

/// Up to where an instance's journal is sealed: numbers that must never be
/// given out again, see [`crate::JournalConfig::seq_floor`].
pub fn sealed_to(fs: &dyn Fs, data_dir: &Path, instance: &InstanceId) -> Result<u64, CatalogError> {
    let loaded = load(fs, data_dir, instance)?;
    let listed = loaded.manifest.as_ref().map_or(0, |manifest| manifest.sealed_to);
    if loaded.problems.is_empty() {
        return Ok(listed);
    }
    // A damaged manifest may have known more: names of files tell, too.
    let mut highest = listed;
    for dataset in Dataset::ALL {
        for (_, name) in files::segments_of(fs, data_dir, *dataset, instance)? {
            highest = highest.max(name.last_seq);
        }
    }
    Ok(highest)
}

/// The path of a listed file.
pub(crate) fn listed_path(data_dir: &Path, file: &str) -> PathBuf {
    naming::sealed_dir(data_dir).join(file)
}

#[cfg(test)]
mod tests;
