//! Which module of `server` may name which.
//!
//! `main → cli → app → { http → (api, admin) → manage }, directory, delivery,
//! config`: what stands further right must not name what stands further left,
//! and `api` and `admin` must not see each other, nor the crates below `manage`.

use std::collections::BTreeSet;

use super::{
    Finding,
    source::{Source, line_of, words},
};

const ROOT: &str = "crates/server/src/";

/// A module, and what it must not name: modules of `server` and crates.
const FORBIDDEN: &[(&str, &[&str])] = &[
    ("app", &["cli"]),
    ("http", &["cli", "app", "logstore", "tlog"]),
    ("api", &["cli", "app", "admin", "directory", "delivery", "store", "logstore", "tlog"]),
    ("admin", &["cli", "app", "api", "directory", "delivery", "store", "logstore", "tlog"]),
    ("manage", &["cli", "app", "http", "api", "admin"]),
    ("events", &["cli", "app", "http", "api", "admin", "manage", "delivery", "demo"]),
    ("directory", &["cli", "app", "http", "api", "admin", "manage", "delivery"]),
    ("delivery", &["cli", "app", "http", "api", "admin", "manage", "directory"]),
    ("config", &["cli", "app", "http", "api", "admin", "manage", "directory", "delivery", "demo"]),
    ("metrics", &["cli", "app", "api", "admin", "demo"]),
    ("trace", &["cli", "app", "http", "api", "admin", "manage", "demo"]),
    ("system", &["cli", "app", "http", "api", "admin", "manage", "directory", "delivery", "demo"]),
];

/// Crates of ours that a module may be kept from.
const CRATES: &[&str] = &["store", "logstore", "tlog"];

/// Checks the production sources of `server`.
pub fn check(sources: &[Source]) -> Vec<Finding> {
    let mut findings = BTreeSet::new();
    for source in sources {
        let Some(path) = source.path.strip_prefix(ROOT) else { continue };
        let modules: Vec<&str> = module_path(path);
        let own = modules
            .iter()
            .rev()
            .find_map(|module| FORBIDDEN.iter().find(|(forbidden, _)| forbidden == module));
        let Some((own, forbidden)) = own else { continue };
        for (at, named) in named(&source.code, modules.len()) {
            if forbidden.contains(&named) {
                let line = line_of(&source.code, at);
                findings.insert(format!("{}:{line}: {own} must not name {named}", source.path));
            }
        }
    }
    findings.into_iter().map(Finding).collect()
}

fn module_path(path: &str) -> Vec<&str> {
    let mut parts: Vec<&str> = path.trim_end_matches(".rs").split('/').collect();
    if ["mod", "lib", "main"].iter().any(|name| parts.last() == Some(name)) {
        parts.pop();
    }
    parts
}

/// Every module at the root of the crate, below `http`, and every crate of ours
/// that the code names.
fn named(code: &str, depth: usize) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    for (at, word) in words(code) {
        let rest = &code[at + word.len()..];
        let is_path = rest.starts_with("::") && !rest.starts_with("::<");
        let before = code[..at].trim_end();
        let begins = !before.ends_with("::") && !before.ends_with('.');
        match word {
            "crate" if is_path => found.extend(heads(code, at + word.len() + 2)),
            "super" if is_path && begins => {
                let ups = 1 + rest.matches_prefix("::super");
                let after = at + word.len() + "::super".len() * (ups - 1) + 2;
                if ups >= depth && code[..after].ends_with("::") {
                    found.extend(heads(code, after));
                }
            }
            _ if begins && is_path && CRATES.contains(&word) => found.push((at, word)),
            _ => {}
        }
    }
    found
}

trait MatchesPrefix {
    /// How often the text begins with `prefix`, one after the other.
    fn matches_prefix(&self, prefix: &str) -> usize;
}

impl MatchesPrefix for str {
    fn matches_prefix(&self, prefix: &str) -> usize {
        let mut rest = self;
        std::iter::from_fn(|| {
            rest = rest.strip_prefix(prefix)?;
            Some(())
        })
        .count()
    }
}

/// The names that a path begins with at `at`: one, or those of a `{…}` group.
/// A path into `http` also names what it takes from there.
fn heads(code: &str, at: usize) -> Vec<(usize, &str)> {
    let rest = &code[at..];
    if !rest.trim_start().starts_with('{') {
        let Some((start, head)) = words(rest).next() else { return Vec::new() };
        let mut found = vec![(at + start, head)];
        let after = at + start + head.len();
        if head == "http" && code[after..].starts_with("::") {
            found.extend(heads(code, after + 2));
        }
        return found;
    }
    let mut found = Vec::new();
    let mut depth = 0;
    let mut expects = false;
    for (offset, byte) in rest.bytes().enumerate() {
        match byte {
            b'{' => (depth, expects) = (depth + 1, depth == 0),
            b'}' if depth == 1 => break,
            b'}' => depth -= 1,
            b',' => expects = depth == 1,
            _ if byte.is_ascii_whitespace() => {}
            _ if expects => {
                found.extend(heads(code, at + offset));
                expects = false;
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::TextFile;

    fn check_text(path: &str, text: &str, count: usize) {
        let file = TextFile { path: format!("{ROOT}{path}"), text: text.to_owned() };
        let findings = check(&[Source::new(&file)]);
        assert_eq!(findings.len(), count, "{path}: {text}: {findings:?}");
    }

    #[test]
    fn what_stands_right_does_not_name_what_stands_left() {
        check_text("manage/tokens.rs", "use crate::http::router;", 1);
        check_text("manage/tokens.rs", "use crate::{config::Config, http::x};", 1);
        check_text("manage/tokens.rs", "use crate::{config::{http, app}, directory};", 0);
        check_text("manage.rs", "fn f() { super::http::serve() }", 1);
        check_text("manage/tokens.rs", "use super::http;", 0);
        check_text("manage/tokens.rs", "use super::super::{http};", 1);
        check_text("manage/tokens.rs", "use store::Projects;", 0);
        check_text("cli.rs", "use crate::app::App;", 0);
        check_text("app.rs", "use crate::cli::Args;", 1);
    }

    #[test]
    fn the_api_sees_use_cases_only() {
        check_text("api/tokens.rs", "use crate::manage::tokens;", 0);
        check_text("api/tokens.rs", "fn f() -> store::Token { todo() }", 1);
        check_text("http/api/tokens.rs", "use logstore::Search;", 1);
        check_text("http/api/tokens.rs", "use crate::http::admin::page;", 1);
        check_text("api/tokens.rs", "// use store::Projects;", 0);
        check_text("api/tokens.rs", "let x = self.store::<u8>; crate::manage::store::x()", 0);
    }
}
