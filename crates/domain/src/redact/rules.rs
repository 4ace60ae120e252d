//! The rules in force: which of the built-in ones, and the operator's own.

use regex::{Regex, RegexBuilder};

use super::{
    builtin::{self, Span},
    path::{PATHS_MAX, Path},
};

/// Patterns that one configuration may have.
pub const PATTERNS_MAX: usize = 64;
/// Longest text of a pattern, and of its name.
pub const PATTERN_BYTES_MAX: usize = 1024;
pub const NAME_BYTES_MAX: usize = 32;
/// Memory of one compiled pattern.
const COMPILED_BYTES_MAX: usize = 1 << 20;

/// A rule that we bring along.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Builtin {
    Credentials,
    Email,
    Card,
    Phone,
}

impl Builtin {
    pub const ALL: [Self; 4] = [Self::Credentials, Self::Email, Self::Card, Self::Phone];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Credentials => "credentials",
            Self::Email => "email",
            Self::Card => "card",
            Self::Phone => "phone",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|rule| rule.as_str() == text)
    }
}

/// Name of what the operator's paths replace.
const PATH_RULE: &str = "path";

/// A pattern that an operator wrote.
#[derive(Clone, Debug)]
pub struct Pattern {
    name: Box<str>,
    regex: Regex,
}

/// Why a pattern is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PatternError {
    #[error("a name is 1 to {NAME_BYTES_MAX} characters of [a-z0-9_-] and none of ours")]
    Name,
    #[error("not a regular expression of at most {PATTERN_BYTES_MAX} bytes (RE2 syntax)")]
    Syntax,
    #[error("too large when it is compiled")]
    Size,
    #[error("it also matches nothing at all, so it would match everywhere")]
    Empty,
}

impl Pattern {
    pub fn new(name: &str, text: &str) -> Result<Self, PatternError> {
        let plain =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
        let ours = Builtin::parse(name).is_some() || name == PATH_RULE;
        if ours || name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(plain) {
            return Err(PatternError::Name);
        }
        if text.len() > PATTERN_BYTES_MAX {
            return Err(PatternError::Syntax);
        }
        let compiled = RegexBuilder::new(text)
            .size_limit(COMPILED_BYTES_MAX)
            .dfa_size_limit(COMPILED_BYTES_MAX)
            .build();
        let regex = compiled.map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => PatternError::Size,
            _ => PatternError::Syntax,
        })?;
        if regex.is_match("") {
            return Err(PatternError::Empty);
        }
        Ok(Self { name: name.into(), regex })
    }
}

/// Everything that is replaced in a body. Built once from the configuration.
#[derive(Clone, Debug)]
pub struct Rules {
    builtin: Vec<Builtin>,
    paths: Vec<Path>,
    patterns: Vec<Pattern>,
}

/// Nobody chose: all that we bring along.
impl Default for Rules {
    fn default() -> Self {
        Self::new(Builtin::ALL.to_vec(), Vec::new(), Vec::new())
    }
}

/// A place and the rule that found it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Match {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) rule: RuleId,
}

/// Names a rule of one [`Rules`]: built-in ones, `path`, the patterns.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct RuleId(usize);

impl RuleId {
    pub(super) const CREDENTIALS: Self = Self(0);
    pub(super) const CARD: Self = Self(2);
    pub(super) const PHONE: Self = Self(3);
    pub(super) const PATH: Self = Self(Builtin::ALL.len());

    fn pattern(at: usize) -> Self {
        Self(Self::PATH.0 + 1 + at)
    }
}

impl Rules {
    /// At most [`PATHS_MAX`] paths and [`PATTERNS_MAX`] patterns count.
    pub fn new(builtin: Vec<Builtin>, mut paths: Vec<Path>, mut patterns: Vec<Pattern>) -> Self {
        paths.truncate(PATHS_MAX);
        patterns.truncate(PATTERNS_MAX);
        Self { builtin, paths, patterns }
    }

    /// These rules and more of an operator's.
    #[must_use]
    pub fn and(&self, paths: Vec<Path>, patterns: Vec<Pattern>) -> Self {
        let paths = self.paths.iter().cloned().chain(paths).collect();
        let patterns = self.patterns.iter().cloned().chain(patterns).collect();
        Self::new(self.builtin.clone(), paths, patterns)
    }

    /// The names of the rules, for whoever asks what is in force.
    pub fn names(&self) -> Vec<&str> {
        let builtin = self.builtin.iter().map(|rule| rule.as_str());
        let path = (!self.paths.is_empty()).then_some(PATH_RULE);
        let patterns = self.patterns.iter().map(|pattern| &*pattern.name);
        builtin.chain(path).chain(patterns).collect()
    }

    pub(super) fn name(&self, rule: RuleId) -> &str {
        match Builtin::ALL.get(rule.0) {
            Some(builtin) => builtin.as_str(),
            None if rule == RuleId::PATH => PATH_RULE,
            None => self.patterns.get(rule.0 - RuleId::pattern(0).0).map_or("", |p| &p.name),
        }
    }

    pub(super) fn paths(&self) -> &[Path] {
        &self.paths
    }

    pub(super) fn has(&self, rule: Builtin) -> bool {
        self.builtin.contains(&rule)
    }

    /// What the built-in rules and the exact `secrets` find in a text that may
    /// consist of several, NUL between them.
    pub(super) fn find(&self, text: &str, secrets: &[&str], found: &mut Vec<Match>) {
        let mut spans: Vec<Span> = Vec::new();
        let mut take = |rule: Builtin, spans: &mut Vec<Span>| {
            let at = Builtin::ALL.iter().position(|other| *other == rule).unwrap_or_default();
            found.extend(spans.drain(..).map(|(from, to)| Match { from, to, rule: RuleId(at) }));
        };
        for rule in &self.builtin {
            match rule {
                Builtin::Credentials => builtin::credentials(text, &mut spans),
                Builtin::Email => builtin::emails(text, &mut spans),
                Builtin::Card => builtin::cards(text, &mut spans),
                Builtin::Phone => builtin::phones(text, &mut spans),
            }
            take(*rule, &mut spans);
        }
        // What is known to be secret goes, whatever was chosen.
        for secret in secrets.iter().filter(|secret| secret.len() >= SECRET_BYTES_MIN) {
            spans.extend(text.match_indices(secret).map(|(at, text)| (at, at + text.len())));
        }
        take(Builtin::Credentials, &mut spans);
    }

    /// What the operator's patterns find in one text.
    pub(super) fn find_patterns(&self, text: &str, found: &mut Vec<Match>) {
        for (at, pattern) in self.patterns.iter().enumerate() {
            let rule = RuleId::pattern(at);
            let matches = pattern.regex.find_iter(text).filter(|at| !at.is_empty());
            found.extend(matches.map(|at| Match { from: at.start(), to: at.end(), rule }));
        }
    }

    pub(super) fn has_patterns(&self) -> bool {
        !self.patterns.is_empty()
    }
}

/// Shorter ones would be found in words.
const SECRET_BYTES_MIN: usize = 4;
