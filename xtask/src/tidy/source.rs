//! Rust source as tidy sees it: comments and the insides of strings blanked, so
//! that braces and words found in it are code. A lexer of its own instead of a
//! parser: it compiles in no time and needs no crate.

use std::collections::HashSet;

use super::TextFile;

/// One source file.
#[derive(Clone)]
pub struct Source {
    pub path: String,
    pub text: String,
    /// The same length and lines as `text`, comments and strings blanked.
    pub code: String,
}

impl Source {
    pub fn new(file: &TextFile) -> Self {
        Self { path: file.path.clone(), text: file.text.clone(), code: blank(&file.text) }
    }

    /// Whether the file holds tests and their helpers only.
    pub fn is_test(&self) -> bool {
        self.path.split('/').any(|part| ["tests", "benches", "fuzz"].contains(&part))
            || self.path.ends_with("/tests.rs")
    }
}

/// The sources without test files and with test modules blanked.
pub fn production(sources: &[Source]) -> Vec<Source> {
    let test_files: HashSet<String> = sources.iter().flat_map(test_modules).collect();
    let is_test = |source: &Source| {
        source.is_test()
            || test_files.iter().any(|path| {
                source
                    .path
                    .strip_prefix(path.as_str())
                    .is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
            })
    };
    sources.iter().filter(|source| !is_test(source)).map(without_tests).collect()
}

/// The paths (without `.rs`) of modules that a file declares for tests only.
fn test_modules(source: &Source) -> Vec<String> {
    let stem = source.path.trim_end_matches(".rs");
    let is_root = ["lib", "main", "mod"].iter().any(|name| stem.ends_with(&format!("/{name}")));
    let dir = if is_root { stem.rsplit_once('/').map_or("", |(dir, _)| dir) } else { stem };
    let after = source.code.match_indices("#[cfg(test)]").filter_map(|(at, mark)| {
        let rest = source.code[at + mark.len()..].trim_start();
        let rest = rest.strip_prefix("pub ").unwrap_or(rest).strip_prefix("mod ")?;
        Some(rest.split_once(';')?.0)
    });
    after.filter(|name| is_name(name)).map(|name| format!("{dir}/{name}")).collect()
}

fn is_name(text: &str) -> bool {
    text.chars().all(|c| c == '_' || c.is_alphanumeric())
}

/// Blanks every item that `#[cfg(test)]` stands before.
fn without_tests(source: &Source) -> Source {
    let mut code = source.code.clone();
    let mut text = source.text.clone();
    let mut from = 0;
    while let Some(at) = code[from..].find("#[cfg(test)]").map(|at| at + from) {
        let rest = &code[at..];
        let open = rest.find('{').unwrap_or(rest.len());
        let end = match rest.find(';') {
            Some(end) if end < open => at + end + 1,
            _ => closing(&code, at + open).map_or(code.len(), |end| end + 1),
        };
        for text in [&mut code, &mut text] {
            let blanked = spaces(&text[at..end]);
            text.replace_range(at..end, &blanked);
        }
        from = end;
    }
    // A file of tests only must count no lines.
    Source { path: source.path.clone(), text: text.trim_end().to_owned(), code }
}

/// Where the brace that opens at `open` is closed.
pub fn closing(code: &str, open: usize) -> Option<usize> {
    let mut depth = 0usize;
    for (at, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
    None
}

/// The identifiers of blanked code, with their places.
pub fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_part = |c: char| c == '_' || c.is_alphanumeric();
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at + code[at..].find(is_part)?;
        let rest = &code[start..];
        let length = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        at = start + length;
        Some((start, &rest[..length]))
    })
}

/// The line of a place, from 1.
pub fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// Blanks of the same length in bytes, line ends kept.
fn spaces(text: &str) -> String {
    text.bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }).collect()
}

/// Comments and the insides of literals become blanks; quotes stay.
fn blank(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let (kept, blanked) = token(rest, code.chars().next_back());
        code.push_str(&rest[..kept]);
        code.push_str(&spaces(&rest[kept..kept + blanked]));
        rest = &rest[kept + blanked..];
    }
    code
}

/// How many bytes to keep, then how many to blank.
fn token(rest: &str, before: Option<char>) -> (usize, usize) {
    let in_word = before.is_some_and(|c| c == '_' || c.is_alphanumeric());
    if rest.starts_with("//") {
        return (0, rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return (0, block_comment(rest));
    }
    if let Some(inside) = rest.strip_prefix('"') {
        return (1, quoted(inside));
    }
    if !in_word && let Some(raw) = raw_string(rest) {
        return (0, raw);
    }
    if rest.starts_with('\'') {
        return character(rest);
    }
    (rest.chars().next().map_or(1, char::len_utf8), 0)
}

fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        match &rest.as_bytes()[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

/// The length of the inside of a string and its closing quote.
fn quoted(inside: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in inside.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    inside.len()
}

fn raw_string(rest: &str) -> Option<usize> {
    let start = ["r", "br", "cr"].iter().find(|start| {
        rest.strip_prefix(**start).is_some_and(|rest| rest.starts_with(['#', '"']))
    })?;
    let rest_after = &rest[start.len()..];
    let hashes = rest_after.bytes().take_while(|byte| *byte == b'#').count();
    let inside = rest_after[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let length = inside.find(&end).map_or(inside.len(), |at| at + end.len());
    Some(start.len() + hashes + 1 + length)
}

/// A character literal is blanked; a lifetime is kept.
fn character(rest: &str) -> (usize, usize) {
    let mut inside = rest[1..].char_indices();
    match (inside.next(), inside.next()) {
        (Some((_, '\\')), Some((at, escaped))) => {
            let from = 1 + at + escaped.len_utf8();
            (0, rest[from..].find('\'').map_or(rest.len(), |end| from + end + 1))
        }
        (Some(_), Some((at, '\''))) => (0, 1 + at + 1),
        _ => (1, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, text: &str) -> Source {
        Source::new(&TextFile { path: path.to_owned(), text: text.to_owned() })
    }

    #[test]
    fn what_is_no_code_is_blanked() {
        for (text, code) in [
            ("a // b {\nc", "a       \nc"),
            ("a /* b /* c */ d */ e", "a                   e"),
            (r#"f("a \" {", 1)"#, r#"f("       , 1)"#),
            (r##"f(r#"a " {"#, 1)"##, "f(          , 1)"),
            (r"let c = '{'; x", "let c =    ; x"),
            (r"let c = '\''; x", "let c =     ; x"),
            ("fn f<'a>(x: &'a str) {}", "fn f<'a>(x: &'a str) {}"),
            ("for \"x\"", "for \"  "),
        ] {
            let blanked = blank(text);
            assert_eq!(blanked.len(), text.len(), "{text}");
            assert_eq!(blanked.trim_end(), code.trim_end(), "{text}");
        }
    }

    #[test]
    fn tests_are_no_production() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() { \"}\"; }\n}\nfn c() {}\n";
        let sources = [
            source("crates/x/src/a.rs", text),
            source("crates/x/src/lib.rs", "#[cfg(test)]\nmod harness;\nmod a;\n"),
            source("crates/x/src/harness.rs", "fn d() {}"),
            source("crates/x/src/a/tests.rs", "fn e() {}"),
            source("crates/x/tests/it/main.rs", "fn f() {}"),
        ];
        let production = production(&sources);
        let paths: Vec<_> = production.iter().map(|source| source.path.as_str()).collect();
        assert_eq!(paths, ["crates/x/src/a.rs", "crates/x/src/lib.rs"]);
        assert!(!production[0].code.contains("fn b") && production[0].code.contains("fn c"));
    }
}
