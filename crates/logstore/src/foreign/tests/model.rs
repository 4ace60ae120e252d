//! Random lines and random questions against a model that parses every line.

use domain::{
    glob::Glob,
    query::{Comparison, FieldRef, Literal, Test},
    time::Timestamp,
};
use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::foreign::json::unescape;

/// Writes JSON in the ways in which it may be written.
struct Pen {
    seed: u64,
    out: String,
}

impl Pen {
    fn choose(&mut self, of: u64) -> u64 {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.seed >> 33) % of
    }

    fn blank(&mut self) {
        let blank = ["", "", "", " ", "  ", "\t"][self.choose(6) as usize];
        self.out.push_str(blank);
    }

    fn string(&mut self, text: &str) {
        self.out.push('"');
        let escapes = self.choose(4) == 0;
        for character in text.chars() {
            match character {
                _ if escapes && self.choose(3) == 0 => {
                    let mut units = [0; 2];
                    for unit in character.encode_utf16(&mut units) {
                        self.out.push_str(&format!("\\u{unit:04x}"));
                    }
                }
                '"' | '\\' => self.out.extend(['\\', character]),
                '/' if self.choose(2) == 0 => self.out.push_str("\\/"),
                '\n' => self.out.push_str("\\n"),
                plain => self.out.push(plain),
            }
        }
        self.out.push('"');
    }

    fn value(&mut self, node: &Node) {
        match node {
            Node::Word(word) => self.out.push_str(word),
            Node::Text(text) => self.string(text),
            Node::Array(items) => self.list('[', ']', items, |pen, item| pen.value(item)),
            Node::Object(members) => self.list('{', '}', members, |pen, (key, value)| {
                pen.string(key);
                pen.blank();
                pen.out.push(':');
                pen.blank();
                pen.value(value);
            }),
        }
    }

    fn list<T>(&mut self, open: char, close: char, items: &[T], write: fn(&mut Self, &T)) {
        self.out.push(open);
        for (nth, item) in items.iter().enumerate() {
            self.out.push_str(if nth == 0 { "" } else { "," });
            self.blank();
            write(self, item);
            self.blank();
        }
        self.out.push(close);
    }
}

#[derive(Clone, Debug)]
enum Node {
    Word(&'static str),
    Text(String),
    Array(Vec<Node>),
    Object(Vec<(String, Node)>),
}

const WORDS: &[&str] = &["null", "true", "false", "0", "5", "500", "5e2", "-1.5", "1795428000"];
const TEXTS: &[&str] = &[
    "gpt-4o",
    "GPT-4o",
    "500",
    "x",
    "true",
    "warn",
    "ERROR",
    "\"a\":500",
    "{\"a\":\"x\"}",
    "2026-11-23T10:00:00Z",
    "café/a",
    "CAFÉ",
    "\u{212a}x\n",
    "日本",
    "",
];
const KEYS: &[&str] =
    &["a", "b", "c", "a.b", "level", "log", "log.level", "ts", "@timestamp", "k\"", "é"];
const PATHS: &[&str] =
    &["a", "b", "a.b", "b.a", "a.b.c", "c", "level", "ts", "status_code", "k\"", "é", "labels.a"];

fn text_of(pool: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop::sample::select(pool).prop_map(str::to_owned)
}

fn node() -> impl Strategy<Value = Node> {
    let leaf = prop_oneof![
        prop::sample::select(WORDS).prop_map(Node::Word),
        text_of(TEXTS).prop_map(Node::Text),
        "[a-c\"\\\\é{}:, ]{0,6}".prop_map(Node::Text),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Node::Array),
            prop::collection::vec((text_of(KEYS), inner), 0..4).prop_map(Node::Object),
        ]
    })
}

fn line() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => json(),
        1 => "[ a-d{}\":,\\\\é5]{0,30}",
        // A torn line.
        1 => (json(), 1usize..20).prop_map(|(json, cut)| {
            json.chars().take(json.chars().count().saturating_sub(cut)).collect::<String>()
        }),
    ]
}

fn json() -> impl Strategy<Value = String> {
    let members = prop::collection::vec((text_of(KEYS), node()), 0..6);
    (members, any::<u64>()).prop_map(|(members, seed)| {
        let mut pen = Pen { seed, out: String::new() };
        pen.value(&Node::Object(members));
        pen.out
    })
}

fn test() -> impl Strategy<Value = Test> {
    let literal = || {
        prop_oneof![
            4 => text_of(TEXTS).prop_map(Literal::Text),
            2 => prop::sample::select(WORDS).prop_map(|word| Literal::Text(word.to_owned())),
            1 => Just(Literal::Integer(500)),
            1 => Just(Literal::Number(-1.5)),
            1 => Just(Literal::Boolean(true)),
        ]
    };
    let comparison = prop::sample::select(vec![
        Comparison::Less,
        Comparison::LessOrEqual,
        Comparison::Greater,
        Comparison::GreaterOrEqual,
    ]);
    prop_oneof![
        Just(Test::Present),
        prop::collection::vec(literal(), 1..3).prop_map(Test::Any),
        "[gpx5*\"é-]{0,4}".prop_map(|glob| Test::Like(Glob::new(glob))),
        prop::sample::select(vec!["^5", "4o$", "a", "É", "[\"x]"])
            .prop_map(|regex| Test::Regex(regex.to_owned())),
        (comparison, literal())
            .prop_map(|(comparison, literal)| Test::Compare(comparison, literal)),
    ]
}

fn expr() -> impl Strategy<Value = Expr> {
    let field = (text_of(PATHS), test())
        .prop_map(|(path, test)| Expr::Field(FieldRef::Attribute(path), test));
    let words = prop::sample::select(vec![
        "a", "4o", "caf", "café", "é/a", "\"a\"", "x", "\n", "k", "日本", "本",
    ]);
    let leaf = prop_oneof![
        4 => field,
        2 => words.prop_map(text),
        1 => Just(Expr::All),
    ];
    leaf.prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..4).prop_map(Expr::And),
            prop::collection::vec(inner.clone(), 1..4).prop_map(Expr::Or),
            inner.prop_map(|part| Expr::Not(Box::new(part))),
        ]
    })
}

fn model(expr: &Expr, line: &str) -> bool {
    match expr {
        Expr::All => true,
        Expr::And(parts) => parts.iter().all(|part| model(part, line)),
        Expr::Or(parts) => parts.iter().any(|part| model(part, line)),
        Expr::Not(part) => !model(part, line),
        Expr::Text(wanted) => {
            let resolved = String::from_utf8(unescape(line.as_bytes()).into_owned());
            let resolved = resolved.expect("escapes give UTF-8");
            [line, &resolved].iter().any(|text| {
                // The Kelvin sign is no k.
                text.replace('\u{212a}', "\u{1}").to_lowercase().contains(wanted.as_str())
            })
        }
        Expr::Field(field, test) => {
            let FieldRef::Attribute(path) = field else { panic!("only attributes are asked") };
            let Ok(parsed) = serde_json::from_str::<Value>(line) else { return false };
            let is_level = path == "level";
            let value = value_at(&parsed, path);
            // Where ECS has it.
            let value = value.or_else(|| value_at(&parsed, "log.level").filter(|_| is_level));
            value.is_some_and(|value| test_holds(test, &value, is_level))
        }
    }
}

fn value_at(value: &Value, path: &str) -> Option<Value> {
    let object = value.as_object()?;
    if let Some(whole) = object.get(path).filter(|value| !value.is_null()) {
        return Some(whole.clone());
    }
    let dots = path.rmatch_indices('.');
    dots.into_iter().find_map(|(dot, _)| value_at(object.get(&path[..dot])?, &path[dot + 1..]))
}

fn test_holds(test: &Test, value: &Value, is_level: bool) -> bool {
    match (value, test) {
        (_, Test::Present) => true,
        (Value::Array(items), _) => {
            items.iter().any(|item| !item.is_null() && one_holds(test, item, is_level))
        }
        _ => one_holds(test, value, is_level),
    }
}

/// Objects and arrays as texts are left to the examples: their spelling counts.
fn one_holds(test: &Test, value: &Value, is_level: bool) -> bool {
    let shown = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match test {
        Test::Present => true,
        Test::Any(wanted) => wanted.iter().any(|wanted| equals(wanted, value, &shown, is_level)),
        Test::Like(glob) => glob.matches(&shown),
        Test::Regex(regex) => regex::Regex::new(regex).expect("a regex").is_match(&shown),
        Test::Compare(comparison, wanted) => {
            compares(wanted, value, &shown, is_level).is_some_and(|order| match comparison {
                Comparison::Less => order.is_lt(),
                Comparison::LessOrEqual => order.is_le(),
                Comparison::Greater => order.is_gt(),
                Comparison::GreaterOrEqual => order.is_ge(),
            })
        }
    }
}

fn literal_text(literal: &Literal) -> (String, bool) {
    match literal {
        Literal::Text(text) => (text.clone(), false),
        Literal::Integer(number) => (number.to_string(), true),
        Literal::Number(number) => (number.to_string(), true),
        Literal::Boolean(value) => (value.to_string(), false),
        Literal::Time(time) => (time.to_string(), true),
    }
}

fn rank(text: &str) -> Option<usize> {
    ["warn", "error"].iter().position(|known| known.eq_ignore_ascii_case(text))
}

fn as_number(text: &str) -> Option<f64> {
    let digit = text.trim_start_matches('-').starts_with(|c: char| c.is_ascii_digit());
    text.parse().ok().filter(|_| digit)
}

fn equals(wanted: &Literal, value: &Value, shown: &str, is_level: bool) -> bool {
    let (wanted, typed) = literal_text(wanted);
    if is_level && let Some(rank_wanted) = rank(&wanted) {
        return value.is_string() && rank(shown) == Some(rank_wanted);
    }
    match as_number(&wanted) {
        Some(number) if typed || !value.is_string() => as_number(shown) == Some(number),
        _ => shown == wanted,
    }
}

fn compares(
    wanted: &Literal,
    value: &Value,
    shown: &str,
    is_level: bool,
) -> Option<std::cmp::Ordering> {
    let (wanted, _) = literal_text(wanted);
    if is_level && let Some(rank_wanted) = rank(&wanted) {
        return rank(shown).filter(|_| value.is_string()).map(|rank| rank.cmp(&rank_wanted));
    }
    if let Some(number) = as_number(&wanted) {
        return as_number(shown)?.partial_cmp(&number);
    }
    if let Some(time) = Timestamp::parse(&wanted) {
        let value = match value {
            Value::String(text) => Timestamp::parse(text).or_else(|| epoch(as_number(text)?)),
            _ => epoch(as_number(shown)?),
        };
        return value.map(|value| value.cmp(&time));
    }
    value.is_string().then(|| shown.cmp(wanted.as_str()))
}

/// The time of a line: of the first key that holds one.
fn time_of(line: &str) -> Option<Timestamp> {
    let parsed: Value = serde_json::from_str(line).ok()?;
    ["ts", "timestamp", "time", "@timestamp"].iter().find_map(|key| match parsed.get(key)? {
        Value::String(text) => Timestamp::parse(text).or_else(|| epoch(as_number(text)?)),
        Value::Number(number) => epoch(number.as_f64()?),
        _ => None,
    })
}

/// Around the times that lines may have.
fn moment() -> impl Strategy<Value = Option<Timestamp>> {
    let times = [0, 5, 100, 1_795_428_000, 1_795_428_001];
    let times = times.map(|seconds: i64| Some(Timestamp::from_micros(seconds * 1_000_000)));
    prop_oneof![2 => Just(None), 1 => prop::sample::select(times.to_vec())]
}

fn epoch(seconds: f64) -> Option<Timestamp> {
    Some(Timestamp::from_micros((seconds * 1e6) as i64))
}

/// A value that is shown as JSON has a spelling that the model does not keep.
fn has_spelling(line: &str) -> bool {
    fn nested(value: &Value, depth: usize) -> bool {
        match value {
            Value::Array(items) => items.iter().any(|item| item.is_array() || nested(item, depth)),
            Value::Object(members) => depth > 3 || members.values().any(|v| nested(v, depth + 1)),
            Value::Number(_) => false,
            _ => false,
        }
    }
    serde_json::from_str(line).is_ok_and(|value| nested(&value, 0)) || line.contains("5e2")
}

/// Whether an expression asks how values are spelled.
fn asks_spelling(expr: &Expr) -> bool {
    match expr {
        Expr::And(parts) | Expr::Or(parts) => parts.iter().any(asks_spelling),
        Expr::Not(part) => asks_spelling(part),
        Expr::Field(_, test) => matches!(test, Test::Like(_) | Test::Regex(_)),
        Expr::All | Expr::Text(_) => false,
    }
}

/// Objects are compared by their text, which the model does not keep.
fn has_object_value(line: &str) -> bool {
    let Ok(Value::Object(members)) = serde_json::from_str(line) else { return false };
    fn any_object(value: &Value) -> bool {
        match value {
            Value::Object(_) => true,
            Value::Array(items) => items.iter().any(any_object),
            _ => false,
        }
    }
    members.values().any(any_object)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn any_question_is_answered_as_if_all_were_parsed(
        lines in prop::collection::vec(line(), 0..30),
        expr in expr(),
        way in prop::sample::select(WAYS.to_vec()),
        crlf: bool,
        count in 0usize..6,
        (since, until) in (moment(), moment()),
    ) {
        let spelled = asks_spelling(&expr);
        let lines: Vec<String> = lines
            .into_iter()
            .filter(|line| !spelled || !(has_spelling(line) || has_object_value(line)))
            .collect();
        let bytes = lines.join(if crlf { "\r\n" } else { "\n" });
        let dir = tempfile::tempdir().expect("a directory");
        let expected: Vec<&str> = lines
            .iter()
            .map(String::as_str)
            .filter(|line| !line.trim().is_empty() && model(&expr, line))
            .filter(|line| (since, until) == (None, None) || time_of(line).is_some_and(|time| {
                since.is_none_or(|since| time >= since) && until.is_none_or(|until| time < until)
            }))
            .collect();
        let asked = Search { since, until, ..Search::new(expr.clone()) };
        let run = |take| {
            let search = Search { take, ..asked.clone() };
            let (shown, _) = find(vec![input(way, bytes.as_bytes(), dir.path())], &search, SMALL);
            shown.into_iter().map(|(line, _, _)| line).collect::<Vec<_>>()
        };
        prop_assert_eq!(run(Take::All), expected.clone(), "{:?} of {:#?}", expr, lines);
        prop_assert_eq!(run(Take::First(count)), &expected[..count.min(expected.len())]);
        prop_assert_eq!(run(Take::Last(count)), &expected[expected.len().saturating_sub(count)..]);
        let inputs = vec![input(way, bytes.as_bytes(), dir.path())];
        let report = crate::foreign::count(&fs(), inputs, &asked).expect("a report");
        prop_assert_eq!(report.matched, expected.len() as u64);
    }
}
