//! A condition compiled for one dataset: which columns it needs, in which order
//! its parts are looked at, which ids every match must have, and what must stand
//! in the raw line of every match.
//!
//! A key that a dataset has no column for is looked up among the attributes, so
//! that a condition means the same for every line. Absence is false before any
//! negation.

use domain::{
    fields::Kind,
    ids::ProjectId,
    query::{Expr, FieldRef, Literal, Test},
};

use super::{
    EngineError, Search,
    check::{Folded, JsonCheck, NumberCheck, Ranges, TextCheck, is_whole},
    needle::{self, Needles},
};
use crate::segment::{
    Dataset, column_of,
    ids::INDEXED_COLUMNS,
    schema::{ATTRS, TS},
};

/// Ids that `.ids` files are asked for; a condition with more is scanned for.
const IDS_MAX: usize = 1024;
/// What a word is looked for in.
const WORD_FIELDS: [&str; 3] = ["msg", "error", "path"];
/// Words of a condition, each with the ids of the records of which a captured
/// body holds it.
pub(crate) type Words = [(String, Vec<String>)];

/// A condition on lines of one dataset.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) dataset: Dataset,
    /// Microseconds; the first is included, the second is not.
    pub(crate) since: i64,
    pub(crate) until: i64,
    /// All must hold. The cheapest and most selective come first.
    pub(crate) parts: Vec<Part>,
    /// Every match has one of these in an id column.
    pub(crate) ids: Option<Vec<String>>,
    /// Every matching line holds one needle of each of these.
    pub(crate) needles: Vec<Needles>,
    /// No line can match.
    pub(crate) is_never: bool,
    /// Leaves are numbered below this.
    pub(crate) leaves: usize,
    /// How many rows are scanned at once; `None`: whatever suits the source.
    pub(crate) unit_rows: Option<u64>,
}

/// One of the conditions that must all hold, with what it reads.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) node: Node,
    pub(crate) columns: Vec<&'static str>,
    cost: u32,
}

#[derive(Debug)]
pub(crate) enum Node {
    Constant(bool),
    And(Vec<Node>),
    Or(Vec<Node>),
    Not(Box<Node>),
    Leaf(Leaf),
}

/// A test of one column.
#[derive(Debug)]
pub(crate) struct Leaf {
    /// Numbers the leaves of a plan, for what an evaluator remembers of each.
    pub(crate) slot: usize,
    pub(crate) column: &'static str,
    pub(crate) check: Check,
}

#[derive(Debug)]
pub(crate) enum Check {
    Present,
    Text(TextCheck),
    Whole(Ranges),
    Number(NumberCheck),
    /// Billionths in the column, dollars in the test.
    Decimal(NumberCheck),
    Boolean {
        yes: bool,
        no: bool,
    },
    /// Of the value as it is printed: patterns on numbers.
    Printed(TextCheck),
    /// Of the value under a key of a map of texts.
    Label(String, Option<TextCheck>),
    /// Of the value under a key of the attributes.
    Attribute(String, JsonCheck),
}

impl Plan {
    pub(crate) fn new(
        search: &Search,
        dataset: Dataset,
        words: &Words,
    ) -> Result<Self, EngineError> {
        let mut compiler = Compiler { dataset, words, leaves: 0 };
        let mut conjuncts: Vec<&Expr> = Vec::new();
        flatten(&search.expr, &mut conjuncts);
        let mut parts = Vec::new();
        if let Some(projects) = &search.projects {
            parts.push(Part::new(compiler.projects(projects)));
        }
        let mut needles = Vec::new();
        for expr in &conjuncts {
            parts.push(Part::new(compiler.node(expr)?));
            needles.extend(needle::required(expr, dataset, !words.is_empty()));
        }
        parts.retain(|part| !matches!(part.node, Node::Constant(true)));
        parts.sort_by_key(|part| part.cost);
        needles.sort_by_key(|needles| std::cmp::Reverse(needles.weight()));
        let is_never = parts.iter().any(|part| matches!(part.node, Node::Constant(false)));
        Ok(Self {
            dataset,
            since: search.since.map_or(i64::MIN, |since| since.as_micros()),
            until: search.until.map_or(i64::MAX, |until| until.as_micros()),
            ids: ids_of(&search.expr, dataset),
            needles,
            is_never: is_never || search.since.zip(search.until).is_some_and(|(a, b)| a >= b),
            parts,
            leaves: compiler.leaves,
            unit_rows: None,
        })
    }

    /// Whether a span of time, both ends included, has a place in the plan.
    pub(crate) fn meets(&self, min_ts: i64, max_ts: i64) -> bool {
        min_ts < self.until && max_ts >= self.since
    }

    /// Whether all of a span of time is asked for.
    pub(crate) fn covers(&self, min_ts: i64, max_ts: i64) -> bool {
        self.since <= min_ts && max_ts < self.until
    }

    /// Every column that the condition needs.
    pub(crate) fn columns(&self) -> Vec<&'static str> {
        let mut columns: Vec<&'static str> = Vec::new();
        for column in self.parts.iter().flat_map(|part| &part.columns) {
            if !columns.contains(column) {
                columns.push(column);
            }
        }
        columns
    }
}

impl Part {
    fn new(node: Node) -> Self {
        let mut columns = Vec::new();
        node.columns(&mut columns);
        let cost = node.cost();
        Self { node, columns, cost }
    }
}

/// The conditions that must all hold for `expr` to hold.
fn flatten<'e>(expr: &'e Expr, out: &mut Vec<&'e Expr>) {
    match expr {
        Expr::And(all) => all.iter().for_each(|expr| flatten(expr, out)),
        other => out.push(other),
    }
}

struct Compiler<'b> {
    dataset: Dataset,
    words: &'b Words,
    leaves: usize,
}

impl Compiler<'_> {
    fn node(&mut self, expr: &Expr) -> Result<Node, EngineError> {
        Ok(match expr {
            Expr::All => Node::Constant(true),
            Expr::And(all) => Node::and(self.nodes(all)?),
            Expr::Or(any) => Node::or(self.nodes(any)?),
            Expr::Not(inner) => self.node(inner)?.not(),
            Expr::Text(word) => self.word(word)?,
            Expr::Field(field, test) => self.field(field, test)?,
        })
    }

    fn nodes(&mut self, exprs: &[Expr]) -> Result<Vec<Node>, EngineError> {
        exprs.iter().map(|expr| self.node(expr)).collect()
    }

    fn leaf(&mut self, column: &'static str, check: Check) -> Node {
        self.leaves += 1;
        Node::Leaf(Leaf { slot: self.leaves - 1, column, check })
    }

    fn projects(&mut self, projects: &[ProjectId]) -> Node {
        let texts = projects.iter().map(ProjectId::to_string).collect();
        self.leaf("project_id", Check::Text(TextCheck::any(texts)))
    }

    fn word(&mut self, word: &str) -> Result<Node, EngineError> {
        if self.dataset == Dataset::Bodies {
            // Base64 holds letters that the body does not have.
            let plain = TextCheck::any(vec!["utf-8".to_owned()]);
            let plain = self.leaf("encoding", Check::Text(plain));
            let check = TextCheck::Contains(Folded::new(word)?);
            return Ok(Node::And(vec![plain, self.leaf("body", Check::Text(check))]));
        }
        let mut any = Vec::new();
        for field in WORD_FIELDS {
            let check = TextCheck::Contains(Folded::new(word)?);
            any.push(match column_of(self.dataset, field) {
                Some(column) => self.leaf(column.name, Check::Text(check)),
                None => self.leaf(ATTRS, Check::Attribute(field.into(), JsonCheck::Text(check))),
            });
        }
        let found = self.words.iter().find(|(known, _)| known == word);
        let of_records = |(_, records): &&(String, Vec<String>)| {
            self.dataset == Dataset::Records && !records.is_empty()
        };
        if let Some((_, records)) = found.filter(of_records) {
            let check = Check::Text(TextCheck::any(records.clone()));
            any.push(self.leaf("record_id", check));
        }
        Ok(Node::or(any))
    }

    fn field(&mut self, field: &FieldRef, test: &Test) -> Result<Node, EngineError> {
        let attribute = |name: &str| Ok(Check::Attribute(name.to_owned(), JsonCheck::new(test)?));
        Ok(match field {
            FieldRef::Attribute(name) => {
                let check = attribute(name)?;
                self.leaf(ATTRS, check)
            }
            FieldRef::Label(name) => match column_of(self.dataset, "labels") {
                Some(column) => {
                    let check = Check::Label(name.clone(), TextCheck::new("", test)?);
                    self.leaf(column.name, check)
                }
                None => {
                    let check = attribute(&format!("labels.{name}"))?;
                    self.leaf(ATTRS, check)
                }
            },
            FieldRef::Known(known) => match column_of(self.dataset, known.name) {
                Some(column) => match typed(known.name, known.kind, test)? {
                    Some(check) => self.leaf(column.name, check),
                    None => Node::Constant(false),
                },
                None => {
                    let check = attribute(known.name)?;
                    self.leaf(ATTRS, check)
                }
            },
        })
    }
}

/// The test of a column; `None`: no value of the kind can pass it.
fn typed(name: &str, kind: Kind, test: &Test) -> Result<Option<Check>, EngineError> {
    if matches!(test, Test::Present) {
        return Ok(Some(Check::Present));
    }
    let printed = || Ok(TextCheck::new(name, test)?.map(Check::Printed));
    match kind {
        Kind::Text | Kind::Id => Ok(TextCheck::new(name, test)?.map(Check::Text)),
        kind if is_whole(kind) => match Ranges::new(test) {
            Some(ranges) => Ok(Some(Check::Whole(ranges))),
            None => printed(),
        },
        Kind::Number => NumberCheck::new(test).map_or_else(printed, |c| Ok(Some(Check::Number(c)))),
        Kind::Decimal => {
            NumberCheck::new(test).map_or_else(printed, |c| Ok(Some(Check::Decimal(c))))
        }
        Kind::Boolean => Ok(match test {
            Test::Any(literals) => {
                let any = |wanted: bool| {
                    literals.iter().any(|literal| match literal {
                        Literal::Boolean(value) => *value == wanted,
                        Literal::Text(text) => text.parse() == Ok(wanted),
                        _ => false,
                    })
                };
                Some(Check::Boolean { yes: any(true), no: any(false) })
            }
            _ => None,
        }),
        Kind::Labels | Kind::Integer | Kind::Time => Ok(None),
    }
}

impl Node {
    fn and(nodes: Vec<Self>) -> Self {
        if nodes.iter().any(|node| matches!(node, Self::Constant(false))) {
            return Self::Constant(false);
        }
        let mut nodes: Vec<Self> =
            nodes.into_iter().filter(|node| !matches!(node, Self::Constant(true))).collect();
        match nodes.len() {
            0 => Self::Constant(true),
            1 => nodes.remove(0),
            _ => Self::And(nodes),
        }
    }

    fn or(nodes: Vec<Self>) -> Self {
        if nodes.iter().any(|node| matches!(node, Self::Constant(true))) {
            return Self::Constant(true);
        }
        let mut nodes: Vec<Self> =
            nodes.into_iter().filter(|node| !matches!(node, Self::Constant(false))).collect();
        match nodes.len() {
            0 => Self::Constant(false),
            1 => nodes.remove(0),
            _ => Self::Or(nodes),
        }
    }

    fn not(self) -> Self {
        match self {
            Self::Constant(value) => Self::Constant(!value),
            Self::Not(inner) => *inner,
            other => Self::Not(Box::new(other)),
        }
    }

    fn columns(&self, out: &mut Vec<&'static str>) {
        match self {
            Self::Constant(_) => {}
            Self::And(nodes) | Self::Or(nodes) => nodes.iter().for_each(|node| node.columns(out)),
            Self::Not(node) => node.columns(out),
            Self::Leaf(leaf) if out.contains(&leaf.column) => {}
            Self::Leaf(leaf) => out.push(leaf.column),
        }
    }

    /// A guess at what reading and testing costs, and how little it leaves out.
    fn cost(&self) -> u32 {
        match self {
            Self::Constant(_) => 0,
            Self::And(nodes) | Self::Or(nodes) => nodes.iter().map(Self::cost).sum(),
            Self::Not(node) => node.cost() + 6,
            Self::Leaf(leaf) => leaf.cost(),
        }
    }
}

impl Leaf {
    fn cost(&self) -> u32 {
        let read = match self.column {
            "leaf" | "body" => 60,
            column if column.ends_with("_id") && !matches!(column, "project_id" | "token_id") => 20,
            _ => 2,
        };
        read + match &self.check {
            Check::Text(TextCheck::Any(_) | TextCheck::AnyOfMany(_)) => 1,
            Check::Boolean { .. } | Check::Text(TextCheck::Severity(..)) => 3,
            Check::Whole(ranges) if ranges.0.iter().all(|(from, to)| from == to) => 2,
            Check::Whole(_) | Check::Number(_) | Check::Decimal(_) => 4,
            Check::Text(_) => 5,
            Check::Present => 4,
            Check::Printed(_) => 20,
            Check::Label(..) | Check::Attribute(..) => 30,
        }
    }
}

/// Ids of which every match has one, if the condition says so.
fn ids_of(expr: &Expr, dataset: Dataset) -> Option<Vec<String>> {
    match expr {
        Expr::And(all) => all.iter().filter_map(|expr| ids_of(expr, dataset)).min_by_key(Vec::len),
        Expr::Or(any) => {
            let mut ids = Vec::new();
            for expr in any {
                ids.extend(ids_of(expr, dataset)?);
                ids.sort_unstable();
                ids.dedup();
            }
            (ids.len() <= IDS_MAX).then_some(ids)
        }
        Expr::Field(FieldRef::Known(field), Test::Any(literals))
            if INDEXED_COLUMNS.contains(&field.name)
                && column_of(dataset, field.name).is_some()
                && literals.len() <= IDS_MAX =>
        {
            let texts = literals.iter().map(|literal| match literal {
                Literal::Text(text) => Some(text.clone()),
                _ => None,
            });
            texts.collect()
        }
        _ => None,
    }
}

/// The column by which lines are ordered, as a test of a plan's time.
pub(crate) fn time_leaf(plan: &Plan) -> Leaf {
    let ranges = Ranges(vec![(plan.since, plan.until.saturating_sub(1))]);
    Leaf { slot: plan.leaves, column: TS, check: Check::Whole(ranges) }
}
