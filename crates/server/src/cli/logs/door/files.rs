//! The lines of anybody's files.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use domain::query::Stats;
use logstore::{
    engine::{Order, Search, Table},
    foreign::{self, Input, Report, Tail, Take},
    fs::Fs,
};

use super::{Answer, Found, Trouble, Visit, visiting};

/// Lines that are turned around are held in memory: no more than this.
const HELD_BYTES_MAX: usize = 64 << 20;

pub(super) fn search(
    fs: &Arc<dyn Fs>,
    paths: &[PathBuf],
    question: &Search,
    visit: &mut Visit<'_>,
) -> Result<Answer, Trouble> {
    match (question.order, question.limit) {
        (Order::NewestFirst, limit) => reversed(fs, paths, question, limit, visit),
        (Order::OldestFirst, Some(limit)) => {
            straight(fs, paths, question, Take::First(limit), visit)
        }
        (Order::OldestFirst, None) => straight(fs, paths, question, Take::All, visit),
    }
}

pub(super) fn newest(
    fs: &Arc<dyn Fs>,
    paths: &[PathBuf],
    question: &Search,
    limit: usize,
    visit: &mut Visit<'_>,
) -> Result<Answer, Trouble> {
    straight(fs, paths, question, Take::Last(limit), visit)
}

pub(super) fn count(
    fs: &Arc<dyn Fs>,
    paths: &[PathBuf],
    question: &Search,
) -> Result<Answer, Trouble> {
    let report = foreign::count(fs, inputs(paths), &asked(question, Take::All))?;
    Ok(answer(question, &report))
}

pub(super) fn stats(
    fs: &Arc<dyn Fs>,
    paths: &[PathBuf],
    question: &Search,
    stats: &Stats,
) -> Result<(Table, Answer), Trouble> {
    let asked = asked(question, Take::All);
    let (table, report) = foreign::stats(fs, inputs(paths), &asked, stats, question.limit)?;
    Ok((table, answer(question, &report)))
}

fn straight(
    fs: &Arc<dyn Fs>,
    paths: &[PathBuf],
    question: &Search,
    take: Take,
    visit: &mut Visit<'_>,
) -> Result<Answer, Trouble> {
    through(fs, inputs(paths), question, take, visit)
}

fn through(
    fs: &Arc<dyn Fs>,
    inputs: Vec<Input<'_>>,
    question: &Search,
    take: Take,
    visit: &mut Visit<'_>,
) -> Result<Answer, Trouble> {
    let report = visiting(visit, |visit| {
        Ok(foreign::search(fs, inputs, &asked(question, take), &mut |hit| {
            let foreign::Hit { line, context, gap, at_once, .. } = hit;
            visit(Found { line, context, gap, at_once })
        })?)
    })?;
    Ok(answer(question, &report))
}

fn reversed(
    fs: &Arc<dyn Fs>,
    paths: &[PathBuf],
    question: &Search,
    limit: Option<usize>,
    visit: &mut Visit<'_>,
) -> Result<Answer, Trouble> {
    let (mut held, mut bytes) = (Vec::new(), 0);
    let answer =
        straight(fs, paths, question, limit.map_or(Take::All, Take::Last), &mut |found| {
            bytes += found.line.len();
            if bytes > HELD_BYTES_MAX {
                let what =
                    "too many lines to be turned around: lower --limit, or leave out --reverse";
                return Err(io::Error::other(what));
            }
            held.push((found.line.to_vec(), found.context));
            Ok(())
        })?;
    for (line, context) in held.iter().rev() {
        visit(Found::of(line, *context))?;
    }
    Ok(answer)
}

/// Visits the lines of one file that match, and those that are written to it
/// from now on, whatever file takes its name, until told to stop.
pub(super) fn follow(
    fs: &Arc<dyn Fs>,
    path: &Path,
    question: &Search,
    stop: &dyn Fn() -> bool,
    visit: &mut Visit<'_>,
) -> Result<Answer, Trouble> {
    let tail = Tail::open(fs, path, stop)
        .map_err(|source| Trouble::Unreadable { path: path.to_owned(), source })?;
    let inputs = vec![Input::Stream(path.to_owned(), Box::new(tail))];
    through(fs, inputs, question, Take::All, visit)
}

/// Whether none of the files is there.
pub(super) fn are_missing(fs: &Arc<dyn Fs>, paths: &[PathBuf]) -> bool {
    paths.iter().all(|path| {
        let there = fs.is_regular(path);
        path != Path::new("-") && there.is_err_and(|it| it.kind() == io::ErrorKind::NotFound)
    })
}

fn inputs(paths: &[PathBuf]) -> Vec<Input<'static>> {
    let input = |path: &PathBuf| match path == Path::new("-") {
        true => Input::Stream(PathBuf::from("standard input"), Box::new(io::stdin())),
        false => Input::File(path.clone()),
    };
    paths.iter().map(input).collect()
}

fn asked(question: &Search, take: Take) -> foreign::Search {
    foreign::Search {
        since: question.since,
        until: question.until,
        take,
        context: question.context,
        budget: question.budget,
        cancel: question.cancel.clone(),
        progress: question.progress.clone(),
        ..foreign::Search::new(question.expr.clone())
    }
}

fn answer(question: &Search, report: &Report) -> Answer {
    let mut missing: Vec<String> = report.problems.iter().map(ToString::to_string).collect();
    if report.passed_over > 0 {
        let (lines, most) = (report.passed_over, foreign::LINE_BYTES_MAX);
        missing.push(format!("{lines} lines of more than {most} bytes were passed over"));
    }
    missing.extend(report.stopped.map(|stop| stop.to_string()));
    let explain = format!("query        {}\n{report}", question.expr);
    Answer { matched: report.matched, missing, ends: Vec::new(), tail: None, explain }
}
