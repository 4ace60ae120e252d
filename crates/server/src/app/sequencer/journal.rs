//! Entries as the journal has them: their lines, and before them the openings of
//! those that were born there.

use std::{collections::BTreeMap, io, sync::Arc};

use domain::audit;
use logstore::follow::Follower;
use memchr::memmem;
use serde::Deserialize;
use store::JournalEntry;

/// Entries that are read before they are written into the database.
const ENTRIES_MAX: usize = 2048;

/// A reader of the journal that knows entries.
pub(super) struct JournalEntries {
    /// Away while it reads, on a thread for that.
    follower: Option<Follower>,
    committed: Arc<dyn Fn() -> u64 + Send + Sync>,
    seq: u64,
    /// Where to go on should what was read not have been kept.
    rewound: Option<u64>,
}

impl JournalEntries {
    pub(super) fn new(follower: Follower, committed: Arc<dyn Fn() -> u64 + Send + Sync>) -> Self {
        let seq = follower.cursor().seq;
        Self { follower: Some(follower), committed, seq, rewound: None }
    }

    /// All lines up to here were read.
    pub(super) fn cursor(&self) -> u64 {
        self.seq
    }

    pub(super) fn has_more(&self) -> bool {
        (self.committed)() > self.seq
    }

    pub(super) fn rewind(&mut self, seq: u64) {
        self.seq = seq;
        self.rewound = Some(seq);
    }

    /// Reads on, not much more than a bound at once.
    pub(super) async fn read(&mut self) -> io::Result<Vec<JournalEntry>> {
        let Some(mut follower) = self.follower.take() else {
            return Err(io::Error::other("the journal's reader is gone"));
        };
        let rewound = self.rewound.take();
        let done = tokio::task::spawn_blocking(move || {
            if let Some(seq) = rewound {
                follower = follower.back_to(seq);
            }
            let mut entries = Vec::new();
            let read = follower.poll(&mut |lines| {
                if entries.len() >= ENTRIES_MAX {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                collect(lines, &mut entries);
                Ok(())
            });
            (follower, entries, read)
        });
        let (follower, entries, read) = done.await.map_err(io::Error::other)?;
        self.seq = follower.cursor().seq;
        self.follower = Some(follower);
        match read {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(entries),
        }
    }
}

#[derive(Deserialize)]
struct Line {
    leaf: String,
}

/// Takes the entries out of whole lines.
fn collect(lines: &[u8], entries: &mut Vec<JournalEntry>) {
    // Most of a journal is records: their bytes are passed over quickly.
    if memmem::find(lines, b"{\"stream\":\"entry\"").is_none() {
        return;
    }
    let mut openings = BTreeMap::new();
    for line in lines.split(|byte| *byte == b'\n') {
        if let Some((id, told)) = audit::parse_openings(line) {
            openings.insert(id, told);
        } else if line.starts_with(b"{\"stream\":\"entry\"") {
            let Ok(Line { leaf }) = serde_json::from_slice(line) else { continue };
            let id = audit::Leaf::parse(leaf.as_bytes()).map(|leaf| leaf.id);
            let openings = id.ok().and_then(|id| openings.remove(&id)).unwrap_or_default();
            entries.push(JournalEntry { leaf, openings });
        }
    }
}
