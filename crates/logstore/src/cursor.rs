//! Where a named reader of the journal is: `DATA_DIR/journal/cursors/<name>`,
//! one line `<instance> <seq>`, replaced as a whole.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use domain::ids::InstanceId;

use crate::fs::Fs;

/// All lines of `instance` up to `seq` have been dealt with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cursor {
    pub instance: InstanceId,
    pub seq: u64,
}

/// Loads and saves the cursor of one reader.
pub struct CursorStore {
    fs: Arc<dyn Fs>,
    path: PathBuf,
}

impl std::fmt::Debug for CursorStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CursorStore").field("path", &self.path).finish_non_exhaustive()
    }
}

impl CursorStore {
    /// `name` is one of ours: letters, digits and dashes.
    pub fn new(fs: Arc<dyn Fs>, journal_dir: &Path, name: &str) -> io::Result<Self> {
        let valid =
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if !valid {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a cursor's name"));
        }
        let dir = journal_dir.join("cursors");
        fs.create_dir(&dir)?;
        Ok(Self { fs, path: dir.join(name) })
    }

    /// `None`: never saved, or not readable as a cursor.
    pub fn load(&self) -> io::Result<Option<Cursor>> {
        load(&*self.fs, &self.path)
    }

    /// Replaces the cursor; a crash leaves the old one or the new one.
    pub fn save(&self, cursor: &Cursor) -> io::Result<()> {
        save(&*self.fs, &self.path, cursor)
    }
}

fn load(fs: &dyn Fs, path: &Path) -> io::Result<Option<Cursor>> {
    let file = match fs.open_read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut buffer = [0u8; 128];
    let read = file.read_at(&mut buffer, 0)?;
    let text = std::str::from_utf8(&buffer[..read]).ok();
    let parsed = text.and_then(|text| text.strip_suffix('\n')?.split_once(' '));
    Ok(parsed.and_then(|(instance, seq)| {
        Some(Cursor { instance: InstanceId::parse(instance)?, seq: seq.parse().ok()? })
    }))
}

fn save(fs: &dyn Fs, path: &Path, cursor: &Cursor) -> io::Result<()> {
    let unfinished = path.with_extension("tmp");
    match fs.remove(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = fs.create(&unfinished)?;
    file.append(format!("{} {}\n", cursor.instance, cursor.seq).as_bytes())?;
    file.sync()?;
    fs.rename(&unfinished, path)
}

/// After a loss of power the journal may end before a cursor; its numbers are
/// given out again, so the cursor must not stand ahead of them.
pub(crate) fn clamp_all(fs: &dyn Fs, journal_dir: &Path, instance: &InstanceId, seq: u64) {
    let dir = journal_dir.join("cursors");
    for name in fs.list(&dir).unwrap_or_default() {
        let path = dir.join(&name);
        let ahead = match load(fs, &path) {
            Ok(Some(cursor)) => cursor.instance == *instance && cursor.seq > seq,
            _ => false,
        };
        if ahead {
            tracing::warn!(cursor = name, seq, "a cursor stood past the end of the journal");
            if let Err(error) = save(fs, &path, &Cursor { instance: instance.clone(), seq }) {
                tracing::error!(cursor = name, %error, "could not set a cursor back");
            }
        }
    }
}
