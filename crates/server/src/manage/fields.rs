//! Reads a JSON object field by field, so that every refusal names the field
//! and none repeats a value (which may be a secret in the wrong place).

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, Visitor},
};
use serde_json::Value;

use super::error::{Error, Result};

/// Nobody needs more; a bound for hostile bodies.
const FIELDS_MAX: usize = 256;
/// How much of an unknown field's name is said back.
const NAME_CHARS_SHOWN: usize = 64;

/// The fields of one object that were not yet taken.
#[derive(Debug)]
pub struct Fields {
    fields: BTreeMap<String, Value>,
    known: Vec<&'static str>,
}

/// A field of a PATCH: leaving out and `null` mean different things.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change<T> {
    Keep,
    Clear,
    Set(T),
}

impl<T> Change<T> {
    /// The new value where there is a change.
    pub fn into_option(self) -> Option<Option<T>> {
        match self {
            Self::Keep => None,
            Self::Clear => Some(None),
            Self::Set(value) => Some(Some(value)),
        }
    }

    pub fn map<U>(self, f: impl FnOnce(T) -> Result<U>) -> Result<Change<U>> {
        Ok(match self {
            Self::Keep => Change::Keep,
            Self::Clear => Change::Clear,
            Self::Set(value) => Change::Set(f(value)?),
        })
    }
}

impl Fields {
    /// Parses a body that must be one JSON object.
    pub fn parse(body: &[u8]) -> Result<Self> {
        let object: UniqueObject = serde_json::from_slice(body).map_err(|error| {
            // Serde's own words may repeat a value; position and our own do not.
            let text = match error.classify() {
                serde_json::error::Category::Data => {
                    let own = error.to_string();
                    match own.strip_prefix(OWN_WORDS) {
                        Some(rest) => rest.split(" at line ").next().unwrap_or(rest).to_owned(),
                        None => "the body must be a JSON object".to_owned(),
                    }
                }
                _ => format!(
                    "the body is not valid JSON (line {}, column {})",
                    error.line(),
                    error.column()
                ),
            };
            Error::invalid(text)
        })?;
        Ok(Self { fields: object.0, known: Vec::new() })
    }

    fn take(&mut self, name: &'static str) -> Option<Value> {
        self.known.push(name);
        self.fields.remove(name)
    }

    /// Reads `name` with `read`, which gets a value that is not null.
    fn change<T>(
        &mut self,
        name: &'static str,
        expected: &'static str,
        read: impl FnOnce(Value) -> Option<T>,
    ) -> Result<Change<T>> {
        match self.take(name) {
            None => Ok(Change::Keep),
            Some(Value::Null) => Ok(Change::Clear),
            Some(value) => read(value)
                .map(Change::Set)
                .ok_or_else(|| Error::invalid(format!("{name} must be {expected}"))),
        }
    }

    pub fn text(&mut self, name: &'static str) -> Result<Change<String>> {
        self.change(name, "a string", |value| match value {
            Value::String(text) => Some(text),
            _ => None,
        })
    }

    pub fn required_text(&mut self, name: &'static str) -> Result<String> {
        match self.text(name)? {
            Change::Set(text) => Ok(text),
            _ => Err(Error::invalid(format!("{name} is required"))),
        }
    }

    pub fn boolean(&mut self, name: &'static str) -> Result<Change<bool>> {
        self.change(name, "true or false", |value| value.as_bool())
    }

    /// A whole number in `min..=max`.
    pub fn number(&mut self, name: &'static str, min: u64, max: u64) -> Result<Change<u64>> {
        let number = self.change(name, "a whole number", |value| value.as_u64())?;
        number.map(|number| {
            if (min..=max).contains(&number) {
                return Ok(number);
            }
            Err(Error::invalid(format!("{name} must be between {min} and {max}")))
        })
    }

    /// A list of at most `max` strings.
    pub fn texts(&mut self, name: &'static str, max: usize) -> Result<Change<Vec<String>>> {
        let texts = self.change(name, "a list of strings", |value| {
            let Value::Array(items) = value else { return None };
            items
                .into_iter()
                .map(|item| match item {
                    Value::String(text) => Some(text),
                    _ => None,
                })
                .collect::<Option<Vec<_>>>()
        })?;
        texts.map(|texts| {
            if texts.len() <= max {
                return Ok(texts);
            }
            Err(Error::invalid(format!("{name} takes at most {max} values")))
        })
    }

    /// An object whose values are strings, or null where the caller allows it.
    pub fn text_map(
        &mut self,
        name: &'static str,
    ) -> Result<Change<BTreeMap<String, Option<String>>>> {
        self.change(name, "an object of strings", |value| {
            let Value::Object(object) = value else { return None };
            object
                .into_iter()
                .map(|(key, value)| match value {
                    Value::String(text) => Some((key, Some(text))),
                    Value::Null => Some((key, None)),
                    _ => None,
                })
                .collect()
        })
    }

    /// Refuses whatever was not asked for.
    pub fn finish(self) -> Result<()> {
        let Some(unknown) = self.fields.keys().next() else { return Ok(()) };
        let shown: String = unknown.chars().take(NAME_CHARS_SHOWN).collect();
        let shown = domain::redact::redacted(&shown, &[]);
        let known = match self.known.as_slice() {
            [] => "no field is known here".to_owned(),
            known => format!("known are {}", known.join(", ")),
        };
        Err(Error::invalid(format!("unknown field {}; {known}", shown.escape_debug())))
    }
}

/// Marks messages that are ours among serde's.
const OWN_WORDS: &str = "body: ";

/// An object that names every field once.
struct UniqueObject(BTreeMap<String, Value>);

impl<'de> Deserialize<'de> for UniqueObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = UniqueObject;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<UniqueObject, A::Error> {
                let mut fields = BTreeMap::new();
                while let Some((name, value)) = map.next_entry::<String, Value>()? {
                    if fields.len() == FIELDS_MAX {
                        return Err(de::Error::custom(format!("{OWN_WORDS}too many fields")));
                    }
                    if fields.insert(name, value).is_some() {
                        return Err(de::Error::custom(format!("{OWN_WORDS}a field stands twice")));
                    }
                }
                Ok(UniqueObject(fields))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_name_the_field_and_never_the_value() {
        let check = |body: &str, expected: &str| {
            let read = || -> Result<()> {
                let mut fields = Fields::parse(body.as_bytes())?;
                fields.required_text("name")?;
                fields.number("count", 1, 10)?;
                fields.boolean("on")?;
                fields.texts("models", 2)?;
                fields.text_map("labels")?;
                fields.finish()
            };
            let said = read().map_or_else(|error| error.to_string(), |()| "fine".to_owned());
            assert_eq!(said, expected, "{body}");
        };
        check(r#"{"name":"a"}"#, "fine");
        check(r#"{"name":"a","count":null,"labels":{"a":"b","c":null}}"#, "fine");
        check(r#"{"name":"a","count":"sk-canary"}"#, "count must be a whole number");
        check(r#"{"name":"a","count":1.5}"#, "count must be a whole number");
        check(r#"{"name":"a","count":11}"#, "count must be between 1 and 10");
        check(r#"{"name":"a","on":"yes"}"#, "on must be true or false");
        check(r#"{"name":"a","models":["a",1]}"#, "models must be a list of strings");
        check(r#"{"name":"a","models":["a","b","c"]}"#, "models takes at most 2 values");
        check(r#"{"name":"a","labels":{"a":1}}"#, "labels must be an object of strings");
        check(r#"{"name":1}"#, "name must be a string");
        check("{}", "name is required");
        check(
            r#"{"name":"a","nmae":"b"}"#,
            "unknown field nmae; known are name, count, on, models, labels",
        );
        check(r#"{"name":"a","name":"b"}"#, "a field stands twice");
        check("[]", "the body must be a JSON object");
        check("\"sk-canary\"", "the body must be a JSON object");
        check("{\"name\":", "the body is not valid JSON (line 1, column 8)");
        check("", "the body is not valid JSON (line 1, column 0)");
    }
}
