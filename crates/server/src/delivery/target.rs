//! Where lines are shown: a file descriptor, or a file that may be moved away.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// How often a file is looked at to see whether it is still the one.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Takes whole lines, and may block.
pub trait Target: Send {
    fn write(&mut self, lines: &[u8]) -> io::Result<()>;

    /// Whether the path names another file by now.
    fn was_moved(&mut self) -> bool {
        false
    }

    fn reopen(&mut self) {}

    /// Whether this error ends delivery quietly.
    fn is_gone(&self, _error: &io::Error) -> bool {
        false
    }
}

/// A pipe or terminal. When the reader has gone, so have we.
pub struct Stream(File);

impl Stream {
    /// A copy of stdout's descriptor: no lock of the standard library is held
    /// while a pipe blocks, so the process can still exit.
    pub fn stdout() -> io::Result<Self> {
        Self::of(&io::stdout())
    }

    pub fn of(descriptor: &impl std::os::fd::AsFd) -> io::Result<Self> {
        Ok(Self(File::from(descriptor.as_fd().try_clone_to_owned()?)))
    }
}

impl Target for Stream {
    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        let mut rest = lines;
        while !rest.is_empty() {
            match self.0.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => rest = &rest[written..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Somebody gave us a non-blocking descriptor: wait like a
                // blocking one would.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    std::thread::park_timeout(Duration::from_millis(5));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn is_gone(&self, error: &io::Error) -> bool {
        error.kind() == io::ErrorKind::BrokenPipe
    }
}

/// `LOG_FILE`.
pub struct Appended {
    path: PathBuf,
    file: Option<File>,
    looked_at: Instant,
}

impl Appended {
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = Some(open(path)?);
        Ok(Self { path: path.to_owned(), file, looked_at: Instant::now() })
    }
}

fn open(path: &Path) -> io::Result<File> {
    // Readable by the group, as collectors expect; never by everybody.
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}

impl Target for Appended {
    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(open(&self.path)?),
        };
        file.write_all(lines)
    }

    fn was_moved(&mut self) -> bool {
        if self.looked_at.elapsed() < LOOK_INTERVAL {
            return false;
        }
        self.looked_at = Instant::now();
        let Some(file) = &self.file else { return false };
        match (file.metadata(), std::fs::metadata(&self.path)) {
            (Ok(ours), Ok(named)) => (ours.dev(), ours.ino()) != (named.dev(), named.ino()),
            (_, Err(error)) => error.kind() == io::ErrorKind::NotFound,
            (Err(_), _) => true,
        }
    }

    fn reopen(&mut self) {
        self.file = None;
    }
}
