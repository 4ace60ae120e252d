//! The files of captured bodies, one beside each journal file that has any.
//!
//! **Files.** `<instance>-<first seq>.bodies`, named as the journal file beside
//! which it lies, mode 0600. The format is the journal's: a header line, batches
//! closed by commit lines ([`crate::format`]); but lines are numbered from 1 in
//! each file, and a line is a body ([`domain::body::Body`]), found by its
//! `record_id`. It is written before the record that speaks of it, synced no
//! later, and sealed and deleted with its journal file.
//!
//! Promises less than the journal: a full disk costs bodies before anything
//! else, a body whose file cannot be written is lost alone, and its record says
//! so. Nothing of a torn end is kept aside, and a file whose journal file is gone
//! goes at the next start: bodies must not outlive their retention in a corner.

mod find;

pub use find::{BODIES_FOUND_MAX, Found, of_records};

use std::{
    io,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::Arc,
};

use domain::ids::InstanceId;

use crate::{
    check::CheckReport,
    format::{self, INTERNAL_PREFIX},
    fs::Fs,
    recover::all_files,
    scan::Scanner,
};

const ENDING: &str = ".bodies";

/// The name of the bodies file beside the journal file that begins with
/// `first_seq`.
pub fn file_name(instance: &InstanceId, first_seq: u64) -> String {
    let name = format::file_name(instance, first_seq);
    format!("{}{ENDING}", name.trim_end_matches(".jsonl"))
}

/// Reads such a name.
pub fn parse_file_name(name: &str) -> Option<(InstanceId, u64)> {
    let stem = name.strip_suffix(ENDING)?;
    format::parse_file_name(&format!("{stem}.jsonl"))
}

/// Every bodies file in a journal's directory, in order; none where there is no
/// directory.
pub fn files(fs: &dyn Fs, journal_dir: &Path) -> io::Result<Vec<(InstanceId, u64, PathBuf)>> {
    let names = match fs.list(journal_dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        names => names?,
    };
    let parsed = names.into_iter().filter_map(|name| {
        let (instance, first_seq) = parse_file_name(&name)?;
        Some((instance, first_seq, journal_dir.join(name)))
    });
    let mut files: Vec<_> = parsed.collect();
    files.sort_by(|one, other| (one.0.as_str(), one.1).cmp(&(other.0.as_str(), other.1)));
    Ok(files)
}

/// Shows every committed body of one file to `visit`: its number there and its
/// line. Returns how many bytes between them were damaged.
pub fn read(
    fs: &dyn Fs,
    path: &Path,
    visit: &mut dyn FnMut(u64, &[u8]) -> ControlFlow<()>,
) -> io::Result<u64> {
    let mut scanner = Scanner::new(fs.open_read(path)?, 1);
    let mut damaged = 0;
    while let Some(batch) = scanner.next_batch()? {
        damaged += batch.damage.map_or(0, |damage| damage.bytes);
        for (number, line) in batch.lines() {
            if !line.starts_with(INTERNAL_PREFIX) && visit(number, line).is_break() {
                return Ok(damaged);
            }
        }
    }
    Ok(damaged)
}

/// Bodies files that stand beside no journal file: no record speaks of what is in
/// them, and nothing would ever seal or drop them.
pub(crate) fn orphans(fs: &dyn Fs, dir: &Path) -> io::Result<Vec<(InstanceId, PathBuf)>> {
    let mut alone = files(fs, dir)?;
    // Looked at in this order: bodies go before their journal file.
    let journals = all_files(fs, dir)?;
    alone.retain(|(instance, first_seq, path)| {
        let beside = journals.iter().any(|(owner, seq, _)| owner == instance && seq == first_seq);
        !beside && fs.identity(path).is_ok()
    });
    Ok(alone.into_iter().map(|(instance, _, path)| (instance, path)).collect())
}

/// Removes such files, of the instances that `whose` names; says how many. The
/// caller is the one who writes the directory.
pub(crate) fn remove_orphans(
    fs: &dyn Fs,
    dir: &Path,
    whose: impl Fn(&InstanceId) -> bool,
) -> io::Result<u64> {
    let mut removed = 0;
    for (_, path) in orphans(fs, dir)?.into_iter().filter(|(owner, _)| whose(owner)) {
        fs.remove(&path)?;
        removed += 1;
    }
    if removed > 0 {
        fs.sync_dir(dir)?;
    }
    Ok(removed)
}

/// Proves the checksums of every bodies file, and that each has its journal file.
pub(crate) fn check(fs: &dyn Fs, dir: &Path, report: &mut CheckReport) -> io::Result<()> {
    let all = files(fs, dir)?;
    for (at, (instance, _, path)) in all.iter().enumerate() {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let file = match fs.open_read(path) {
            // It was sealed meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            file => file?,
        };
        let mut scanner = Scanner::new(Arc::clone(&file), 1);
        while let Some(batch) = scanner.next_batch()? {
            if let Some(damage) = &batch.damage {
                let (bytes, offset) = (damage.bytes, damage.offset);
                report.find(format!("{name}: {bytes} bytes at {offset} are damaged"));
            }
            let is_body = |(_, line): &(u64, &[u8])| !line.starts_with(INTERNAL_PREFIX);
            report.bodies += batch.lines().filter(is_body).count() as u64;
        }
        let torn = file.identity()?.bytes.saturating_sub(scanner.good_end());
        let is_newest = all.get(at + 1).is_none_or(|(next, ..)| next != instance);
        match (torn, is_newest) {
            (0, _) => {}
            (torn, true) => {
                report.notes.push(format!("{name}: {torn} bytes are not committed (yet)"))
            }
            (torn, false) => report.find(format!("{name}: its last {torn} bytes are damaged")),
        }
    }
    for (_, path) in orphans(fs, dir)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        report.find(format!("{name}: it stands beside no journal file"));
    }
    Ok(())
}

/// Cuts what the last process left unfinished at the end of its newest file;
/// returns how much. Older files were finished when the next one began.
pub(crate) fn recover(fs: &dyn Fs, dir: &Path, instance: &InstanceId) -> io::Result<u64> {
    let files = files(fs, dir)?;
    let newest = files.iter().rev().find(|(owner, ..)| owner == instance);
    let Some((_, _, path)) = newest else { return Ok(0) };
    let file = fs.open(path)?;
    let mut scanner = Scanner::new(Arc::clone(&file), 1);
    while scanner.next_batch()?.is_some() {}
    let (good_end, bytes) = (scanner.good_end(), file.identity()?.bytes);
    if good_end == 0 {
        drop(file);
        fs.remove(path)?;
        fs.sync_dir(dir)?;
    } else if bytes > good_end {
        file.truncate(good_end)?;
        file.sync()?;
    }
    Ok(bytes - good_end)
}
