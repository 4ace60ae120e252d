//! `logs search` and `logs tail`: lines, or how many.

use std::{
    io::{self, Write},
    sync::Arc,
};

use logstore::engine::{Order, Search};

use super::{
    FOUND, NOTHING, Surroundings, TROUBLE, Trouble,
    args::ShowArgs,
    door::{Answer, Door, Found},
    follow,
    meter::Meter,
};
use crate::render::{Look, Printer, usual, usual_of_others};

/// A line may be written so much later than the time that it bears.
const LATE_MICROS: i64 = 1_000_000;

/// What is done with the lines that match.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    /// The newest so many; none for all.
    pub limit: Option<usize>,
    /// The newest first.
    pub reverse: bool,
    pub context: usize,
}

/// Prints the lines that match.
pub(super) fn run(
    door: &Door,
    mut question: Search,
    plan: Plan,
    show: &ShowArgs,
    around: &mut Surroundings<'_>,
) -> Result<u8, Trouble> {
    let is_foreign = matches!(door, Door::Files { .. });
    let look = Look {
        terminal: around.terminal,
        color: around.color,
        columns_max: around.columns,
        marks: plan.context > 0,
        foreign: is_foreign,
    };
    let columns = show.columns(is_foreign)?;
    let format = show.format(is_foreign);
    let usual = if is_foreign { usual_of_others(format) } else { usual(&question.streams) };
    let printer = Printer::new(format, columns, usual, look);
    question.context = plan.context;
    let mut sink = Sink { out: &mut *around.out, printer, meter: meter(around.meter.take()) };
    let (until, clock) = (question.until, around.clock);
    let end = until.map(|until| until.plus_micros(LATE_MICROS));
    let stop = || (around.stop)() || end.is_some_and(|end| clock.now() >= end);
    if show.follow
        && let Some(path) = door.followed_file()?
    {
        let print = &mut |found: Found<'_>| sink.print(&found);
        let answer = door.follow_file(path, &question, &stop, print)?;
        sink.flush()?;
        tell(&answer, show.explain, around.err)?;
        return Ok(status(&answer));
    }
    watch(&mut question, sink.meter.as_ref());
    let print = &mut |found: Found<'_>| sink.print(&found);
    let answer = match (plan.limit, plan.reverse) {
        (Some(limit), false) => door.newest(&question, limit, print)?,
        (limit, true) => {
            let question = Search { order: Order::NewestFirst, limit, ..question.clone() };
            door.search(&question, print)?
        }
        (None, false) => {
            let question = Search { order: Order::OldestFirst, ..question.clone() };
            door.search(&question, print)?
        }
    };
    sink.flush()?;
    tell(&answer, show.explain, around.err)?;
    if show.follow && !is_foreign {
        question.progress = None;
        follow::run(door, &question, &answer, &mut sink, around.err, &stop)?;
        return Ok(FOUND);
    }
    Ok(status(&answer))
}

/// Prints how many lines match.
pub(super) fn count(
    door: &Door,
    mut question: Search,
    explain: bool,
    around: &mut Surroundings<'_>,
) -> Result<u8, Trouble> {
    let meter = meter(around.meter.take());
    watch(&mut question, meter.as_ref());
    let answer = door.count(&question)?;
    let quiet = meter.as_ref().map(|meter| meter.quiet());
    writeln!(around.out, "{}", answer.matched)?;
    around.out.flush()?;
    tell(&answer, explain, around.err)?;
    drop(quiet);
    Ok(status(&answer))
}

/// As grep: found, nothing found, error or incomplete.
pub(super) fn status(answer: &Answer) -> u8 {
    match answer {
        Answer { missing, .. } if !missing.is_empty() => TROUBLE,
        Answer { matched: 0, .. } => NOTHING,
        _ => FOUND,
    }
}

/// Says what the answer lacks, and what it took if that was asked.
pub(super) fn tell(answer: &Answer, explain: bool, err: &mut dyn Write) -> io::Result<()> {
    for missing in &answer.missing {
        writeln!(err, "incomplete: {}", crate::render::harmless(missing))?;
    }
    if explain {
        write!(err, "{}", answer.explain)?;
    }
    Ok(())
}

pub(super) fn meter(terminal: Option<Box<dyn Write + Send>>) -> Option<Arc<Meter>> {
    terminal.map(|terminal| Arc::new(Meter::new(terminal)))
}

pub(super) fn watch(question: &mut Search, meter: Option<&Arc<Meter>>) {
    if let Some(meter) = meter.map(Arc::clone) {
        question.progress = Some(Arc::new(move |progress| meter.see(progress)));
    }
}

/// Where lines go.
pub(super) struct Sink<'a> {
    out: &'a mut dyn Write,
    printer: Printer,
    meter: Option<Arc<Meter>>,
}

impl Sink<'_> {
    pub fn print(&mut self, found: &Found<'_>) -> io::Result<()> {
        let _quiet = self.meter.as_ref().map(|meter| meter.quiet());
        if found.gap {
            self.printer.gap(self.out)?;
        }
        self.printer.print(self.out, found.line, found.context)?;
        // A pipe that is still being written is answered line by line.
        if found.at_once { self.printer.flush(self.out) } else { Ok(()) }
    }

    pub fn flush(&mut self) -> io::Result<()> {
        let _quiet = self.meter.as_ref().map(|meter| meter.quiet());
        self.printer.flush(self.out)
    }
}
