//! The file operations that the journal needs, as a trait: production has
//! [`StdFs`], tests have one that fails, tears or stops at the n-th operation.
//!
//! This is the only file of the crate that touches `std::fs` (with the lock).

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt},
    path::Path,
    sync::Arc,
};

/// What tells one file from another that took its name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    pub device: u64,
    pub inode: u64,
    pub bytes: u64,
}

/// An open journal file.
pub trait JournalFile: Send + Sync {
    /// Writes all of `bytes` at the end. After an error any prefix of them may
    /// stand there.
    fn append(&self, bytes: &[u8]) -> io::Result<()>;
    /// Reads at an offset without a shared position; 0 is the end.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    fn truncate(&self, bytes: u64) -> io::Result<()>;
    /// Makes what was appended survive a loss of power.
    fn sync(&self) -> io::Result<()>;
    fn identity(&self) -> io::Result<Identity>;
}

/// The directory operations of the journal.
pub trait Fs: Send + Sync {
    /// Creates a directory and its parents, mode 0700; fine if it exists.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Creates a new file for reading and appending, mode 0600.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn JournalFile>>;
    /// Opens an existing file to read and repair it.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn JournalFile>>;
    /// Opens an existing file to read it.
    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn JournalFile>>;
    /// Whether a path, links followed, is a file that can be read anywhere. A
    /// named pipe is none: opening it twice loses what was written for the first.
    fn is_regular(&self, _path: &Path) -> io::Result<bool> {
        Ok(true)
    }
    /// Opens what can only be read from its beginning to its end, as a pipe.
    fn open_stream(&self, path: &Path) -> io::Result<Box<dyn io::Read + Send>> {
        self.open_read(path).map(|file| Box::new(Sequential::new(file)) as _)
    }
    /// The names in a directory, in no order.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty directory, where there are directories.
    fn remove_dir(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }
    /// Makes creations, renames and removals in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    fn identity(&self, path: &Path) -> io::Result<Identity>;
    /// Takes `bytes` of disk space for a file, creating it.
    fn allocate(&self, path: &Path, bytes: u64) -> io::Result<()>;
}

/// A file read from its beginning to its end.
pub struct Sequential {
    file: Arc<dyn JournalFile>,
    at: u64,
}

impl Sequential {
    pub fn new(file: Arc<dyn JournalFile>) -> Self {
        Self { file, at: 0 }
    }
}

impl io::Read for Sequential {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// The operating system's files.
#[derive(Clone, Copy, Debug, Default)]
pub struct StdFs;

struct StdFile(File);

impl JournalFile for StdFile {
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        (&self.0).write_all(bytes)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        loop {
            match FileExt::read_at(&self.0, buffer, offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.0.set_len(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn identity(&self) -> io::Result<Identity> {
        self.0.metadata().map(|metadata| identity_of(&metadata))
    }
}

fn identity_of(metadata: &std::fs::Metadata) -> Identity {
    Identity { device: metadata.dev(), inode: metadata.ino(), bytes: metadata.len() }
}

fn shared(file: File) -> Arc<dyn JournalFile> {
    Arc::new(StdFile(file))
}

impl Fs for StdFs {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn JournalFile>> {
        let mut options = OpenOptions::new();
        options.read(true).append(true).create_new(true).mode(0o600).open(path).map(shared)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn JournalFile>> {
        OpenOptions::new().read(true).append(true).open(path).map(shared)
    }

    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn JournalFile>> {
        File::open(path).map(shared)
    }

    fn is_regular(&self, path: &Path) -> io::Result<bool> {
        std::fs::metadata(path).map(|metadata| metadata.is_file())
    }

    fn open_stream(&self, path: &Path) -> io::Result<Box<dyn io::Read + Send>> {
        File::open(path).map(|file| Box::new(file) as _)
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

    fn identity(&self, path: &Path) -> io::Result<Identity> {
        std::fs::symlink_metadata(path).map(|metadata| identity_of(&metadata))
    }

    fn allocate(&self, path: &Path, bytes: u64) -> io::Result<()> {
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).mode(0o600).open(path)?;
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes)?;
        Ok(())
    }
}

/// Copies `from..to` of one file to the end of another.
pub(crate) fn copy_range(
    source: &dyn JournalFile,
    target: &dyn JournalFile,
    mut from: u64,
    to: u64,
) -> io::Result<()> {
    let mut buffer = vec![0u8; 64 * 1024];
    while from < to {
        let want = buffer.len().min(usize::try_from(to - from).unwrap_or(usize::MAX));
        let read = source.read_at(&mut buffer[..want], from)?;
        if read == 0 {
            break;
        }
        target.append(&buffer[..read])?;
        from += read as u64;
    }
    Ok(())
}
