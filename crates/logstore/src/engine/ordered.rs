//! Answers in one order over many files: threads find where matches are, the
//! caller's thread merges them and gives each line as soon as nothing that is
//! still to come can be before it.
//!
//! Early stop follows from that: with a limit, files and row groups whose time
//! lies behind the last line that is needed are never read.

use std::{cmp::Ordering, collections::BinaryHeap, ops::ControlFlow, sync::Arc};

use arrow_array::RecordBatch;
use domain::{fields::Stream, ids::InstanceId, time::Timestamp};

use super::{
    EngineError, Hit, Order, Position, Report, Search, Sources, Stop,
    evaluate::{Evaluator, whole},
    plan::Words,
    queue::{Queue, Ready},
    run::{Run, THREADS, join, spawn},
    source::{Counters, Halt, Lines, Scan, Source, Unit},
};
use crate::segment::{
    Dataset, PAGE_ROWS,
    schema::{SEQ, TS},
};

/// Scanned units that wait to be merged, unless all are needed to go on.
const AHEAD_MAX: usize = 4;
/// Lines that are rendered at once.
const LINES_MAX: usize = 8192;
/// Where many files overlap in time, so that all of them together stay small.
const LINES_OVERLAPPING: usize = 1024;
const OVERLAPPING: usize = 12;

/// Where a matching row is.
#[derive(Clone, Copy)]
struct Match {
    ts: i64,
    seq: u64,
    handle: u64,
}

/// The matches of a unit, in order, with the lines of the first of them.
struct Found {
    source: usize,
    matches: Vec<Match>,
    lines: Lines,
}

impl Found {
    fn bytes(&self) -> usize {
        self.matches.len() * size_of::<Match>() + self.lines.bytes.capacity()
    }
}

/// A unit on its way through the merge.
struct Cursor<'r> {
    found: Found,
    key: Key<'r>,
    /// The match that is next, and the one that `lines` begins with.
    at: usize,
    lines_from: usize,
}

/// Lines in the order asked for: the larger key comes first.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Key<'r> {
    order: Order,
    ts: i64,
    instance: &'r InstanceId,
    seq: u64,
}

impl Ord for Key<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        let place = |key: &Self| (key.ts, key.seq);
        let (a, b) = (place(self), place(other));
        let instances = || self.instance.as_str().cmp(other.instance.as_str());
        let newer = a.0.cmp(&b.0).then_with(instances).then(a.1.cmp(&b.1));
        match self.order {
            Order::NewestFirst => newer,
            Order::OldestFirst => newer.reverse(),
        }
    }
}

impl PartialOrd for Key<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Key<'_> {
    /// As [`super::queue::Task::bound`].
    fn rank(&self) -> i64 {
        match self.order {
            Order::NewestFirst => self.ts,
            Order::OldestFirst => self.ts.checked_neg().unwrap_or(i64::MAX),
        }
    }
}

impl PartialEq for Cursor<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Eq for Cursor<'_> {}

impl PartialOrd for Cursor<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Cursor<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key.cmp(&other.key)
    }
}

/// Visits the lines that match, in order, without context.
pub(crate) fn search(
    sources: &Sources,
    search: &Search,
    words: &Words,
    visit: &mut dyn FnMut(Hit<'_>) -> ControlFlow<()>,
) -> Result<Report, EngineError> {
    let search = behind(search);
    merged(&Run::new(sources, &search, words)?, visit)
}

/// Captured bodies that meet a condition, in order.
pub(crate) fn bodies(
    sources: &Sources,
    search: &Search,
    visit: &mut dyn FnMut(Hit<'_>) -> ControlFlow<()>,
) -> Result<Report, EngineError> {
    let search = behind(search);
    merged(&Run::over(sources, &search, &[Dataset::Bodies], &[])?, visit)
}

fn merged(
    run: &Run<'_>,
    visit: &mut dyn FnMut(Hit<'_>) -> ControlFlow<()>,
) -> Result<Report, EngineError> {
    let mut counters = Counters::default();
    let queue = Queue::new(run.tasks(&mut counters), AHEAD_MAX);
    let mut merge = Merge::new(run, counters);
    let scan = |source: usize, unit: &Unit, (): &mut (), e: &mut Evaluator, c: &mut Counters| {
        find(run, source, unit, e, c)
    };
    let stop = std::thread::scope(|scope| {
        let _end = super::queue::EndOnPanic(&queue);
        let mut workers = Vec::new();
        for _ in 0..THREADS {
            let worker = spawn(scope, "search", || run.work(&queue, (), &scan));
            match worker {
                Ok(worker) => workers.push(worker),
                Err(error) => {
                    queue.end();
                    return Err(error);
                }
            }
        }
        let mut stop = merge.all(&queue, visit);
        queue.end();
        for worker in workers {
            let worked = join(worker);
            merge.counters.add(worked.counters);
            stop = stop.or(worked.stop);
        }
        Ok(stop)
    })?;
    let stop = stop.filter(|_| !merge.is_satisfied);
    let matched = merge.visited;
    Ok(run.report(merge.counters, queue.spared(), matched, stop))
}

/// The question with its time narrowed to what lies behind a position.
fn behind(search: &Search) -> Search {
    let mut search = search.clone();
    if let Some(after) = &search.after {
        match search.order {
            Order::NewestFirst => {
                let until = after.ts.plus_micros(1);
                search.until = Some(search.until.map_or(until, |given| given.min(until)));
            }
            Order::OldestFirst => {
                search.since = Some(search.since.map_or(after.ts, |given| given.max(after.ts)));
            }
        }
    }
    search
}

/// The matches of one unit.
fn find(
    run: &Run<'_>,
    source: usize,
    unit: &Unit,
    evaluator: &mut Evaluator,
    counters: &mut Counters,
) -> Result<Option<Found>, Halt> {
    let from = run.source(source);
    let scan =
        Scan { plan: run.plan_of(source), columns: &[SEQ, TS], handles: true, meter: &run.meter };
    let mut matches: Vec<Match> = Vec::new();
    from.scan(unit, &scan, evaluator, counters, &mut |rows| {
        matches.extend(places(&rows.batch, &rows.handles));
    })?;
    let order = run.search.order;
    let key =
        |found: &Match| Key { order, ts: found.ts, instance: from.instance(), seq: found.seq };
    if let Some(after) = &run.search.after {
        let after =
            Key { order, ts: after.ts.as_micros(), instance: &after.instance, seq: after.seq };
        matches.retain(|found| key(found) < after);
    }
    if matches.is_empty() {
        return Ok(None);
    }
    matches.sort_unstable_by_key(|found| std::cmp::Reverse(key(found)));
    matches.truncate(run.search.limit.unwrap_or(usize::MAX));
    matches.shrink_to_fit();
    let first = next_lines(&matches, 0, LINES_OVERLAPPING);
    let lines = fetch(&**from, &matches[..first], counters)?;
    Ok(Some(Found { source, matches, lines }))
}

fn places(batch: &RecordBatch, handles: &[u64]) -> Vec<Match> {
    let column = |name: &str| batch.column_by_name(name).and_then(whole);
    let (Some(seqs), Some(times)) = (column(SEQ), column(TS)) else { return Vec::new() };
    let rows = seqs.iter().zip(times).zip(handles);
    rows.map(|((seq, ts), handle)| Match { ts: *ts, seq: seq.cast_unsigned(), handle: *handle })
        .collect()
}

/// How many matches from `at` on are rendered together: whole pages where there
/// are enough, since a page is read whole.
fn next_lines(matches: &[Match], at: usize, max: usize) -> usize {
    let rest = &matches[at..matches.len().min(at + max)];
    if rest.len() < max || max < LINES_MAX {
        return rest.len();
    }
    let page = |found: &Match| found.handle / PAGE_ROWS as u64;
    let last = rest.last().map(page);
    let whole = rest.iter().rposition(|found| Some(page(found)) != last).map_or(0, |at| at + 1);
    if whole > 0 { whole } else { rest.len() }
}

fn fetch(source: &dyn Source, matches: &[Match], counters: &mut Counters) -> Result<Lines, Halt> {
    let handles: Vec<u64> = matches.iter().map(|found| found.handle).collect();
    Ok(source.lines(&handles, counters)?)
}

fn stream_of(dataset: Dataset) -> Stream {
    match dataset {
        Dataset::Records | Dataset::Bodies => Stream::Record,
        Dataset::Traces => Stream::Trace,
        Dataset::Entries => Stream::Entry,
    }
}

/// The merge, on the caller's thread.
struct Merge<'r, 'a> {
    run: &'r Run<'a>,
    cursors: BinaryHeap<Cursor<'r>>,
    /// Of all cursors.
    bytes: usize,
    visited: u64,
    left: usize,
    /// Nobody wants more.
    is_satisfied: bool,
    counters: Counters,
}

impl<'r, 'a> Merge<'r, 'a> {
    fn new(run: &'r Run<'a>, counters: Counters) -> Self {
        let left = run.search.limit.unwrap_or(usize::MAX);
        Self {
            run,
            cursors: BinaryHeap::new(),
            bytes: 0,
            visited: 0,
            left,
            is_satisfied: left == 0,
            counters,
        }
    }

    fn all(
        &mut self,
        queue: &Queue<Found>,
        visit: &mut dyn FnMut(Hit<'_>) -> ControlFlow<()>,
    ) -> Option<Stop> {
        while !self.is_satisfied {
            let below = self.cursors.peek().map(|cursor| cursor.key.rank());
            let Ready { results, frontier, is_ended } = queue.ready(below);
            let nothing_new = results.is_empty();
            for found in results {
                self.enter(found);
            }
            if self.bytes > self.run.meter.memory_bytes() {
                return Some(Stop::Memory);
            }
            if let Err(stop) = self.emit(frontier, visit) {
                return Some(stop);
            }
            if (frontier.is_none() && self.cursors.is_empty()) || (is_ended && nothing_new) {
                break;
            }
        }
        None
    }

    fn enter(&mut self, found: Found) {
        self.bytes += found.bytes();
        let Some(first) = found.matches.first().copied() else { return };
        let key = self.key(found.source, &first);
        self.cursors.push(Cursor { found, key, at: 0, lines_from: 0 });
    }

    fn key(&self, source: usize, found: &Match) -> Key<'r> {
        let instance = self.run.source(source).instance();
        Key { order: self.run.search.order, ts: found.ts, instance, seq: found.seq }
    }

    /// Visits what nothing that is still to come can be before.
    fn emit(
        &mut self,
        frontier: Option<i64>,
        visit: &mut dyn FnMut(Hit<'_>) -> ControlFlow<()>,
    ) -> Result<(), Stop> {
        while let Some(best) = self.cursors.peek() {
            if self.is_satisfied || frontier.is_some_and(|bound| best.key.rank() <= bound) {
                break;
            }
            let Some(mut cursor) = self.cursors.pop() else { break };
            if self.refill(&mut cursor)?.is_none() {
                continue;
            }
            let source = self.run.source(cursor.found.source);
            let found = cursor.found.matches[cursor.at];
            let position = Position {
                ts: Timestamp::from_micros(found.ts),
                instance: source.instance().clone(),
                seq: found.seq,
            };
            let flow = visit(Hit {
                line: cursor.found.lines.get(cursor.at - cursor.lines_from),
                position: &position,
                stream: stream_of(source.dataset()),
                context: false,
            });
            self.visited += 1;
            self.left -= 1;
            self.is_satisfied = flow.is_break() || self.left == 0;
            cursor.at += 1;
            match cursor.found.matches.get(cursor.at).copied() {
                Some(next) => {
                    cursor.key = self.key(cursor.found.source, &next);
                    self.cursors.push(cursor);
                }
                None => self.bytes -= cursor.found.bytes(),
            }
        }
        Ok(())
    }

    /// Makes sure that the next match of a cursor has its line. `None`: its file
    /// cannot be read any more; the rest of the unit is a problem of the answer.
    fn refill(&mut self, cursor: &mut Cursor<'r>) -> Result<Option<()>, Stop> {
        if cursor.at < cursor.lines_from + cursor.found.lines.ends.len() {
            return Ok(Some(()));
        }
        if let Err(Halt::Stop(stop)) = self.run.meter.check() {
            return Err(stop);
        }
        let before = cursor.found.bytes();
        let max = match self.cursors.len() < OVERLAPPING {
            true => LINES_MAX,
            false => LINES_OVERLAPPING,
        };
        let count = next_lines(&cursor.found.matches, cursor.at, max.min(self.left));
        let matches = &cursor.found.matches[cursor.at..cursor.at + count];
        let source = Arc::clone(self.run.source(cursor.found.source));
        match fetch(&*source, matches, &mut self.counters) {
            Ok(lines) => {
                cursor.found.lines = lines;
                cursor.lines_from = cursor.at;
                self.bytes = self.bytes + cursor.found.bytes() - before;
                Ok(Some(()))
            }
            Err(Halt::Problem(problem)) => {
                self.counters.problem(problem);
                self.bytes -= before;
                Ok(None)
            }
            Err(Halt::Stop(stop)) => Err(stop),
        }
    }
}
