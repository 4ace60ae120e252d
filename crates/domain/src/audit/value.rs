//! What may enter an entry. Nothing here is made from a
//! [`Secret`](crate::secret::Secret), and text that looks like a credential is
//! masked all the same.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Deserializer, Serialize, de};

use crate::{redact, time::Timestamp};

pub const WORD_BYTES_MAX: usize = 128;
pub const TEXT_BYTES_MAX: usize = 1024;

/// Plain text of a closed alphabet that may stand in a leaf as it is: ids of
/// ours, codes, route templates.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Word(Box<str>);

impl Word {
    /// Accepts 1 to 128 characters of `[A-Za-z0-9._:/@+=#*{}-]`.
    /// What is shaped like a credential is refused.
    pub fn parse(text: &str) -> Option<Self> {
        (is_word(text) && !redact::looks_like_credential(text)).then(|| Self(text.into()))
    }

    /// `text` with every other character as `_`, cut at the bound.
    pub fn lossy(text: &str) -> Self {
        let text = redact::redacted(text, &[]);
        let plain: String = text
            .chars()
            .map(|c| if c.is_ascii() && is_word_byte(c as u8) { c } else { '_' })
            .take(WORD_BYTES_MAX)
            .collect();
        if plain.is_empty() { Self("_".into()) } else { Self(plain.into()) }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether a leaf may hold `text` as a word. This never changes: the shapes of
/// credentials do, and are therefore judged only when a leaf is made.
pub(super) fn is_word(text: &str) -> bool {
    !text.is_empty() && text.len() <= WORD_BYTES_MAX && text.bytes().all(is_word_byte)
}

fn is_word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._:/@+=#*{}-_".contains(&byte)
}

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let word = is_word(&text).then(|| Self(text.into()));
        word.ok_or_else(|| de::Error::custom("not a plain word"))
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

/// Text that others wrote: bounded, credential shapes masked, and every
/// character that could deceive a reader made visible. It is only ever sealed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Text(Box<str>);

impl Text {
    pub fn new(text: &str) -> Self {
        // Cut before masking too, so that a huge value costs no scan; the
        // margin keeps a credential across the cut recognisable.
        let text = redact::redacted(cut(text, 2 * TEXT_BYTES_MAX), &[]);
        let mut visible = String::with_capacity(text.len());
        for character in text.chars() {
            if is_deceptive(character) {
                visible.push_str(&format!("<U+{:04X}>", u32::from(character)));
            } else {
                visible.push(character);
            }
        }
        if visible.len() > TEXT_BYTES_MAX {
            visible = format!("{}…", cut(&visible, TEXT_BYTES_MAX - '…'.len_utf8()));
        }
        Self(visible.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The longest prefix of at most `bytes_max` bytes.
fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

/// Controls, line and paragraph separators, bidirectional controls, and what
/// has no width: a reader must see that they are there.
pub fn is_deceptive(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{00ad}'
                | '\u{061c}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

/// A value that is sealed: text, a number, a flag, or a list or map of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Value(serde_json::Value);

impl Value {
    pub fn text(text: &str) -> Self {
        Text::new(text).into()
    }

    pub fn list(items: impl IntoIterator<Item = Self>) -> Self {
        Self(serde_json::Value::Array(items.into_iter().map(|item| item.0).collect()))
    }

    /// A map; keys are cut and made visible as text is.
    pub fn map<'k>(members: impl IntoIterator<Item = (&'k str, Self)>) -> Self {
        let members: BTreeMap<String, serde_json::Value> = members
            .into_iter()
            .map(|(key, value)| (Text::new(key).0.into_string(), value.0))
            .collect();
        Self(serde_json::Value::Object(members.into_iter().collect()))
    }

    /// What stands for a secret that was set, replaced or removed.
    pub fn changed() -> Self {
        Self::map([("changed", Self::from(true))])
    }

    pub fn as_json(&self) -> &serde_json::Value {
        &self.0
    }
}

impl From<Text> for Value {
    fn from(text: Text) -> Self {
        Self(serde_json::Value::String(text.0.into_string()))
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self(flag.into())
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self(number.into())
    }
}

impl From<u64> for Value {
    /// A number past the exact range stands as text.
    fn from(number: u64) -> Self {
        let exact = number <= super::jcs::INTEGER_MAX.unsigned_abs();
        Self(if exact { number.into() } else { number.to_string().into() })
    }
}

impl From<Timestamp> for Value {
    fn from(time: Timestamp) -> Self {
        Self(time.to_rfc3339().as_str().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deceptive_characters_become_visible() {
        let check = |text: &str, expected: &str| assert_eq!(Text::new(text).as_str(), expected);
        check("naïve 漢字 😀", "naïve 漢字 😀");
        check("a\u{202e}b\u{2028}c\n\u{1b}[31m", "a<U+202E>b<U+2028>c<U+000A><U+001B>[31m");
        check("x\u{200b}\u{feff}\u{7f}\u{85}", "x<U+200B><U+FEFF><U+007F><U+0085>");
    }

    #[test]
    fn text_is_bounded_and_masked() {
        let long = Text::new(&"é".repeat(100_000));
        assert!(long.as_str().len() <= TEXT_BYTES_MAX && long.as_str().ends_with('…'));
        let masked = Text::new("my key is sk-abcdefghijklmnop1234 ok");
        assert_eq!(masked.as_str(), "my key is *** ok");
        assert_eq!(Word::parse("sk-abcdefghijklmnop1234"), None);
        assert_eq!(Word::lossy("sk-abcdefghijklmnop1234").as_str(), "***");
    }

    #[test]
    fn words_have_a_closed_alphabet() {
        assert!(Word::parse("/manage/projects/{id}").is_some());
        assert!(Word::parse("rate_limited").is_some());
        for other in ["", "a b", "ä", "a\n", "\"", &"a".repeat(129)] {
            assert_eq!(Word::parse(other), None, "{other:?}");
        }
        assert_eq!(Word::lossy("a b\u{202e}ä").as_str(), "a_b__");
        assert_eq!(Word::lossy("").as_str(), "_");
    }
}
