//! Reads a whole buffered body for a rule, and refuses to guess: what a provider
//! might read differently is undecidable.

use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};

use super::{Shape, multipart::Form};

/// What a rule may judge.
#[derive(Clone, Debug, PartialEq)]
pub struct Inspected {
    pub model: Box<str>,
    /// Every parameter at the top level, in the body's order, each name once.
    pub params: Vec<(Box<str>, Param)>,
}

impl Inspected {
    pub fn param(&self, name: &str) -> Option<&Param> {
        self.params.iter().find(|(known, _)| &**known == name).map(|(_, param)| param)
    }
}

/// The value of a parameter.
#[derive(Clone, Debug, PartialEq)]
pub enum Param {
    /// A string as it is.
    Text(Box<str>),
    /// A number, `true`, `false` or `null` as JSON writes it.
    Bare(Box<str>),
    /// An object or a list, which no pattern can match.
    Composite,
}

impl Param {
    /// What a pattern is matched against.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Bare(text) => Some(text),
            Self::Composite => None,
        }
    }
}

/// Why a body cannot be judged; a rule then refuses the request.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum WhyUndecidable {
    #[error("the body is encoded")]
    Encoded,
    #[error("the content type is neither JSON nor a form")]
    ContentType,
    #[error("the body is not valid JSON")]
    InvalidJson,
    #[error("the body is not a JSON object")]
    NotAnObject,
    #[error("the body is nested too deeply")]
    TooDeep,
    #[error("a parameter is given twice")]
    Duplicate,
    #[error("the form cannot be read")]
    InvalidForm,
    #[error("the body names no model")]
    NoModel,
}

/// Reads `body` by its `Content-Type` and `Content-Encoding` values. JSON of any
/// type with a JSON name and any parameters is read, and so are forms.
pub fn inspect_whole(
    body: &[u8],
    content_type: Option<&str>,
    content_encoding: Option<&str>,
) -> Result<Inspected, WhyUndecidable> {
    let inspected = inspect_params(body, content_type, content_encoding)?;
    if inspected.model.is_empty() { Err(WhyUndecidable::NoModel) } else { Ok(inspected) }
}

/// The same for rules that do not ask for a model: without one it is empty.
pub fn inspect_params(
    body: &[u8],
    content_type: Option<&str>,
    content_encoding: Option<&str>,
) -> Result<Inspected, WhyUndecidable> {
    if content_encoding.is_some_and(|coding| !is_identity(coding)) {
        return Err(WhyUndecidable::Encoded);
    }
    let content_type = content_type.ok_or(WhyUndecidable::ContentType)?;
    let params = match Shape::of_type(content_type) {
        Shape::Json if is_utf8(content_type) => json_params(body)?,
        Shape::Form => form_params(body, content_type)?,
        _ => return Err(WhyUndecidable::ContentType),
    };
    let model = params.iter().find_map(|(name, param)| match param {
        Param::Text(value) if &**name == "model" => Some(value.clone()),
        _ => None,
    });
    Ok(Inspected { model: model.unwrap_or_default(), params })
}

fn is_identity(coding: &str) -> bool {
    let coding = coding.trim();
    coding.is_empty() || coding.eq_ignore_ascii_case("identity")
}

/// Another charset would make the bytes mean something else to the provider.
fn is_utf8(content_type: &str) -> bool {
    super::multipart::parameter(content_type, "charset").is_none_or(|charset| {
        ["utf-8", "utf8", "us-ascii"].iter().any(|known| charset.eq_ignore_ascii_case(known))
    })
}

fn form_params(body: &[u8], content_type: &str) -> Result<Vec<(Box<str>, Param)>, WhyUndecidable> {
    let mut form = Form::new(content_type).ok_or(WhyUndecidable::InvalidForm)?;
    let mut params: Vec<(Box<str>, Param)> = Vec::new();
    let mut trouble = None;
    form.feed(body, &mut |name, value, is_whole| {
        if params.iter().any(|(known, _)| &**known == name) {
            // Lists are sent as repeated `name[]`; only a plain name is single.
            if !name.ends_with("[]") {
                trouble = Some(WhyUndecidable::Duplicate);
            }
            return;
        }
        let param = match std::str::from_utf8(value) {
            Ok(value) if is_whole => Param::Text(value.into()),
            _ => Param::Composite,
        };
        params.push((name.into(), param));
    });
    match trouble {
        Some(why) => Err(why),
        None if !form.is_done() => Err(WhyUndecidable::InvalidForm),
        None => Ok(params),
    }
}

fn json_params(body: &[u8]) -> Result<Vec<(Box<str>, Param)>, WhyUndecidable> {
    // The parser passes over ignored keys without looking at their bytes.
    std::str::from_utf8(body).map_err(|_| WhyUndecidable::InvalidJson)?;
    let mut params = Vec::new();
    let mut found = Found { params: &mut params, why: None };
    let mut json = serde_json::Deserializer::from_slice(body);
    let read = TopLevel(&mut found).deserialize(&mut json).and_then(|()| json.end());
    if let Some(why) = found.why {
        return Err(why);
    }
    match read {
        Ok(()) => Ok(params),
        // The parser has no kind for this; its words have been stable for years,
        // and were they to change, the body would still be refused.
        Err(error) if error.to_string().starts_with("recursion limit") => {
            Err(WhyUndecidable::TooDeep)
        }
        Err(error) if error.is_data() => Err(WhyUndecidable::NotAnObject),
        Err(_) => Err(WhyUndecidable::InvalidJson),
    }
}

struct Found<'a> {
    params: &'a mut Vec<(Box<str>, Param)>,
    why: Option<WhyUndecidable>,
}

struct TopLevel<'a, 'b>(&'a mut Found<'b>);

impl<'de> DeserializeSeed<'de> for TopLevel<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for TopLevel<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            if self.0.params.iter().any(|(known, _)| **known == *name) {
                self.0.why = Some(WhyUndecidable::Duplicate);
                return Err(A::Error::custom("a parameter is given twice"));
            }
            let param = map.next_value_seed(ParamSeed { keep: true })?;
            self.0.params.push((name.into(), param));
        }
        Ok(())
    }
}

/// Reads below the top level with `keep` off: for the parser's depth limit and
/// full checks, without keeping anything.
#[derive(Clone, Copy)]
struct ParamSeed {
    keep: bool,
}

impl ParamSeed {
    fn bare(self, value: impl ToString) -> Param {
        if self.keep { Param::Bare(value.to_string().into()) } else { Param::Composite }
    }
}

impl<'de> DeserializeSeed<'de> for ParamSeed {
    type Value = Param;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Param, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ParamSeed {
    type Value = Param;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Param, E> {
        Ok(self.bare(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Param, E> {
        Ok(self.bare(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Param, E> {
        Ok(self.bare(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Param, E> {
        Ok(self.bare(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Param, E> {
        Ok(if self.keep { Param::Text(value.into()) } else { Param::Composite })
    }

    fn visit_unit<E>(self) -> Result<Param, E> {
        Ok(self.bare("null"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Param, A::Error> {
        while seq.next_element_seed(Self { keep: false })?.is_some() {}
        Ok(Param::Composite)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Param, A::Error> {
        while map.next_key::<IgnoredAny>()?.is_some() {
            map.next_value_seed(Self { keep: false })?;
        }
        Ok(Param::Composite)
    }
}
