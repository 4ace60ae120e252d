//! What the use cases read with, beside a running journal and without one, and
//! the task that gives entries their lines.

use std::{io, sync::Arc};

use logstore::{
    Journal,
    cursor::Cursor,
    follow::Follower,
    fs::{Fs, StdFs},
};
use store::Store;
use tokio_util::sync::CancellationToken;

use super::{
    Ground, StartError,
    entries::{self, EntryLines},
};
use crate::manage::reading::Reader;

/// Beside a running journal; `stopping` ends tails.
pub fn beside(ground: &Ground, journal: &Arc<Journal>, stopping: CancellationToken) -> Reader {
    let (following, committed) = (Arc::clone(journal), Arc::clone(journal));
    let follow = Arc::new(move |seq| following.follower(seq));
    let committed = Arc::new(move || committed.committed());
    let (fs, instance) = (Arc::new(StdFs), ground.instance.clone());
    Reader::new(fs, ground.data_dir.path(), instance, follow, committed, stopping)
}

/// Without a server: nothing is written while this reads.
pub fn alone(ground: &Ground, stopping: CancellationToken) -> Reader {
    let fs: Arc<dyn Fs> = Arc::new(StdFs);
    let dir = logstore::journal_dir(ground.data_dir.path());
    let instance = ground.instance.clone();
    let (files, journal_dir, owner) = (Arc::clone(&fs), dir.clone(), instance.clone());
    let follow = Arc::new(move |seq| {
        let cursor = Cursor { instance: owner.clone(), seq };
        Follower::new(Arc::clone(&files), &journal_dir, cursor)
    });
    let owner = instance.clone();
    let committed = Arc::new(move || Journal::last_committed(&dir, &owner, &StdFs).unwrap_or(0));
    Reader::new(fs, ground.data_dir.path(), instance, follow, committed, stopping)
}

/// Begins to write the lines of entries, behind the last that has one.
pub async fn entry_lines(
    ground: &Ground,
    store: &Store,
    journal: &Journal,
) -> Result<EntryLines, StartError> {
    let (data_dir, producer) = (ground.data_dir.path().to_owned(), store.producer().to_owned());
    let found = tokio::task::spawn_blocking(move || {
        let fs: Arc<dyn Fs> = Arc::new(StdFs);
        entries::last_written(&fs, &data_dir, &producer)
    });
    let failed = |source| StartError::System { what: "find the last entry line".into(), source };
    let seq = match found.await {
        Ok(found) => found.map_err(|error| failed(io::Error::other(error)))?,
        Err(panic) => return Err(failed(io::Error::other(panic))),
    };
    Ok(EntryLines::begin(store.clone(), journal.intake(), ground.envelope(), seq))
}
