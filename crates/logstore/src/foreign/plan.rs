//! A question made ready to be asked of lines: which keys are wanted, what the
//! condition is on their values, and what must stand in a line that meets it.

use std::sync::Arc;

use domain::{
    query::{Expr, FieldRef, Test},
    time::Timestamp,
};

use super::{
    folded::{Folded, fold},
    json::{Found, Wanted, unescape},
    needle::Driver,
    value::{ValueTest, time_of},
};
use crate::engine::EngineError;

/// Where the time of a line stands: in the first of these that reads as one.
pub(super) const TIME_FIELDS: [&str; 4] = ["ts", "timestamp", "time", "@timestamp"];

/// From, itself included, and before.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TimeRange {
    pub(super) since: Option<Timestamp>,
    pub(super) until: Option<Timestamp>,
}

impl TimeRange {
    pub(super) fn contains(self, time: Timestamp) -> bool {
        self.since.is_none_or(|since| time >= since) && self.until.is_none_or(|until| time < until)
    }
}

#[derive(Debug)]
pub(super) struct Plan {
    condition: Condition,
    wanted: Wanted,
    /// The first of the paths of time, if lines are asked for theirs.
    time_path: usize,
    /// The paths that the caller asked for, in its order.
    asked_path: usize,
    /// Each of them admits every line that matches.
    drivers: Vec<Driver>,
}

#[derive(Debug)]
enum Condition {
    Always,
    And(Vec<Condition>),
    Or(Vec<Condition>),
    Not(Box<Condition>),
    Text(TextTest),
    Field(usize, Arc<ValueTest>),
    Time(TimeRange),
}

#[derive(Debug)]
struct TextTest {
    folded: Vec<u8>,
    /// For texts of ASCII alone.
    finder: Option<Folded>,
}

impl Plan {
    /// `asked` are paths whose values the caller wants of lines that match.
    pub(super) fn new(
        expr: &Expr,
        range: TimeRange,
        asked: &[FieldRef],
    ) -> Result<Self, EngineError> {
        let mut maker = Maker::default();
        let mut conditions = vec![maker.condition(expr)?];
        if range.since.is_some() || range.until.is_some() {
            conditions.push(Condition::Time(range));
        }
        let condition = Condition::And(conditions);
        let drivers = condition.drivers(&maker.paths);
        let time_path = maker.paths.len();
        maker.paths.extend(TIME_FIELDS.map(str::to_owned));
        let asked_path = maker.paths.len();
        maker.paths.extend(asked.iter().map(path_of));
        let wanted = Wanted::new(&maker.paths);
        Ok(Self { condition, wanted, time_path, asked_path, drivers })
    }

    pub(super) fn drivers(&self) -> &[Driver] {
        &self.drivers
    }

    /// Whether every line matches, whatever it says.
    pub(super) fn is_always(&self) -> bool {
        match &self.condition {
            Condition::And(parts) => parts.iter().all(|part| matches!(part, Condition::Always)),
            _ => false,
        }
    }

    /// Something to read lines with; a thread has its own.
    pub(super) fn reader(&self) -> LineReader<'_> {
        LineReader { plan: self, found: Found::default(), is_read: false, resolved: None }
    }
}

/// Reads one line after the other.
#[derive(Debug)]
pub(super) struct LineReader<'p> {
    plan: &'p Plan,
    found: Found,
    /// Values are looked for when somebody asks for one.
    is_read: bool,
    /// The line with its escapes resolved, in small letters, when a text asked.
    resolved: Option<Vec<u8>>,
}

impl LineReader<'_> {
    pub(super) fn matches(&mut self, line: &[u8]) -> bool {
        self.is_read = false;
        self.resolved = None;
        let plan = self.plan;
        self.holds(&plan.condition, line)
    }

    /// The value of the n-th path that was asked for, of the line that matched.
    pub(super) fn asked<'l>(&mut self, nth: usize, line: &'l [u8]) -> Option<&'l [u8]> {
        self.value(self.plan.asked_path + nth, line)
    }

    pub(super) fn time(&mut self, line: &[u8]) -> Option<Timestamp> {
        let paths = self.plan.time_path..self.plan.time_path + TIME_FIELDS.len();
        paths.into_iter().find_map(|path| time_of(self.value(path, line)?))
    }

    fn value<'l>(&mut self, path: usize, line: &'l [u8]) -> Option<&'l [u8]> {
        if !self.is_read {
            self.plan.wanted.read(line, &mut self.found);
            self.is_read = true;
        }
        self.plan.wanted.value(path, line, &self.found)
    }

    fn holds(&mut self, condition: &Condition, line: &[u8]) -> bool {
        match condition {
            Condition::Always => true,
            Condition::And(parts) => parts.iter().all(|part| self.holds(part, line)),
            Condition::Or(parts) => parts.iter().any(|part| self.holds(part, line)),
            Condition::Not(part) => !self.holds(part, line),
            Condition::Text(text) => self.has_text(text, line),
            Condition::Field(path, test) => {
                self.value(*path, line).is_some_and(|value| test.holds(value))
            }
            Condition::Time(range) => self.time(line).is_some_and(|time| range.contains(time)),
        }
    }

    /// In the line as it stands, or with its escapes resolved.
    fn has_text(&mut self, text: &TextTest, line: &[u8]) -> bool {
        if let Some(finder) = &text.finder {
            if finder.find(line, 0).is_some() {
                return true;
            }
            if memchr::memchr(b'\\', line).is_none() {
                return false;
            }
        } else if memchr::memmem::find(&fold(line), &text.folded).is_some() {
            return true;
        }
        let resolved = self.resolved.get_or_insert_with(|| fold(&unescape(line)).into_owned());
        memchr::memmem::find(resolved, &text.folded).is_some()
    }
}

/// The key, with dots, under which a line has what a query names.
pub(super) fn path_of(field: &FieldRef) -> String {
    match field {
        FieldRef::Known(known) => known.name.to_owned(),
        FieldRef::Label(name) => format!("labels.{name}"),
        FieldRef::Attribute(name) => name.clone(),
    }
}

#[derive(Default)]
struct Maker {
    paths: Vec<String>,
}

impl Maker {
    fn condition(&mut self, expr: &Expr) -> Result<Condition, EngineError> {
        let mut all = |parts: &[Expr]| {
            let parts = parts.iter().map(|part| self.condition(part));
            let mut parts = parts.collect::<Result<Vec<_>, _>>()?;
            // Texts need no values: they come first.
            parts.sort_by_key(|part| !matches!(part, Condition::Text(_) | Condition::Always));
            Ok::<_, EngineError>(parts)
        };
        Ok(match expr {
            Expr::All => Condition::Always,
            Expr::And(parts) => Condition::And(all(parts)?),
            Expr::Or(parts) => Condition::Or(all(parts)?),
            Expr::Not(part) => Condition::Not(Box::new(self.condition(part)?)),
            Expr::Text(text) => {
                let folded = fold(text.as_bytes()).into_owned();
                let finder = text.is_ascii().then(|| Folded::new(text));
                Condition::Text(TextTest { folded, finder })
            }
            Expr::Field(field, test) => self.field(&path_of(field), test)?,
        })
    }

    fn field(&mut self, path: &str, test: &Test) -> Result<Condition, EngineError> {
        let test = ValueTest::new(path, test).map_err(EngineError::Question)?;
        let known = self.paths.iter().position(|known| known == path);
        let index = known.unwrap_or_else(|| {
            self.paths.push(path.to_owned());
            self.paths.len() - 1
        });
        Ok(Condition::Field(index, Arc::new(test)))
    }
}

impl Condition {
    /// Every way known to find the lines that may meet this.
    fn drivers(&self, paths: &[String]) -> Vec<Driver> {
        match self {
            Self::Always | Self::Not(_) => Vec::new(),
            Self::And(parts) => parts.iter().flat_map(|part| part.drivers(paths)).collect(),
            Self::Or(parts) => {
                // One for each alternative, or none at all.
                let firsts = parts.iter().map(|part| part.drivers(paths).into_iter().next());
                let firsts: Option<Vec<Driver>> = firsts.collect();
                firsts.filter(|all| !all.is_empty()).and_then(Driver::either).into_iter().collect()
            }
            Self::Text(text) => {
                let text = std::str::from_utf8(&text.folded).ok();
                text.and_then(Driver::text).into_iter().collect()
            }
            Self::Field(path, test) => {
                let key = paths.get(*path).and_then(|path| Driver::key(path, test));
                let literal = match &**test {
                    ValueTest::Any(_) => test.texts().and_then(|texts| Driver::strings(&texts)),
                    // A number or an object can match a pattern too, as it is written.
                    ValueTest::Like(glob) => {
                        let parts = glob.as_str().split('*');
                        parts.max_by_key(|part| part.len()).and_then(Driver::part)
                    }
                    _ => None,
                };
                key.into_iter().chain(literal).collect()
            }
            Self::Time(range) => vec![Driver::time(*range)],
        }
    }
}
