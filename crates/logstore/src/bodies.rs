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
//! so. Nothing of a torn end is kept aside: bodies must not outlive their
//! retention in a corner.

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
    format::{self, INTERNAL_PREFIX},
    fs::Fs,
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
