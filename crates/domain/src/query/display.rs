//! Prints trees as text that parses back to them. The forms are normal ones:
//! two queries that were typed differently and mean the same tree print alike.

use std::fmt::{self, Write as _};

use super::{
    cursor::ESCAPABLE,
    names::{ALIASES, ATTRIBUTE_PREFIX, Alias, LABEL_PREFIX},
    tree::{Comparison, Expr, FieldRef, Function, Literal, Measure, Stats, Test},
};

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_char('*'),
            Self::And(parts) => joined(f, parts, " "),
            Self::Or(parts) => match as_alias(parts) {
                Some((alias, test)) => write!(f, "{}{test}", alias.name),
                None => joined(f, parts, " OR "),
            },
            Self::Not(inner) => {
                f.write_char('-')?;
                inside(f, inner)
            }
            Self::Text(text) => word(f, text),
            Self::Field(field, test) => write!(f, "{field}{test}"),
        }
    }
}

fn joined(f: &mut fmt::Formatter<'_>, parts: &[Expr], between: &str) -> fmt::Result {
    for (at, part) in parts.iter().enumerate() {
        if at > 0 {
            f.write_str(between)?;
        }
        inside(f, part)?;
    }
    Ok(())
}

/// A part of something larger.
fn inside(f: &mut fmt::Formatter<'_>, part: &Expr) -> fmt::Result {
    let is_group = match part {
        Expr::And(_) => true,
        Expr::Or(parts) => as_alias(parts).is_none(),
        _ => false,
    };
    if is_group { write!(f, "({part})") } else { write!(f, "{part}") }
}

/// The short name behind alternatives that differ in their field only.
fn as_alias(parts: &[Expr]) -> Option<(&'static Alias, &Test)> {
    let Some(Expr::Field(_, test)) = parts.first() else { return None };
    let alias = ALIASES.iter().find(|alias| {
        alias.fields.len() == parts.len()
            && alias.fields.iter().zip(parts).all(|(name, part)| match part {
                Expr::Field(FieldRef::Known(known), other) => known.name == *name && other == test,
                _ => false,
            })
    });
    alias.map(|alias| (alias, test))
}

/// A word to look for: bare where it cannot be taken for anything else.
fn word(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    let mut chars = text.chars();
    let begins = chars.next().is_some_and(char::is_alphanumeric);
    let is_plain = begins && chars.all(|c| c.is_alphanumeric() || "_./-".contains(c));
    if is_plain { f.write_str(text) } else { quoted(f, text) }
}

fn quoted(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_char('"')?;
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            f.write_char('\\')?;
        }
        f.write_char(c)?;
    }
    f.write_char('"')
}

impl fmt::Display for FieldRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Known(known) => known.name.to_owned(),
            Self::Label(label) => format!("{LABEL_PREFIX}{label}"),
            Self::Attribute(key) => format!("{ATTRIBUTE_PREFIX}{key}"),
        };
        let is_alias = ALIASES.iter().any(|alias| alias.name == name && alias.fields.len() > 1);
        let is_plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
        let ends = name.ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
        if is_plain && ends && !is_alias { f.write_str(&name) } else { quoted(f, &name) }
    }
}

/// With the operator in front.
impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Present => f.write_str(":*"),
            Self::Regex(pattern) => write!(f, ":/{}/", pattern.replace('/', "\\/")),
            Self::Like(glob) => {
                f.write_char(':')?;
                for c in glob.as_str().chars() {
                    if ESCAPABLE.contains(&c) || c.is_whitespace() {
                        f.write_char('\\')?;
                    }
                    f.write_char(c)?;
                }
                Ok(())
            }
            Self::Any(literals) => {
                f.write_char(':')?;
                for (at, literal) in literals.iter().enumerate() {
                    if at > 0 {
                        f.write_char(',')?;
                    }
                    write!(f, "{literal}")?;
                }
                Ok(())
            }
            Self::Compare(comparison, literal) => write!(f, "{comparison}{literal}"),
        }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        })
    }
}

impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => {
                let mut chars = text.chars();
                let begins = chars.next().is_some_and(char::is_alphanumeric);
                let is_plain =
                    begins && chars.all(|c| c.is_alphanumeric() || "_.:/@+-".contains(c));
                // A number behind a comparison would be read as one.
                let is_number = text.parse::<f64>().is_ok();
                if is_plain && !is_number { f.write_str(text) } else { quoted(f, text) }
            }
            Self::Integer(number) => write!(f, "{number}"),
            Self::Number(number) => write!(f, "{number}"),
            Self::Boolean(value) => write!(f, "{value}"),
            Self::Time(time) => write!(f, "{time}"),
        }
    }
}

impl fmt::Display for Stats {
    /// Without the bucket, which is a flag of its own.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, measure) in self.measures.iter().enumerate() {
            f.write_str(if at > 0 { ", " } else { "" })?;
            write!(f, "{measure}")?;
        }
        for (at, field) in self.by.iter().enumerate() {
            f.write_str(if at > 0 { ", " } else { " by " })?;
            write!(f, "{field}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.field {
            Some(field) => write!(f, "{}({field})", self.function),
            None => write!(f, "{}", self.function),
        }
    }
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count => f.write_str("count"),
            Self::Sum => f.write_str("sum"),
            Self::Average => f.write_str("avg"),
            Self::Minimum => f.write_str("min"),
            Self::Maximum => f.write_str("max"),
            Self::Distinct => f.write_str("distinct"),
            // The figure as it was typed, not what division made of it.
            Self::Quantile(rank) => {
                let percent = (rank * 1e8).round() / 1e6;
                write!(f, "p{percent}")
            }
        }
    }
}
