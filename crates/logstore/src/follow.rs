//! Reads committed lines from a cursor on, across files, as they come. At
//! least once, in order; never a byte that no commit line covers.
//!
//! A file that was sealed and removed before a slow reader came to it is read
//! back from its segments. What is nowhere any more is counted as missing.

mod bridge;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use self::bridge::Bridge;
use crate::{cursor::Cursor, fs::Fs, queue::Shared, recover::files_of, scan::Scanner};

/// How often a follower in another process looks for more.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// How often files may vanish between being listed and being opened.
const VANISHED_MAX: usize = 16;

/// A reader that keeps up with one instance's journal.
pub struct Follower {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    cursor: Cursor,
    file: Option<Reading>,
    wake: Option<Arc<Shared>>,
    missing: u64,
    /// The journal's own lines are delivered too, while they are in the journal.
    shows_own: bool,
}

struct Reading {
    first_seq: u64,
    /// Lines past it are superseded by the next file.
    last_seq: u64,
    scanner: Scanner,
}

impl std::fmt::Debug for Follower {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Follower").field("cursor", &self.cursor).finish_non_exhaustive()
    }
}

impl Follower {
    pub fn new(fs: Arc<dyn Fs>, journal_dir: &Path, cursor: Cursor) -> Self {
        let dir = journal_dir.to_owned();
        Self { fs, dir, cursor, file: None, wake: None, missing: 0, shows_own: false }
    }

    /// Delivers the journal's own lines too, commit lines and what was sealed
    /// meanwhile left out.
    pub fn with_own_lines(mut self) -> Self {
        self.shows_own = true;
        self
    }

    pub(crate) fn with_wake(mut self, shared: Arc<Shared>) -> Self {
        self.wake = Some(shared);
        self
    }

    /// Goes on behind line `seq` instead.
    pub fn back_to(mut self, seq: u64) -> Self {
        self.cursor.seq = seq;
        self.file = None;
        self
    }

    /// Everything up to here was delivered.
    pub fn cursor(&self) -> &Cursor {
        &self.cursor
    }

    /// Lines that the numbering proves to be missing from what was delivered.
    pub fn missing(&self) -> u64 {
        self.missing
    }

    /// Delivers what is committed now: whole lines in contiguous slices, the
    /// journal's own lines left out unless they were asked for. An error of
    /// `deliver` leaves the cursor before the slice. Returns whether it moved.
    pub fn poll(&mut self, deliver: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<bool> {
        let before = self.cursor.seq;
        let mut vanished = 0;
        while self.file.is_some() || self.open_file(deliver)? {
            self.read_file(deliver)?;
            if self.wake.as_ref().is_some_and(|shared| shared.committed() <= self.cursor.seq) {
                break;
            }
            let Some((first_seq, path)) = self.next_file()? else { break };
            // The next file begins where this one ends. One more look: this
            // file may have grown between the reading and the listing.
            if let Some(reading) = &mut self.file {
                reading.last_seq = first_seq - 1;
            }
            self.read_file(deliver)?;
            self.cross(first_seq, deliver)?;
            match self.enter(first_seq, &path) {
                // It was sealed meanwhile: the next look finds the one behind it.
                Err(error)
                    if error.kind() == io::ErrorKind::NotFound && vanished < VANISHED_MAX =>
                {
                    vanished += 1;
                    self.file = None;
                }
                entered => entered?,
            }
        }
        Ok(self.cursor.seq != before)
    }

    /// Delivers the lines before `first_seq` that left the journal for segments.
    fn cross(
        &mut self,
        first_seq: u64,
        deliver: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let gap = (self.cursor.seq + 1, first_seq.saturating_sub(1));
        let Some(data_dir) = self.dir.parent().filter(|_| gap.0 <= gap.1) else { return Ok(()) };
        let bridge = Bridge::open(&self.fs, data_dir, &self.cursor.instance, gap);
        let Some(mut bridge) = bridge else { return Ok(()) };
        while let Some((last_seq, lines)) = bridge.next() {
            if !lines.is_empty() {
                deliver(&lines)?;
            }
            self.cursor.seq = last_seq;
        }
        self.missing += bridge.unread();
        Ok(())
    }

    /// Waits until there may be more, at most `timeout`. Blocks: never call it
    /// on a thread of a runtime.
    #[expect(clippy::disallowed_methods, reason = "another process's journal can only be polled")]
    pub fn wait(&self, timeout: Duration) {
        match &self.wake {
            Some(shared) => shared.wait_beyond(self.cursor.seq, timeout),
            None => std::thread::sleep(timeout.min(POLL_INTERVAL)),
        }
    }

    /// Delivers the rest of the current file.
    fn read_file(&mut self, deliver: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let Some(reading) = &mut self.file else { return Ok(()) };
        let error = loop {
            let batch = match reading.scanner.next_batch() {
                Ok(Some(batch)) => batch,
                Ok(None) => return Ok(()),
                Err(error) => break error,
            };
            if batch.last_seq <= self.cursor.seq || batch.first_seq > reading.last_seq {
                continue;
            }
            let expected = self.cursor.seq + 1;
            self.missing += batch.first_seq.saturating_sub(expected);
            if self.shows_own {
                match deliver(behind(batch.bytes, batch.last_seq, self.cursor.seq)) {
                    Ok(()) => self.cursor.seq = batch.last_seq,
                    Err(error) => break error,
                }
                continue;
            }
            let mut delivered = Ok(());
            for (seq, run) in batch.runs() {
                if seq <= self.cursor.seq {
                    continue;
                }
                let run = behind(run, seq, self.cursor.seq);
                delivered = deliver(run);
                if delivered.is_err() {
                    break;
                }
                self.cursor.seq = seq;
            }
            match delivered {
                Ok(()) => self.cursor.seq = batch.last_seq,
                Err(error) => break error,
            }
        };
        // The scanner stands behind lines that were not delivered.
        self.file = None;
        Err(error)
    }

    fn open_file(&mut self, deliver: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<bool> {
        for _ in 0..VANISHED_MAX {
            match self.try_open_file(deliver) {
                // It was sealed between the listing and the opening.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                opened => return opened,
            }
        }
        self.try_open_file(deliver)
    }

    fn try_open_file(
        &mut self,
        deliver: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<bool> {
        let files = match files_of(&*self.fs, &self.dir, &self.cursor.instance) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            files => files?,
        };
        let next = self.cursor.seq + 1;
        let at = files.partition_point(|(first_seq, _)| *first_seq <= next).saturating_sub(1);
        let Some((first_seq, path)) = files.get(at) else { return Ok(false) };
        self.cross(*first_seq, deliver)?;
        self.enter(*first_seq, path)?;
        if let (Some(reading), Some((next, _))) = (&mut self.file, files.get(at + 1)) {
            reading.last_seq = next - 1;
        }
        Ok(true)
    }

    fn enter(&mut self, first_seq: u64, path: &Path) -> io::Result<()> {
        let file = self.fs.open_read(path)?;
        let scanner = Scanner::new(file, first_seq);
        self.file = Some(Reading { first_seq, last_seq: u64::MAX, scanner });
        Ok(())
    }

    fn next_file(&self) -> io::Result<Option<(u64, PathBuf)>> {
        let Some(reading) = &self.file else { return Ok(None) };
        let files = files_of(&*self.fs, &self.dir, &self.cursor.instance)?;
        let next = files.into_iter().find(|(first_seq, _)| *first_seq > reading.first_seq);
        // A file that is being begun may still be taken back.
        let begun = |path: &Path| self.fs.identity(path).is_ok_and(|file| file.bytes > 0);
        Ok(next.filter(|(_, path)| begun(path)))
    }
}

/// The lines of `run`, whose last is `last`, that come after `seq`.
fn behind(run: &[u8], last: u64, seq: u64) -> &[u8] {
    let count = memchr::memchr_iter(b'\n', run).count() as u64;
    let first = last + 1 - count;
    if seq < first {
        return run;
    }
    let skip = usize::try_from(seq - first).unwrap_or(usize::MAX);
    match memchr::memchr_iter(b'\n', run).nth(skip) {
        Some(end) => &run[end + 1..],
        None => &[],
    }
}
