//! Where a verifier finds the files of a tree: a directory, or whatever else
//! can give them by name. Reads only.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

/// A name in a directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listed {
    pub name: String,
    pub is_dir: bool,
}

/// The files of a tree by their paths: `checkpoint`, `tile/0/000`.
pub trait Source: Sync {
    /// A file, or none if there is no such file. Of one that is larger than
    /// `bytes_max` it gives `bytes_max + 1` bytes.
    fn read(&self, path: &str, bytes_max: usize) -> io::Result<Option<Vec<u8>>>;

    /// What is in a directory, nothing if it is not there; `None` if this source
    /// cannot tell.
    fn list(&self, path: &str) -> io::Result<Option<Vec<Listed>>>;

    /// How many files may be asked for at once.
    fn lanes(&self) -> usize {
        1
    }
}

/// A directory on this machine.
#[derive(Clone, Debug)]
pub struct Directory {
    path: PathBuf,
    lanes: usize,
}

/// More threads than this wait for the disk, or for each other.
const LANES_MAX: usize = 8;

impl Directory {
    pub fn new(path: PathBuf) -> Self {
        let lanes = std::thread::available_parallelism().map_or(1, usize::from);
        Self { path, lanes: lanes.min(LANES_MAX) }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Source for Directory {
    fn read(&self, path: &str, bytes_max: usize) -> io::Result<Option<Vec<u8>>> {
        read_file(&self.path.join(path), bytes_max)
    }

    fn list(&self, path: &str) -> io::Result<Option<Vec<Listed>>> {
        let dir = match std::fs::read_dir(self.path.join(path)) {
            Err(error) if is_absence(&error) => return Ok(Some(Vec::new())),
            dir => dir?,
        };
        let mut names = Vec::new();
        for entry in dir {
            let entry = entry?;
            // What is not UTF-8 cannot be a tile; it is named as well as it can.
            let name = entry.file_name().to_string_lossy().into_owned();
            names.push(Listed { name, is_dir: entry.file_type()?.is_dir() });
        }
        names.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(Some(names))
    }

    fn lanes(&self) -> usize {
        self.lanes
    }
}

/// A regular file of at most `bytes_max` bytes, one more if it is larger.
pub fn read_file(path: &Path, bytes_max: usize) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Err(error) if is_absence(&error) => return Ok(None),
        file => file?,
    };
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Ok(None);
    }
    let likely = usize::try_from(metadata.len()).unwrap_or(bytes_max).min(bytes_max);
    let mut bytes = Vec::with_capacity(likely + 1);
    let bound = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
    file.take(bound).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
