//! Segments that are open: a bounded number of rows' worth, since what is kept of
//! an open segment grows with it.

use std::{path::Path, sync::Arc};

use parking_lot::Mutex;

use crate::{
    fs::Fs,
    segment::{ReadCounts, Segment, SegmentError},
};

/// Rows of the segments that stay open together, about 10 MB of their metadata.
const ROWS_MAX: u64 = 16 * 1024 * 1024;
/// And how many: each has open files.
const SEGMENTS_MAX: usize = 64;

pub(crate) struct Shelf {
    fs: Arc<dyn Fs>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The one used last stands last.
    open: Vec<(Box<Path>, Arc<Segment>)>,
    /// Put back, but still being read by somebody.
    leaving: Vec<Arc<Segment>>,
    /// What was read from segments that are closed.
    closed: ReadCounts,
}

impl Shelf {
    pub(crate) fn new(fs: Arc<dyn Fs>) -> Self {
        Self { fs, state: Mutex::default() }
    }

    /// The segment of a file, and whether it had to be opened.
    pub(crate) fn take(&self, path: &Path) -> Result<(Arc<Segment>, bool), SegmentError> {
        {
            let mut state = self.state.lock();
            if let Some(at) = state.open.iter().position(|(known, _)| **known == *path) {
                let entry = state.open.remove(at);
                let segment = Arc::clone(&entry.1);
                state.open.push(entry);
                return Ok((segment, false));
            }
        }
        // Two threads may open one segment at once; they seldom do.
        let segment = Arc::new(Segment::open(&self.fs, path)?);
        let mut state = self.state.lock();
        state.open.push((path.into(), Arc::clone(&segment)));
        state.make_room();
        Ok((segment, true))
    }

    /// What was read from all segments so far.
    pub(crate) fn counts(&self) -> ReadCounts {
        let mut state = self.state.lock();
        state.close();
        let open = state.open.iter().map(|(_, segment)| segment);
        let all = open.chain(&state.leaving).map(|segment| segment.counts());
        all.fold(state.closed, sum)
    }
}

impl State {
    fn make_room(&mut self) {
        let rows = |open: &[(Box<Path>, Arc<Segment>)]| -> u64 {
            open.iter().map(|(_, segment)| segment.rows()).sum()
        };
        while self.open.len() > 2 && (self.open.len() > SEGMENTS_MAX || rows(&self.open) > ROWS_MAX)
        {
            let (_, segment) = self.open.remove(0);
            self.leaving.push(segment);
        }
        self.close();
    }

    fn close(&mut self) {
        let closed = &mut self.closed;
        self.leaving.retain(|segment| {
            let is_used = Arc::strong_count(segment) > 1;
            if !is_used {
                *closed = sum(*closed, segment.counts());
            }
            is_used
        });
    }
}

fn sum(a: ReadCounts, b: ReadCounts) -> ReadCounts {
    ReadCounts { pages: a.pages + b.pages, bytes: a.bytes + b.bytes }
}
