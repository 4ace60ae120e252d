//! Patterns with `*` (any run of characters), as in `gpt-4*`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A pattern in which `*` stands for any run of characters, the empty one too.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Glob(String);

impl Glob {
    pub fn new(pattern: impl Into<String>) -> Self {
        Self(pattern.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Linear in `text` for each part between stars; case-sensitive.
    pub fn matches(&self, text: &str) -> bool {
        let Some((prefix, mut rest)) = self.0.split_once('*') else {
            return self.0 == text;
        };
        let Some(mut text) = text.strip_prefix(prefix) else { return false };
        while let Some((part, after)) = rest.split_once('*') {
            let Some(at) = text.find(part) else { return false };
            text = &text[at + part.len()..];
            rest = after;
        }
        text.ends_with(rest)
    }
}

impl fmt::Debug for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_match_any_run() {
        let check = |pattern: &str, text: &str, expected: bool| {
            assert_eq!(Glob::new(pattern).matches(text), expected, "{pattern} against {text}");
        };
        check("gpt-4o", "gpt-4o", true);
        check("gpt-4o", "gpt-4o-mini", false);
        check("gpt-4*", "gpt-4o-mini", true);
        check("*", "", true);
        check("*mini", "gpt-4o-mini", true);
        check("*mini", "gpt-4o-mini-2", false);
        check("g*4*i", "gpt-4o-mini", true);
        check("a*a", "a", false);
        check("**", "x", true);
        check("", "x", false);
    }
}
