//! What must stand in the raw line of every match, so that most lines of the
//! journal are passed over without being parsed.
//!
//! Sound because every line was written by [`domain::json`]: without blanks, and
//! with escapes only where JSON or a terminal needs them.

use domain::{
    fields::Kind,
    query::{Expr, FieldRef, Literal, Test},
};
use memchr::memmem::Finder;

use super::EngineError;
use crate::segment::{Dataset, column_of};

/// More alternatives than this are not looked for together.
const NEEDLES_MAX: usize = 16;

/// Texts of which a line must hold one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Needles {
    texts: Vec<Vec<u8>>,
    /// ASCII letters match whatever their case.
    folded: bool,
}

impl Needles {
    /// How much it leaves out, as a guess.
    pub(crate) fn weight(&self) -> usize {
        let shortest = self.texts.iter().map(Vec::len).min().unwrap_or_default();
        shortest * 4 / (self.texts.len() + usize::from(self.folded)).max(1)
    }
}

/// Finds lines that may match in many lines.
#[derive(Debug)]
pub(crate) struct Prefilter {
    finders: Vec<Find>,
    /// Bytes of the longest text that the first of them looks for.
    longest: usize,
}

#[derive(Debug)]
enum Find {
    One(Box<Finder<'static>>),
    Any(regex::bytes::Regex),
}

impl Find {
    fn at(&self, hay: &[u8]) -> Option<usize> {
        match self {
            Self::One(finder) => finder.find(hay),
            Self::Any(regex) => regex.find(hay).map(|found| found.start()),
        }
    }
}

impl Prefilter {
    pub(crate) fn new(needles: &[Needles]) -> Result<Self, EngineError> {
        let finder = |needles: &Needles| match needles.texts.as_slice() {
            [one] if !needles.folded => Ok(Find::One(Box::new(Finder::new(one).into_owned()))),
            any => {
                let texts = any.iter().map(|text| regex::escape(&String::from_utf8_lossy(text)));
                let pattern = texts.collect::<Vec<_>>().join("|");
                let mut builder = regex::bytes::RegexBuilder::new(&pattern);
                builder.unicode(false).case_insensitive(needles.folded).size_limit(16 << 20);
                let regex = builder.build();
                regex.map(Find::Any).map_err(|error| EngineError::Question(error.to_string()))
            }
        };
        let longest = needles.first().and_then(|n| n.texts.iter().map(Vec::len).max());
        Ok(Self {
            finders: needles.iter().map(finder).collect::<Result<_, _>>()?,
            longest: longest.unwrap_or_default(),
        })
    }

    /// What two pieces of a text must share so that nothing between them is
    /// missed; `None`: every line may match.
    pub(crate) fn overlap(&self) -> Option<usize> {
        (!self.finders.is_empty()).then_some(self.longest)
    }

    /// Whether a line that may match, or a part of it that says so, is in `bytes`.
    pub(crate) fn is_in(&self, bytes: &[u8]) -> bool {
        self.finders.first().is_none_or(|finder| finder.at(bytes).is_some())
    }

    /// The first line of `lines` from `from` on (where a line begins) that may
    /// match, without its newline: where it begins and ends.
    pub(crate) fn next_line(&self, lines: &[u8], mut from: usize) -> Option<(usize, usize)> {
        while from < lines.len() {
            let start = match self.finders.first() {
                None => from,
                Some(first) => {
                    let at = from + first.at(&lines[from..])?;
                    memchr::memrchr(b'\n', &lines[from..at]).map_or(from, |end| from + end + 1)
                }
            };
            let length = memchr::memchr(b'\n', &lines[start..]).unwrap_or(lines.len() - start);
            let line = &lines[start..start + length];
            if self.finders.iter().skip(1).all(|finder| finder.at(line).is_some()) {
                return Some((start, start + length));
            }
            from = start + length + 1;
        }
        None
    }

    /// Whether one line may match.
    pub(crate) fn may_match(&self, line: &[u8]) -> bool {
        self.finders.iter().all(|finder| finder.at(line).is_some())
    }
}

/// What every line that meets `expr` holds, if that is known.
pub(crate) fn required(expr: &Expr, dataset: Dataset, bodies: bool) -> Option<Needles> {
    match expr {
        Expr::And(all) => all
            .iter()
            .filter_map(|expr| required(expr, dataset, bodies))
            .max_by_key(Needles::weight),
        Expr::Or(any) => {
            let mut texts = Vec::new();
            let mut folded = false;
            for expr in any {
                let needles = required(expr, dataset, bodies)?;
                folded |= needles.folded;
                texts.extend(needles.texts);
            }
            of_texts(texts, folded)
        }
        Expr::Text(word) if !bodies => word_needle(word),
        Expr::Field(field, test) => of_test(field, test, dataset),
        Expr::All | Expr::Not(_) | Expr::Text(_) => None,
    }
}

fn of_texts(texts: Vec<Vec<u8>>, folded: bool) -> Option<Needles> {
    (!texts.is_empty() && texts.len() <= NEEDLES_MAX).then_some(Needles { texts, folded })
}

/// Letters that also other letters than ASCII's become in lower case (the
/// Kelvin sign, the dotted capital I) cannot be looked for.
fn word_needle(word: &str) -> Option<Needles> {
    let plain = |b: &u8| is_plain(*b) && !matches!(b.to_ascii_lowercase(), b'k' | b'i');
    let run = word.as_bytes().split(|b| !plain(b)).max_by_key(|run| run.len())?;
    (!run.is_empty()).then(|| Needles { texts: vec![run.to_vec()], folded: true })
}

/// Whether a byte of a text stands in a line as it is.
fn is_plain(byte: u8) -> bool {
    matches!(byte, 0x20..=0x7e) && byte != b'"' && byte != b'\\'
}

fn of_test(field: &FieldRef, test: &Test, dataset: Dataset) -> Option<Needles> {
    match field {
        FieldRef::Known(known) => {
            // Elsewhere it is an attribute, which may be of any type.
            column_of(dataset, known.name)?;
            of_known(known.name, known.kind, test)
        }
        FieldRef::Label(_) if column_of(dataset, "labels").is_some() => match test {
            Test::Any(literals) => quoted(literals),
            Test::Like(glob) => longest_part(glob.as_str()),
            _ => None,
        },
        FieldRef::Label(_) | FieldRef::Attribute(_) => None,
    }
}

fn of_known(name: &str, kind: Kind, test: &Test) -> Option<Needles> {
    match (kind, test) {
        (Kind::Text | Kind::Id, Test::Any(literals)) => quoted(literals),
        (Kind::Text | Kind::Id, Test::Like(glob)) => longest_part(glob.as_str()),
        (Kind::Integer, Test::Any(literals)) => {
            let texts = literals.iter().map(|literal| match literal {
                Literal::Integer(number) => Some(format!("\"{name}\":{number}").into_bytes()),
                _ => None,
            });
            of_texts(texts.collect::<Option<Vec<_>>>()?, false)
        }
        (Kind::Boolean, Test::Any(literals)) => {
            let texts = literals.iter().map(|literal| match literal {
                Literal::Boolean(value) => Some(format!("\"{name}\":{value}").into_bytes()),
                _ => None,
            });
            of_texts(texts.collect::<Option<Vec<_>>>()?, false)
        }
        (_, Test::Present) => of_texts(vec![format!("\"{name}\":").into_bytes()], false),
        _ => None,
    }
}

fn quoted(literals: &[Literal]) -> Option<Needles> {
    let texts = literals.iter().map(|literal| match literal {
        Literal::Text(text) if text.bytes().all(is_plain) => {
            Some(format!("\"{text}\"").into_bytes())
        }
        _ => None,
    });
    of_texts(texts.collect::<Option<Vec<_>>>()?, false)
}

/// The longest text between the stars of a pattern.
fn longest_part(pattern: &str) -> Option<Needles> {
    let part = pattern.as_bytes().split(|b| !is_plain(*b) || *b == b'*').max_by_key(|p| p.len())?;
    (!part.is_empty()).then(|| Needles { texts: vec![part.to_vec()], folded: false })
}

#[cfg(test)]
mod tests {
    use domain::{fields, glob::Glob};

    use super::*;

    fn known(name: &str, test: Test) -> Expr {
        Expr::Field(FieldRef::Known(fields::find(name).expect("a field")), test)
    }

    #[test]
    fn what_a_line_must_hold() {
        let check = |expr: Expr, expected: Option<(&[&str], bool)>| {
            let expected = expected.map(|(texts, folded)| Needles {
                texts: texts.iter().map(|text| text.as_bytes().to_vec()).collect(),
                folded,
            });
            assert_eq!(required(&expr, Dataset::Records, false), expected, "{expr:?}");
        };
        let text = |text: &str| Test::Any(vec![Literal::Text(text.into())]);
        check(known("model", text("gpt-4o")), Some((&["\"gpt-4o\""], false)));
        check(known("model", text("a\"b")), None);
        check(known("model", Test::Like(Glob::new("gpt-4*mini"))), Some((&["gpt-4"], false)));
        check(
            known("status_code", Test::Any(vec![Literal::Integer(500), Literal::Integer(502)])),
            Some((&["\"status_code\":500", "\"status_code\":502"], false)),
        );
        check(Expr::Text("timeout".into()), Some((&["meout"], true)));
        check(Expr::Text("ki".into()), None);
        check(Expr::Not(Box::new(known("model", text("x")))), None);
        check(
            Expr::Or(vec![known("model", text("x")), known("model", text("y"))]),
            Some((&["\"x\"", "\"y\""], false)),
        );
        check(Expr::Or(vec![known("model", text("x")), Expr::All]), None);
        check(Expr::And(vec![Expr::All, known("model", text("x"))]), Some((&["\"x\""], false)));
    }

    #[test]
    fn lines_that_may_match_are_found() {
        let needles = |text: &str, folded| Needles { texts: vec![text.into()], folded };
        let lines = b"{\"a\":1}\n{\"b\":\"X\"}\n{\"b\":\"x\",\"c\":1}\n";
        let check = |all: &[Needles], expected: &[&str]| {
            let prefilter = Prefilter::new(all).expect("valid");
            let mut from = 0;
            let mut found = Vec::new();
            while let Some((start, end)) = prefilter.next_line(lines, from) {
                found.push(std::str::from_utf8(&lines[start..end]).expect("text"));
                from = end + 1;
            }
            assert_eq!(found, expected);
        };
        check(&[], &["{\"a\":1}", "{\"b\":\"X\"}", "{\"b\":\"x\",\"c\":1}"]);
        check(&[needles("\"x\"", false)], &["{\"b\":\"x\",\"c\":1}"]);
        check(&[needles("\"x\"", true)], &["{\"b\":\"X\"}", "{\"b\":\"x\",\"c\":1}"]);
        check(&[needles("\"x\"", true), needles("c", false)], &["{\"b\":\"x\",\"c\":1}"]);
        check(&[needles("zz", false)], &[]);
    }
}
