//! A file that somebody writes on, read as if it had no end.
//!
//! Promises every byte of the file that lies at a path, in order, also when it
//! is renamed and another takes its place (what is left of the old one first),
//! and from the beginning when it is cut to nothing. Looks again in short
//! intervals: files of others tell nobody that they grow. Must never write.

use std::{
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use crate::fs::{Fs, JournalFile};

/// A reader of a growing file looks this often for more.
const LOOK: Duration = Duration::from_millis(100);

/// Reads a path until it is told to stop.
pub struct Tail<'s> {
    fs: Arc<dyn Fs>,
    path: PathBuf,
    file: Arc<dyn JournalFile>,
    at: u64,
    /// The last byte handed out ended a line.
    at_line_start: bool,
    stop: &'s dyn Fn() -> bool,
}

impl std::fmt::Debug for Tail<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tail").field("path", &self.path).field("at", &self.at).finish()
    }
}

impl<'s> Tail<'s> {
    /// Begins with the first byte of what lies there now. `stop` is asked
    /// between two looks, once everything that is there was handed out.
    pub fn open(fs: &Arc<dyn Fs>, path: &Path, stop: &'s dyn Fn() -> bool) -> io::Result<Self> {
        let file = fs.open_read(path)?;
        let (fs, path) = (Arc::clone(fs), path.to_owned());
        Ok(Self { fs, path, file, at: 0, at_line_start: true, stop })
    }

    fn next_bytes(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.at)?;
        if read > 0 {
            self.at += read as u64;
            self.at_line_start = buffer[read - 1] == b'\n';
        }
        Ok(read)
    }

    /// Goes over to the file that has taken the path, or back to the beginning
    /// of one that was cut; true if there may be more to read now.
    fn has_turned(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let own = self.file.identity()?;
        if own.bytes < self.at {
            self.at = 0;
            return self.end_line(buffer);
        }
        // Between a rename and the new file's creation there is nothing here.
        let next = match self.fs.open_read(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            next => next?,
        };
        let other = next.identity()?;
        if (own.device, own.inode) == (other.device, other.inode) {
            return Ok(None);
        }
        // Whoever renamed the old one may have written on until now.
        let read = self.next_bytes(buffer)?;
        if read > 0 {
            return Ok(Some(read));
        }
        (self.file, self.at) = (next, 0);
        self.end_line(buffer)
    }

    /// What stands in another file is no part of the line before it.
    fn end_line(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match buffer.first_mut() {
            Some(first) if !self.at_line_start => {
                *first = b'\n';
                self.at_line_start = true;
                Ok(Some(1))
            }
            _ => Ok(Some(self.next_bytes(buffer)?).filter(|read| *read > 0)),
        }
    }
}

impl Read for Tail<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            // Asked first: what was written before the end is still read.
            let is_last = (self.stop)();
            let read = self.next_bytes(buffer)?;
            if read > 0 {
                return Ok(read);
            }
            if let Some(read) = self.has_turned(buffer)? {
                return Ok(read);
            }
            if is_last {
                return Ok(0);
            }
            pause();
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "nothing tells when a file of others has grown")]
fn pause() {
    std::thread::sleep(LOOK);
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, fs::OpenOptions, io::Write as _};

    use super::*;
    use crate::fs::StdFs;

    fn append(path: &Path, text: &str) {
        let mut file = OpenOptions::new().create(true).append(true).open(path).expect("a file");
        file.write_all(text.as_bytes()).expect("written");
    }

    #[test]
    fn every_byte_comes_once_over_rotation_and_truncation() {
        let dir = tempfile::tempdir().expect("a directory");
        let (path, old) = (dir.path().join("app.log"), dir.path().join("app.log.1"));
        append(&path, "one\ntwo\n");
        let looks = Cell::new(0);
        // Each look finds that something else has happened.
        let happens = || {
            looks.set(looks.get() + 1);
            match looks.get() {
                2 => append(&path, "three\n"),
                4 => {
                    std::fs::rename(&path, &old).expect("renamed");
                    append(&old, "four, written behind the rename");
                }
                6 => append(&path, "five\n"),
                9 => std::fs::write(&path, "six\n").expect("cut"),
                _ => {}
            }
            looks.get() > 12
        };
        let fs: Arc<dyn Fs> = Arc::new(StdFs);
        let mut tail = Tail::open(&fs, &path, &happens).expect("a file");
        let mut text = String::new();
        tail.read_to_string(&mut text).expect("text");
        assert_eq!(text, "one\ntwo\nthree\nfour, written behind the rename\nfive\nsix\n");
    }
}
