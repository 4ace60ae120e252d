//! One question at work: sources that may hold matches, two threads that open,
//! prune and scan them, and the books of it all.

use std::{sync::Arc, time::Instant};

use super::{
    EngineError, Explain, Order, Problem, Progress, Report, Search, Sources, Stop,
    evaluate::Evaluator,
    plan::{Plan, Words},
    queue::{EndOnPanic, Queue, Task},
    source::{Counters, Halt, Meter, Source, Span, Unit},
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
    pub(crate) fn tasks(&self, counters: &mut Counters) -> Vec<Task> {
        let mut tasks = Vec::new();
        for (source, part) in self.parts.iter().enumerate() {
            let plan = &self.plans[part.plan];
            let span = part.source.span();
            if plan.is_never || !plan.meets(span.min_ts, span.max_ts) {
                counters.pruned_by_time += u64::from(part.source.rows() > 0);
                continue;
            }
            tasks.push(Task { bound: self.bound(span), source, unit: None });
        }
        tasks
    }

    /// Works until nothing is left. `scan` is called for each unit.
    pub(crate) fn work<S, R>(
        &self,
        queue: &Queue<R>,
        state: S,
        scan: &ScanUnit<'_, S, R>,
    ) -> Worked<S> {
        let _end = EndOnPanic(queue);
        let mut worked = Worked { state, counters: Counters::default(), stop: None };
        let mut evaluators: Vec<Evaluator> =
            self.plans.iter().map(|plan| Evaluator::new(plan.leaves)).collect();
        while let Some(task) = queue.take() {
            let Task { bound, source, unit } = task;
            let evaluator = &mut evaluators[self.parts[source].plan];
            let counters = &mut worked.counters;
            let done = match &unit {
                None => self.prune(source, counters).map(|tasks| (tasks, None)),
                Some(unit) => scan(source, unit, &mut worked.state, evaluator, counters)
                    .map(|result| (Vec::new(), result)),
            };
            match done {
                Ok((tasks, result)) => queue.give(bound, tasks, result),
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

    fn prune(&self, source: usize, counters: &mut Counters) -> Result<Vec<Task>, Halt> {
        self.meter.check()?;
        let units = self.source(source).prune(self.plan_of(source), counters)?;
        let tasks = units.into_iter().map(|unit| Task {
            bound: self.bound(unit.span),
            source,
            unit: Some(unit),
        });
        Ok(tasks.collect())
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

/// Scans a unit of a source with the state of a thread.
pub(crate) type ScanUnit<'f, S, R> =
    dyn Fn(usize, &Unit, &mut S, &mut Evaluator, &mut Counters) -> Scanned<R> + Sync + 'f;

/// What a unit came to, for whoever puts the answer together.
pub(crate) type Scanned<R> = Result<Option<R>, Halt>;

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
