//! Values that must not be seen.
//!
//! [`Secret`] has no `Display`, no `Serialize` and a `Debug` of stars; it
//! compares in constant time and wipes its memory when dropped. The one way to
//! the text is [`Secret::expose`], so a reader can find every use.

use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::Zeroize;

/// A text that reaches no line, page, error or serialiser.
#[derive(Clone)]
pub struct Secret(Box<str>);

impl Secret {
    pub fn new(text: impl Into<Box<str>>) -> Self {
        Self(text.into())
    }

    /// Hands out the text. Every call site is a place to review.
    pub fn expose(&self) -> &str {
        &self.0
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A form that a person can recognise and nobody can use: the family
    /// prefix, dots, and the last four characters of long secrets.
    pub fn obfuscated(&self) -> String {
        obfuscate(&self.0)
    }
}

/// The obfuscated form of `text`; see [`Secret::obfuscated`].
pub fn obfuscate(text: &str) -> String {
    let characters: Vec<char> = text.chars().collect();
    if characters.len() < 16 {
        return "****".to_owned();
    }
    let prefix: String = match text.find('-') {
        Some(at) if at <= 8 => text[..=at].to_owned(),
        _ => String::new(),
    };
    let tail: String = characters[characters.len() - 4..].iter().collect();
    format!("{prefix}****{tail}")
}

/// Whether `text` is (or imitates) the output of [`obfuscate`], so that a form
/// read back from the API is never stored as if it were a key.
pub fn looks_obfuscated(text: &str) -> bool {
    text.contains("**") || text.contains("...") || text.contains('…') || text.contains("••")
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_is_stars() {
        assert_eq!(format!("{:?}", Secret::new("sk-canary")), "***");
    }

    #[test]
    fn obfuscation_never_shows_a_short_secret() {
        assert_eq!(obfuscate("short"), "****");
        assert_eq!(obfuscate("sk-abcdefghijklmnopqrstuvwxyz"), "sk-****wxyz");
        assert_eq!(obfuscate("ключключключключключ"), "****ключ");
        assert!(looks_obfuscated(&obfuscate("sk-abcdefghijklmnopqrstuvwxyz")));
        assert!(!looks_obfuscated("sk-proj-abcdefg_hij-klm"));
    }
}
