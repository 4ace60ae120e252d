//! Takes out of what others wrote what must not be kept, before it becomes a
//! line.
//!
//! For the short texts of a record, on the way of every request: two nets, the
//! exact secrets of the request at hand (a provider may echo the key it was
//! sent), and the shapes that credentials commonly have. For captured bodies,
//! off that way: [`Rules`], which also know addresses and numbers of people and
//! what an operator adds. Both are pure and linear in the text.

mod body;
mod builtin;
mod events;
mod form;
mod json;
mod path;
mod rules;
mod sheet;
#[cfg(test)]
mod tests;

pub use body::{Source, may_be_text};
pub use path::{PATHS_MAX, Path};
pub use rules::{Builtin, PATTERNS_MAX, Pattern, PatternError, Rules};

/// Text that went through the rules, and how often something was replaced in
/// it. Only the rules make it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Redacted {
    text: String,
    by_rule: Vec<(Box<str>, u64)>,
}

impl Redacted {
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// How often something was replaced.
    pub fn redactions(&self) -> u64 {
        self.by_rule.iter().map(|(_, count)| count).sum()
    }

    /// The same for each rule that found something.
    pub fn by_rule(&self) -> &[(Box<str>, u64)] {
        &self.by_rule
    }
}

/// What stands in place of a credential.
const MASK: &str = "***";
/// A run of credential characters this long after a known prefix is one.
const SECRET_RUN_MIN: usize = 8;
const PREFIXES: &[&str] = &[
    "sk-",
    "mk-",
    "pk-",
    "rk-",
    "sk_",
    "pk_",
    "gsk_",
    "xai-",
    "ghp_",
    "gho_",
    "github_pat_",
    "glpat-",
    "xoxb-",
    "xoxp-",
    "AKIA",
    "ASIA",
    "AIza",
    "ya29.",
    "eyJ",
    "hf_",
    "r8_",
    "pplx-",
];
const SCHEMES: &[&str] = &["bearer ", "basic ", "digest ", "token "];

/// Whether the whole of `text` contains something shaped like a credential.
pub fn looks_like_credential(text: &str) -> bool {
    next_credential(text).is_some()
}

/// `text` without the given secrets and without anything shaped like one.
pub fn redacted(text: &str, secrets: &[&str]) -> String {
    let mut text = text.to_owned();
    for secret in secrets.iter().filter(|secret| secret.len() >= 4) {
        if text.contains(secret) {
            text = text.replace(secret, MASK);
        }
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some((from, to)) = next_credential(rest) {
        out.push_str(&rest[..from]);
        out.push_str(MASK);
        rest = &rest[to..];
    }
    out.push_str(rest);
    out
}

/// The byte range of the first credential-shaped run. One pass: most texts that
/// come through here are short, clean, and on the way of every request.
fn next_credential(text: &str) -> Option<(usize, usize)> {
    let bytes = text.as_bytes();
    let mut in_word = false;
    for (at, byte) in bytes.iter().enumerate() {
        // `risk-assessment` is a word: a prefix begins a run of its own.
        let begins_word = !in_word;
        in_word = byte.is_ascii_alphanumeric();
        if !begins_word || !in_word {
            continue;
        }
        if let Some(found) = credential_at(text, at) {
            return Some(found);
        }
    }
    None
}

/// Bytes that a prefix or a scheme may begin with: most words begin otherwise.
const BEGINS: [bool; 256] = {
    let mut begins = [false; 256];
    let mut at = 0;
    while at < PREFIXES.len() {
        begins[PREFIXES[at].as_bytes()[0] as usize] = true;
        at += 1;
    }
    at = 0;
    while at < SCHEMES.len() {
        let first = SCHEMES[at].as_bytes()[0];
        begins[first.to_ascii_lowercase() as usize] = true;
        begins[first.to_ascii_uppercase() as usize] = true;
        at += 1;
    }
    begins
};

fn credential_at(text: &str, at: usize) -> Option<(usize, usize)> {
    let rest = &text.as_bytes()[at..];
    if !BEGINS[usize::from(rest[0])] {
        return None;
    }
    let prefixed = PREFIXES.iter().find(|prefix| rest.starts_with(prefix.as_bytes()));
    if let Some(prefix) = prefixed {
        let end = run_end(text, at + prefix.len());
        if end - at - prefix.len() >= SECRET_RUN_MIN {
            return Some((at, end));
        }
    }
    let schemed = SCHEMES.iter().find(|scheme| {
        rest.get(..scheme.len()).is_some_and(|head| head.eq_ignore_ascii_case(scheme.as_bytes()))
    });
    let from = at + schemed?.len();
    let end = run_end(text, from);
    (end - from >= SECRET_RUN_MIN).then_some((from, end))
}

fn run_end(text: &str, from: usize) -> usize {
    let run =
        text[from..].bytes().take_while(|b| b.is_ascii_alphanumeric() || b"-_.=/+*".contains(b));
    from + run.count()
}
