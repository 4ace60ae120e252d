//! The language of statistics: `count, p95(duration_ms) by model`.

use super::{
    GROUP_FIELDS_MAX, MEASURES_MAX, QUERY_BYTES_MAX, QueryError,
    cursor::Item,
    literal::parse_duration,
    names::{Names, first, nearest, resolve_item},
    tree::{FieldRef, Function, Measure, Stats},
};
use crate::fields::Kind;

/// Parses measures and what they are grouped by, about our own lines.
pub fn parse_stats(text: &str) -> Result<Stats, QueryError> {
    Parser { text, at: 0, names: Names::Ours }.parse()
}

/// The same about the lines of others: every name is a key of theirs.
pub fn parse_stats_for_foreign(text: &str) -> Result<Stats, QueryError> {
    Parser { text, at: 0, names: Names::Foreign }.parse()
}

/// The length of a time bucket in microseconds: a second to a year.
pub fn parse_bucket(text: &str) -> Result<i64, QueryError> {
    let micros = parse_duration(text).filter(|micros| (1e6..=366.0 * 8.64e10).contains(micros));
    let wrong = || QueryError::new(0..text.len(), "expected 1s, 5m, 1h or 1d, at most 366d");
    micros.map(|micros| micros as i64).ok_or_else(wrong)
}

const FUNCTIONS: &[(&str, Function)] = &[
    ("count", Function::Count),
    ("sum", Function::Sum),
    ("avg", Function::Average),
    ("mean", Function::Average),
    ("min", Function::Minimum),
    ("max", Function::Maximum),
    ("median", Function::Quantile(0.5)),
    ("distinct", Function::Distinct),
];

struct Parser<'t> {
    text: &'t str,
    at: usize,
    names: Names,
}

impl Parser<'_> {
    fn parse(mut self) -> Result<Stats, QueryError> {
        if self.text.len() > QUERY_BYTES_MAX {
            return Err(QueryError::new(0..0, "the statistics are too long"));
        }
        let mut measures = vec![self.measure()?];
        while self.eat(",") {
            measures.push(self.measure()?);
            if measures.len() > MEASURES_MAX {
                let message = format!("more than {MEASURES_MAX} measures");
                return Err(QueryError::new(self.at..self.at, message));
            }
        }
        let mut by = Vec::new();
        let word = self.word();
        if word.text == "by" {
            by.push(self.field()?);
            while self.eat(",") {
                let field = self.field()?;
                if by.len() == GROUP_FIELDS_MAX {
                    let message = format!("at most {GROUP_FIELDS_MAX} fields to group by");
                    return Err(QueryError::new(self.at..self.at, message));
                }
                by.push(field);
            }
        } else if !word.text.is_empty() {
            let message = "expected a comma, or 'by' and fields to group by";
            return Err(QueryError::new(word.at, message));
        }
        self.skip_spaces();
        if self.at < self.text.len() {
            let message = "expected the end, a comma, or 'by' and fields to group by";
            return Err(QueryError::new(self.at..self.text.len(), message));
        }
        Ok(Stats { measures, by, bucket_micros: None })
    }

    fn measure(&mut self) -> Result<Measure, QueryError> {
        let name = self.word();
        let function = function(&name)?;
        if !self.eat("(") {
            return match function {
                Function::Count => Ok(Measure { function, field: None }),
                _ => {
                    let message = format!("{0} needs a field: {0}(duration_ms)", name.text);
                    Err(QueryError::new(name.at, message))
                }
            };
        }
        // `count()` and `count(*)` as in SQL.
        let begin = self.at;
        if function == Function::Count && (self.eat("*") || self.rest().starts_with(')')) {
            return self.close(begin).map(|()| Measure { function, field: None });
        }
        let at = self.at;
        let field = self.field()?;
        check(function, &field).map_err(|message| QueryError::new(at..self.at, message))?;
        self.close(begin)?;
        Ok(Measure { function, field: Some(field) })
    }

    fn close(&mut self, begin: usize) -> Result<(), QueryError> {
        match self.eat(")") {
            true => Ok(()),
            false => Err(QueryError::new(begin - 1..begin, "the parenthesis is not closed")),
        }
    }

    fn field(&mut self) -> Result<FieldRef, QueryError> {
        let name = match self.rest().trim_start().starts_with('"') {
            true => self.quoted()?,
            false => self.word(),
        };
        if name.text.is_empty() {
            return Err(QueryError::new(name.at, "a field is missing here"));
        }
        let field = first(resolve_item(self.names, &name)?, &name)?;
        match field {
            FieldRef::Known(known) if known.kind == Kind::Labels => {
                let message = format!("{0} holds many: name one, as in {0}.team", known.name);
                Err(QueryError::new(name.at, message))
            }
            field => Ok(field),
        }
    }

    fn quoted(&mut self) -> Result<Item, QueryError> {
        self.skip_spaces();
        let mut cursor = super::cursor::Cursor { text: self.text, at: self.at };
        let item = cursor.quoted()?;
        self.at = cursor.at;
        Ok(item)
    }

    /// The characters of a name; none is an empty word.
    fn word(&mut self) -> Item {
        self.skip_spaces();
        let rest = self.rest();
        let is_name = |c: char| c.is_alphanumeric() || "_.@-".contains(c);
        let length = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
        let text = rest[..length].to_owned();
        let at = self.at..self.at + length;
        self.at = at.end;
        Item { text, quoted: false, at }
    }

    fn eat(&mut self, wanted: &str) -> bool {
        self.skip_spaces();
        let found = self.rest().starts_with(wanted);
        self.at += if found { wanted.len() } else { 0 };
        found
    }

    fn skip_spaces(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or_default()
    }
}

fn function(name: &Item) -> Result<Function, QueryError> {
    let text = name.text.to_ascii_lowercase();
    let known = FUNCTIONS.iter().find(|(known, _)| *known == text);
    let quantile = || {
        let percent: f64 = text.strip_prefix('p')?.parse().ok()?;
        (percent > 0.0 && percent < 100.0).then_some(Function::Quantile(percent / 100.0))
    };
    if let Some(function) = known.map(|(_, function)| *function).or_else(quantile) {
        return Ok(function);
    }
    let names = FUNCTIONS.iter().map(|(known, _)| *known);
    let nearest = nearest(&text, names.clone()).filter(|_| !text.is_empty());
    let names = names.filter(|known| *known != "mean").collect::<Vec<_>>().join(", ");
    let message = format!("expected a measure: {names}, or a percentile such as p95");
    Err(QueryError::new(name.at.clone(), message).suggesting(nearest))
}

/// What a function makes no sense of.
fn check(function: Function, field: &FieldRef) -> Result<(), String> {
    let FieldRef::Known(known) = field else { return Ok(()) };
    let is_number = matches!(known.kind, Kind::Integer | Kind::Number | Kind::Decimal);
    let fits = match function {
        Function::Count | Function::Distinct => true,
        Function::Minimum | Function::Maximum => known.kind.is_ordered(),
        Function::Sum | Function::Average | Function::Quantile(_) => is_number,
    };
    let name = known.name;
    if fits { Ok(()) } else { Err(format!("{name} is no number, so it has no {function}")) }
}
