//! One line, taken apart: its fields in the order in which they stand.

use std::fmt;

use domain::{audit::is_deceptive, query::FieldRef};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::Value;

/// The fields of a line. A line that is no JSON object has none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Line {
    fields: Vec<(String, Value)>,
}

impl Line {
    /// The one field of a line that is no JSON object, where that is looked for.
    pub const TEXT: &str = "text";

    pub fn parse(line: &[u8]) -> Self {
        serde_json::from_slice(line).unwrap_or_default()
    }

    /// Anybody's line: one that is no JSON object is its text.
    pub fn of_others(line: &[u8]) -> Self {
        serde_json::from_slice(line).unwrap_or_else(|_| {
            let text = String::from_utf8_lossy(line).into_owned();
            Self { fields: vec![(Self::TEXT.to_owned(), Value::String(text))] }
        })
    }

    /// The line as JSON, its fields in their order.
    pub fn to_json(&self) -> Vec<u8> {
        let mut out = vec![b'{'];
        for (at, (name, value)) in self.fields.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            domain::json::write_text(&mut out, name);
            out.push(b':');
            out.extend_from_slice(value.to_string().as_bytes());
        }
        out.push(b'}');
        out
    }

    pub fn fields(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.fields.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// A field by its exact name; of two, the last counts.
    pub fn get(&self, name: &str) -> Option<&Value> {
        let found = self.fields.iter().rev().find(|(known, _)| known == name);
        found.map(|(_, value)| value).filter(|value| !value.is_null())
    }

    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(Value::as_str)
    }

    pub fn number(&self, name: &str) -> Option<f64> {
        self.get(name).and_then(Value::as_f64)
    }

    /// What a query means by this field. Dots of an attribute reach into
    /// objects where no field has the whole name.
    pub fn value(&self, field: &FieldRef) -> Option<&Value> {
        match field {
            FieldRef::Known(known) => self.get(known.name),
            FieldRef::Label(label) => self.get("labels")?.get(label),
            FieldRef::Attribute(key) => self.get(key).or_else(|| {
                let (outer, inner) = key.split_once('.')?;
                inner.split('.').try_fold(self.get(outer)?, |value, part| value.get(part))
            }),
        }
    }
}

impl<'de> Deserialize<'de> for Line {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Line;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Line, M::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Line { fields })
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

/// A value on one line.
pub fn shown(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => harmless(text),
        value => harmless(&value.to_string()),
    }
}

/// `name=value`, quoted where it must be.
pub(super) fn pair(name: &str, value: &Value) -> String {
    let name = harmless(name).replace(' ', "_");
    let text = shown(value);
    match text.is_empty() || text.contains([' ', '"', '=', '\\']) {
        true => format!("{name}=\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")),
        false => format!("{name}={text}"),
    }
}

/// Characters that a terminal obeys, that turn the direction of text around or
/// that cannot be seen, in an escaped form.
pub fn harmless(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_deceptive(c) { out.extend(c.escape_unicode()) } else { out.push(c) }
    }
    out
}

/// The same for a line of JSON, as JSON escapes: it still means the same.
/// Bytes that are no text become replacement characters.
pub fn harmless_json(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_deceptive(c) {
            let mut units = [0; 2];
            let units = c.encode_utf16(&mut units).iter();
            units.for_each(|unit| out.push_str(&format!("\\u{unit:04x}")));
        } else {
            out.push(c);
        }
    }
    out
}
