//! Small bridges between parts that do not know each other.

use std::{io, path::Path, sync::Arc, time::Duration};

use domain::{ids::InstanceId, record::Record};
use logstore::{
    CommitObserver, Intake, Journal, NoRoom, Stream, cursor::CursorStore, follow::Follower,
    fs::StdFs,
};

use crate::{
    delivery::Lines,
    metrics::{Books, Metrics},
    trace::{Sink, Taken},
};

/// Traces into the journal.
pub struct JournalTraces(pub Intake);

impl Sink for JournalTraces {
    fn take(&self, line: Vec<u8>) -> Taken {
        // A copy only where the line has to go elsewhere: a journal that failed
        // is asked first.
        if self.0.accounts().failed.is_some() {
            return Taken::Failed(line);
        }
        match self.0.line(Stream::Trace, line) {
            Ok(()) => Taken::Yes,
            Err(NoRoom::Full | NoRoom::Failed) => Taken::Full,
        }
    }
}

/// The journal's lines for delivery, with a kept cursor where it is wanted.
pub struct JournalLines {
    follower: Follower,
    cursor: Option<CursorStore>,
    kept_seq: u64,
}

impl From<Follower> for JournalLines {
    fn from(follower: Follower) -> Self {
        Self { follower, cursor: None, kept_seq: 0 }
    }
}

impl JournalLines {
    /// Goes on where the last process stopped; `seq` where there was none.
    pub fn kept(
        journal: &Journal,
        journal_dir: &Path,
        instance: &InstanceId,
        seq: u64,
    ) -> io::Result<Self> {
        let cursor = CursorStore::new(Arc::new(StdFs), journal_dir, "file")?;
        let kept = cursor.load()?.filter(|kept| kept.instance == *instance);
        let seq = kept.map_or(seq, |kept| kept.seq);
        Ok(Self { follower: journal.follower(seq), cursor: Some(cursor), kept_seq: seq })
    }
}

impl Lines for JournalLines {
    fn poll(&mut self, deliver: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<bool> {
        self.follower.poll(deliver)
    }

    fn wait(&self, timeout: Duration) {
        self.follower.wait(timeout);
    }

    fn keep(&mut self) -> io::Result<()> {
        let Some(cursor) = &self.cursor else { return Ok(()) };
        let reached = self.follower.cursor();
        if reached.seq == self.kept_seq {
            return Ok(());
        }
        cursor.save(reached)?;
        self.kept_seq = reached.seq;
        Ok(())
    }
}

/// Metrics and then whoever else wants to know what was appended.
pub struct Observers {
    pub metrics: Arc<Metrics>,
    pub next: Box<dyn CommitObserver>,
}

impl CommitObserver for Observers {
    fn committed(&mut self, records: &[Box<Record>], last_seq: u64) {
        for record in records {
            self.metrics.observe(record);
        }
        self.next.committed(records, last_seq);
    }
}

/// The journal's books as metrics show them.
pub fn books(intake: &Intake) -> Books {
    let accounts = intake.accounts();
    Books {
        accepted: accounts.accepted,
        stored: accounts.stored,
        synced: accounts.synced,
        coalesced: accounts.coalesced,
        in_flight: accounts.in_flight,
        lost: vec![
            ("disk_full", accounts.lost.disk_full),
            ("write_failed", accounts.lost.write_failed),
            ("sync_failed", accounts.lost.sync_failed),
        ],
    }
}
