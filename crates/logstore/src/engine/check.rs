//! Tests of one value: what a condition asks of a text, a number, or a value that
//! is kept as JSON. A value that is not there never gets here.

use std::{borrow::Cow, collections::HashSet};

use domain::{
    fields::Kind,
    glob::Glob,
    query::{Comparison, Literal, Test},
    time::Timestamp,
};
use regex::{Regex, RegexBuilder};

use super::EngineError;

/// From the least severe on.
pub(crate) const LEVELS: [&str; 5] = ["trace", "debug", "info", "warn", "error"];
/// A regular expression may compile to so much.
const REGEX_BYTES_MAX: usize = 1024 * 1024;
/// From so many texts on, a table is faster than comparing with each.
const ANY_TABLE_MIN: usize = 9;

/// A test of a text.
#[derive(Debug)]
pub(crate) enum TextCheck {
    Any(Vec<String>),
    AnyOfMany(HashSet<String>),
    Like(Glob),
    Regex(Regex),
    Contains(Folded),
    /// `level>=warn`.
    Severity(Comparison, usize),
    Order(Comparison, String),
}

impl TextCheck {
    /// `None` stands for [`Test::Present`].
    pub(crate) fn new(field: &str, test: &Test) -> Result<Option<Self>, EngineError> {
        Ok(Some(match test {
            Test::Present => return Ok(None),
            Test::Any(literals) => Self::any(literals.iter().map(text_of).collect()),
            Test::Like(glob) => Self::Like(glob.clone()),
            Test::Regex(pattern) => Self::Regex(compile_regex(pattern)?),
            Test::Compare(comparison, literal) => {
                let text = text_of(literal);
                match severity(&text).filter(|_| field == "level") {
                    Some(severity) => Self::Severity(*comparison, severity),
                    None => Self::Order(*comparison, text),
                }
            }
        }))
    }

    pub(crate) fn any(texts: Vec<String>) -> Self {
        match texts.len() < ANY_TABLE_MIN {
            true => Self::Any(texts),
            false => Self::AnyOfMany(texts.into_iter().collect()),
        }
    }

    pub(crate) fn holds(&self, value: &str) -> bool {
        match self {
            Self::Any(texts) => texts.iter().any(|text| text == value),
            Self::AnyOfMany(texts) => texts.contains(value),
            Self::Like(glob) => glob.matches(value),
            Self::Regex(regex) => regex.is_match(value),
            Self::Contains(folded) => folded.is_in(value),
            Self::Severity(comparison, least) => {
                severity(value).is_some_and(|severity| compare(*comparison, &severity, least))
            }
            Self::Order(comparison, text) => compare(*comparison, value, text.as_str()),
        }
    }
}

fn compile_regex(pattern: &str) -> Result<Regex, EngineError> {
    let mut builder = RegexBuilder::new(pattern);
    builder.size_limit(REGEX_BYTES_MAX).dfa_size_limit(REGEX_BYTES_MAX);
    builder.build().map_err(|error| EngineError::Question(format!("regular expression: {error}")))
}

fn severity(level: &str) -> Option<usize> {
    LEVELS.iter().position(|known| known.eq_ignore_ascii_case(level))
}

pub(crate) fn compare<T: PartialOrd + ?Sized>(comparison: Comparison, a: &T, b: &T) -> bool {
    match comparison {
        Comparison::Less => a < b,
        Comparison::LessOrEqual => a <= b,
        Comparison::Greater => a > b,
        Comparison::GreaterOrEqual => a >= b,
    }
}

/// A literal as it would stand in a text field.
pub(crate) fn text_of(literal: &Literal) -> String {
    match literal {
        Literal::Text(text) => text.clone(),
        Literal::Integer(number) => number.to_string(),
        Literal::Number(number) => number.to_string(),
        Literal::Boolean(value) => value.to_string(),
        Literal::Time(time) => time.to_string(),
    }
}

fn number_of(literal: &Literal) -> Option<f64> {
    match literal {
        Literal::Integer(number) => Some(*number as f64),
        Literal::Number(number) => Some(*number),
        Literal::Text(text) => text.parse().ok().filter(|number: &f64| number.is_finite()),
        Literal::Time(time) => Some(time.as_micros() as f64),
        Literal::Boolean(_) => None,
    }
}

/// A word, found whatever its case.
#[derive(Debug)]
pub(crate) struct Folded {
    /// In lower case.
    term: String,
    /// Finds it in text of ASCII alone, which nearly all is.
    ascii: regex::bytes::Regex,
}

impl Folded {
    pub(crate) fn new(term: &str) -> Result<Self, EngineError> {
        let term = term.to_lowercase();
        let mut builder = regex::bytes::RegexBuilder::new(&regex::escape(&term));
        // Only ASCII is looked at with it, so Unicode's folds are not needed.
        builder.case_insensitive(true).unicode(!term.is_ascii());
        builder.size_limit(16 * REGEX_BYTES_MAX);
        let ascii = builder
            .build()
            .map_err(|error| EngineError::Question(format!("word to look for: {error}")))?;
        Ok(Self { term, ascii })
    }

    pub(crate) fn is_in(&self, value: &str) -> bool {
        match value.is_ascii() {
            true => self.ascii.is_match(value.as_bytes()),
            false => value.to_lowercase().contains(&self.term),
        }
    }
}

/// Whole numbers (and times, as microseconds): any of some ranges, both ends
/// included.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ranges(pub(crate) Vec<(i64, i64)>);

impl Ranges {
    /// `None`: not a test of order or equality.
    pub(crate) fn new(test: &Test) -> Option<Self> {
        match test {
            Test::Any(literals) => {
                Some(Self(literals.iter().filter_map(exactly).map(|n| (n, n)).collect()))
            }
            Test::Compare(comparison, literal) => {
                Some(Self(range(*comparison, literal).into_iter().collect()))
            }
            Test::Present | Test::Like(_) | Test::Regex(_) => None,
        }
    }

    pub(crate) fn holds(&self, value: i64) -> bool {
        self.0.iter().any(|(from, to)| *from <= value && value <= *to)
    }

    /// Whether any number between two may hold.
    pub(crate) fn meets(&self, least: i64, most: i64) -> bool {
        self.0.iter().any(|(from, to)| *from <= most && least <= *to)
    }
}

/// The whole number that a literal is.
fn exactly(literal: &Literal) -> Option<i64> {
    match literal {
        Literal::Integer(number) => i64::try_from(*number).ok(),
        Literal::Time(time) => Some(time.as_micros()),
        Literal::Number(number) if number.fract() == 0.0 => Some(*number as i64),
        Literal::Text(text) => text.parse().ok(),
        Literal::Number(_) | Literal::Boolean(_) => None,
    }
}

fn range(comparison: Comparison, literal: &Literal) -> Option<(i64, i64)> {
    let range = match exact_bound(literal) {
        Some(bound) => match comparison {
            Comparison::Less => (i64::MIN, bound.checked_sub(1)?),
            Comparison::LessOrEqual => (i64::MIN, bound),
            Comparison::Greater => (bound.checked_add(1)?, i64::MAX),
            Comparison::GreaterOrEqual => (bound, i64::MAX),
        },
        // Conversions of floats saturate.
        None => {
            let bound = number_of(literal).filter(|bound| !bound.is_nan())?;
            match comparison {
                Comparison::Less => (i64::MIN, ((bound.ceil() as i64).checked_sub(1))?),
                Comparison::LessOrEqual => (i64::MIN, bound.floor() as i64),
                Comparison::Greater => ((bound.floor() as i64).checked_add(1)?, i64::MAX),
                Comparison::GreaterOrEqual => (bound.ceil() as i64, i64::MAX),
            }
        }
    };
    Some(range)
}

/// As [`exactly`]; a number past every value of a column is the last one.
fn exact_bound(literal: &Literal) -> Option<i64> {
    match literal {
        Literal::Integer(number) => Some(i64::try_from(*number).unwrap_or(i64::MAX)),
        other => exactly(other),
    }
}

/// A test of a number with a fraction.
#[derive(Debug)]
pub(crate) enum NumberCheck {
    Any(Vec<f64>),
    Compare(Comparison, f64),
}

impl NumberCheck {
    pub(crate) fn new(test: &Test) -> Option<Self> {
        match test {
            Test::Any(literals) => Some(Self::Any(literals.iter().filter_map(number_of).collect())),
            Test::Compare(comparison, literal) => Some(match number_of(literal) {
                Some(number) => Self::Compare(*comparison, number),
                None => Self::Any(Vec::new()),
            }),
            Test::Present | Test::Like(_) | Test::Regex(_) => None,
        }
    }

    pub(crate) fn holds(&self, value: f64) -> bool {
        match self {
            Self::Any(numbers) => numbers.contains(&value),
            Self::Compare(comparison, number) => compare(*comparison, &value, number),
        }
    }

    pub(crate) fn meets(&self, least: f64, most: f64) -> bool {
        match self {
            Self::Any(numbers) => numbers.iter().any(|n| least <= *n && *n <= most),
            Self::Compare(Comparison::Less, number) => least < *number,
            Self::Compare(Comparison::LessOrEqual, number) => least <= *number,
            Self::Compare(Comparison::Greater, number) => most > *number,
            Self::Compare(Comparison::GreaterOrEqual, number) => most >= *number,
        }
    }
}

/// A test of a value that is kept as JSON, because no column has its name.
#[derive(Debug)]
pub(crate) enum JsonCheck {
    Present,
    Any(Vec<Literal>),
    Text(TextCheck),
    Compare(Comparison, Literal),
}

impl JsonCheck {
    pub(crate) fn new(test: &Test) -> Result<Self, EngineError> {
        Ok(match test {
            Test::Any(literals) => Self::Any(literals.clone()),
            Test::Compare(comparison, literal) => Self::Compare(*comparison, literal.clone()),
            other => match TextCheck::new("", other)? {
                Some(check) => Self::Text(check),
                None => Self::Present,
            },
        })
    }

    /// Whether the value under `name` in an object of JSON texts holds. Dots in
    /// a name reach into objects.
    pub(crate) fn holds_in<'a>(
        &self,
        name: &str,
        mut value_of: impl FnMut(&str) -> Option<&'a str>,
    ) -> bool {
        if let Some(json) = value_of(name) {
            return self.holds(json);
        }
        name.match_indices('.').any(|(dot, _)| {
            let inner = value_of(&name[..dot]).and_then(|json| member(json, &name[dot + 1..]));
            inner.is_some_and(|json| self.holds(&json))
        })
    }

    pub(crate) fn holds(&self, json: &str) -> bool {
        if json == "null" {
            return false;
        }
        let text = unquoted(json);
        match self {
            Self::Present => true,
            Self::Any(literals) => literals.iter().any(|literal| equals(literal, &text)),
            Self::Text(check) => check.holds(&text),
            Self::Compare(comparison, literal) => {
                match (number_of(literal), number_in(&text), literal) {
                    (Some(bound), Some(value), literal) if !matches!(literal, Literal::Time(_)) => {
                        compare(*comparison, &value, &bound)
                    }
                    (_, _, Literal::Time(bound)) => Timestamp::parse(&text)
                        .is_some_and(|value| compare(*comparison, &value, bound)),
                    (_, _, Literal::Text(bound)) => match (severity(&text), severity(bound)) {
                        (Some(value), Some(bound)) => compare(*comparison, &value, &bound),
                        _ => compare(*comparison, &*text, bound.as_str()),
                    },
                    _ => false,
                }
            }
        }
    }
}

fn number_in(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

fn equals(literal: &Literal, text: &str) -> bool {
    match literal {
        Literal::Text(wanted) => wanted == text,
        Literal::Integer(_) | Literal::Number(_) => {
            number_in(text).is_some_and(|value| number_of(literal) == Some(value))
        }
        Literal::Boolean(wanted) => text == if *wanted { "true" } else { "false" },
        Literal::Time(wanted) => Timestamp::parse(text) == Some(*wanted),
    }
}

/// The text of a JSON string; of anything else, its JSON.
pub(crate) fn unquoted(json: &str) -> Cow<'_, str> {
    match json.starts_with('"') {
        true => match serde_json::from_str::<String>(json) {
            Ok(text) => Cow::Owned(text),
            Err(_) => Cow::Borrowed(json),
        },
        false => Cow::Borrowed(json),
    }
}

/// What lies under a dotted name inside a JSON object.
fn member(json: &str, name: &str) -> Option<String> {
    let value: serde_json::Value = serde_json::from_str(json).ok()?;
    let mut value = &value;
    let mut rest = name;
    loop {
        if let Some(found) = value.get(rest) {
            return Some(found.to_string());
        }
        let (first, behind) = rest.split_once('.')?;
        value = value.get(first)?;
        rest = behind;
    }
}

/// Whether a kind of field is kept as whole numbers.
pub(crate) const fn is_whole(kind: Kind) -> bool {
    matches!(kind, Kind::Integer | Kind::Time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comparisons_become_ranges() {
        let check = |comparison, literal: Literal, expected: Option<(i64, i64)>| {
            assert_eq!(range(comparison, &literal), expected, "{comparison:?} {literal:?}");
        };
        check(Comparison::Greater, Literal::Integer(4), Some((5, i64::MAX)));
        check(Comparison::Greater, Literal::Number(4.5), Some((5, i64::MAX)));
        check(Comparison::GreaterOrEqual, Literal::Number(4.5), Some((5, i64::MAX)));
        check(Comparison::Less, Literal::Number(4.5), Some((i64::MIN, 4)));
        check(Comparison::LessOrEqual, Literal::Number(4.0), Some((i64::MIN, 4)));
        check(Comparison::Greater, Literal::Integer(u64::MAX), None);
        check(Comparison::Less, Literal::Number(f64::NAN), None);
        check(Comparison::Less, Literal::Boolean(true), None);
    }

    #[test]
    fn words_are_found_whatever_their_case() {
        let check = |term: &str, value: &str, expected: bool| {
            assert_eq!(Folded::new(term).expect("valid").is_in(value), expected, "{term} {value}");
        };
        check("timeout", "A TimeOut.", true);
        check("timeout", "time out", false);
        check("a.b", "axb", false);
        check("über", "ÜBERLAST", true);
        check("kelvin", "\u{212a}elvin", true);
        check("", "", true);
    }

    #[test]
    fn values_kept_as_json_are_compared_by_what_they_are() {
        let check = |test: Test, json: &str, expected: bool| {
            let check = JsonCheck::new(&test).expect("valid");
            assert_eq!(check.holds(json), expected, "{test:?} {json}");
        };
        let greater = |literal| Test::Compare(Comparison::Greater, literal);
        check(Test::Any(vec![Literal::Text("5".into())]), "5", true);
        check(Test::Any(vec![Literal::Text("a b".into())]), "\"a b\"", true);
        check(Test::Any(vec![Literal::Integer(5)]), "5.0", true);
        check(greater(Literal::Text("9".into())), "10", true);
        check(greater(Literal::Text("9".into())), "\"10\"", true);
        check(greater(Literal::Text("a".into())), "\"b\"", true);
        check(Test::Present, "null", false);
        check(Test::Present, "false", true);
        let nested = JsonCheck::new(&Test::Any(vec![Literal::Integer(1)])).expect("valid");
        let map = |key: &str| (key == "a").then_some("{\"b\":{\"c\":1},\"d.e\":1}");
        assert!(nested.holds_in("a.b.c", map));
        assert!(nested.holds_in("a.d.e", map));
        assert!(!nested.holds_in("a.b", map));
    }
}
