//! The bytes of a segment for the Parquet reader: positioned reads, counted,
//! and checked against what the side index says of each page.

use std::{
    io::{self, Read},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use parquet::{
    errors::ParquetError,
    file::reader::{ChunkReader, Length},
};

use super::ReadCounts;
use crate::{
    fs::JournalFile,
    segment::{SegmentError, ids::read_exact, map::Extent},
};

/// What reading Parquet can end with.
pub(super) type ReadError = Box<dyn std::error::Error + Send + Sync>;

/// A page whose bytes are not those that were written.
#[derive(Debug, thiserror::Error)]
#[error("{bytes} bytes at {offset} are not as they were written")]
pub(super) struct Changed {
    offset: u64,
    bytes: usize,
}

impl Extent {
    /// Whether these are the bytes that were written, as far as that is known.
    pub(super) fn check(&self, bytes: &[u8]) -> Result<(), Changed> {
        match self.crc {
            Some(crc) if crc != crc32c::crc32c(bytes) => {
                Err(Changed { offset: self.offset, bytes: bytes.len() })
            }
            _ => Ok(()),
        }
    }
}

pub(super) struct Source {
    file: Arc<dyn JournalFile>,
    bytes: u64,
    pages_read: AtomicU64,
    bytes_read: AtomicU64,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source").field("bytes", &self.bytes).finish()
    }
}

impl Source {
    pub(super) fn new(file: Arc<dyn JournalFile>, bytes: u64) -> Self {
        Self { file, bytes, pages_read: AtomicU64::new(0), bytes_read: AtomicU64::new(0) }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn counts(&self) -> ReadCounts {
        ReadCounts {
            pages: self.pages_read.load(Ordering::Relaxed),
            bytes: self.bytes_read.load(Ordering::Relaxed),
        }
    }

    /// Fills the buffer with so many pages from one place on.
    pub(super) fn read(&self, at: u64, buffer: &mut [u8], pages: u64) -> io::Result<()> {
        read_exact(&*self.file, buffer, at)?;
        self.pages_read.fetch_add(pages, Ordering::Relaxed);
        self.bytes_read.fetch_add(buffer.len() as u64, Ordering::Relaxed);
        Ok(())
    }
}

impl Length for Source {
    fn len(&self) -> u64 {
        self.bytes
    }
}

impl ChunkReader for Source {
    type T = From;

    /// Without an offset index only, which every segment has: the footer.
    fn get_read(&self, start: u64) -> parquet::errors::Result<From> {
        Ok(From { file: Arc::clone(&self.file), at: start })
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        let end = start.checked_add(length as u64);
        if end.is_none_or(|end| end > self.bytes) {
            return Err(ParquetError::EOF(format!("{length} bytes at {start} are not there")));
        }
        let mut buffer = vec![0; length];
        self.read(start, &mut buffer, 1)?;
        Ok(buffer.into())
    }
}

/// The file from one place on.
pub(super) struct From {
    file: Arc<dyn JournalFile>,
    at: u64,
}

impl Read for From {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// Runs what reads Parquet: errors and panics become a damaged file, failed
/// reads stay what they are.
pub(super) fn guard<T>(
    name: &str,
    read: impl FnOnce() -> Result<T, ReadError>,
) -> Result<T, SegmentError> {
    let damaged = |what: String| SegmentError::Damaged { file: name.to_owned(), what };
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(match io_error(error) {
            Ok(source) => SegmentError::Io { file: name.to_owned(), what: "read", source },
            Err(what) => damaged(what),
        }),
        Err(_) => Err(damaged("it cannot be decoded".to_owned())),
    }
}

/// The failed read behind an error, or what it says.
fn io_error(error: ReadError) -> Result<io::Error, String> {
    let text = error.to_string();
    let error = match error.downcast::<io::Error>() {
        Ok(error) => return Ok(*error),
        Err(other) => other,
    };
    match error.downcast::<ParquetError>() {
        Ok(error) => match *error {
            ParquetError::External(source) => match source.downcast::<io::Error>() {
                Ok(source) => Ok(*source),
                Err(other) => Err(other.to_string()),
            },
            other => Err(other.to_string()),
        },
        Err(_) => Err(text),
    }
}
