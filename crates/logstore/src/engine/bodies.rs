//! Captured bodies of some records, sealed or beside the journal.

use std::ops::ControlFlow;

use domain::{
    fields,
    query::{Expr, FieldRef, Literal, Test},
};

use super::{
    EngineError, Problem, Search, Sources, Stop,
    evaluate::Evaluator,
    plan::Plan,
    source::{Counters, Halt, Meter, Scan},
};
use crate::{catalog::HotPart, segment::Dataset};

/// What was found of the bodies of some records.
#[derive(Debug, Default)]
pub struct FoundBodies {
    /// As they were written, in no order.
    pub lines: Vec<Vec<u8>>,
    /// What could not be read.
    pub problems: Vec<Problem>,
    /// The bound that ended the look early.
    pub stopped: Option<Stop>,
}

/// The bodies of records by their ids. Budget and cancellation are those of
/// `question`; who may see a record's bodies, the caller has decided.
pub fn bodies(
    sources: &Sources,
    question: &Search,
    record_ids: &[String],
) -> Result<FoundBodies, EngineError> {
    let mut found = FoundBodies::default();
    let Some(field) = fields::find("record_id") else { return Ok(found) };
    if record_ids.is_empty() {
        return Ok(found);
    }
    let ids = record_ids.iter().cloned().map(Literal::Text).collect();
    let expr = Expr::Field(FieldRef::Known(field), Test::Any(ids));
    let search =
        Search { budget: question.budget, cancel: question.cancel.clone(), ..Search::new(expr) };
    let meter = Meter::new(search.budget, search.cancel.clone());
    let mut look = Look { bytes: 0, meter: &meter, found: &mut found };
    if let Err(stop) = look.sealed(sources, &search).and_then(|()| look.hot(sources, record_ids)) {
        found.stopped = Some(stop);
    }
    Ok(found)
}

struct Look<'a> {
    bytes: usize,
    meter: &'a Meter,
    found: &'a mut FoundBodies,
}

impl Look<'_> {
    fn sealed(&mut self, sources: &Sources, search: &Search) -> Result<(), Stop> {
        // The condition is one of ours: it always compiles.
        let Ok(plan) = Plan::new(search, Dataset::Bodies, &[]) else { return Ok(()) };
        let mut evaluator = Evaluator::new(plan.leaves);
        let mut counters = Counters::default();
        for part in sources.sealed_parts(Dataset::Bodies) {
            let source = &*part.source;
            let units = match source.prune(&plan, &mut counters) {
                Ok(units) => units,
                Err(halt) => {
                    self.halted(halt)?;
                    continue;
                }
            };
            for unit in units {
                let scan = Scan { plan: &plan, columns: &[], handles: true, meter: self.meter };
                let mut handles = Vec::new();
                let scanned =
                    source.scan(&unit, &scan, &mut evaluator, &mut counters, &mut |rows| {
                        handles.extend(rows.handles);
                    });
                if let Err(halt) = scanned {
                    self.halted(halt)?;
                }
                // One at a time: a page of bodies may be large.
                for handle in handles {
                    match source.lines(&[handle], &mut counters) {
                        Ok(lines) => self.keep(lines.get(0))?,
                        Err(problem) => self.found.problems.push(problem),
                    }
                }
            }
        }
        self.found.problems.append(&mut counters.problems);
        Ok(())
    }

    fn hot(&mut self, sources: &Sources, record_ids: &[String]) -> Result<(), Stop> {
        let finders: Vec<_> =
            record_ids.iter().map(|id| memchr::memmem::Finder::new(id.as_bytes())).collect();
        for journal in sources.hot_paths() {
            let path = HotPart::bodies(journal);
            let mut stopped = Ok(());
            let read = crate::bodies::read(&**sources.fs(), &path, &mut |_, line| {
                if finders.iter().any(|finder| is_of(line, finder)) {
                    stopped = self.keep(line);
                } else if let Err(Halt::Stop(stop)) = self.meter.check() {
                    stopped = Err(stop);
                }
                match stopped {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(_) => ControlFlow::Break(()),
                }
            });
            stopped?;
            match read {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => {
                    let what = format!("cannot be read: {error}");
                    self.found.problems.push(Problem { path, what });
                }
                Ok(0) => {}
                Ok(damaged) => {
                    let what = format!("{damaged} bytes are damaged");
                    self.found.problems.push(Problem { path, what });
                }
            }
        }
        Ok(())
    }

    fn keep(&mut self, line: &[u8]) -> Result<(), Stop> {
        self.bytes += line.len();
        if self.bytes > self.meter.memory_bytes() {
            return Err(Stop::Memory);
        }
        self.found.lines.push(line.to_vec());
        Ok(())
    }

    fn halted(&mut self, halt: Halt) -> Result<(), Stop> {
        match halt {
            Halt::Stop(stop) => Err(stop),
            Halt::Problem(problem) => {
                self.found.problems.push(problem);
                Ok(())
            }
        }
    }
}

/// Whether the id stands where a body has its record's: the first keys of a
/// line are ours, and its text comes last but for figures.
fn is_of(line: &[u8], id: &memchr::memmem::Finder<'_>) -> bool {
    const KEY: &[u8] = b"\"record_id\":\"";
    let at = memchr::memmem::find(line, KEY).map(|at| at + KEY.len());
    at.is_some_and(|at| line[at..].starts_with(id.needle()))
}
