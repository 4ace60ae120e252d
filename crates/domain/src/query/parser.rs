//! The parser of queries: recursive descent, bounded in depth and terms.
//!
//! ```text
//! any    = all { "OR" all }
//! all    = one { [ "AND" ] one }
//! one    = ( "-" | "NOT" ) one | "(" any ")" | term
//! term   = "*" | word | phrase | name operator values
//! values = "*" | "/" regex "/" [ "i" ] | value { "," value }
//! ```

use super::{
    QUERY_BYTES_MAX, QUERY_DEPTH_MAX, QUERY_REGEXES_MAX, QUERY_TERMS_MAX, QueryError,
    cursor::{Cursor, Item, Operator},
    fold,
    literal::{Reading, comparison_test, equality_test, regex_test},
    names::{Names, resolve_item},
    tree::{Expr, FieldRef, Test},
};
use crate::time::Timestamp;

/// Parses a query about our own lines. No text asks for every line. `now` is
/// what times such as `1h` count from.
pub fn parse(text: &str, now: Timestamp) -> Result<Expr, QueryError> {
    Parser::new(text, Names::Ours, now).parse()
}

/// Parses a query about the lines of others: a name that is not known is a key
/// of theirs, short names are not replaced, and a value that does not fit the
/// kind of a known name is compared as text.
pub fn parse_for_foreign(text: &str, now: Timestamp) -> Result<Expr, QueryError> {
    Parser::new(text, Names::Foreign, now).parse()
}

struct Parser<'t> {
    cursor: Cursor<'t>,
    reading: Reading,
    depth: usize,
    terms: usize,
    regexes: usize,
}

impl<'t> Parser<'t> {
    fn new(text: &'t str, names: Names, now: Timestamp) -> Self {
        let reading = Reading { names, now };
        Self { cursor: Cursor::new(text), reading, depth: 0, terms: 0, regexes: 0 }
    }

    fn parse(mut self) -> Result<Expr, QueryError> {
        let length = self.cursor.text.len();
        if length > QUERY_BYTES_MAX {
            let message = format!("the query is longer than {QUERY_BYTES_MAX} bytes");
            return Err(QueryError::new(0..0, message));
        }
        self.cursor.skip_spaces();
        if self.cursor.peek().is_none() {
            return Ok(Expr::All);
        }
        let expr = self.any()?;
        match self.cursor.peek() {
            None => Ok(expr),
            Some(_) => Err(self.wrong_here("this parenthesis closes nothing")),
        }
    }

    fn any(&mut self) -> Result<Expr, QueryError> {
        let mut parts = vec![self.all()?];
        while self.cursor.keyword("OR") {
            self.cursor.skip_spaces();
            parts.push(self.all()?);
        }
        Ok(Expr::or(parts))
    }

    fn all(&mut self) -> Result<Expr, QueryError> {
        let mut parts = vec![self.one()?];
        loop {
            self.cursor.skip_spaces();
            let at = self.cursor.at;
            if self.cursor.keyword("AND") {
                self.cursor.skip_spaces();
                parts.push(self.one()?);
                continue;
            }
            let ends = matches!(self.cursor.peek(), None | Some(')'));
            if ends || self.cursor.keyword("OR") {
                // Whoever called takes the word.
                self.cursor.at = at;
                return Ok(Expr::and(parts));
            }
            parts.push(self.one()?);
        }
    }

    fn one(&mut self) -> Result<Expr, QueryError> {
        let begin = self.cursor.at;
        for operator in ["AND", "OR"] {
            if self.cursor.keyword(operator) {
                let message = format!("{operator} needs a term on both sides");
                return Err(QueryError::new(begin..self.cursor.at, message));
            }
        }
        if self.cursor.keyword("NOT") || self.minus() {
            self.cursor.skip_spaces();
            return Ok(self.deeper(begin, Self::one)?.negated());
        }
        if self.cursor.eat("(") {
            self.cursor.skip_spaces();
            if self.cursor.peek() == Some(')') {
                let at = begin..self.cursor.at + 1;
                return Err(QueryError::new(at, "nothing stands in these parentheses"));
            }
            let expr = self.deeper(begin, Self::any)?;
            if !self.cursor.eat(")") {
                return Err(QueryError::new(begin..begin + 1, "the parenthesis is not closed"));
            }
            return Ok(expr);
        }
        self.term()
    }

    /// A minus that something stands directly behind.
    fn minus(&mut self) -> bool {
        let behind = self.cursor.rest().strip_prefix('-').and_then(|rest| rest.chars().next());
        let negates = behind.is_some_and(|c| !c.is_whitespace() && c != ')');
        negates && self.cursor.eat("-")
    }

    fn deeper(
        &mut self,
        begin: usize,
        part: impl FnOnce(&mut Self) -> Result<Expr, QueryError>,
    ) -> Result<Expr, QueryError> {
        self.depth += 1;
        if self.depth > QUERY_DEPTH_MAX {
            let message =
                format!("more than {QUERY_DEPTH_MAX} parentheses and negations in each other");
            return Err(QueryError::new(begin..begin + 1, message));
        }
        let expr = part(self);
        self.depth -= 1;
        expr
    }

    fn term(&mut self) -> Result<Expr, QueryError> {
        let begin = self.cursor.at;
        if let Some((name, operator)) = self.cursor.name_and_operator()? {
            return self.field(&name, operator);
        }
        let item = match self.cursor.peek() {
            None | Some(')') => return Err(self.wrong_here("a term is missing here")),
            Some('"') => self.cursor.quoted()?,
            Some(_) => self.cursor.bare(false),
        };
        self.count(&item)?;
        // A word may stand anywhere in a text, so stars at its ends say nothing.
        let text = if item.quoted { &item.text } else { item.text.trim_matches('*') };
        match text {
            "" if item.quoted => Err(QueryError::new(
                begin..self.cursor.at,
                "nothing stands in these quotation marks",
            )),
            "" => Ok(Expr::All),
            text => Ok(Expr::Text(fold(text))),
        }
    }

    fn field(&mut self, name: &Item, operator: Operator) -> Result<Expr, QueryError> {
        let fields = resolve_item(self.reading.names, name)?;
        let operator = match (operator, self.cursor.comparison()) {
            (Operator::Is, Some(comparison)) => Operator::Compare(comparison),
            (operator, None) => operator,
            (_, Some(_)) => return Err(self.wrong_here("one operator too many")),
        };
        let values = self.values(name, operator)?;
        if self.cursor.peek() == Some('"') {
            return Err(self.wrong_here("put the whole value in quotation marks"));
        }
        let tests = fields.iter().map(|field| self.test(field, operator, &values));
        let expr = Expr::or(tests.collect::<Result<Vec<_>, _>>()?);
        Ok(if operator == Operator::IsNot { expr.negated() } else { expr })
    }

    fn values(&mut self, name: &Item, operator: Operator) -> Result<Values, QueryError> {
        if let Operator::Compare(_) = operator {
            let value = self.value(name, false)?;
            self.count(&value)?;
            return Ok(Values::List(vec![value]));
        }
        let begin = self.cursor.at;
        if let Some(regex) = self.cursor.regex() {
            self.count(&regex)?;
            self.regexes += 1;
            if self.regexes > QUERY_REGEXES_MAX {
                let message = format!("more than {QUERY_REGEXES_MAX} regexes");
                return Err(QueryError::new(regex.at, message));
            }
            return Ok(Values::Regex(regex));
        }
        let mut items = Vec::new();
        loop {
            let item = self.value(name, true)?;
            self.count(&item)?;
            items.push(item);
            if !self.cursor.eat(",") {
                break;
            }
        }
        let raw = &self.cursor.text[begin..self.cursor.at];
        if looks_like_regex(raw) {
            let message = "inside of a regex a slash is written \\/";
            return Err(QueryError::new(begin..self.cursor.at, message));
        }
        match items.as_slice() {
            [Item { text, quoted: false, .. }] if text == "*" => Ok(Values::Present),
            _ => Ok(Values::List(items)),
        }
    }

    fn value(&mut self, name: &Item, in_list: bool) -> Result<Item, QueryError> {
        if self.cursor.peek() == Some('"') {
            return self.cursor.quoted();
        }
        let item = self.cursor.bare(in_list);
        if !item.text.is_empty() {
            return Ok(item);
        }
        let shown = &name.text;
        let (at, message) = match self.cursor.peek() {
            Some('(') => (item.at.start..item.at.start + 1, format!("write a list as {shown}:a,b")),
            _ if in_list => (
                name.at.start..item.at.end,
                format!("a value is missing; {shown}:* finds lines that have the field"),
            ),
            _ => (name.at.start..item.at.end, "a value is missing".to_owned()),
        };
        Err(QueryError::new(at, message))
    }

    fn test(
        &self,
        field: &FieldRef,
        operator: Operator,
        values: &Values,
    ) -> Result<Expr, QueryError> {
        let made = match (values, operator) {
            (Values::Present, _) => return Ok(Expr::Field(field.clone(), Test::Present)),
            (Values::Regex(regex), _) => regex_test(field, regex),
            (Values::List(items), Operator::Compare(comparison)) => match items.first() {
                Some(item) => comparison_test(self.reading, field, comparison, item),
                None => Ok(Expr::All),
            },
            (Values::List(items), _) => equality_test(self.reading, field, items),
        };
        match field {
            // Others may use the name for something else.
            FieldRef::Known(known) if made.is_err() && self.reading.names == Names::Foreign => {
                let field = FieldRef::Attribute(known.name.to_owned());
                self.test(&field, operator, values)
            }
            _ => made,
        }
    }

    fn count(&mut self, item: &Item) -> Result<(), QueryError> {
        self.terms += 1;
        if self.terms > QUERY_TERMS_MAX {
            let message = format!("more than {QUERY_TERMS_MAX} terms");
            return Err(QueryError::new(item.at.clone(), message));
        }
        Ok(())
    }

    /// An error about the character at the cursor.
    fn wrong_here(&self, message: &str) -> QueryError {
        let at = self.cursor.at;
        let end = at + self.cursor.peek().map_or(0, char::len_utf8);
        QueryError::new(at..end, message)
    }
}

enum Values {
    Present,
    Regex(Item),
    List(Vec<Item>),
}

/// Whether somebody meant a regex but left its inner slashes bare.
fn looks_like_regex(raw: &str) -> bool {
    let inside = raw.strip_prefix('/').and_then(|rest| rest.strip_suffix('/'));
    inside.is_some_and(|inside| inside.contains(['^', '$', '[', '|', '+', '\\', '{', '?']))
}
