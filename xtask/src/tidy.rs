//! `tidy`: the rules of the house that no compiler checks.
//!
//! Owns the tables of who may depend on whom, the size of files and functions,
//! and the words that must not appear. Reads the tree as it lies there; changes
//! nothing but its own ratchet file, and that only with `--bless`.

mod bounds;
mod edges;
mod inner;
mod size;
mod source;
mod text;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Result, bail};

use self::source::Source;
use crate::{args::Args, shell};

/// Directories that hold nothing of ours.
const SKIPPED: &[&str] = &["target", "node_modules", "data", "demo-data", "corpus", "artifacts"];
const TEXT_EXTENSIONS: &[&str] = &[
    "rs", "md", "toml", "yaml", "yml", "json", "sh", "sql", "py", "js", "ts", "mjs", "html", "css",
    "txt", "",
];

/// Something to put right: where, and what.
#[derive(Debug, PartialEq)]
pub struct Finding(pub String);

/// A file of the tree, its path relative to the root.
pub struct TextFile {
    pub path: String,
    pub text: String,
}

/// The task.
pub fn run(mut args: Args) -> Result<()> {
    let bless = args.flag("--bless");
    args.finish()?;
    let files = read_tree(shell::root())?;
    let sources: Vec<Source> =
        files.iter().filter(|file| file.path.ends_with(".rs")).map(Source::new).collect();
    let production = source::production(&sources);
    let mut findings = edges::check(&shell::metadata(&["--no-deps"])?)?;
    findings.extend(inner::check(&production));
    findings.extend(bounds::check(&production));
    findings.extend(size::check(&production, &shell::root().join(size::RATCHET), bless)?);
    findings.extend(text::check_names(&sources));
    findings.extend(text::check_columns(&sources));
    findings.extend(text::check_places(&files));
    findings.extend(text::check_links(&files, shell::root()));
    for Finding(text) in &findings {
        println!("tidy: {text}");
    }
    match findings.len() {
        0 => println!("tidy: {} files are in order", files.len()),
        count => bail!("tidy: {count} findings"),
    }
    Ok(())
}

fn read_tree(root: &Path) -> Result<Vec<TextFile>> {
    let mut files = Vec::new();
    let mut left = vec![root.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(&dir)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            // `.ci` is ours; what else begins with a dot belongs to tools.
            let skipped = SKIPPED.contains(&&*name) || (name.starts_with('.') && name != ".ci");
            match entry.file_type()? {
                kind if kind.is_dir() && !skipped => left.push(entry.path()),
                kind if kind.is_file() && !name.starts_with('.') => {
                    files.extend(read_text(root, entry.path())?);
                }
                _ => {}
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

fn read_text(root: &Path, path: PathBuf) -> Result<Option<TextFile>> {
    let extension = path.extension().unwrap_or_default().to_string_lossy();
    if !TEXT_EXTENSIONS.contains(&&*extension) {
        return Ok(None);
    }
    let relative = path.strip_prefix(root)?.to_string_lossy().into_owned();
    // What is no text is no business of tidy.
    let Ok(text) = String::from_utf8(fs::read(&path)?) else { return Ok(None) };
    Ok(Some(TextFile { path: relative, text }))
}
