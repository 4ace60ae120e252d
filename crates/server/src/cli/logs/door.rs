//! Where lines come from: the one place that knows more than one way.
//!
//! Every command asks a [`Door`] and prints what it answers with.

use std::{ops::ControlFlow, path::PathBuf, sync::Arc};

use domain::query::{Expr, Stats};
use logstore::{
    cursor::Cursor,
    engine::{self, Hit, Report, Search, Sources, Table},
    fs::{Fs, StdFs},
};

use super::Trouble;
use crate::manage::story::{self, StoryLine};

/// A way to lines.
pub(super) enum Door {
    /// A data directory, whether a server runs on it or not.
    Directory { fs: Arc<dyn Fs>, data_dir: PathBuf },
}

/// What an answer rests on.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub matched: u64,
    /// What could not be read, and which bound ended the work early. The answer
    /// is right for everything else.
    pub missing: Vec<String>,
    /// Where each journal ended: what follows was not looked at.
    pub ends: Vec<Cursor>,
    /// What `--explain` prints.
    pub explain: String,
}

/// What is known about an id.
#[derive(Debug)]
pub(super) struct Tale {
    pub lines: Vec<StoryLine>,
    pub cut: bool,
    pub answer: Answer,
}

impl Door {
    pub fn directory(data_dir: PathBuf) -> Self {
        Self::Directory { fs: Arc::new(StdFs), data_dir }
    }

    /// Refuses a directory that holds nothing to read.
    pub fn check(&self) -> Result<(), Trouble> {
        let Self::Directory { data_dir, .. } = self;
        let places = [logstore::journal_dir(data_dir), data_dir.join("logs")];
        match places.iter().any(|place| place.is_dir()) {
            true => Ok(()),
            false => Err(Trouble::Nothing(data_dir.clone())),
        }
    }

    fn sources(&self) -> Result<Sources, Trouble> {
        let Self::Directory { fs, data_dir } = self;
        Ok(Sources::open(fs, data_dir)?)
    }

    /// Visits the lines that match, in the order asked for.
    pub fn search(
        &self,
        question: &Search,
        visit: &mut dyn FnMut(Hit<'_>) -> ControlFlow<()>,
    ) -> Result<Answer, Trouble> {
        let report = engine::search(&self.sources()?, question, visit)?;
        Ok(answer(question, report))
    }

    pub fn count(&self, question: &Search) -> Result<Answer, Trouble> {
        let report = engine::count(&self.sources()?, question)?;
        Ok(answer(question, report))
    }

    pub fn stats(&self, question: &Search, stats: &Stats) -> Result<(Table, Answer), Trouble> {
        let (table, report) = engine::stats(&self.sources()?, question, stats)?;
        Ok((table, answer(question, report)))
    }

    /// The story of any id.
    pub fn story(&self, id: &str) -> Result<Tale, Trouble> {
        let story = story::gather(&self.sources()?, id, None)?;
        let question = Search::new(Expr::All);
        let mut answer = answer(&question, story.report);
        answer.matched = story.lines.len() as u64;
        Ok(Tale { lines: story.lines, cut: story.cut, answer })
    }
}

fn answer(question: &Search, report: Report) -> Answer {
    let mut missing: Vec<String> = report.problems.iter().map(ToString::to_string).collect();
    missing.extend(report.stopped.map(|stop| stop.to_string()));
    let explain = format!("query        {}\n{}", question.expr, report.explain);
    Answer { matched: report.matched, missing, ends: report.complete_to, explain }
}
