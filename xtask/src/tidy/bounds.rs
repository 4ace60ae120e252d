//! What production code may do only in some places, or only with a bound. In
//! tests it is free, which is why this is not a lint.

use super::{
    Finding,
    source::{Source, line_of},
};

/// Where files may be opened: below these paths and nowhere else.
const FILES_ALLOWED: &[&str] = &[
    "crates/logstore/",
    "crates/store/",
    "crates/tlog/",
    "crates/server/src/app",
    "crates/server/src/cli",
    "crates/server/src/config",
    "crates/server/src/delivery",
    "crates/server/src/demo",
    // The socket of the local command line is a file that must be removed.
    // A tool that makes up a data directory.
    "crates/generator/",
    "crates/server/src/http/socket",
    "crates/server/src/system",
    "crates/server/src/trace",
    "xtask/",
];

/// How code comes to the files of the machine.
const FILE_PATHS: &[&str] = &["std::fs", "tokio::fs", "rustix::fs"];

/// Checks production sources.
pub fn check(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in sources {
        if !FILES_ALLOWED.iter().any(|allowed| source.path.starts_with(allowed)) {
            for path in FILE_PATHS {
                for (at, _) in source.code.match_indices(path) {
                    findings.push(found(source, at, &format!("{path} has no place here")));
                }
            }
        }
        for at in unbounded_bodies(&source.code) {
            findings.push(found(source, at, "a body is collected without http_body_util::Limited"));
        }
    }
    findings
}

fn found(source: &Source, at: usize, what: &str) -> Finding {
    Finding(format!("{}:{}: {what}", source.path, line_of(&source.code, at)))
}

/// Where `.collect()` is awaited in a statement that names no limit. Iterators
/// are not awaited.
fn unbounded_bodies(code: &str) -> Vec<usize> {
    let awaited = code
        .match_indices(".collect()")
        .filter(|(at, call)| code[at + call.len()..].trim_start().starts_with(".await"));
    awaited
        .map(|(at, _)| at)
        .filter(|at| {
            let statement = code[..*at].rfind([';', '{', '}']).map_or(0, |start| start + 1);
            !code[statement..*at].to_lowercase().contains("limited")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::TextFile;

    #[test]
    fn bodies_are_bounded_and_files_have_their_places() {
        for (path, text, count) in [
            ("crates/dataplane/src/a.rs", "let b = body.collect().await?;", 1),
            ("crates/dataplane/src/a.rs", "let b = body\n.collect()\n.await?;", 1),
            ("crates/dataplane/src/a.rs", "let b = Limited::new(body, 9).collect().await?;", 0),
            ("crates/dataplane/src/a.rs", "let l = Limited::new(); let b = l.collect().await", 1),
            ("crates/dataplane/src/a.rs", "let b: Vec<u8> = x.iter().collect();", 0),
            ("crates/dataplane/src/a.rs", "use std::fs;", 1),
            ("crates/logstore/src/a.rs", "use std::fs;", 0),
            ("crates/server/src/manage/a.rs", "tokio::fs::read(x)", 1),
        ] {
            let file = TextFile { path: path.to_owned(), text: text.to_owned() };
            assert_eq!(check(&[Source::new(&file)]).len(), count, "{path}: {text}");
        }
    }
}
