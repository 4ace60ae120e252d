//! Lines that were sealed before a follower came to them, read back out of their
//! segments in the order of the journal.

use std::{path::Path, sync::Arc};

use arrow_array::{Array, Int64Array, RecordBatch};
use domain::ids::InstanceId;

use crate::{
    catalog::manifest::{self, SealedFile, listed_path},
    fs::Fs,
    segment::{Dataset, Renderer, Segment, SegmentError, Selection, schema},
};

/// Numbers of lines that are read back at once.
const WINDOW_LINES: u64 = 4096;

/// The way over lines that left the journal.
pub(super) struct Bridge {
    /// The next line that is not handed over yet.
    next: u64,
    /// The last line that is in segments.
    to: u64,
    parts: Vec<Part>,
    /// Lines of segments that cannot be read.
    unread: u64,
}

/// The lines of one segment that are on the way.
struct Part {
    segment: Segment,
    dataset: Dataset,
    /// Number in the journal and row, by number.
    rows: Vec<(u64, u64)>,
    done: usize,
}

impl Bridge {
    /// The way from line `from` to line `to`, as far as they are sealed.
    pub(super) fn open(
        fs: &Arc<dyn Fs>,
        data_dir: &Path,
        instance: &InstanceId,
        (from, to): (u64, u64),
    ) -> Option<Self> {
        let loaded = match manifest::load(&**fs, data_dir, instance) {
            Ok(loaded) => loaded,
            Err(error) => {
                tracing::warn!(%error, "lines that were sealed cannot be followed");
                return None;
            }
        };
        let manifest = loaded.manifest?;
        let to = to.min(manifest.sealed_to);
        let mut bridge = Self { next: from, to, parts: Vec::new(), unread: 0 };
        let concerns = |sealed: &&SealedFile| {
            sealed.dataset != Dataset::Bodies && sealed.first_seq <= to && from <= sealed.last_seq
        };
        for sealed in manifest.segments.iter().filter(concerns) {
            let path = listed_path(data_dir, &sealed.file);
            match Part::open(fs, &path, sealed.dataset, from, to) {
                Ok(part) => bridge.parts.push(part),
                Err(error) => {
                    let file = path.display();
                    tracing::warn!(%error, %file, "sealed lines cannot be followed");
                    bridge.unread += sealed.rows;
                }
            }
        }
        (from <= to).then_some(bridge)
    }

    /// The next lines, and the number up to which they go.
    pub(super) fn next(&mut self) -> Option<(u64, Vec<u8>)> {
        if self.next > self.to {
            return None;
        }
        let last = self.to.min(self.next + WINDOW_LINES - 1);
        let mut lines: Vec<(u64, Vec<u8>)> = Vec::new();
        for part in &mut self.parts {
            let before = lines.len();
            if let Err(error) = part.read(last, &mut lines) {
                tracing::warn!(%error, "sealed lines cannot be followed");
                // What was read of it is handed over; the rest is given up.
                let given_up = part.rows.len() - part.done - (lines.len() - before);
                self.unread += given_up as u64;
                part.rows.truncate(part.done);
            }
        }
        lines.sort_by_key(|(seq, _)| *seq);
        self.next = last + 1;
        Some((last, lines.into_iter().flat_map(|(_, line)| line).collect()))
    }

    pub(super) fn unread(&self) -> u64 {
        self.unread
    }
}

impl Part {
    fn open(
        fs: &Arc<dyn Fs>,
        path: &Path,
        dataset: Dataset,
        from: u64,
        to: u64,
    ) -> Result<Self, SegmentError> {
        let segment = Segment::open(fs, path)?;
        let mut rows = Vec::new();
        let mut row = 0;
        for batch in segment.read(&Selection::All, &[schema::SEQ])? {
            let batch = batch?;
            for seq in numbers(&batch) {
                if (from..=to).contains(&seq) {
                    rows.push((seq, row));
                }
                row += 1;
            }
        }
        rows.sort_unstable();
        Ok(Self { segment, dataset, rows, done: 0 })
    }

    /// Adds the lines up to number `last`.
    fn read(&mut self, last: u64, lines: &mut Vec<(u64, Vec<u8>)>) -> Result<(), SegmentError> {
        let rest = &self.rows[self.done..];
        let count = rest.partition_point(|(seq, _)| *seq <= last);
        if count == 0 {
            return Ok(());
        }
        let mut wanted: Vec<u64> = rest[..count].iter().map(|(_, row)| *row).collect();
        wanted.sort_unstable();
        let mut ranges: Vec<std::ops::Range<u64>> = Vec::new();
        for row in wanted {
            match ranges.last_mut() {
                Some(range) if range.end == row => range.end = row + 1,
                _ => ranges.push(row..row + 1),
            }
        }
        let schema = schema::schema(self.dataset);
        let columns: Vec<&str> =
            schema.fields().iter().map(|field| field.name().as_str()).collect();
        for batch in self.segment.read(&Selection::Rows(ranges), &columns)? {
            let batch = batch?;
            let renderer = Renderer::new(&batch);
            for (row, seq) in numbers(&batch).enumerate() {
                let mut line = Vec::new();
                renderer.render(row, &mut line);
                line.push(b'\n');
                lines.push((seq, line));
            }
        }
        self.done += count;
        Ok(())
    }
}

/// The numbers of a batch's lines.
fn numbers(batch: &RecordBatch) -> impl Iterator<Item = u64> + '_ {
    let column = batch.column_by_name(schema::SEQ);
    let column = column.and_then(|column| column.as_any().downcast_ref::<Int64Array>());
    column.into_iter().flat_map(|numbers| numbers.values().iter().map(|seq| seq.cast_unsigned()))
}
