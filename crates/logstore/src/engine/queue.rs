//! The work of one question, shared by its threads: what may hold the next rows
//! comes first, and whoever orders the answer knows what can still come.

use std::collections::BinaryHeap;

use parking_lot::{Condvar, Mutex};

use super::source::Unit;

/// A piece of work and the best place a row of it can have.
pub(crate) struct Task<F> {
    /// See [`super::ordered::Key`]: the larger comes first.
    pub(crate) bound: i64,
    pub(crate) source: usize,
    pub(crate) work: Work<F>,
}

/// What is to be done with a source; what is nearer to an answer comes first.
pub(crate) enum Work<F> {
    /// It is opened, and what cannot match is left out.
    Open,
    Scan(Unit),
    /// Lines are made of rows that were found.
    Fetch(F),
}

impl<F> Task<F> {
    fn key(&self) -> (i64, u8, std::cmp::Reverse<usize>) {
        let step = match &self.work {
            Work::Open => 0,
            Work::Scan(_) => 1,
            Work::Fetch(_) => 2,
        };
        (self.bound, step, std::cmp::Reverse(self.source))
    }
}

impl<F> PartialEq for Task<F> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<F> Eq for Task<F> {}

impl<F> PartialOrd for Task<F> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<F> Ord for Task<F> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

pub(crate) struct Queue<F, R> {
    state: Mutex<State<F, R>>,
    /// For workers: there may be work.
    work: Condvar,
    /// For the one who orders: there may be results, or less can still come.
    ready: Condvar,
}

struct State<F, R> {
    tasks: BinaryHeap<Task<F>>,
    /// The bounds of what is being worked on.
    running: Vec<i64>,
    results: Vec<R>,
    /// Results ahead of whoever takes them.
    ahead_max: usize,
    is_waited_for: bool,
    is_ended: bool,
}

/// What the one who orders finds.
pub(crate) struct Ready<R> {
    pub(crate) results: Vec<R>,
    /// No row that is still to come is before this. `None`: nothing will come.
    pub(crate) frontier: Option<i64>,
    /// Nothing will be worked on any more, whatever is still open.
    pub(crate) is_ended: bool,
}

impl<F, R> Queue<F, R> {
    pub(crate) fn new(tasks: Vec<Task<F>>, ahead_max: usize) -> Self {
        let state = State {
            tasks: tasks.into(),
            running: Vec::new(),
            results: Vec::new(),
            ahead_max,
            is_waited_for: false,
            is_ended: false,
        };
        Self { state: Mutex::new(state), work: Condvar::new(), ready: Condvar::new() }
    }

    /// The next task; waits for one while others may still make some. `None`:
    /// there will be none.
    pub(crate) fn take(&self) -> Option<Task<F>> {
        let mut state = self.state.lock();
        loop {
            if state.is_ended || (state.tasks.is_empty() && state.running.is_empty()) {
                return None;
            }
            let has_room = state.results.len() < state.ahead_max || state.is_waited_for;
            if has_room && let Some(task) = state.tasks.pop() {
                state.running.push(task.bound);
                return Some(task);
            }
            self.work.wait(&mut state);
        }
    }

    /// Gives back what a task came to.
    pub(crate) fn give(&self, bound: i64, tasks: Vec<Task<F>>, result: Option<R>) {
        let mut state = self.state.lock();
        if let Some(at) = state.running.iter().position(|running| *running == bound) {
            state.running.swap_remove(at);
        }
        state.tasks.extend(tasks);
        state.results.extend(result);
        drop(state);
        self.work.notify_all();
        self.ready.notify_all();
    }

    /// Nothing more is wanted, or somebody failed.
    pub(crate) fn end(&self) {
        self.state.lock().is_ended = true;
        self.work.notify_all();
        self.ready.notify_all();
    }

    /// Sources that nobody opened.
    pub(crate) fn spared(&self) -> u64 {
        let state = self.state.lock();
        state.tasks.iter().filter(|task| matches!(task.work, Work::Open)).count() as u64
    }

    /// Takes the results that are there; waits until there is one, or nothing that
    /// is to come is before `below`.
    pub(crate) fn ready(&self, below: Option<i64>) -> Ready<R> {
        let mut state = self.state.lock();
        loop {
            let frontier = state.frontier();
            let is_free = match (below, frontier) {
                (_, None) => true,
                (Some(row), Some(frontier)) => frontier < row,
                (None, Some(_)) => false,
            };
            if !state.results.is_empty() || is_free || state.is_ended {
                state.is_waited_for = false;
                let results = std::mem::take(&mut state.results);
                let is_ended = state.is_ended;
                drop(state);
                self.work.notify_all();
                return Ready { results, frontier, is_ended };
            }
            state.is_waited_for = true;
            self.work.notify_all();
            self.ready.wait(&mut state);
        }
    }
}

impl<F, R> State<F, R> {
    fn frontier(&self) -> Option<i64> {
        let tasks = self.tasks.peek().map(|task| task.bound);
        self.running.iter().copied().chain(tasks).max()
    }
}

/// Ends the queue when its thread does, however that comes: nobody waits for a
/// thread that panicked.
pub(crate) struct EndOnPanic<'q, F, R>(pub(crate) &'q Queue<F, R>);

impl<F, R> Drop for EndOnPanic<'_, F, R> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.end();
        }
    }
}
