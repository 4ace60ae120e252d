//! Counts: the number of lines that match, of none of which more is read than
//! the condition needs.

use super::{
    EngineError, Report, Search, Sources,
    evaluate::Evaluator,
    plan::Words,
    queue::{EndOnPanic, Queue},
    run::{Run, THREADS, Worked, join, spawn},
    source::{Counters, Scan, Unit},
};
use crate::segment::schema::TS;

/// Counts the lines that match: [`Report::matched`]. Order, limit and position
/// do not count.
pub(crate) fn count(
    sources: &Sources,
    search: &Search,
    words: &Words,
) -> Result<Report, EngineError> {
    let run = Run::new(sources, search, words)?;
    let scan = |source: usize, unit: &Unit, n: &mut u64, e: &mut Evaluator, c: &mut Counters| {
        let plan = run.plan_of(source);
        let scan = Scan { plan, columns: &[TS], handles: false, meter: &run.meter };
        let counted = run.source(source).count(unit, &scan, e, c)?;
        *n += counted;
        Ok(None)
    };
    let (_, report) = in_parallel(&run, || 0u64, &scan, &|counted| *counted)?;
    Ok(report)
}

/// Runs all of a question on its threads, in no order; gives their states.
/// `matched` tells how many lines a state stands for.
pub(crate) fn in_parallel<S: Send>(
    run: &Run<'_>,
    state: impl Fn() -> S + Sync,
    scan: &super::run::ScanUnit<'_, S, ()>,
    matched: &dyn Fn(&S) -> u64,
) -> Result<(Vec<S>, Report), EngineError> {
    let mut counters = Counters::default();
    let queue: Queue<()> = Queue::new(run.tasks(&mut counters), usize::MAX);
    let mut stop = None;
    let mut states = Vec::new();
    std::thread::scope(|scope| {
        let _end = EndOnPanic(&queue);
        let mut workers = Vec::new();
        for _ in 1..THREADS {
            match spawn(scope, "search", || run.work(&queue, state(), scan)) {
                Ok(worker) => workers.push(worker),
                Err(error) => {
                    queue.end();
                    return Err(error);
                }
            }
        }
        let own = run.work(&queue, state(), scan);
        let others = workers.into_iter().map(join);
        for Worked { state, counters: worked, stop: stopped } in std::iter::once(own).chain(others)
        {
            counters.add(worked);
            stop = stop.or(stopped);
            states.push(state);
        }
        Ok(())
    })?;
    let matched = states.iter().map(matched).sum();
    Ok((states, run.report(counters, queue.spared(), matched, stop)))
}
