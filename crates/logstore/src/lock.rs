//! One process writes a data directory: an advisory lock on `run/lock`, held
//! for the life of the process and dropped by the kernel with it.

use std::{
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// The right to write a data directory.
#[derive(Debug)]
pub struct DataDirLock {
    _file: File,
}

/// Why a data directory cannot be written by this process.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("lock {path}: another process is using this data directory")]
    Taken { path: PathBuf },
    #[error("lock {path}")]
    Io { path: PathBuf, source: io::Error },
}

impl DataDirLock {
    /// Takes the lock or says at once that another process has it.
    pub fn acquire(data_dir: &Path) -> Result<Self, LockError> {
        let dir = data_dir.join("run");
        let path = dir.join("lock");
        let failed = |source| LockError::Io { path: path.clone(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(failed)?;
        let mut options = OpenOptions::new();
        let file = options
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(LockError::Taken { path }),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_refused_until_the_first_is_gone() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let first = DataDirLock::acquire(dir.path()).expect("free");
        assert!(matches!(DataDirLock::acquire(dir.path()), Err(LockError::Taken { .. })));
        drop(first);
        DataDirLock::acquire(dir.path()).expect("free again");
    }
}
