//! Queries that begin with a minus: told from flags before anything is parsed.
//!
//! A word is a flag if the command knows every letter of it, else a query. What
//! is both (`-f`) is a flag; `NOT f` says it as a query.

use std::ffi::OsString;

use clap::{Arg, Command, CommandFactory as _};

use super::Cli;

/// A query such as `-level:info` begins as a flag does: with a space before it,
/// which means nothing in a query, it is none.
pub(super) fn queries_marked(mut arguments: Vec<OsString>) -> Vec<OsString> {
    let tree = Cli::command();
    let logs = tree.find_subcommand("logs");
    let words = || arguments.iter().map(|it| it.to_str().unwrap_or_default()).enumerate().skip(1);
    let named = |word: &str| logs.and_then(|logs| logs.find_subcommand(word));
    let begun = words().find(|(_, word)| *word == "logs").map(|(at, _)| at);
    let command =
        begun.and_then(|begun| words().skip(begun).find_map(|(at, word)| Some((at, named(word)?))));
    let Some((begun, command)) = command else { return arguments };
    if command.get_positionals().all(|it| it.get_id() != "query") {
        return arguments;
    }
    let mut queries = Vec::new();
    let mut is_value = false;
    for (at, word) in words().skip(begun) {
        if word == "--" {
            break;
        }
        if !is_value && is_query(word, command) {
            queries.push(at);
        }
        is_value = wants_value(word, command);
    }
    for at in queries {
        let mut marked = OsString::from(" ");
        marked.push(&arguments[at]);
        arguments[at] = marked;
    }
    arguments
}

/// A minus and something that the command has no flags for.
fn is_query(word: &str, command: &Command) -> bool {
    let Some(text) = word.strip_prefix('-').filter(|text| !text.is_empty()) else { return false };
    if text.starts_with('-') || text.starts_with(|c: char| c.is_ascii_digit()) {
        return false;
    }
    for (at, short) in text.char_indices() {
        let rest = &text[at + short.len_utf8()..];
        match command.get_arguments().find(|arg| arg.get_short() == Some(short)) {
            Some(arg) if arg.get_action().takes_values() => {
                let rest = rest.strip_prefix('=').unwrap_or(rest);
                return !rest.is_empty() && !is_value_of(rest, arg);
            }
            Some(_) => {}
            // `-h` and `-V` are flags of every command.
            None => return at > 0 || !matches!(short, 'h' | 'V') || !rest.is_empty(),
        }
    }
    false
}

fn is_value_of(text: &str, arg: &Arg) -> bool {
    let values = arg.get_possible_values();
    match values.is_empty() {
        true => text.bytes().all(|byte| byte.is_ascii_digit()),
        false => values.iter().any(|value| value.matches(text, false)),
    }
}

/// Whether the next word belongs to this flag.
fn wants_value(word: &str, command: &Command) -> bool {
    let takes = |arg: &Arg| arg.get_action().takes_values();
    match word.strip_prefix("--") {
        Some(long) => {
            command.get_arguments().any(|arg| arg.get_long() == Some(long) && takes(arg))
                || ["data-dir", "url", "config"].contains(&long)
        }
        None => {
            let short = word.strip_prefix('-').and_then(|text| text.chars().next_back());
            let of = |arg: &Arg| arg.get_short() == short && takes(arg);
            short.is_some() && command.get_arguments().any(of)
        }
    }
}
