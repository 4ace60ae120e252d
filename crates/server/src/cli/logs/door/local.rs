//! The lines of a data directory.

use std::{io, ops::ControlFlow, path::Path, sync::Arc};

use domain::{
    query::{Expr, Stats},
    time::Timestamp,
};
use logstore::{
    engine::{self, Order, Position, Report, Search, Sources, Table},
    fs::Fs,
};

use super::{Answer, Found, Tale, Trouble, Visit, visiting};
use crate::manage::story;

/// Lines of an answer that is turned around are held in memory up to here;
/// beyond it the files are read twice.
const HELD_BYTES_MAX: usize = 64 << 20;

pub(super) fn check(fs: &Arc<dyn Fs>, data_dir: &Path) -> Result<(), Trouble> {
    let mut found = false;
    for place in [logstore::journal_dir(data_dir), data_dir.join("logs")] {
        match fs.list(&place) {
            Ok(_) => found = true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // Whoever may not look must not be told that there is nothing.
            Err(source) => return Err(Trouble::Unreadable { path: place, source }),
        }
    }
    if found { Ok(()) } else { Err(Trouble::Nothing(data_dir.to_owned())) }
}

pub(super) fn search(
    fs: &Arc<dyn Fs>,
    data_dir: &Path,
    question: &Search,
    visit: &mut Visit<'_>,
) -> Result<Answer, Trouble> {
    let question = &with_bodies(question);
    let sources = Sources::open(fs, data_dir)?;
    let report = visiting(visit, |visit| {
        Ok(engine::search(&sources, question, &mut |hit| visit(Found::of(hit.line, hit.context)))?)
    })?;
    Ok(answer(question, report))
}

pub(super) fn newest(
    fs: &Arc<dyn Fs>,
    data_dir: &Path,
    question: &Search,
    limit: usize,
    visit: &mut Visit<'_>,
) -> Result<Answer, Trouble> {
    let question = &with_bodies(question);
    let sources = Sources::open(fs, data_dir)?;
    let backwards = Search { order: Order::NewestFirst, limit: Some(limit), ..question.clone() };
    let mut held = Held::default();
    let report = engine::search(&sources, &backwards, &mut |hit| {
        held.count += 1;
        held.bytes += hit.line.len();
        if held.bytes <= HELD_BYTES_MAX {
            held.lines.push((hit.line.to_vec(), hit.context));
        } else {
            held.lines = Vec::new();
            held.oldest = Some(hit.position.clone());
        }
        ControlFlow::Continue(())
    })?;
    let matched = report.matched;
    let mut answer = answer(&backwards, report);
    match held.oldest.take() {
        None => held
            .lines
            .iter()
            .rev()
            .try_for_each(|(line, context)| visit(Found::of(line, *context)))?,
        // Too many to be turned around in memory: now that it is known where
        // they begin, they are read again in the other direction.
        Some(oldest) => {
            answer = again(&sources, question, (&oldest, held.count), visit)?;
            answer.matched = matched;
        }
    }
    Ok(answer)
}

/// What is known of the lines that come newest first.
#[derive(Default)]
struct Held {
    lines: Vec<(Vec<u8>, bool)>,
    bytes: usize,
    count: usize,
    /// The last line seen, once they are too many to be held.
    oldest: Option<Position>,
}

fn again(
    sources: &Sources,
    question: &Search,
    (oldest, count): (&Position, usize),
    visit: &mut Visit<'_>,
) -> Result<Answer, Trouble> {
    let since = Some(oldest.ts);
    let forwards = Search { order: Order::OldestFirst, since, limit: None, ..question.clone() };
    let mut left = count;
    let report = visiting(visit, |visit| {
        Ok(engine::search(sources, &forwards, &mut |hit| {
            if place(hit.position) < place(oldest) {
                return ControlFlow::Continue(());
            }
            left -= 1;
            match visit(Found::of(hit.line, hit.context)) {
                ControlFlow::Continue(()) if left > 0 => ControlFlow::Continue(()),
                _ => ControlFlow::Break(()),
            }
        })?)
    })?;
    Ok(answer(&forwards, report))
}

fn place(position: &Position) -> (Timestamp, &str, u64) {
    (position.ts, position.instance.as_str(), position.seq)
}

pub(super) fn count(
    fs: &Arc<dyn Fs>,
    data_dir: &Path,
    question: &Search,
) -> Result<Answer, Trouble> {
    let question = &with_bodies(question);
    let report = engine::count(&Sources::open(fs, data_dir)?, question)?;
    Ok(answer(question, report))
}

pub(super) fn stats(
    fs: &Arc<dyn Fs>,
    data_dir: &Path,
    question: &Search,
    stats: &Stats,
) -> Result<(Table, Answer), Trouble> {
    let question = &with_bodies(question);
    let (table, report) = engine::stats(&Sources::open(fs, data_dir)?, question, stats)?;
    Ok((table, answer(question, report)))
}

pub(super) fn story(fs: &Arc<dyn Fs>, data_dir: &Path, id: &str) -> Result<Tale, Trouble> {
    let sources = Sources::open(fs, data_dir)?;
    let mut story = story::gather(&sources, id, &Search::new(Expr::All))?;
    // Whoever may read the files may read what is in them.
    let bodies = story::bodies(fs, data_dir, &mut story)?;
    let mut answer = answer(&Search::new(Expr::All), story.report);
    answer.matched = story.lines.len() as u64;
    answer.explain = story.explain;
    Ok(Tale { lines: story.lines, bodies, cut: story.cut, answer })
}

/// Whoever may read the files may read the captured bodies among them.
fn with_bodies(question: &Search) -> Search {
    Search { bodies: true, ..question.clone() }
}

fn answer(question: &Search, report: Report) -> Answer {
    let mut missing: Vec<String> = report.problems.iter().map(ToString::to_string).collect();
    missing.extend(report.stopped.map(|stop| stop.to_string()));
    let explain = format!("query        {}\n{}", question.expr, report.explain);
    Answer { matched: report.matched, missing, ends: report.complete_to, tail: None, explain }
}
