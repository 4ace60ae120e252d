//! The files of a data directory as of one moment, and what of them a question
//! is concerned with.

use std::{
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use domain::ids::InstanceId;

use super::{
    EngineError, Problem,
    hot::{Hot, HotFile},
    sealed::Sealed,
    shelf::Shelf,
    source::{Counters, Source, Span},
};
use crate::{
    catalog::{self, HotPart, Snapshot},
    cursor::Cursor,
    fs::Fs,
    segment::Dataset,
};

/// How often files may vanish under a reader before that is a problem.
const OPENS_MAX: usize = 8;

/// The files of a data directory as of one moment. Questions see one state, what
/// is written later is not in it.
pub struct Sources {
    shelf: Arc<Shelf>,
    segments: Vec<SealedFile>,
    hot: Vec<Arc<HotFile>>,
    /// Captured bodies beside the journal's files.
    bodies: Vec<Arc<HotFile>>,
    pub(crate) problems: Vec<Problem>,
    pub(crate) complete_to: Vec<Cursor>,
    pub(crate) open: Duration,
}

/// What is known of a segment before it is opened.
struct SealedFile {
    path: PathBuf,
    dataset: Dataset,
    instance: InstanceId,
    rows: u64,
    span: Span,
}

/// A source and the plan for its dataset.
pub(crate) struct Part {
    pub(crate) source: Arc<dyn Source>,
    pub(crate) plan: usize,
}

impl std::fmt::Debug for Sources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sources")
            .field("segments", &self.segments.len())
            .field("hot", &self.hot.len())
            .finish_non_exhaustive()
    }
}

impl Sources {
    /// Every instance's segments and journal. Beside a running server too: it
    /// locks nothing, and is not disturbed by files that are sealed meanwhile.
    pub fn open(fs: &Arc<dyn Fs>, data_dir: &Path) -> Result<Self, EngineError> {
        let begun = Instant::now();
        let mut tries = 1;
        loop {
            let snapshot = catalog::snapshot(&**fs, data_dir)
                .map_err(|source| EngineError::Catalog(Box::new(source)))?;
            let (mut sources, vanished) = Self::of(fs, &snapshot);
            let moved = vanished && !snapshot.is_current(&**fs, data_dir);
            if !moved || tries == OPENS_MAX {
                sources.open = begun.elapsed();
                return Ok(sources);
            }
            tries += 1;
        }
    }

    /// The files of a snapshot, and whether one of the journal's vanished.
    fn of(fs: &Arc<dyn Fs>, snapshot: &Snapshot) -> (Self, bool) {
        let segments = snapshot.segments.iter().map(|segment| SealedFile {
            path: segment.path.clone(),
            dataset: segment.info.dataset,
            instance: segment.instance.clone(),
            rows: segment.info.rows,
            span: Span {
                min_ts: segment.info.min_ts.as_micros(),
                max_ts: segment.info.max_ts.as_micros(),
            },
        });
        let mut sources = Self {
            shelf: Arc::new(Shelf::new(Arc::clone(fs))),
            segments: segments.collect(),
            hot: Vec::new(),
            bodies: Vec::new(),
            problems: snapshot.problems.iter().map(Problem::from).collect(),
            complete_to: Vec::new(),
            open: Duration::ZERO,
        };
        for segment in &snapshot.segments {
            sources.complete_to(&segment.instance, segment.info.last_seq);
        }
        let mut vanished = false;
        for part in &snapshot.hot {
            sources.complete_to(&part.instance, part.after_seq);
            for (at, (first_seq, path)) in part.files.iter().enumerate() {
                let next = part.files.get(at + 1).map_or(u64::MAX, |next| next.0);
                let lines = (*first_seq).max(part.after_seq + 1)..next;
                vanished |= sources.open_hot(&**fs, path, &part.instance, *first_seq, lines);
                // Bodies are sealed with their file, of which a line is sealed then.
                if *first_seq > part.after_seq {
                    sources.open_bodies(&**fs, &HotPart::bodies(path), &part.instance);
                }
            }
        }
        sources.find_ends();
        (sources, vanished)
    }

    /// All lines of an instance up to `seq` are answered for.
    fn complete_to(&mut self, instance: &InstanceId, seq: u64) {
        match self.complete_to.iter_mut().find(|end| end.instance == *instance) {
            Some(end) => end.seq = end.seq.max(seq),
            None => self.complete_to.push(Cursor { instance: instance.clone(), seq }),
        }
    }

    /// Whether the file vanished.
    fn open_hot(
        &mut self,
        fs: &dyn Fs,
        path: &Path,
        instance: &InstanceId,
        first_seq: u64,
        lines: Range<u64>,
    ) -> bool {
        match HotFile::open(fs, path, instance, first_seq, lines) {
            Ok(file) => {
                self.hot.push(Arc::new(file));
                false
            }
            Err(error) => {
                let what = format!("cannot be opened: {error}");
                self.problems.push(Problem { path: path.to_owned(), what });
                error.kind() == std::io::ErrorKind::NotFound
            }
        }
    }

    /// Most journal files have no bodies beside them.
    fn open_bodies(&mut self, fs: &dyn Fs, path: &Path, instance: &InstanceId) {
        match HotFile::open(fs, path, instance, 1, 1..u64::MAX) {
            Ok(file) => self.bodies.push(Arc::new(file)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                let what = format!("cannot be opened: {error}");
                self.problems.push(Problem { path: path.to_owned(), what });
            }
        }
    }

    /// The last line of each journal.
    fn find_ends(&mut self) {
        let files: Vec<Arc<HotFile>> = self.hot.iter().rev().map(Arc::clone).collect();
        let mut found: Vec<InstanceId> = Vec::new();
        for file in files {
            if found.contains(&file.instance) {
                continue;
            }
            match file.last_seq() {
                Ok(Some(seq)) => {
                    self.complete_to(&file.instance, seq);
                    found.push(file.instance.clone());
                }
                Ok(None) => {}
                Err(error) => {
                    let what = format!("cannot be read: {error}");
                    self.problems.push(Problem { path: file.path.clone(), what });
                }
            }
        }
        self.complete_to.sort_by(|a, b| a.instance.as_str().cmp(b.instance.as_str()));
    }

    /// What of the journal is damaged, of everything that a question was about.
    pub(crate) fn damage(&self, counters: &mut Counters) {
        self.hot.iter().chain(&self.bodies).for_each(|file| file.damage(counters));
    }

    pub(crate) fn shelf(&self) -> &Shelf {
        &self.shelf
    }

    /// Files that hold lines, and the rows of those of which that is known.
    pub(crate) fn hot_files(&self) -> u64 {
        self.hot.len() as u64
    }

    /// The sources of a dataset, for the plan of that number.
    pub(crate) fn parts(&self, dataset: Dataset, plan: usize) -> impl Iterator<Item = Part> {
        let hot = match dataset {
            Dataset::Bodies => &self.bodies,
            Dataset::Records | Dataset::Traces | Dataset::Entries => &self.hot,
        };
        let hot = hot.iter().map(move |file| Part {
            source: Arc::new(Hot { file: Arc::clone(file), dataset }),
            plan,
        });
        let sealed = self.segments.iter().filter(move |file| file.dataset == dataset);
        hot.chain(sealed.map(move |file| Part {
            source: Arc::new(Sealed {
                shelf: Arc::clone(&self.shelf),
                path: file.path.clone(),
                dataset,
                instance: file.instance.clone(),
                rows: file.rows,
                span: file.span,
            }),
            plan,
        }))
    }
}
