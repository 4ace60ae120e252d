//! One question at work: sources that may hold matches, two threads that open,
//! prune and scan them, and the books of it all.

use std::{sync::Arc, time::Instant};

use super::{
    EngineError, Explain, Order, Problem, Progress, Report, Search, Sources, Stop,
    evaluate::Evaluator,
    plan::{Plan, Words},
    queue::{EndOnPanic, Queue, Task, Work},
    source::{Counters, Halt, Meter, Source, Span},
    sources::Part,
};
use crate::segment::{Dataset, ReadCounts};

/// Reading, decompressing and testing; more would only take them from the
/// proxy beside which a search runs.
pub(crate) const THREADS: usize = 2;

pub(crate) struct Run<'a> {
    pub(crate) search: &'a Search,
    pub(crate) sources: &'a Sources,
    pub(crate) plans: Vec<Plan>,
    pub(crate) parts: Vec<Part>,
    pub(crate) meter: Meter,
    begun: Instant,
    read_before: ReadCounts,
    files_total: u64,
}

/// What one thread brings back.
pub(crate) struct Worked<S> {
    pub(crate) state: S,
    pub(crate) counters: Counters,
    pub(crate) stop: Option<Stop>,
}

impl<'a> Run<'a> {
    pub(crate) fn new(
        sources: &'a Sources,
        search: &'a Search,
        words: &Words,
    ) -> Result<Self, EngineError> {
        Self::over(sources, search, &datasets_of(search), words)
    }

    /// Over datasets instead of streams.
    pub(crate) fn over(
        sources: &'a Sources,
        search: &'a Search,
        datasets: &[Dataset],
        words: &Words,
    ) -> Result<Self, EngineError> {
        let begun = Instant::now();
        let mut plans = Vec::new();
        let mut parts = Vec::new();
        for dataset in datasets {
            plans.push(Plan::new(search, *dataset, words)?);
            parts.extend(sources.parts(*dataset, plans.len() - 1));
        }
        let files_total = parts.len() as u64;
        let read_before = sources.shelf().counts();
        let meter = Meter::new(search.budget, search.cancel.clone());
        Ok(Self { search, sources, plans, parts, meter, begun, read_before, files_total })
    }

    pub(crate) fn plan_of(&self, source: usize) -> &Plan {
        &self.plans[self.parts[source].plan]
    }

    pub(crate) fn source(&self, source: usize) -> &Arc<dyn Source> {
        &self.parts[source].source
    }

    /// The best place that a row of a span can have in the order asked for.
    pub(crate) fn bound(&self, span: Span) -> i64 {
        match self.search.order {
            Order::NewestFirst => span.max_ts,
            Order::OldestFirst => span.min_ts.checked_neg().unwrap_or(i64::MAX),
        }
    }

    /// A task for each source that has a place in its plan.
    pub(crate) fn tasks<F>(&self, counters: &mut Counters) -> Vec<Task<F>> {
        let mut tasks = Vec::new();
        for (source, part) in self.parts.iter().enumerate() {
            let plan = &self.plans[part.plan];
            let span = part.source.span();
            if plan.is_never || !plan.meets(span.min_ts, span.max_ts) {
                counters.pruned_by_time += u64::from(part.source.rows() > 0);
                continue;
            }
            tasks.push(Task { bound: self.bound(span), source, work: Work::Open });
        }
        tasks
    }

    /// Works until nothing is left. `step` is called for each unit, and for what it
    /// gives to be fetched.
    pub(crate) fn work<S, F, R>(
        &self,
        queue: &Queue<F, R>,
        state: S,
        step: &Step<'_, S, F, R>,
    ) -> Worked<S> {
        let _end = EndOnPanic(queue);
        let mut worked = Worked { state, counters: Counters::default(), stop: None };
        let mut evaluators: Vec<Evaluator> =
            self.plans.iter().map(|plan| Evaluator::new(plan.leaves)).collect();
        while let Some(Task { bound, source, work }) = queue.take() {
            let mut at_work = AtWork {
                source,
                state: &mut worked.state,
                evaluator: &mut evaluators[self.parts[source].plan],
                counters: &mut worked.counters,
            };
            let done = match work {
                Work::Open => self.prune(source, at_work.counters),
                work => step(work, &mut at_work),
            };
            match done {
                Ok(done) => {
                    let tasks = done.tasks.into_iter();
                    let tasks = tasks.map(|(bound, work)| Task { bound, source, work });
                    queue.give(bound, tasks.collect(), done.result);
                }
                Err(Halt::Problem(problem)) => {
                    worked.counters.problem(problem);
                    queue.give(bound, Vec::new(), None);
                }
                Err(Halt::Stop(stop)) => {
                    // What was cut off stays on the books as running, so that
                    // nothing behind it is taken for next.
                    worked.stop = Some(stop);
                    queue.end();
                    break;
                }
            }
            self.tell(&worked.counters);
        }
        worked
    }

    fn prune<F, R>(&self, source: usize, counters: &mut Counters) -> Result<Done<F, R>, Halt> {
        self.meter.check()?;
        let units = self.source(source).prune(self.plan_of(source), counters)?;
        let tasks = units.into_iter().map(|unit| (self.bound(unit.span), Work::Scan(unit)));
        Ok(Done { tasks: tasks.collect(), result: None })
    }

    fn tell(&self, counters: &Counters) {
        let Some(progress) = &self.search.progress else { return };
        progress(&Progress {
            files_total: self.files_total,
            files_done: counters.opened,
            rows_total: self.parts.iter().map(|part| part.source.rows()).sum(),
            rows_scanned: self.meter.rows_scanned(),
            bytes_read: self.sources.shelf().counts().bytes - self.read_before.bytes,
        });
    }

    /// The books of what all threads did.
    pub(crate) fn report(
        &self,
        mut counters: Counters,
        spared: u64,
        matched: u64,
        stop: Option<Stop>,
    ) -> Report {
        if matched == 0 && counters.hot_unproven > 0 {
            // What was looked for may lie in what cannot be read.
            self.sources.damage(&mut counters);
        }
        let read = self.sources.shelf().counts();
        let (pages, bytes_read) =
            (read.pages - self.read_before.pages, read.bytes - self.read_before.bytes);
        let is_sealed = |part: &&Part| part.source.rows() > 0;
        let segments_total = self.parts.iter().filter(is_sealed).count() as u64;
        let mut problems: Vec<Problem> = self.sources.problems.clone();
        let news = counters.problems.into_iter().filter(|new| !self.sources.problems.contains(new));
        problems.extend(news);
        let explain = Explain {
            segments_total,
            segments_pruned_by_time: counters.pruned_by_time,
            segments_pruned_by_ids: counters.pruned_by_ids,
            segments_pruned_by_statistics: counters.pruned_by_statistics,
            segments_spared: spared,
            segments_opened: counters.opened,
            row_groups_total: counters.groups_total,
            row_groups_read: counters.groups_read,
            pages,
            bytes_read,
            rows_total: self.parts.iter().map(|part| part.source.rows()).sum(),
            rows_scanned: self.meter.rows_scanned(),
            hot_files: self.sources.hot_files(),
            hot_bytes: counters.hot_bytes,
            hot_lines_decoded: counters.hot_lines_decoded,
            threads: THREADS,
            open: self.sources.open,
            prune: counters.prune,
            scan: counters.scan,
            fetch: counters.fetch,
            total: self.begun.elapsed() + self.sources.open,
        };
        Report {
            matched,
            rows_scanned: self.meter.rows_scanned(),
            segments_total,
            segments_opened: counters.opened,
            pages,
            bytes_read,
            complete_to: self.sources.complete_to.clone(),
            problems,
            stopped: stop,
            explain,
        }
    }
}

/// What the streams of a question are kept as, each once.
pub(crate) fn datasets_of(search: &Search) -> Vec<Dataset> {
    let mut datasets: Vec<Dataset> = search.streams.iter().map(|s| Dataset::of(*s)).collect();
    datasets.sort_unstable();
    datasets.dedup();
    datasets
}

/// Scans a unit of a source, or fetches what was found in it.
pub(crate) type Step<'f, S, F, R> =
    dyn Fn(Work<F>, &mut AtWork<'_, S>) -> Result<Done<F, R>, Halt> + Sync + 'f;

/// What a thread has at hand.
pub(crate) struct AtWork<'w, S> {
    pub(crate) source: usize,
    pub(crate) state: &'w mut S,
    pub(crate) evaluator: &'w mut Evaluator,
    pub(crate) counters: &'w mut Counters,
}

/// What a step came to: more work on the same source, and what whoever puts the
/// answer together is given.
pub(crate) struct Done<F, R> {
    pub(crate) tasks: Vec<(i64, Work<F>)>,
    pub(crate) result: Option<R>,
}

impl<F, R> Done<F, R> {
    pub(crate) const NOTHING: Self = Self { tasks: Vec::new(), result: None };
}

/// Starts the threads of a question.
pub(crate) fn spawn<'scope, 'env, T: Send + 'scope>(
    scope: &'scope std::thread::Scope<'scope, 'env>,
    name: &str,
    body: impl FnOnce() -> T + Send + 'scope,
) -> Result<std::thread::ScopedJoinHandle<'scope, T>, EngineError> {
    let builder = std::thread::Builder::new().name(name.to_owned());
    builder.spawn_scoped(scope, body).map_err(EngineError::Thread)
}

/// What a thread came to; its panic goes on in the one who waits for it.
pub(crate) fn join<T>(handle: std::thread::ScopedJoinHandle<'_, T>) -> T {
    handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
