//! How long a file and a function may be.
//!
//! Files have a ceiling. Functions have a ratchet: the ones that were longer
//! when the rule came stand in a committed file with their length, and that
//! number may only fall.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path};

use anyhow::{Context, Result};

use super::{
    Finding,
    source::{Source, closing, line_of, words},
};

/// The committed list of functions over the limit.
pub const RATCHET: &str = "xtask/ratchet.txt";
const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;

type Lengths = BTreeMap<String, usize>;

/// Checks production sources; with `bless` the ratchet is written anew.
pub fn check(sources: &[Source], ratchet: &Path, bless: bool) -> Result<Vec<Finding>> {
    let mut long = Lengths::new();
    for (name, lines) in sources.iter().flat_map(functions) {
        if lines > FUNCTION_LINES_MAX {
            let longest = long.entry(name).or_default();
            *longest = lines.max(*longest);
        }
    }
    if bless {
        fs::write(ratchet, write_ratchet(&long))?;
    }
    let text = fs::read_to_string(ratchet).unwrap_or_default();
    let mut findings: Vec<Finding> = sources.iter().filter_map(check_file).collect();
    findings.extend(compare(&long, &read_ratchet(&text)?));
    Ok(findings)
}

fn check_file(source: &Source) -> Option<Finding> {
    let lines = source.code.trim_end().lines().count();
    (lines > FILE_LINES_MAX).then(|| {
        Finding(format!("{}: {lines} production lines, at most {FILE_LINES_MAX}", source.path))
    })
}

/// Every function with a body, named with its file, and how many lines it has.
fn functions(source: &Source) -> Vec<(String, usize)> {
    let code = &source.code;
    let mut found = Vec::new();
    let mut words = words(code).peekable();
    while let Some((at, word)) = words.next() {
        if word != "fn" {
            continue;
        }
        // A type such as `fn(u8)` has no name beside it.
        let Some((name_at, name)) = words.peek().copied() else { break };
        if !code[at + 2..name_at].trim().is_empty() {
            continue;
        }
        let Some(end) = body_end(code, name_at) else { continue };
        let lines = line_of(code, end) - line_of(code, at) + 1;
        found.push((format!("{} {name}", source.path), lines));
    }
    found
}

/// Where the body of a function ends; none for a declaration.
fn body_end(code: &str, from: usize) -> Option<usize> {
    let mut brackets = 0usize;
    for (at, byte) in code.bytes().enumerate().skip(from) {
        match byte {
            b'(' | b'[' => brackets += 1,
            b')' | b']' => brackets = brackets.saturating_sub(1),
            b';' if brackets == 0 => return None,
            b'{' if brackets == 0 => return closing(code, at),
            _ => {}
        }
    }
    None
}

fn compare(long: &Lengths, ratchet: &Lengths) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, lines) in long {
        let limit = ratchet.get(name).copied().unwrap_or(FUNCTION_LINES_MAX);
        if *lines > limit {
            findings.push(Finding(format!("{name}: a function of {lines} lines, at most {limit}")));
        }
    }
    for (name, limit) in ratchet {
        if long.get(name).copied().unwrap_or(0) < *limit {
            findings.push(Finding(format!(
                "{name}: shorter than the ratchet says; run 'cargo xtask tidy --bless'"
            )));
        }
    }
    findings
}

fn read_ratchet(text: &str) -> Result<Lengths> {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, lines) =
                line.rsplit_once(' ').with_context(|| format!("{RATCHET}: {line}"))?;
            Ok((name.to_owned(), lines.parse().with_context(|| format!("{RATCHET}: {line}"))?))
        })
        .collect()
}

fn write_ratchet(long: &Lengths) -> String {
    let mut text = format!(
        "# Functions of more than {FUNCTION_LINES_MAX} lines: file, name, lines. The numbers may only fall.\n"
    );
    for (name, lines) in long {
        writeln!(text, "{name} {lines}").ok();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::TextFile;

    fn source(text: &str) -> Source {
        Source::new(&TextFile { path: "a.rs".to_owned(), text: text.to_owned() })
    }

    #[test]
    fn functions_are_measured() {
        let text = "fn a() {\n  \"}\";\n}\ntrait T {\n  fn b(x: [u8; 3]);\n  fn c(f: fn(u8) -> u8)\n  where u8: Copy {\n fn d() {}\n }\n}\n";
        let found = functions(&source(text));
        let expected = [("a.rs a", 3), ("a.rs c", 4), ("a.rs d", 1)];
        assert_eq!(found, expected.map(|(name, lines)| (name.to_owned(), lines)));
    }

    #[test]
    fn the_ratchet_only_falls() {
        let lengths = |lines| Lengths::from([("a.rs f".to_owned(), lines)]);
        assert!(compare(&lengths(90), &lengths(90)).is_empty());
        assert_eq!(compare(&lengths(91), &lengths(90)).len(), 1);
        assert_eq!(compare(&lengths(89), &lengths(90)).len(), 1, "it must be tightened");
        assert_eq!(compare(&Lengths::new(), &lengths(90)).len(), 1);
        assert_eq!(compare(&lengths(71), &Lengths::new()).len(), 1);
        assert_eq!(read_ratchet(&write_ratchet(&lengths(90))).expect("read"), lengths(90));
    }

    #[test]
    fn long_files_are_found() {
        assert!(check_file(&source(&"x\n".repeat(FILE_LINES_MAX))).is_none());
        assert!(check_file(&source(&"x\n".repeat(FILE_LINES_MAX + 1))).is_some());
    }
}
