//! Answers in one order over many files: threads find where matches are, the
//! caller's thread merges them and gives each line as soon as nothing that is
//! still to come can be before it.
//!
//! Early stop follows from that: with a limit, files and row groups whose time
//! lies behind the last line that is needed are never read.

use std::{cmp::Ordering, collections::BinaryHeap, ops::ControlFlow};

use arrow_array::RecordBatch;
use domain::{fields::Stream, ids::InstanceId, time::Timestamp};

use super::{
    EngineError, Hit, Order, Position, Report, Search, Sources, Stop,
    evaluate::whole,
    plan::{Plan, Words},
    queue::{Queue, Ready, Work},
    run::{AtWork, Done, Run, THREADS, join, spawn},
    source::{Counters, Halt, Lines, Scan, Unit},
};
use crate::segment::{
    Dataset, PAGE_ROWS,
    schema::{SEQ, TS},
};

/// Pieces of lines that wait to be merged, unless all are needed to go on.
const AHEAD_MAX: usize = 8;
/// Lines of one piece. A page is read whole, so its lines stay together; what is
/// spread over many pages is shared between the threads.
const LINES: usize = 1024;
const LINES_MAX: usize = 4096;
const PAGES: usize = 16;
/// Where many files overlap in time, so that a piece of each stays small.
const OVERLAPPING: usize = 12;
const LINES_OVERLAPPING: usize = 256;
/// Captured bodies are as long as a hundred lines.
const BODIES: usize = 32;
/// Rows that are scanned at once where each one matches.
const ROWS_ALL: u64 = 16 * 1024;
/// And where it is enough to find some.
const ROWS_SOME: u64 = 64 * 1024;

/// Where a matching row is.
#[derive(Clone, Copy)]
struct Match {
    ts: i64,
    seq: u64,
    handle: u64,
}

/// Matches in order, with their lines.
struct Found {
    source: usize,
    matches: Vec<Match>,
    lines: Lines,
}

impl Found {
    fn bytes(&self) -> usize {
        self.matches.capacity() * size_of::<Match>() + self.lines.bytes.capacity()
    }
}

/// Lines on their way through the merge.
struct Cursor<'r> {
    found: Found,
    key: Key<'r>,
    /// The match that is next.
    at: usize,
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
    merged(Run::new(sources, &search, words)?, visit)
}

/// Captured bodies that meet a condition, in order.
pub(crate) fn bodies(
    sources: &Sources,
    search: &Search,
    visit: &mut dyn FnMut(Hit<'_>) -> ControlFlow<()>,
) -> Result<Report, EngineError> {
    let search = behind(search);
    merged(Run::over(sources, &search, &[Dataset::Bodies], &[])?, visit)
}

fn merged(
    mut run: Run<'_>,
    visit: &mut dyn FnMut(Hit<'_>) -> ControlFlow<()>,
) -> Result<Report, EngineError> {
    let limit = run.search.limit;
    run.plans.iter_mut().for_each(|plan| plan.unit_rows = unit_rows(plan, limit));
    let run = &run;
    let mut counters = Counters::default();
    let queue = Queue::new(run.tasks(&mut counters), AHEAD_MAX);
    let mut merge = Merge::new(run, counters);
    let step = |work: Work<Vec<Match>>, at: &mut AtWork<'_, ()>| match work {
        Work::Open => Ok(Done::NOTHING),
        Work::Scan(unit) => find(run, &unit, at),
        Work::Fetch(matches) => {
            let handles: Vec<u64> = matches.iter().map(|found| found.handle).collect();
            run.meter.check()?;
            let lines = run.source(at.source).lines(&handles, at.counters)?;
            let found = Found { source: at.source, matches, lines };
            Ok(Done { tasks: Vec::new(), result: Some(found) })
        }
    };
    let stop = std::thread::scope(|scope| {
        let _end = super::queue::EndOnPanic(&queue);
        let mut workers = Vec::new();
        for _ in 0..THREADS {
            let worker = spawn(scope, "search", || run.work(&queue, (), &step));
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

/// How finely sources are scanned, so that not much more is read than is needed.
fn unit_rows(plan: &Plan, limit: Option<usize>) -> Option<u64> {
    let page = PAGE_ROWS as u64;
    match (plan.parts.is_empty(), limit) {
        (true, Some(limit)) => Some((limit as u64).clamp(1, ROWS_ALL).next_multiple_of(page)),
        (true, None) => Some(ROWS_ALL),
        (false, Some(_)) => Some(ROWS_SOME),
        (false, None) => None,
    }
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

/// Where the matches of a unit are, in pieces of which lines are to be made.
fn find(
    run: &Run<'_>,
    unit: &Unit,
    at: &mut AtWork<'_, ()>,
) -> Result<Done<Vec<Match>, Found>, Halt> {
    let (plan, from) = (run.plan_of(at.source), run.source(at.source));
    let scan = Scan { plan, columns: &[SEQ, TS], handles: true, meter: &run.meter };
    let mut matches: Vec<Match> = Vec::new();
    from.scan(unit, &scan, at.evaluator, at.counters, &mut |rows| {
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
    matches.sort_unstable_by_key(|found| std::cmp::Reverse(key(found)));
    matches.truncate(run.search.limit.unwrap_or(usize::MAX));
    let lines = match plan.dataset {
        Dataset::Bodies => BODIES,
        _ if run.parts.len() < OVERLAPPING => LINES,
        _ => LINES_OVERLAPPING,
    };
    let mut tasks = Vec::new();
    let mut rest = matches.as_slice();
    while let Some(first) = rest.first() {
        let (piece, behind) = rest.split_at(piece_of(rest, lines));
        tasks.push((key(first).rank(), Work::Fetch(piece.to_vec())));
        rest = behind;
    }
    Ok(Done { tasks, result: None })
}

fn places(batch: &RecordBatch, handles: &[u64]) -> Vec<Match> {
    let column = |name: &str| batch.column_by_name(name).and_then(whole);
    let (Some(seqs), Some(times)) = (column(SEQ), column(TS)) else { return Vec::new() };
    let rows = seqs.iter().zip(times).zip(handles);
    rows.map(|((seq, ts), handle)| Match { ts: *ts, seq: seq.cast_unsigned(), handle: *handle })
        .collect()
}

/// How many of the first matches become lines together.
fn piece_of(matches: &[Match], lines: usize) -> usize {
    let page = |found: &Match| found.handle / PAGE_ROWS as u64;
    let (mut pages, mut count) = (0, 0);
    let mut last = None;
    for found in matches.iter().take(LINES_MAX.min(lines.saturating_mul(4))) {
        let is_new = last.replace(page(found)) != Some(page(found));
        if is_new && (count >= lines || pages == PAGES) {
            break;
        }
        pages += usize::from(is_new);
        count += 1;
    }
    count
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
        queue: &Queue<Vec<Match>, Found>,
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
            self.emit(frontier, visit);
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
        self.cursors.push(Cursor { found, key, at: 0 });
    }

    fn key(&self, source: usize, found: &Match) -> Key<'r> {
        let instance = self.run.source(source).instance();
        Key { order: self.run.search.order, ts: found.ts, instance, seq: found.seq }
    }

    /// Visits what nothing that is still to come can be before.
    fn emit(&mut self, frontier: Option<i64>, visit: &mut dyn FnMut(Hit<'_>) -> ControlFlow<()>) {
        while let Some(best) = self.cursors.peek() {
            if self.is_satisfied || frontier.is_some_and(|bound| best.key.rank() <= bound) {
                break;
            }
            let Some(mut cursor) = self.cursors.pop() else { break };
            let source = self.run.source(cursor.found.source);
            let found = cursor.found.matches[cursor.at];
            let position = Position {
                ts: Timestamp::from_micros(found.ts),
                instance: source.instance().clone(),
                seq: found.seq,
            };
            let flow = visit(Hit {
                line: cursor.found.lines.get(cursor.at),
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
    }
}
