//! Lines of the journal's own that others left for their next start.

use std::{io, path::Path, sync::Arc};

use domain::ids::InstanceId;
use memchr::memmem::Finder;

use crate::{format::INTERNAL_PREFIX, fs::Fs, recover::files_of, scan::Scanner};

/// The last committed line of an instance whose first key is `key`, of the
/// files that are still there; its number with it. Reads files: not for an
/// asynchronous thread.
pub fn last(
    fs: &Arc<dyn Fs>,
    journal_dir: &Path,
    instance: &InstanceId,
    key: &str,
) -> io::Result<Option<(u64, Vec<u8>)>> {
    let prefix = format!("{{\"{key}\":");
    debug_assert!(prefix.as_bytes().starts_with(INTERNAL_PREFIX));
    let finder = Finder::new(prefix.as_bytes());
    let mut files = files_of(&**fs, journal_dir, instance)?;
    // A file ends where the next begins, whatever stands behind.
    let mut end = u64::MAX;
    while let Some((first_seq, path)) = files.pop() {
        let mut found = None;
        let mut scanner = Scanner::new(fs.open_read(&path)?, first_seq);
        while let Some(batch) = scanner.next_batch()? {
            if batch.first_seq >= end || finder.find(batch.bytes).is_none() {
                continue;
            }
            let lines = batch
                .lines()
                .filter(|(seq, line)| *seq < end && line.starts_with(prefix.as_bytes()));
            found = lines.last().map(|(seq, line)| (seq, line.to_vec())).or(found);
        }
        if found.is_some() {
            return Ok(found);
        }
        end = first_seq;
    }
    Ok(None)
}
