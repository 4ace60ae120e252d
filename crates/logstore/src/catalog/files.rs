//! Small steps on files that the catalog is made of, each of which may fail.

use std::{
    io,
    path::{Path, PathBuf},
};

use domain::ids::InstanceId;
use sha2::{Digest, Sha256};

use super::{
    CatalogError,
    manifest::hex,
    naming::{SegmentName, UNFINISHED, dataset_dir, date_of_dir, ids_path},
};
use crate::{fs::Fs, segment::Dataset};

/// Read at once while a file is hashed.
const CHUNK_BYTES: usize = 256 * 1024;

/// The names in a directory; none where there is no directory.
pub(crate) fn list(fs: &dyn Fs, dir: &Path) -> io::Result<Vec<String>> {
    match fs.list(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        names => names,
    }
}

/// Removes a file; fine if it is gone.
pub(crate) fn remove(fs: &dyn Fs, path: &Path) -> io::Result<()> {
    match fs.remove(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

pub(crate) fn read_whole(fs: &dyn Fs, path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let file = fs.open_read(path)?;
    let bytes = file.identity()?.bytes;
    if bytes > bytes_max {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is too large"));
    }
    let mut whole = vec![0; usize::try_from(bytes).unwrap_or(usize::MAX)];
    let mut filled = 0;
    while filled < whole.len() {
        let read = file.read_at(&mut whole[filled..], filled as u64)?;
        if read == 0 {
            break;
        }
        filled += read;
    }
    whole.truncate(filled);
    Ok(whole)
}

/// Writes and syncs a new file, over what an earlier try left.
pub(crate) fn write_new(fs: &dyn Fs, path: &Path, bytes: &[u8]) -> io::Result<()> {
    remove(fs, path)?;
    let file = fs.create(path)?;
    file.append(bytes)?;
    file.sync()
}

/// Creates `dir` below `base` and makes each new name durable.
pub(crate) fn create_dirs(fs: &dyn Fs, base: &Path, dir: &Path) -> io::Result<()> {
    if fs.list(dir).is_ok_and(|names| !names.is_empty()) {
        return Ok(());
    }
    fs.create_dir(dir)?;
    for above in dir.ancestors().skip(1) {
        fs.sync_dir(above)?;
        if above == base {
            break;
        }
    }
    Ok(())
}

/// SHA-256 of a file, in hex.
pub(crate) fn sha256(fs: &dyn Fs, path: &Path) -> io::Result<String> {
    let file = fs.open_read(path)?;
    let mut sum = Sha256::new();
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut at = 0;
    loop {
        let read = file.read_at(&mut buffer, at)?;
        if read == 0 {
            return Ok(hex(&sum.finalize()));
        }
        sum.update(&buffer[..read]);
        at += read as u64;
    }
}

/// Segments of one dataset and instance that lie in their place, listed or not:
/// `<dataset>/date=…/<name>` relative to `logs/v1`.
pub(crate) fn segments_of(
    fs: &dyn Fs,
    data_dir: &Path,
    dataset: Dataset,
    instance: &InstanceId,
) -> Result<Vec<(String, SegmentName)>, CatalogError> {
    let mut found = Vec::new();
    walk(fs, data_dir, dataset, &mut |date, name| {
        if let Some(parsed) = SegmentName::parse(name).filter(|it| it.instance == *instance) {
            found.push((format!("{}/{date}/{name}", dataset.as_str()), parsed));
        }
    })?;
    found.sort_by_key(|(file, name)| (name.first_seq, file.clone()));
    Ok(found)
}

/// Instances that have segments, listed or not.
pub(crate) fn owners(fs: &dyn Fs, data_dir: &Path) -> Result<Vec<InstanceId>, CatalogError> {
    let mut found: Vec<InstanceId> = Vec::new();
    for dataset in Dataset::ALL {
        walk(fs, data_dir, *dataset, &mut |_, name| {
            let whole = name.trim_end_matches(UNFINISHED);
            if let Some(name) = SegmentName::parse(whole)
                && !found.contains(&name.instance)
            {
                found.push(name.instance);
            }
        })?;
    }
    Ok(found)
}

/// Whatever a crash left of files of these instances: unfinished ones, and side
/// indexes without their segment.
pub(crate) fn fragments(
    fs: &dyn Fs,
    data_dir: &Path,
    dataset: Dataset,
    instance: &InstanceId,
) -> Result<Vec<PathBuf>, CatalogError> {
    let dir = dataset_dir(data_dir, dataset);
    let mut found = Vec::new();
    walk(fs, data_dir, dataset, &mut |date, name| {
        let whole = name.trim_end_matches(UNFINISHED);
        let segment = whole.strip_suffix(".ids").map(|stem| format!("{stem}.parquet"));
        let segment = segment.unwrap_or_else(|| whole.to_owned());
        let ours = SegmentName::parse(&segment).is_some_and(|it| it.instance == *instance);
        let path = dir.join(date).join(name);
        let alone = whole != segment && fs.identity(&path.with_file_name(&segment)).is_err();
        if ours && (name.ends_with(UNFINISHED) || alone) {
            found.push(path);
        }
    })?;
    Ok(found)
}

/// Every name in every `date=` directory.
fn walk(
    fs: &dyn Fs,
    data_dir: &Path,
    dataset: Dataset,
    visit: &mut dyn FnMut(&str, &str),
) -> Result<(), CatalogError> {
    let dir = dataset_dir(data_dir, dataset);
    let mut dates = list(fs, &dir).map_err(CatalogError::io("list", &dir))?;
    dates.retain(|name| date_of_dir(name).is_some());
    dates.sort();
    for date in dates {
        let here = dir.join(&date);
        for name in list(fs, &here).map_err(CatalogError::io("list", &here))? {
            visit(&date, &name);
        }
    }
    Ok(())
}

/// Removes a segment, its side index, and the directory of its date if that was
/// the last in it.
pub(crate) fn remove_segment(fs: &dyn Fs, path: &Path) -> io::Result<()> {
    remove(fs, &ids_path(path))?;
    remove(fs, path)?;
    if let Some(date) = path.parent()
        && list(fs, date).is_ok_and(|names| names.is_empty())
    {
        // Somebody may just put a file there: the directory then stays.
        fs.remove_dir(date).unwrap_or_default();
    }
    Ok(())
}
