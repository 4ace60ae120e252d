//! The file operations of the tree, as a trait: production has [`StdFs`], tests
//! have one that fails, tears or stops at the n-th operation and forgets what
//! was not synced.
//!
//! This is the only file of the crate that touches `std::fs`.

use std::{
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

/// A written file whose bytes a loss of power may still take.
pub trait Unsynced {
    fn sync(self: Box<Self>) -> io::Result<()>;
}

/// Held for as long as its owner may write.
pub trait Lock: Send + Sync {}

/// What the tree needs of a filesystem. A name is durable when its directory was
/// synced, bytes when their file was.
pub trait Fs: Send + Sync {
    /// Creates one directory, mode 0700; fine if it exists.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Creates or empties a file, mode 0600, and writes all of `bytes`.
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<Box<dyn Unsynced>>;
    /// Reads a whole file; one of more than `bytes_max` is an error.
    fn read(&self, path: &Path, bytes_max: usize) -> io::Result<Vec<u8>>;
    /// The names in a directory, in no order.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty directory.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
    /// Makes creations, renames and removals in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Takes the lock at `path`; none if another process has it.
    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>>;
}

/// The operating system's files.
#[derive(Clone, Copy, Debug, Default)]
pub struct StdFs;

impl Unsynced for File {
    fn sync(self: Box<Self>) -> io::Result<()> {
        self.sync_data()
    }
}

impl Lock for File {}

impl Fs for StdFs {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            result => result,
        }
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<Box<dyn Unsynced>> {
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
        file.write_all(bytes)?;
        Ok(Box::new(file))
    }

    fn read(&self, path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let limit = bytes_max as u64 + 1;
        File::open(path)?.take(limit).read_to_end(&mut bytes)?;
        if bytes.len() > bytes_max {
            let what = format!("the file has more than {bytes_max} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        Ok(bytes)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            // A name that is not UTF-8 cannot be one of ours.
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_dir(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>> {
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).mode(0o600).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Box::new(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}
