//! Where lines come from: the one place that knows more than one way.
//!
//! Every command asks a [`Door`] and prints what it answers with.

mod local;
mod files;
mod server;

use std::{
    io,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::Arc,
};

use domain::query::Stats;
use logstore::{
    cursor::Cursor,
    engine::{Search, Table},
    fs::{Fs, StdFs},
};

pub use self::server::Remote;
use super::Trouble;
use crate::manage::story::StoryLine;

/// A way to lines.
pub(super) enum Door {
    /// A data directory, whether a server runs on it or not.
    Directory { fs: Arc<dyn Fs>, data_dir: PathBuf },
    /// Anybody's files of lines, `-` among them for standard input.
    Files { fs: Arc<dyn Fs>, paths: Vec<PathBuf> },
    /// A server elsewhere, through its API.
    Server(Arc<Remote>),
}

/// A line of an answer.
pub(super) struct Found<'l> {
    pub line: &'l [u8],
    /// A neighbour of a match.
    pub context: bool,
    /// Lines were left out before this one.
    pub gap: bool,
    /// The next one may be long in coming.
    pub at_once: bool,
}

impl<'l> Found<'l> {
    pub fn of(line: &'l [u8], context: bool) -> Self {
        Self { line, context, gap: false, at_once: false }
    }
}

/// Takes the lines of an answer; an error ends the search.
pub(super) type Visit<'v> = dyn FnMut(Found<'_>) -> io::Result<()> + 'v;

/// What an answer rests on.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub matched: u64,
    /// What could not be read, and which bound ended the work early. The answer
    /// is right for everything else.
    pub missing: Vec<String>,
    /// Where each journal ended: what follows was not looked at.
    pub ends: Vec<Cursor>,
    /// Where a server's tail goes on behind it.
    pub tail: Option<String>,
    /// What `--explain` prints.
    pub explain: String,
}

/// What is known about an id.
#[derive(Debug)]
pub(super) struct Tale {
    pub lines: Vec<StoryLine>,
    /// Captured bodies of its requests, as they were written.
    pub bodies: Vec<Vec<u8>>,
    pub cut: bool,
    pub answer: Answer,
}

impl Door {
    pub fn directory(data_dir: PathBuf) -> Self {
        Self::Directory { fs: Arc::new(StdFs), data_dir }
    }

    pub fn files(paths: Vec<PathBuf>) -> Self {
        Self::Files { fs: Arc::new(StdFs), paths }
    }

    /// Refuses a directory that holds nothing to read.
    pub fn check(&self) -> Result<(), Trouble> {
        match self {
            Self::Directory { fs, data_dir } => local::check(fs, data_dir),
            Self::Files { .. } | Self::Server(_) => Ok(()),
        }
    }

    /// Refuses files of which none is there: they may be words of a query.
    pub fn check_files(&self, query: Option<&str>) -> Result<(), Trouble> {
        match self {
            Self::Files { fs, paths } if files::are_missing(fs, paths) => {
                let shown = paths.iter().map(|path| path.display().to_string());
                let words = query.map(str::to_owned).into_iter().chain(shown);
                let query = words.collect::<Vec<_>>().join(" ");
                let path = paths.first().cloned().unwrap_or_default();
                Err(Trouble::NoFile { path, query })
            }
            _ => Ok(()),
        }
    }

    /// The file that is followed, where files are searched: it takes one.
    pub fn followed_file(&self) -> Result<Option<&Path>, Trouble> {
        match self {
            Self::Files { paths, .. } => match paths.as_slice() {
                // What is written to a pipe is shown as it comes anyway.
                [one] if one == Path::new("-") => Ok(None),
                [one] => Ok(Some(one)),
                _ => Err(Trouble::FollowsOne),
            },
            Self::Directory { .. } | Self::Server(_) => Ok(None),
        }
    }

    /// Visits the lines of a file, and those that come, until told to stop.
    pub fn follow_file(
        &self,
        path: &Path,
        question: &Search,
        stop: &dyn Fn() -> bool,
        visit: &mut Visit<'_>,
    ) -> Result<Answer, Trouble> {
        match self {
            Self::Files { fs, .. } => files::follow(fs, path, question, stop, visit),
            Self::Directory { .. } | Self::Server(_) => Ok(Answer::default()),
        }
    }

    /// Visits the lines that match, in the order asked for.
    pub fn search(&self, question: &Search, visit: &mut Visit<'_>) -> Result<Answer, Trouble> {
        match self {
            Self::Directory { fs, data_dir } => local::search(fs, data_dir, question, visit),
            Self::Files { fs, paths } => files::search(fs, paths, question, visit),
            Self::Server(server) => server.search(question, visit),
        }
    }

    /// Visits the newest `limit` of them, oldest first.
    pub fn newest(
        &self,
        question: &Search,
        limit: usize,
        visit: &mut Visit<'_>,
    ) -> Result<Answer, Trouble> {
        match self {
            Self::Directory { fs, data_dir } => local::newest(fs, data_dir, question, limit, visit),
            Self::Files { fs, paths } => files::newest(fs, paths, question, limit, visit),
            Self::Server(server) => server.newest(question, limit, visit),
        }
    }

    pub fn count(&self, question: &Search) -> Result<Answer, Trouble> {
        match self {
            Self::Directory { fs, data_dir } => local::count(fs, data_dir, question),
            Self::Files { fs, paths } => files::count(fs, paths, question),
            Self::Server(server) => server.count(question),
        }
    }

    pub fn stats(&self, question: &Search, stats: &Stats) -> Result<(Table, Answer), Trouble> {
        match self {
            Self::Directory { fs, data_dir } => local::stats(fs, data_dir, question, stats),
            Self::Files { fs, paths } => files::stats(fs, paths, question, stats),
            Self::Server(server) => server.stats(question, stats),
        }
    }

    /// The story of any id.
    pub fn story(&self, id: &str) -> Result<Tale, Trouble> {
        match self {
            Self::Directory { fs, data_dir } => local::story(fs, data_dir, id),
            Self::Files { .. } => Err(Trouble::NotOfFiles("show is")),
            Self::Server(server) => server.story(id),
        }
    }
}

/// Runs `search` with a visitor that can fail, which ends it early.
fn visiting<R>(
    visit: &mut Visit<'_>,
    search: impl FnOnce(&mut dyn FnMut(Found<'_>) -> ControlFlow<()>) -> Result<R, Trouble>,
) -> Result<R, Trouble> {
    let mut visited = Ok(());
    let report = search(&mut |found| {
        visited = visit(found);
        match visited {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    })?;
    visited?;
    Ok(report)
}
