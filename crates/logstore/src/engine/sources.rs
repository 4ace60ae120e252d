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
    EngineError, Problem, Search,
    hot::{Hot, HotFile},
    plan::Plan,
    sealed::Sealed,
    shelf::Shelf,
    source::{Source, Span},
};
use crate::{cursor::Cursor, fs::Fs, journal_dir, recover::all_files, segment::Dataset};

/// How often files may vanish under a reader before that is a problem.
const OPENS_MAX: usize = 8;

/// The files of a data directory as of one moment. Questions see one state, what
/// is written later is not in it.
pub struct Sources {
    shelf: Arc<Shelf>,
    segments: Vec<SealedFile>,
    hot: Vec<Arc<HotFile>>,
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
            let mut sources = Self {
                shelf: Arc::new(Shelf::new(Arc::clone(fs))),
                segments: Vec::new(),
                hot: Vec::new(),
                problems: Vec::new(),
                complete_to: Vec::new(),
                open: Duration::ZERO,
            };
            let moved = sources.load(&**fs, data_dir)?;
            if !moved || tries == OPENS_MAX {
                sources.open = begun.elapsed();
                return Ok(sources);
            }
            tries += 1;
        }
    }

    /// Whether a file vanished while this looked.
    fn load(&mut self, fs: &dyn Fs, data_dir: &Path) -> Result<bool, EngineError> {
        let dir = journal_dir(data_dir);
        let mut files = all_files(fs, &dir)
            .map_err(|source| EngineError::Io { what: "list", path: dir.clone(), source })?;
        files.sort_by(|a, b| (a.0.as_str(), a.1).cmp(&(b.0.as_str(), b.1)));
        let mut moved = false;
        for (at, (instance, first_seq, path)) in files.iter().enumerate() {
            let next = files.get(at + 1).filter(|next| next.0 == *instance);
            let lines = *first_seq..next.map_or(u64::MAX, |next| next.1);
            moved |= self.open_hot(fs, path, instance, *first_seq, lines);
        }
        self.find_ends();
        Ok(moved)
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

    /// The last line of each instance.
    fn find_ends(&mut self) {
        for file in self.hot.iter().rev() {
            if self.complete_to.iter().any(|end| end.instance == file.instance) {
                continue;
            }
            match file.last_seq() {
                Ok(Some(seq)) => {
                    self.complete_to.push(Cursor { instance: file.instance.clone(), seq });
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

    pub(crate) fn shelf(&self) -> &Shelf {
        &self.shelf
    }

    /// Files that hold lines, and the rows of those of which that is known.
    pub(crate) fn hot_files(&self) -> u64 {
        self.hot.len() as u64
    }

    /// The plans of a question, and the sources each is for.
    pub(crate) fn plan(
        &self,
        search: &Search,
        bodies: &[(String, Vec<String>)],
    ) -> Result<(Vec<Plan>, Vec<Part>), EngineError> {
        let mut datasets: Vec<Dataset> = search.streams.iter().map(|s| Dataset::of(*s)).collect();
        datasets.sort_unstable();
        datasets.dedup();
        let mut plans = Vec::new();
        let mut parts = Vec::new();
        for dataset in datasets {
            plans.push(Plan::new(search, dataset, bodies)?);
            parts.extend(self.parts(dataset, plans.len() - 1));
        }
        Ok((plans, parts))
    }

    fn parts(&self, dataset: Dataset, plan: usize) -> impl Iterator<Item = Part> {
        let hot = self.hot.iter().map(move |file| Part {
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
