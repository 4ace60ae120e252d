//! Counts: the number of lines that match, of none of which more is read than
//! the condition needs.

use std::convert::Infallible;

use super::{
    EngineError, Report, Search, Sources,
    plan::Words,
    queue::{EndOnPanic, Queue, Work},
    run::{AtWork, Done, Run, Step, THREADS, Worked, join, spawn},
    source::{Counters, Scan},
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
    let scan = |work: Work<Infallible>, at: &mut AtWork<'_, u64>| {
        let Work::Scan(unit) = work else { return Ok(Done::NOTHING) };
        let plan = run.plan_of(at.source);
        let scan = Scan { plan, columns: &[TS], handles: false, meter: &run.meter };
        *at.state += run.source(at.source).count(&unit, &scan, at.evaluator, at.counters)?;
        Ok(Done::NOTHING)
    };
    let (_, report) = in_parallel(&run, || 0u64, &scan, &|counted| *counted)?;
    Ok(report)
}

/// Runs all of a question on its threads, in no order; gives their states.
/// `matched` tells how many lines a state stands for.
pub(crate) fn in_parallel<S: Send>(
    run: &Run<'_>,
    state: impl Fn() -> S + Sync,
    scan: &Step<'_, S, Infallible, ()>,
    matched: &dyn Fn(&S) -> u64,
) -> Result<(Vec<S>, Report), EngineError> {
    let mut counters = Counters::default();
    let queue: Queue<Infallible, ()> = Queue::new(run.tasks(&mut counters), usize::MAX);
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
