//! Writing files so that each is there whole or not at all.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{error::Error, fs::Fs, layout::TEMPORARY};

/// Open files between their writing and their sync: the first sync makes the
/// others cheap, and descriptors are few.
const UNSYNCED_MAX: usize = 64;
/// Directories that are known to be durable.
const DIRS_KNOWN_MAX: usize = 4096;

/// Writes below one directory, which must exist.
pub(crate) struct Files {
    fs: Arc<dyn Fs>,
    root: PathBuf,
    /// Directories whose names were synced by this process, up to the root.
    known: BTreeSet<PathBuf>,
}

impl Files {
    pub(crate) fn new(fs: Arc<dyn Fs>, root: &Path) -> Self {
        Self { fs, root: root.to_owned(), known: BTreeSet::new() }
    }

    pub(crate) fn fs(&self) -> &Arc<dyn Fs> {
        &self.fs
    }

    pub(crate) fn put(&mut self, path: &Path, bytes: &[u8]) -> Result<(), Error> {
        self.put_all(&[(path.to_owned(), bytes.to_vec())])
    }

    /// Writes all files durably. After an error any of them may be there.
    pub(crate) fn put_all(&mut self, files: &[(PathBuf, Vec<u8>)]) -> Result<(), Error> {
        let mut dirs = BTreeSet::new();
        for files in files.chunks(UNSYNCED_MAX) {
            let mut written = Vec::with_capacity(files.len());
            for (path, bytes) in files {
                if let Some(dir) = path.parent() {
                    self.create_dir(dir)?;
                    dirs.insert(dir.to_owned());
                }
                let temporary = temporary(path);
                let file = self.fs.write(&temporary, bytes);
                let file = file.map_err(|source| Error::io("write", &temporary, source))?;
                written.push((temporary, path, file));
            }
            let mut synced = Vec::with_capacity(written.len());
            for (temporary, path, file) in written {
                file.sync().map_err(|source| Error::io("sync", &temporary, source))?;
                synced.push((temporary, path));
            }
            for (temporary, path) in synced {
                let renamed = self.fs.rename(&temporary, path);
                renamed.map_err(|source| Error::io("rename", &temporary, source))?;
            }
        }
        dirs.iter().try_for_each(|dir| self.sync_dir(dir))
    }

    pub(crate) fn sync_dir(&self, dir: &Path) -> Result<(), Error> {
        self.fs.sync_dir(dir).map_err(|source| Error::io("sync", dir, source))
    }

    /// Creates a directory and its parents, and makes their names durable: one
    /// that was there may have been made just before an earlier crash.
    pub(crate) fn create_dir(&mut self, dir: &Path) -> Result<(), Error> {
        if dir == self.root || self.known.contains(dir) {
            return Ok(());
        }
        let Some(parent) = dir.parent() else { return Ok(()) };
        self.create_dir(parent)?;
        self.fs.create_dir(dir).map_err(|source| Error::io("create", dir, source))?;
        self.sync_dir(parent)?;
        if self.known.len() >= DIRS_KNOWN_MAX {
            self.known.clear();
        }
        self.known.insert(dir.to_owned());
        Ok(())
    }

    /// To be called for a directory that was removed.
    pub(crate) fn forget_dir(&mut self, dir: &Path) {
        self.known.remove(dir);
    }

    pub(crate) fn remove(&self, path: &Path) -> Result<(), Error> {
        match self.fs.remove(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result.map_err(|source| Error::io("remove", path, source)),
        }
    }
}

/// The content of a file that may be absent.
pub(crate) fn read(fs: &dyn Fs, path: &Path, bytes_max: usize) -> Result<Option<Vec<u8>>, Error> {
    match fs.read(path, bytes_max) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if is_absent(&error) => Ok(None),
        Err(source) => Err(Error::io("read", path, source)),
    }
}

/// The names in a directory that may be absent, sorted.
pub(crate) fn list(fs: &dyn Fs, dir: &Path) -> Result<Vec<String>, Error> {
    match fs.list(dir) {
        Ok(mut names) => {
            names.sort_unstable();
            Ok(names)
        }
        Err(error) if is_absent(&error) => Ok(Vec::new()),
        Err(source) => Err(Error::io("list", dir, source)),
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn temporary(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(TEMPORARY);
    PathBuf::from(name)
}
