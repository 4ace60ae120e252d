//! Values: what the text behind a field means for the kind of that field.

use std::ops::Range;

use super::{
    QueryError, REGEX_BYTES_MAX,
    cursor::Item,
    names::{Names, nearest},
    tree::{Comparison, Expr, FieldRef, Literal, Test},
};
use crate::{
    fields::{Field, Kind},
    glob::Glob,
    time::Timestamp,
};

/// What reading a value depends on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    pub names: Names,
    pub now: Timestamp,
}

/// The levels of lines, least grave first.
pub const LEVELS: &[&str] = &["trace", "debug", "info", "warn", "error"];

/// How grave a level is, by whatever name it is known (0 to 7).
pub fn severity(level: &str) -> Option<u8> {
    let level = level.to_ascii_lowercase();
    Some(match level.as_str() {
        "trace" | "verbose" => 0,
        "debug" => 1,
        "info" | "information" | "informational" => 2,
        "notice" => 3,
        "warn" | "warning" => 4,
        "error" | "err" => 5,
        "critical" | "crit" | "fatal" | "panic" => 6,
        "alert" | "emerg" | "emergency" => 7,
        _ => return None,
    })
}

/// The engine takes time linear in the text; the pattern is bounded here.
pub fn compile_regex(pattern: &str) -> Result<regex::Regex, regex::Error> {
    let mut builder = regex::RegexBuilder::new(pattern);
    builder.size_limit(REGEX_BYTES_MAX).dfa_size_limit(REGEX_BYTES_MAX).nest_limit(64).build()
}

/// `field:/regex/`
pub(super) fn regex_test(field: &FieldRef, pattern: &Item) -> Result<Expr, QueryError> {
    if let FieldRef::Known(known) = field
        && !matches!(known.kind, Kind::Text | Kind::Id)
    {
        let message = format!("{} is {}: a regex is for text", known.name, noun(known.kind));
        return Err(QueryError::new(pattern.at.clone(), message));
    }
    match compile_regex(&pattern.text) {
        Ok(_) => Ok(Expr::Field(field.clone(), Test::Regex(pattern.text.clone()))),
        Err(error) => {
            let message = match error {
                regex::Error::CompiledTooBig(_) => "the regex is too large".to_owned(),
                // The last line says what is wrong; the others draw it.
                error => format!(
                    "the regex is wrong: {}",
                    error
                        .to_string()
                        .lines()
                        .last()
                        .unwrap_or_default()
                        .trim_start_matches("error: ")
                ),
            };
            Err(QueryError::new(pattern.at.clone(), message))
        }
    }
}

/// `field:a`, `field:"a"`, `field:a*`, `field:5xx`, and lists of them.
pub(super) fn equality_test(
    reading: Reading,
    field: &FieldRef,
    items: &[Item],
) -> Result<Expr, QueryError> {
    let mut equal = Vec::new();
    let mut others = Vec::new();
    for item in items {
        match value(reading, field, item)? {
            Value::Equal(literal) => equal.push(literal),
            Value::Meets(expr) => others.push(expr),
        }
    }
    if !equal.is_empty() {
        others.insert(0, Expr::Field(field.clone(), Test::Any(equal)));
    }
    Ok(Expr::or(others))
}

enum Value {
    Equal(Literal),
    Meets(Expr),
}

fn value(reading: Reading, field: &FieldRef, item: &Item) -> Result<Value, QueryError> {
    let meets = |test| Ok(Value::Meets(Expr::Field(field.clone(), test)));
    let is_text = match field {
        FieldRef::Known(known) => matches!(known.kind, Kind::Text | Kind::Id),
        FieldRef::Label(_) | FieldRef::Attribute(_) => true,
    };
    if is_text && !item.quoted && item.text.contains('*') {
        let any = item.text.bytes().all(|b| b == b'*');
        return meets(if any { Test::Present } else { Test::Like(Glob::new(&*item.text)) });
    }
    let FieldRef::Known(known) = field else {
        return Ok(Value::Equal(Literal::Text(item.text.clone())));
    };
    if let Some((from, to)) = status_class(*known, item) {
        let compare = |comparison, status| {
            Expr::Field(field.clone(), Test::Compare(comparison, Literal::Integer(status)))
        };
        let from = compare(Comparison::GreaterOrEqual, from);
        return Ok(Value::Meets(Expr::and([from, compare(Comparison::LessOrEqual, to)])));
    }
    if known.kind == Kind::Time
        && let Some((from, to)) = day(item)
    {
        let compare = |comparison, time| {
            Expr::Field(field.clone(), Test::Compare(comparison, Literal::Time(time)))
        };
        let from = compare(Comparison::GreaterOrEqual, from);
        return Ok(Value::Meets(Expr::and([from, compare(Comparison::Less, to)])));
    }
    Ok(Value::Equal(literal(reading, *known, item)?))
}

/// `field>=value` and so on.
pub(super) fn comparison_test(
    reading: Reading,
    field: &FieldRef,
    comparison: Comparison,
    item: &Item,
) -> Result<Expr, QueryError> {
    let compare = |literal| Expr::Field(field.clone(), Test::Compare(comparison, literal));
    match field {
        FieldRef::Known(known) if known.name == "level" => {
            level_comparison(reading, field, comparison, item)
        }
        FieldRef::Known(known) if known.kind.is_ordered() => {
            Ok(compare(literal(reading, *known, item)?))
        }
        FieldRef::Known(known) => {
            let message = format!("{} is {}, which has no order", known.name, noun(known.kind));
            Err(QueryError::new(item.at.clone(), message))
        }
        FieldRef::Label(_) | FieldRef::Attribute(_) => {
            let number = item.text.parse().ok().filter(|number: &f64| number.is_finite());
            let text = || Literal::Text(item.text.clone());
            Ok(compare(number.filter(|_| !item.quoted).map_or_else(text, Literal::Number)))
        }
    }
}

/// Levels are ordered by how grave they are. Ours are few: the graver ones can
/// be named; those of others cannot.
fn level_comparison(
    reading: Reading,
    field: &FieldRef,
    comparison: Comparison,
    item: &Item,
) -> Result<Expr, QueryError> {
    let FieldRef::Known(known) = field else { return Ok(Expr::All) };
    let Literal::Text(level) = literal(reading, *known, item)? else { return Ok(Expr::All) };
    let Some(than) = severity(&level) else { return Err(unknown_level(item)) };
    if reading.names == Names::Foreign {
        let test = Test::Compare(comparison, Literal::Text(level));
        return Ok(Expr::Field(field.clone(), test));
    }
    let fits = |level: &&&str| {
        severity(level).is_some_and(|severity| match comparison {
            Comparison::Less => severity < than,
            Comparison::LessOrEqual => severity <= than,
            Comparison::Greater => severity > than,
            Comparison::GreaterOrEqual => severity >= than,
        })
    };
    let levels: Vec<Literal> =
        LEVELS.iter().filter(fits).map(|level| Literal::Text((*level).to_owned())).collect();
    if levels.is_empty() {
        return Ok(Expr::All.negated());
    }
    Ok(Expr::Field(field.clone(), Test::Any(levels)))
}

/// A value as the kind of its field reads it.
fn literal(reading: Reading, field: Field, item: &Item) -> Result<Literal, QueryError> {
    let text = item.text.as_str();
    let wrong = |expected: &str| {
        let message = format!("{} is {}: expected {expected}", field.name, noun(field.kind));
        QueryError::new(item.at.clone(), message)
    };
    Ok(match field.kind {
        Kind::Text if field.name == "level" => Literal::Text(level(reading, item)?),
        Kind::Text | Kind::Id => Literal::Text(text.to_owned()),
        Kind::Boolean => match text.to_ascii_lowercase().as_str() {
            "true" => Literal::Boolean(true),
            "false" => Literal::Boolean(false),
            _ => return Err(wrong("true or false")),
        },
        Kind::Integer => {
            let expected = match is_status(field) {
                true => "500, 5xx, >=400 or a list such as 429,5xx",
                false => integer_example(field),
            };
            Literal::Integer(integer(field, text).ok_or_else(|| wrong(expected))?)
        }
        Kind::Number => {
            let expected = match micros_of_unit(field) {
                Some(_) => "a number such as 250, or 2s",
                None => "a number",
            };
            Literal::Number(number(field, text).ok_or_else(|| wrong(expected))?)
        }
        Kind::Decimal => {
            let amount = text.strip_prefix('$').unwrap_or(text);
            Literal::Number(finite(amount).ok_or_else(|| wrong("an amount such as 0.05"))?)
        }
        Kind::Time => {
            let expected = "15m, 1h30m, 7d, 2026-11-23 or 2026-11-23T10:00Z";
            Literal::Time(parse_time(text, reading.now).ok_or_else(|| wrong(expected))?)
        }
        Kind::Labels => {
            let message = format!("{0} holds many: ask for one, as in {0}.team:blue", field.name);
            return Err(QueryError::new(item.at.clone(), message));
        }
    })
}

fn level(reading: Reading, item: &Item) -> Result<String, QueryError> {
    let text = item.text.to_ascii_lowercase();
    let known = match severity(&text) {
        _ if reading.names == Names::Foreign || LEVELS.contains(&text.as_str()) => text,
        Some(4) => "warn".to_owned(),
        Some(5) => "error".to_owned(),
        Some(2) => "info".to_owned(),
        _ => return Err(unknown_level(item)),
    };
    Ok(known)
}

fn unknown_level(item: &Item) -> QueryError {
    let message = format!("unknown level: expected one of {}", LEVELS.join(", "));
    let nearest = nearest(&item.text, LEVELS.iter().copied());
    QueryError::new(item.at.clone(), message).suggesting(nearest)
}

fn noun(kind: Kind) -> &'static str {
    match kind {
        Kind::Text => "text",
        Kind::Id => "an id",
        Kind::Time => "a time",
        Kind::Integer => "a whole number",
        Kind::Number => "a number",
        Kind::Decimal => "an amount of US dollars",
        Kind::Boolean => "true or false",
        Kind::Labels => "a set of labels",
    }
}

fn integer_example(field: Field) -> &'static str {
    match field.name {
        name if name.ends_with("_bytes") => "one such as 4096, or 64KiB",
        _ if micros_of_unit(field).is_some() => "one such as 250, or 2ms",
        _ => "digits only",
    }
}

/// `5xx` behind the fields that hold an HTTP status.
fn status_class(field: Field, item: &Item) -> Option<(u64, u64)> {
    let class = item.text.to_ascii_lowercase();
    let class = class.strip_suffix("xx").filter(|_| is_status(field))?;
    let class = class.parse::<u64>().ok().filter(|class| (1..=5).contains(class))?;
    Some((class * 100, class * 100 + 99))
}

fn is_status(field: Field) -> bool {
    field.name == "status" || field.name.ends_with("status_code")
}

/// The first moment of a date and of the next one.
fn day(item: &Item) -> Option<(Timestamp, Timestamp)> {
    let date: jiff::civil::Date = item.text.parse().ok()?;
    let is_date_only = item.text.len() == "2026-11-23".len();
    let next = date.tomorrow().ok()?;
    let start =
        |date: jiff::civil::Date| civil_micros(date.to_datetime(jiff::civil::Time::midnight()));
    Some((start(date)?, start(next)?)).filter(|_| is_date_only)
}

fn integer(field: Field, text: &str) -> Option<u64> {
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    let unit = match field.name.ends_with("_bytes") {
        true => bytes(text)?,
        false => parse_duration(text)? / micros_of_unit(field)?,
    };
    (unit.fract() == 0.0 && unit >= 0.0 && unit < u64::MAX as f64).then_some(unit as u64)
}

fn number(field: Field, text: &str) -> Option<f64> {
    finite(text).or_else(|| Some(parse_duration(text)? / micros_of_unit(field)?))
}

fn finite(text: &str) -> Option<f64> {
    // Words such as `inf` are numbers to the parser.
    let plain = text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
    text.parse().ok().filter(|number: &f64| plain && number.is_finite())
}

/// Microseconds of a field's unit, for fields that measure time.
fn micros_of_unit(field: Field) -> Option<f64> {
    match field.name {
        name if name.ends_with("_ms") => Some(1e3),
        name if name.ends_with("_us") => Some(1.0),
        _ => None,
    }
}

/// `64KiB`, `1.5MB`
fn bytes(text: &str) -> Option<f64> {
    let split = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (figure, unit) = text.split_at(split);
    let unit = match unit.to_ascii_lowercase().as_str() {
        "b" => 1.0,
        "kb" | "k" => 1e3,
        "mb" | "m" => 1e6,
        "gb" | "g" => 1e9,
        "kib" => 1024.0,
        "mib" => 1_048_576.0,
        "gib" => 1_073_741_824.0,
        _ => return None,
    };
    Some(finite(figure)? * unit)
}

/// Microseconds of `250us`, `1.5s`, `2m`, `1h`, `7d`, and of several with
/// smaller and smaller units: `1h30m`.
pub fn parse_duration(text: &str) -> Option<f64> {
    let (mut rest, mut sum, mut above) = (text, 0.0, f64::INFINITY);
    while !rest.is_empty() || above.is_infinite() {
        let is_figure = |c: char| c.is_ascii_digit() || c == '.';
        let (figure, behind) = rest.split_at(rest.find(|c| !is_figure(c))?);
        let (unit, behind) = behind.split_at(behind.find(is_figure).unwrap_or(behind.len()));
        let unit = micros_of(unit).filter(|unit| *unit < above)?;
        sum += finite(figure)? * unit;
        (rest, above) = (behind, unit);
    }
    Some(sum)
}

fn micros_of(unit: &str) -> Option<f64> {
    Some(match unit {
        "us" | "µs" => 1.0,
        "ms" => 1e3,
        "s" => 1e6,
        "m" => 6e7,
        "h" => 3.6e9,
        "d" => 8.64e10,
        "w" => 6.048e11,
        _ => return None,
    })
}

/// Reads `15m`, `1h`, `7d` (so long ago), `now`, a date, a date and time (UTC
/// where it names no zone), RFC 3339. Years 0 to 9999.
pub fn parse_time(text: &str, now: Timestamp) -> Option<Timestamp> {
    let time = if text == "now" {
        now
    } else if let Some(micros) = parse_duration(text) {
        now.plus_micros(-(micros.round() as i64))
    } else if let Some(time) = Timestamp::parse(text) {
        time
    } else {
        civil_micros(text.trim_end_matches('Z').parse().ok()?)?
    };
    WRITABLE.contains(&time.as_micros()).then_some(time)
}

/// What RFC 3339 has a form for.
const WRITABLE: Range<i64> = -62_167_219_200_000_000..253_402_300_800_000_000;

fn civil_micros(time: jiff::civil::DateTime) -> Option<Timestamp> {
    let micros = time.duration_since(jiff::civil::DateTime::constant(1970, 1, 1, 0, 0, 0, 0));
    i64::try_from(micros.as_micros()).ok().map(Timestamp::from_micros)
}
