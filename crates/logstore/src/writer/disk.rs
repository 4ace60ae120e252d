//! The writer's file: begin, append, sync, and what to do when that fails.

use std::{io, path::PathBuf, sync::Arc, time::Instant};

use super::Writer;
use crate::{
    accounts::Failure,
    format::{self, Commit, Reason},
    fs::{JournalFile, copy_range},
    journal::{Incident, Sync},
    recover::move_aside,
    scan::Scanner,
};

/// The file that is being written.
pub(super) struct Current {
    file: Arc<dyn JournalFile>,
    path: PathBuf,
    first_seq: u64,
    /// End of the last batch.
    end: u64,
    synced_end: u64,
    synced_seq: u64,
    /// Nothing stands behind `end`: a failed append was cut off.
    cut: bool,
    begun: Instant,
    /// It holds a record or a trace. Entries alone do not make a file old: each
    /// seal leaves some, and an idle process would seal for its own sake.
    lively: bool,
    /// It holds lines that are not the journal's own.
    visible: bool,
}

impl Writer {
    /// One write of the batch and its commit line; a failed one is cut off.
    pub(super) fn append_once(&mut self) -> io::Result<()> {
        let Some(current) = self.current.as_mut().filter(|current| current.cut) else {
            return Err(io::Error::other("no journal file can be appended to"));
        };
        let body = self.batch.bytes.len();
        let crc = crc32c::crc32c(&self.batch.bytes);
        let seq = self.seq + self.batch.lines;
        Commit { lines: self.batch.lines, crc, seq }.write(&mut self.batch.bytes);
        match current.file.append(&self.batch.bytes) {
            Ok(()) => {
                current.end += self.batch.bytes.len() as u64;
                current.lively |= !self.batch.records.is_empty() || self.batch.traces > 0;
                current.visible |= current.lively || self.batch.entries > 0;
                self.seq = seq;
                Ok(())
            }
            Err(error) => {
                self.batch.bytes.truncate(body);
                current.cut = current.file.truncate(current.end).is_ok();
                Err(error)
            }
        }
    }

    pub(super) fn rotate_if_due(&mut self) {
        let bytes_max = self.config.file_bytes_max;
        let full = self.current.as_ref().is_some_and(|c| c.end >= bytes_max)
            || self.bodies.end() >= bytes_max;
        if full {
            self.rotate();
        }
    }

    /// Closes a file that has been written for long enough.
    pub(super) fn turn_if_old(&mut self) {
        let age = self.config.file_age_max;
        if self.current.as_ref().is_some_and(|c| c.lively && c.begun.elapsed() >= age) {
            self.rotate();
        }
    }

    /// Closes the current file if anything stands in it that can be sealed.
    pub(super) fn turn(&mut self) {
        let failed = self.shared.accounts().failed.is_some();
        if !failed && self.current.as_ref().is_some_and(|c| c.visible) {
            self.rotate();
        }
    }

    pub(super) fn turn_if_asked(&mut self) {
        if let Some(asked) = self.shared.turn_asked() {
            self.turn();
            self.shared.turn_answered(asked);
        }
    }

    fn rotate(&mut self) {
        let must_sync = self.config.sync != Sync::Os || !self.unsynced_waiters.is_empty();
        if must_sync && !self.sync_now() {
            return;
        }
        if let Err(error) = self.begin_file(Reason::Rotate, self.seq + 1, &[], 0) {
            // The old file still takes lines; the next batch tries again.
            tracing::warn!(%error, "could not begin the next journal file");
        }
    }

    pub(super) fn reopen(&mut self) -> io::Result<()> {
        let must_sync = self.config.sync != Sync::Os || !self.unsynced_waiters.is_empty();
        if self.unsynced_since.is_some() && must_sync {
            self.sync_now();
        }
        self.begin_file(Reason::Reopen, self.seq + 1, &[], 0)?;
        self.shared.settle(|accounts| accounts.file_reopens += 1);
        Ok(())
    }

    /// Begins a file whose first batch makes earlier files unnecessary for
    /// recovery: header, unfinished openings, then `more` lines. On failure
    /// nothing has changed.
    pub(super) fn begin_file(
        &mut self,
        reason: Reason,
        first_seq: u64,
        more: &[u8],
        more_lines: u64,
    ) -> io::Result<()> {
        let dir = &self.config.dir;
        let path = dir.join(format::file_name(&self.envelope.instance, first_seq));
        let mut bytes = Vec::new();
        let now = self.clock.now();
        format::write_header(&mut bytes, &self.envelope, self.boot, reason, first_seq, now);
        for opening in self.open.values() {
            format::write_opening(&mut bytes, opening);
        }
        bytes.extend_from_slice(more);
        let lines = 1 + self.open.len() as u64 + more_lines;
        let seq = first_seq - 1 + lines;
        Commit { lines, crc: crc32c::crc32c(&bytes), seq }.write(&mut bytes);
        let file = match self.fs.create(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                move_aside(&*self.fs, &dir.join("torn"), &path)?;
                self.fs.create(&path)?
            }
            file => file?,
        };
        let written =
            file.append(&bytes).and_then(|()| file.sync()).and_then(|()| self.fs.sync_dir(dir));
        if let Err(error) = written {
            // Its name would cut the old file short for readers. While it
            // cannot be removed, nothing may be appended to the old one.
            if let Err(error) = self.fs.remove(&path) {
                tracing::error!(%error, path = %path.display(), "could not remove a failed file");
                if let Some(current) = &mut self.current {
                    current.cut = false;
                }
            }
            return Err(error);
        }
        self.turn_bodies(first_seq);
        let end = bytes.len() as u64;
        let synced_end = end;
        let lively = more_lines > 0;
        self.current = Some(Current {
            file,
            path,
            first_seq,
            end,
            synced_end,
            synced_seq: seq,
            cut: true,
            begun: Instant::now(),
            lively,
            visible: lively,
        });
        self.seq = seq;
        self.unsynced_since = None;
        self.shared.settle(|accounts| {
            accounts.seq = seq;
            accounts.journal_bytes += end;
        });
        self.shared.publish_closed(first_seq - 1);
        self.shared.publish(seq);
        Ok(())
    }

    /// True if everything appended is on the disk now.
    pub(super) fn sync_now(&mut self) -> bool {
        self.sync_bodies();
        let Some(current) = &mut self.current else {
            self.unsynced_since = None;
            self.unsynced_waiters.drain(..).for_each(|tell| tell(false));
            return false;
        };
        let begun = Instant::now();
        let result = current.file.sync();
        let seconds = begun.elapsed().as_secs_f64();
        let synced = match result {
            Ok(()) => {
                current.synced_end = current.end;
                current.synced_seq = self.seq;
                true
            }
            Err(error) => self.replace_unsynced(&error),
        };
        let records = std::mem::take(&mut self.unsynced_records);
        self.shared.settle(|accounts| {
            accounts.syncs += 1;
            accounts.sync_seconds += seconds;
            if synced {
                accounts.synced += records;
            }
        });
        self.unsynced_since = None;
        self.unsynced_waiters.drain(..).for_each(|tell| tell(synced));
        synced
    }

    /// After a failed sync nobody knows what the disk holds, and a second sync
    /// of the same file would report success: what was not acknowledged is
    /// written to a new file.
    fn replace_unsynced(&mut self, error: &io::Error) -> bool {
        tracing::error!(%error, "could not sync the journal: writing its end to a new file");
        let Some(old) = self.current.take() else { return false };
        let again = unsynced_lines(&old).and_then(|(bytes, lines)| {
            self.begin_file(Reason::Reopen, old.synced_seq + 1, &bytes, lines)
        });
        match again {
            Ok(()) => {
                // The old copy is superseded by its numbers; cutting it is tidy.
                if let Err(error) = old.file.truncate(old.synced_end) {
                    tracing::warn!(%error, "could not cut a superseded end of the journal");
                }
                self.shared.settle(|accounts| accounts.file_reopens += 1);
                true
            }
            Err(error) => {
                self.fail(Failure::SyncFailed, &error);
                false
            }
        }
    }

    pub(super) fn fail(&mut self, failure: Failure, error: &io::Error) {
        let before = self.shared.accounts().failed;
        self.shared.settle(|accounts| accounts.failed = Some(failure));
        if before.is_none() {
            let reason = failure.as_str();
            tracing::error!(%error, reason, "the journal cannot be written: refusing requests");
            self.observer.happened(Incident::Failed(failure));
        }
    }

    pub(super) fn try_again(&mut self) {
        let result = match &self.current {
            Some(current) if current.cut => self.take_reserve(),
            _ => self.reopen().and_then(|()| self.take_reserve()),
        };
        if result.is_ok() {
            self.shared.settle(|accounts| accounts.failed = None);
            tracing::warn!("the journal can be written again");
            self.observer.happened(Incident::Works);
        }
    }

    /// Somebody may have removed, replaced or cut the file under us.
    pub(super) fn check_identity(&mut self) {
        let Some(current) = &self.current else { return };
        let held = current.file.identity();
        let named = self.fs.identity(&current.path);
        let intact = matches!((&held, &named), (Ok(held), Ok(named))
            if held == named && held.bytes == current.end);
        if intact {
            return;
        }
        let path = current.path.display().to_string();
        let finding = match (&held, &named) {
            (_, Err(error)) if error.kind() == io::ErrorKind::NotFound => "unlinked",
            (Ok(held), Ok(named)) if held.inode != named.inode || held.device != named.device => {
                "replaced"
            }
            (Ok(held), _) if held.bytes < current.end => "truncated",
            _ => "appended",
        };
        let file = format::file_name(&self.envelope.instance, current.first_seq);
        tracing::error!(path, finding, "the journal's file was tampered with: beginning a new one");
        self.observer.happened(Incident::Tampered { file, finding, seq: self.seq });
        self.rescue();
        if let Err(error) = self.reopen() {
            self.current = None;
            self.fail(Failure::WriteFailed, &error);
        }
    }

    /// Keeps what the file that we still hold open has, under `torn/`.
    fn rescue(&self) {
        let Some(current) = &self.current else { return };
        let name = format::file_name(&self.envelope.instance, current.first_seq);
        let path = self.config.dir.join("torn").join(format!("{name}.rescued"));
        let copied = self
            .fs
            .create(&path)
            .and_then(|copy| copy_range(&*current.file, &*copy, 0, current.end));
        if let Err(error) = copied {
            tracing::error!(%error, "could not copy the file that was tampered with");
        }
    }

    pub(super) fn take_reserve(&self) -> io::Result<()> {
        self.fs.allocate(&self.config.dir.join("reserve"), self.config.reserve_bytes)
    }

    pub(super) fn release_reserve(&self) {
        if let Err(error) = self.fs.remove(&self.config.dir.join("reserve"))
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::error!(%error, "could not release the journal's reserve");
        }
    }
}

/// The committed lines of a file behind its last good sync.
fn unsynced_lines(old: &Current) -> io::Result<(Vec<u8>, u64)> {
    let mut scanner = Scanner::new(Arc::clone(&old.file), old.first_seq);
    let (mut bytes, mut count) = (Vec::new(), 0);
    while let Some(batch) = scanner.next_batch()? {
        for (seq, line) in batch.lines().filter(|(seq, _)| *seq > old.synced_seq) {
            debug_assert!(seq > old.synced_seq);
            count += 1;
            let own = [format::HEADER_PREFIX, format::COUNTERS_PREFIX];
            if own.iter().any(|prefix| line.starts_with(prefix)) {
                bytes.extend_from_slice(format::PADDING_LINE);
            } else {
                bytes.extend_from_slice(line);
                bytes.push(b'\n');
            }
        }
    }
    Ok((bytes, count))
}
