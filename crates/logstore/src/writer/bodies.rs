//! The writer's bodies file: begun with the first body beside a journal file,
//! appended before the records of a batch, synced with the journal.
//!
//! Never costs a record: what cannot be appended is counted as lost and its
//! record says so.

use std::{io, sync::Arc, time::Instant};

use domain::capture::Omission;

use super::{BATCH_BYTES, KEPT_BYTES, Writer};
use crate::{
    bodies,
    format::{self, Commit, Reason},
    fs::JournalFile,
    queue::Item,
};

/// The bodies beside the current journal file.
#[derive(Default)]
pub(super) struct Bodies {
    /// The journal file's.
    first_seq: u64,
    file: Option<Open>,
    /// Nothing is written before then; for ever, if the file cannot be trusted.
    rests: Option<Rest>,
    buffer: Vec<u8>,
}

enum Rest {
    Until(Instant),
    /// Until the next journal file begins.
    ForGood,
}

struct Open {
    file: Arc<dyn JournalFile>,
    /// End of the last batch.
    end: u64,
    seq: u64,
    unsynced: bool,
    /// Its name may not be on the disk yet.
    unnamed: bool,
}

impl Bodies {
    /// Bytes in the file.
    pub(super) fn end(&self) -> u64 {
        self.file.as_ref().map_or(0, |open| open.end)
    }

    pub(super) fn shrink(&mut self) {
        self.buffer.shrink_to(KEPT_BYTES);
    }
}

impl Writer {
    /// Appends the bodies of these records and marks the records of those that
    /// are lost.
    pub(super) fn write_bodies(&mut self, items: &mut [Item]) {
        let has_bodies =
            |item: &Item| matches!(item, Item::Record(_, bodies, _) if !bodies.is_empty());
        let mut rest = items;
        while let Some(first) = rest.iter().position(has_bodies) {
            let from_first = &mut rest[first..];
            let (mut lines, mut cost, mut taken) = (0, 0, 0);
            for item in from_first.iter() {
                if self.bodies.buffer.len() >= BATCH_BYTES {
                    break;
                }
                taken += 1;
                let Item::Record(_, bodies, _) = item else { continue };
                for body in bodies {
                    body.write_json(&self.envelope, &mut self.bodies.buffer);
                    self.bodies.buffer.push(b'\n');
                    lines += 1;
                    cost += body.cost();
                }
            }
            let appended = self.append_bodies(lines);
            let (done, others) = from_first.split_at_mut(taken);
            for item in done.iter_mut().filter(|item| has_bodies(item)) {
                let Item::Record(record, bodies, _) = item else { continue };
                bodies.clear();
                if appended.is_none() {
                    record.captured.lose(Omission::Disk);
                }
            }
            self.bodies.buffer.clear();
            self.shared.release_bodies(cost);
            self.shared.settle(|accounts| match appended {
                Some(bytes) => {
                    accounts.bodies_stored += lines;
                    accounts.bodies_bytes += bytes;
                }
                None => accounts.bodies_lost += lines,
            });
            rest = others;
        }
    }

    /// How many bytes it took; `None`: the bodies are lost.
    fn append_bodies(&mut self, lines: u64) -> Option<u64> {
        match self.bodies.rests {
            Some(Rest::ForGood) => return None,
            Some(Rest::Until(then)) if Instant::now() < then => return None,
            // Openings and records need what is left.
            _ if self.shared.accounts().failed.is_some() => return None,
            _ => {}
        }
        match self.try_append_bodies(lines) {
            Ok(bytes) => {
                if self.bodies.rests.take().is_some() {
                    tracing::info!("captured bodies can be written again");
                }
                Some(bytes)
            }
            Err(error) => {
                if self.bodies.rests.is_none() {
                    tracing::error!(%error, "captured bodies cannot be written and are left out");
                }
                let cut = self.bodies.file.as_ref().map(|open| open.file.truncate(open.end));
                let until = Instant::now() + self.config.check_interval;
                let is_cut = matches!(cut, None | Some(Ok(())));
                self.bodies.rests = Some(if is_cut { Rest::Until(until) } else { Rest::ForGood });
                None
            }
        }
    }

    fn try_append_bodies(&mut self, mut lines: u64) -> io::Result<u64> {
        if self.bodies.file.is_none() {
            self.bodies.file = Some(self.begin_bodies_file()?);
        }
        let first_seq = self.bodies.first_seq;
        let Some(open) = &mut self.bodies.file else { return Ok(0) };
        let mut bytes = Vec::new();
        if open.end == 0 {
            let (envelope, now) = (&self.envelope, self.clock.now());
            let reason = Reason::Start;
            format::write_header(&mut bytes, envelope, self.boot, reason, first_seq, now);
            lines += 1;
        }
        bytes.extend_from_slice(&self.bodies.buffer);
        let seq = open.seq + lines;
        Commit { lines, crc: crc32c::crc32c(&bytes), seq }.write(&mut bytes);
        open.file.append(&bytes)?;
        open.end += bytes.len() as u64;
        open.seq = seq;
        open.unsynced = true;
        Ok(bytes.len() as u64)
    }

    fn begin_bodies_file(&self) -> io::Result<Open> {
        let dir = &self.config.dir;
        let path = dir.join(bodies::file_name(&self.envelope.instance, self.bodies.first_seq));
        let file = match self.fs.create(&path) {
            // Of a journal file that is gone, and of no record. Kept aside, it
            // would outlive every retention.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.fs.remove(&path)?;
                self.fs.create(&path)?
            }
            file => file?,
        };
        Ok(Open { file, end: 0, seq: 0, unsynced: false, unnamed: true })
    }

    /// A record on the disk must not speak of bodies that are not.
    pub(super) fn sync_bodies(&mut self) {
        let Some(open) = self.bodies.file.as_mut().filter(|open| open.unsynced) else { return };
        let mut synced = open.file.sync();
        if open.unnamed {
            synced = synced.and_then(|()| self.fs.sync_dir(&self.config.dir));
        }
        match synced {
            Ok(()) => (open.unsynced, open.unnamed) = (false, false),
            Err(error) => {
                // As with the journal: a second sync would report success.
                tracing::error!(%error, "could not sync captured bodies: those that follow are \
                    left out until the next file");
                self.bodies.file = None;
                self.bodies.rests = Some(Rest::ForGood);
            }
        }
    }

    /// A journal file began: bodies go beside it from now on.
    pub(super) fn turn_bodies(&mut self, first_seq: u64) {
        self.sync_bodies();
        self.bodies.first_seq = first_seq;
        self.bodies.file = None;
        self.bodies.rests = None;
    }
}
