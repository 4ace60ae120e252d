//! What is asked: a condition, the streams and time it is asked of, the order of
//! the answer, and what answering may cost.

use std::{
    fmt,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use domain::{
    fields::Stream,
    ids::{InstanceId, ProjectId},
    query::Expr,
    time::Timestamp,
};

use super::report::Progress;

/// A question. [`Search::new`] asks for all records, newest first.
#[derive(Clone)]
pub struct Search {
    pub expr: Expr,
    pub streams: Vec<Stream>,
    /// From this moment on, itself included.
    pub since: Option<Timestamp>,
    /// Before this moment.
    pub until: Option<Timestamp>,
    /// Lines of these projects only, whatever the condition says: lines without
    /// a project are left out too.
    pub projects: Option<Vec<ProjectId>>,
    /// Whether words are looked for in captured bodies too.
    pub bodies: bool,
    pub order: Order,
    pub limit: Option<usize>,
    /// Neighbours in time of each match, on both sides, of its stream.
    pub context: usize,
    /// Only what comes behind this line, in the order asked for.
    pub after: Option<Position>,
    pub budget: Budget,
    pub cancel: Cancel,
    /// Called now and then, on any thread.
    pub progress: Option<Tell>,
}

/// Who is told how far a question is.
pub type Tell = Arc<dyn Fn(&Progress) + Send + Sync>;

impl Search {
    pub fn new(expr: Expr) -> Self {
        Self {
            expr,
            streams: vec![Stream::Record],
            since: None,
            until: None,
            projects: None,
            bodies: false,
            order: Order::NewestFirst,
            limit: None,
            context: 0,
            after: None,
            budget: Budget::default(),
            cancel: Cancel::default(),
            progress: None,
        }
    }
}

impl fmt::Debug for Search {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Search")
            .field("expr", &self.expr)
            .field("streams", &self.streams)
            .field("since", &self.since)
            .field("until", &self.until)
            .field("projects", &self.projects)
            .field("order", &self.order)
            .field("limit", &self.limit)
            .field("context", &self.context)
            .field("after", &self.after)
            .field("budget", &self.budget)
            .finish_non_exhaustive()
    }
}

/// Lines are ordered by time, then instance, then number in its journal: a line
/// has one place whichever file it lies in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Order {
    #[default]
    NewestFirst,
    OldestFirst,
}

/// What one question may cost. What does not fit is said, never cut silently.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Held at once for rows, groups and values, beside what reading takes.
    pub memory_bytes: usize,
    /// Rows looked at.
    pub rows_scanned: Option<u64>,
    pub deadline: Option<Instant>,
}

/// Leaves the process below 256 MB with the buffers of two reading threads.
const MEMORY_BYTES: usize = 128 * 1024 * 1024;

impl Default for Budget {
    fn default() -> Self {
        Self { memory_bytes: MEMORY_BYTES, rows_scanned: None, deadline: None }
    }
}

/// Stops a running question from elsewhere: looked at once a page.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The place of one line among all. Its text form is the cursor of the API.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Position {
    pub ts: Timestamp,
    pub instance: InstanceId,
    pub seq: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}.{:x}.{}", self.ts.as_micros(), self.seq, self.instance)
    }
}

/// Not the text of a [`Position`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not a cursor of a search")]
pub struct BadPosition;

impl FromStr for Position {
    type Err = BadPosition;

    fn from_str(text: &str) -> Result<Self, BadPosition> {
        let mut parts = text.splitn(3, '.');
        let mut hex = || {
            let digits = parts.next().filter(|digits| !digits.starts_with('+'))?;
            u64::from_str_radix(digits, 16).ok()
        };
        let (Some(ts), Some(seq)) = (hex(), hex()) else { return Err(BadPosition) };
        let instance = parts.next().and_then(InstanceId::parse).ok_or(BadPosition)?;
        // The sign of a time before 1970 went through the hexadecimal form.
        Ok(Self { ts: Timestamp::from_micros(ts.cast_signed()), instance, seq })
    }
}

/// One line of an answer.
#[derive(Debug)]
pub struct Hit<'a> {
    /// The JSON object as it was written, without a newline.
    pub line: &'a [u8],
    pub position: &'a Position,
    pub stream: Stream,
    /// A neighbour of a match, not a match.
    pub context: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_read_back_exactly() {
        for (ts, seq, instance) in [(0, 1, "a"), (-1, u64::MAX, "eu.west-1"), (i64::MAX, 0, "x")] {
            let instance = InstanceId::parse(instance).expect("valid");
            let position = Position { ts: Timestamp::from_micros(ts), instance, seq };
            assert_eq!(position.to_string().parse(), Ok(position));
        }
        for text in ["", "1", "1.2", "1.2.", "g.1.a", "1.+2.a", "1.2./", "11111111111111111.1.a"] {
            assert_eq!(text.parse::<Position>(), Err(BadPosition), "{text}");
        }
    }
}
