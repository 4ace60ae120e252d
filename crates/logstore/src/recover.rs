//! What a start finds and repairs. Every step may be cut off at any point and
//! done again: damaged bytes are first copied aside under a name that they
//! determine, then cut; records for openings without an end are written by the
//! first batch of the next file, which counts as a whole or not at all.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use domain::{
    ids::{InstanceId, RecordId},
    record::Opening,
};

use crate::{
    format::{self, HEADER_PREFIX, Header, OPENING_PREFIX},
    fs::{Fs, JournalFile, copy_range},
    scan::Scanner,
};

/// What a start found, for whoever wants to say it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// The last committed line before this start.
    pub last_seq: u64,
    /// Openings that never ended: each has one `interrupted` record now.
    pub interrupted: u64,
    /// Bytes behind the last valid batch, moved to `torn/`.
    pub torn_bytes: u64,
    /// Bytes between valid batches of the newest file, copied to `torn/`.
    pub damaged_bytes: u64,
    /// Lines that stood in them.
    pub damaged_lines: u64,
    /// Files of the newest format only that held no valid batch, moved aside.
    pub files_moved: u64,
    /// Bytes behind the last whole batch of captured bodies, cut off.
    pub bodies_torn_bytes: u64,
    /// Files of captured bodies without their journal file, removed.
    pub bodies_orphaned: u64,
}

/// Why a journal cannot be recovered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecoverError {
    #[error("{operation} {path}")]
    Io { operation: &'static str, path: PathBuf, source: io::Error },
    #[error("read {path}: written in format {format}, this build knows {known}", known = format::FORMAT)]
    Newer { path: PathBuf, format: u64 },
}

/// Where the journal goes on.
pub(crate) struct Recovered {
    pub(crate) report: RecoveryReport,
    pub(crate) seq: u64,
    pub(crate) boot: u64,
    pub(crate) open: HashMap<RecordId, Opening>,
}

/// Files of one instance, by their first line.
pub(crate) fn files_of(
    fs: &dyn Fs,
    dir: &Path,
    instance: &InstanceId,
) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut files: Vec<_> = all_files(fs, dir)?
        .into_iter()
        .filter_map(|(owner, first_seq, path)| (owner == *instance).then_some((first_seq, path)))
        .collect();
    files.sort();
    Ok(files)
}

/// Every journal file in a directory; none where there is no directory.
pub(crate) fn all_files(fs: &dyn Fs, dir: &Path) -> io::Result<Vec<(InstanceId, u64, PathBuf)>> {
    let names = match fs.list(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        names => names?,
    };
    let parsed = names.into_iter().filter_map(|name| {
        let (instance, first_seq) = format::parse_file_name(&name)?;
        Some((instance, first_seq, dir.join(name)))
    });
    Ok(parsed.collect())
}

pub(crate) fn recover(
    fs: &dyn Fs,
    dir: &Path,
    instance: &InstanceId,
) -> Result<Recovered, RecoverError> {
    let torn = dir.join("torn");
    fs.create_dir(&torn).map_err(failed("create", &torn))?;
    let mut files = files_of(fs, dir, instance).map_err(failed("list", dir))?;
    let mut recovered =
        Recovered { report: RecoveryReport::default(), seq: 0, boot: 0, open: HashMap::new() };
    while let Some((first_seq, path)) = files.pop() {
        if recover_file(fs, &torn, first_seq, &path, &mut recovered)? {
            break;
        }
    }
    // The newest file may have lost its header to damage: an older one tells.
    while recovered.boot == 0
        && let Some((_, path)) = files.pop()
    {
        let file = fs.open_read(&path).map_err(failed("open", &path))?;
        recovered.boot = read_header(&*file).map_or(0, |header| header.boot);
    }
    fs.sync_dir(dir).map_err(failed("sync", dir))?;
    recovered.report.last_seq = recovered.seq;
    recovered.report.interrupted = recovered.open.len() as u64;
    Ok(recovered)
}

/// The last committed line of an instance, as [`recover`] will find it; 0 where
/// there is none. Reads only.
pub(crate) fn last_committed(
    fs: &dyn Fs,
    dir: &Path,
    instance: &InstanceId,
) -> Result<u64, RecoverError> {
    for (first_seq, path) in files_of(fs, dir, instance).map_err(failed("list", dir))?.iter().rev()
    {
        let file = fs.open_read(path).map_err(failed("open", path))?;
        if let Some(header) = read_header(&*file)
            && header.format > format::FORMAT
        {
            return Err(RecoverError::Newer { path: path.clone(), format: header.format });
        }
        let mut scanner = Scanner::new(file, *first_seq);
        let mut last_seq = None;
        while let Some(batch) = scanner.next_batch().map_err(failed("read", path))? {
            last_seq = Some(batch.last_seq);
        }
        if let Some(last_seq) = last_seq {
            return Ok(last_seq);
        }
    }
    Ok(0)
}

/// True if the file has a valid batch and so is the one to go on from.
fn recover_file(
    fs: &dyn Fs,
    torn: &Path,
    first_seq: u64,
    path: &Path,
    recovered: &mut Recovered,
) -> Result<bool, RecoverError> {
    let file = fs.open(path).map_err(failed("open", path))?;
    if let Some(header) = read_header(&*file)
        && header.format > format::FORMAT
    {
        return Err(RecoverError::Newer { path: path.to_owned(), format: header.format });
    }
    let mut scanner = Scanner::new(Arc::clone(&file), first_seq);
    let mut damages = Vec::new();
    let mut batches = 0u64;
    while let Some(batch) = scanner.next_batch().map_err(failed("read", path))? {
        batches += 1;
        damages.extend(batch.damage);
        for (_, line) in batch.lines() {
            note_line(line, recovered);
        }
    }
    let (good_end, seq) = (scanner.good_end(), scanner.seq());
    drop(scanner);
    let bytes = file.identity().map_err(failed("read", path))?.bytes;
    let report = &mut recovered.report;
    if batches == 0 {
        report.torn_bytes += bytes;
        report.files_moved += 1;
        drop(file);
        move_aside(fs, torn, path).map_err(failed("move", path))?;
        return Ok(false);
    }
    for damage in damages {
        report.damaged_bytes += damage.bytes;
        report.damaged_lines += damage.lines;
        let to = damage.offset + damage.bytes;
        copy_aside(fs, torn, path, &*file, "damaged", (damage.offset, to))
            .map_err(failed("copy", path))?;
    }
    if bytes > good_end {
        report.torn_bytes += bytes - good_end;
        copy_aside(fs, torn, path, &*file, "torn", (good_end, bytes))
            .map_err(failed("copy", path))?;
        file.truncate(good_end).map_err(failed("cut", path))?;
        file.sync().map_err(failed("sync", path))?;
    }
    recovered.seq = seq;
    Ok(true)
}

fn note_line(line: &[u8], recovered: &mut Recovered) {
    if line.starts_with(OPENING_PREFIX) {
        if let Some(opening) = format::parse_opening(line) {
            recovered.open.insert(opening.record_id, opening);
        }
    } else if line.starts_with(HEADER_PREFIX) {
        recovered.boot = Header::parse(line).map_or(recovered.boot, |header| header.boot);
    } else if let Some(id) = format::record_id_of(line) {
        recovered.open.remove(&id);
    }
}

/// Headers are short; one that is not within this is not a header.
const HEADER_BYTES_MAX: usize = 4096;

pub(crate) fn read_header(file: &dyn JournalFile) -> Option<Header> {
    let mut buffer = vec![0u8; HEADER_BYTES_MAX];
    let read = file.read_at(&mut buffer, 0).ok()?;
    let line = buffer[..read].split(|b| *b == b'\n').next()?;
    Header::parse(line)
}

fn name_of(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or("file")
}

/// Moves a whole file to `torn/`, never over another.
pub(crate) fn move_aside(fs: &dyn Fs, torn: &Path, path: &Path) -> io::Result<()> {
    let taken = fs.list(torn)?;
    let name = name_of(path);
    let free = (0u32..).map(|n| format!("{name}.{n}.whole")).find(|name| !taken.contains(name));
    let free = free.unwrap_or_else(|| format!("{name}.whole"));
    fs.rename(path, &torn.join(free))?;
    fs.sync_dir(torn)
}

/// Copies a range to `torn/<file>.<offset>.<kind>`; done again, it replaces an
/// unfinished copy.
pub(crate) fn copy_aside(
    fs: &dyn Fs,
    torn: &Path,
    path: &Path,
    file: &dyn JournalFile,
    kind: &str,
    (from, to): (u64, u64),
) -> io::Result<()> {
    let target = torn.join(format!("{}.{from}-{to}.{kind}", name_of(path)));
    match fs.remove(&target) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let copy = fs.create(&target)?;
    copy_range(file, &*copy, from, to)?;
    copy.sync()?;
    fs.sync_dir(torn)
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RecoverError {
    move |source| RecoverError::Io { operation, path: path.to_owned(), source }
}
