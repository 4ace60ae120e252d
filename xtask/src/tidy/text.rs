//! Words, widths, places and links.

use std::path::{Component, Path, PathBuf};

use super::{
    Finding, TextFile,
    source::{Source, line_of, words},
};

const COLUMNS_MAX: usize = 100;

/// Parts of a name that say nothing: a record, an entry or a trace is meant.
const VAGUE: &[&str] = &["log", "logs", "logger", "loggers", "logging", "logged"];

/// Names that others fixed: the crate, the command, routes and variables.
const NAMED_BY_OTHERS: &[&str] = &[
    // The `logs` command and its arguments.
    "logs",
    "Logs",
    "LogsCommand",
    "LogsArgs",
    // Crates and their items.
    "log",
    "tracing_log",
    "LogTracer",
    "logging",
    // The variables of the contract and their keys in the file.
    "log_level",
    "log_format",
    "log_file",
    "log_records",
    // The log level route, its use case and its types.
    "LogLevel",
    // Options of sqlx and zstd.
    "disable_statement_logging",
    "window_log_max",
    "ZSTD_WINDOW_LOG_MAX",
];
/// Variables such as `LOG_LEVEL`, and names made of the route's.
const PREFIXES_BY_OTHERS: &[&str] = &["LOG_", "log_level_", "LogLevel", "Logs", "logs_"];
/// Where a bare word may stand: the crate `log`, the command `logs`, and the
/// field `log` of an audit leaf, whose format others verify.
const BARE_ALLOWED: &[&str] = &[
    "/trace",
    "/cli",
    "/config",
    "/app",
    "/manage/verify",
    "domain/src/audit",
    "/tlog/",
    "crates/store/",
    "crates/generator/",
    "manage/verify/",
];

/// No bare 'log' may name a thing in code.
pub fn check_names(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in sources.iter().filter(|source| source.path.starts_with("crates/")) {
        for (at, word) in words(&source.code) {
            if is_vague(word) && !is_named_by_others(word, &source.path) {
                let line = line_of(&source.code, at);
                let place = format!("{}:{line}", source.path);
                findings.push(Finding(format!(
                    "{place}: '{word}': say record, entry or trace instead of log"
                )));
            }
        }
    }
    findings
}

fn is_vague(word: &str) -> bool {
    parts(word).any(|part| VAGUE.contains(&part.as_str()))
}

fn is_named_by_others(word: &str, path: &str) -> bool {
    if ["log", "logs", "logging"].contains(&word) {
        return BARE_ALLOWED.iter().any(|allowed| path.contains(allowed));
    }
    NAMED_BY_OTHERS.contains(&word)
        || PREFIXES_BY_OTHERS.iter().any(|prefix| word.starts_with(prefix))
}

/// The words of a name in snake or camel case, in lower case.
fn parts(word: &str) -> impl Iterator<Item = String> {
    let mut parts = vec![String::new()];
    let mut before_is_lower = false;
    for c in word.chars() {
        if c == '_' || (c.is_uppercase() && before_is_lower) {
            parts.push(String::new());
        }
        if c != '_'
            && let Some(part) = parts.last_mut()
        {
            part.extend(c.to_lowercase());
        }
        before_is_lower = c.is_lowercase();
    }
    parts.into_iter()
}

/// Lines of code end in time; a long string, address or table may stand.
pub fn check_columns(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in sources {
        for (index, line) in source.text.lines().enumerate() {
            let columns = line.chars().count();
            if columns > COLUMNS_MAX && !may_be_long(line) {
                let place = format!("{}:{}", source.path, index + 1);
                findings
                    .push(Finding(format!("{place}: {columns} columns, at most {COLUMNS_MAX}")));
            }
        }
    }
    findings
}

fn may_be_long(line: &str) -> bool {
    let is_table = ["//! |", "/// |"].iter().any(|start| line.trim_start().starts_with(start));
    is_table || line.contains('"') || line.contains("://")
}

/// Paths of somebody's machine have no place in a repository.
pub fn check_places(files: &[TextFile]) -> Vec<Finding> {
    // Written in two parts, or this file would be the first finding.
    let places =
        [("/wo", "rk/"), ("/ho", "me/"), ("/ro", "ot/"), ("/Use", "rs/"), ("C:\\", "Users")];
    let places = places.map(|(start, end)| format!("{start}{end}"));
    let mut findings = Vec::new();
    for file in files {
        for (index, line) in file.text.lines().enumerate() {
            for place in places.iter().filter(|place| names_place(line, place)) {
                let at = format!("{}:{}", file.path, index + 1);
                findings.push(Finding(format!("{at}: names a place of one machine: {place}")));
            }
        }
    }
    findings
}

/// Whether an absolute path begins there: `https://host/home/x` does not count.
fn names_place(line: &str, place: &str) -> bool {
    line.match_indices(place).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || ['.', '-', '_', '}', '/', '~'].contains(&c))
    })
}

/// Links from one document to another lead somewhere.
pub fn check_links(files: &[TextFile], root: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| file.path.ends_with(".md")) {
        for (line, target) in links(&file.text) {
            if is_elsewhere(target) {
                continue;
            }
            let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
            let resolved = resolve(&file.path, path);
            let is_own = path.is_empty();
            let exists = is_own || resolved.as_ref().is_some_and(|path| root.join(path).exists());
            let place = format!("{}:{line}", file.path);
            if !exists {
                findings.push(Finding(format!("{place}: the link {target} leads nowhere")));
            } else if !anchor.is_empty() && !has_anchor(files, resolved.as_deref(), anchor) {
                findings.push(Finding(format!("{place}: no heading for #{anchor}")));
            }
        }
    }
    findings
}

fn is_elsewhere(target: &str) -> bool {
    target.contains("://") || target.starts_with("mailto:")
}

/// Inline links outside of code, with their lines.
fn links(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut in_code = false;
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        for (at, mark) in line.match_indices("](") {
            let in_span = line[..at].matches('`').count() % 2 == 1;
            let rest = &line[at + mark.len()..];
            if let (Some(end), false) = (rest.find(')'), in_span) {
                found.push((index + 1, rest[..end].split(' ').next().unwrap_or_default()));
            }
        }
    }
    found
}

/// The path from the root that a link in `from` means.
fn resolve(from: &str, target: &str) -> Option<PathBuf> {
    if target.is_empty() {
        return Some(PathBuf::from(from));
    }
    let mut path = Path::new(from).parent()?.to_owned();
    for part in Path::new(target).components() {
        match part {
            Component::ParentDir => {
                path.pop().then_some(())?;
            }
            Component::Normal(name) => path.push(name),
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(path)
}

fn has_anchor(files: &[TextFile], path: Option<&Path>, anchor: &str) -> bool {
    let file = files.iter().find(|file| Some(Path::new(&file.path)) == path);
    // Only documents have headings; `#L12` in a source is for a viewer.
    let Some(file) = file.filter(|file| file.path.ends_with(".md")) else { return true };
    let headings = file.text.lines().filter(|line| line.starts_with('#'));
    headings.map(|line| slug(line.trim_start_matches('#'))).any(|slug| slug == anchor)
}

/// The anchor that GitHub gives a heading.
fn slug(heading: &str) -> String {
    let kept =
        heading.trim().chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
    kept.map(|c| if c == ' ' { '-' } else { c }).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> TextFile {
        TextFile { path: path.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn vague_names_are_found() {
        for (word, path, count) in [
            ("log_line", "crates/dataplane/src/a.rs", 1),
            ("let accessLog", "crates/dataplane/src/a.rs", 1),
            ("write_logs", "crates/dataplane/src/a.rs", 1),
            ("log", "crates/dataplane/src/a.rs", 1),
            ("// log", "crates/dataplane/src/a.rs", 0),
            ("\"log\"", "crates/dataplane/src/a.rs", 0),
            ("logstore catalog dialog login x.log10()", "crates/server/src/a.rs", 0),
            ("LogsCommand tracing_log LOG_LEVEL log_level", "crates/server/src/a.rs", 0),
            ("logs::run()", "crates/server/src/cli.rs", 0),
        ] {
            assert_eq!(check_names(&[Source::new(&file(path, word))]).len(), count, "{word}");
        }
    }

    #[test]
    fn long_lines_are_found_but_strings_may_be_long() {
        let long = "x".repeat(COLUMNS_MAX + 1);
        for (line, count) in [(long.clone(), 1), (format!("\"{long}\""), 0)] {
            assert_eq!(check_columns(&[Source::new(&file("a.rs", &line))]).len(), count);
        }
    }

    #[test]
    fn places_of_a_machine_are_found() {
        let bad = format!("see {}{}me/notes", "/ho", "me/");
        let fine = format!("https://example.com{}{}x", "/ho", "me/");
        for (text, count) in [(bad, 1), (fine, 0)] {
            assert_eq!(check_places(&[file("README.md", &text)]).len(), count, "{text}");
        }
    }

    #[test]
    fn links_must_lead_somewhere() {
        let root = crate::shell::root();
        for (text, count) in [
            ("[a](../Cargo.toml)", 0),
            ("[a](nowhere.md)", 1),
            ("[a](../../outside.md)", 1),
            ("[a](https://example.com)", 0),
            ("`[a](nowhere.md)`", 0),
            ("```\n[a](nowhere.md)\n```", 0),
            ("## Two words\n[a](#two-words)", 0),
            ("## Two words\n[a](#three-words)", 1),
        ] {
            let findings = check_links(&[file("docs/x.md", text)], root);
            assert_eq!(findings.len(), count, "{text}");
        }
    }

    #[test]
    fn anchors_are_those_of_headings() {
        let files = [file("a.md", "# The walk of a request, in 6 steps\n")];
        let path = Some(Path::new("a.md"));
        assert!(has_anchor(&files, path, "the-walk-of-a-request-in-6-steps"));
        assert!(!has_anchor(&files, path, "the-walk"));
    }
}
