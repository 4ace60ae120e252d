//! `logs search` and `logs tail`: lines, or how many.

use std::{
    io::{self, Write},
    ops::ControlFlow,
    sync::Arc,
};

use logstore::engine::{Order, Position, Search};

use super::{
    FOUND, NOTHING, Surroundings, TROUBLE, Trouble,
    args::ShowArgs,
    door::{Answer, Door},
    follow,
    meter::Meter,
};
use crate::render::{Printer, usual};

/// What is done with the lines that match.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    /// The newest so many; none for all.
    pub limit: Option<usize>,
    /// The newest first.
    pub reverse: bool,
    pub context: usize,
}

/// Lines of an answer that is turned around are held in memory up to here;
/// beyond it the files are read twice.
const HELD_BYTES_MAX: usize = 64 << 20;

/// Prints the lines that match.
pub(super) fn run(
    door: &Door,
    mut question: Search,
    plan: Plan,
    show: &ShowArgs,
    around: &mut Surroundings<'_>,
) -> Result<u8, Trouble> {
    let look = show.look(around, plan.context > 0);
    let printer = Printer::new(show.output, show.columns()?, usual(&question.streams), look);
    question.context = plan.context;
    let mut sink = Sink { out: &mut *around.out, printer, meter: meter(around.meter.take()) };
    watch(&mut question, sink.meter.as_ref());
    let answer = match (plan.limit, plan.reverse) {
        (Some(0), _) => door.count(&Search { limit: Some(0), ..question.clone() })?,
        (Some(limit), false) => newest(door, &question, limit, &mut sink)?,
        (limit, true) => {
            let question = Search { order: Order::NewestFirst, limit, ..question.clone() };
            straight(door, &question, &mut sink)?
        }
        (None, false) => {
            let question = Search { order: Order::OldestFirst, ..question.clone() };
            straight(door, &question, &mut sink)?
        }
    };
    sink.flush()?;
    tell(&answer, show.explain, around.err)?;
    if show.follow {
        question.progress = None;
        follow::run(door, &question, &answer, &mut sink, around.err, around.stop)?;
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
    pub fn print(&mut self, line: &[u8], context: bool) -> io::Result<()> {
        let _quiet = self.meter.as_ref().map(|meter| meter.quiet());
        self.printer.print(self.out, line, context)
    }

    pub fn flush(&mut self) -> io::Result<()> {
        let _quiet = self.meter.as_ref().map(|meter| meter.quiet());
        self.printer.flush(self.out)
    }
}

/// Prints lines as they come.
fn straight(door: &Door, question: &Search, sink: &mut Sink<'_>) -> Result<Answer, Trouble> {
    let mut printed = Ok(());
    let answer = door.search(question, &mut |hit| {
        printed = sink.print(hit.line, hit.context);
        match printed {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    })?;
    printed?;
    Ok(answer)
}

/// Prints the newest lines, the oldest of them first.
fn newest(
    door: &Door,
    question: &Search,
    limit: usize,
    sink: &mut Sink<'_>,
) -> Result<Answer, Trouble> {
    let backwards = Search { order: Order::NewestFirst, limit: Some(limit), ..question.clone() };
    let mut held: Vec<(Vec<u8>, bool)> = Vec::new();
    let (mut bytes, mut count) = (0, 0_usize);
    let mut oldest: Option<Position> = None;
    let answer = door.search(&backwards, &mut |hit| {
        count += 1;
        bytes += hit.line.len();
        if bytes <= HELD_BYTES_MAX {
            held.push((hit.line.to_vec(), hit.context));
        } else {
            held = Vec::new();
            oldest = Some(hit.position.clone());
        }
        ControlFlow::Continue(())
    })?;
    let Some(oldest) = oldest else {
        held.iter().rev().try_for_each(|(line, context)| sink.print(line, *context))?;
        return Ok(answer);
    };
    // Too many to be turned around in memory: now that it is known where they
    // begin, they are read again in the other direction.
    let since = Some(oldest.ts);
    let forwards = Search { order: Order::OldestFirst, since, ..question.clone() };
    let mut printed = Ok(());
    let again = door.search(&forwards, &mut |hit| {
        if place(hit.position) < place(&oldest) {
            return ControlFlow::Continue(());
        }
        printed = sink.print(hit.line, hit.context);
        count -= 1;
        match printed {
            Ok(()) if count > 0 => ControlFlow::Continue(()),
            _ => ControlFlow::Break(()),
        }
    })?;
    printed?;
    Ok(Answer { matched: answer.matched, ..again })
}

fn place(position: &Position) -> (domain::time::Timestamp, &str, u64) {
    (position.ts, position.instance.as_str(), position.seq)
}
