//! The programs that are asked, as a user would call them.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, bail};

use crate::shell;

/// llm-proxy on one data directory.
#[derive(Clone, Debug)]
pub struct Ours {
    pub binary: PathBuf,
    pub data_dir: PathBuf,
}

impl Ours {
    pub fn new(binary: &Path, data_dir: &Path) -> Self {
        Self { binary: binary.to_owned(), data_dir: data_dir.to_owned() }
    }

    pub fn search(&self, args: &[String]) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(["logs", "search", "--data-dir"]).arg(&self.data_dir).args(args);
        command
    }

    /// On files of others instead.
    pub fn search_file(binary: &Path, args: &[String], file: &Path) -> Command {
        let mut command = Command::new(binary);
        command.args(["logs", "search"]).args(args).arg(file);
        command
    }
}

pub fn ripgrep(args: &[String], file: &Path) -> Command {
    let mut command = Command::new("rg");
    command.args(["--no-config", "--no-line-number", "--no-filename"]).args(args).arg(file);
    command
}

pub fn jq(filter: &str, file: &Path) -> Command {
    let mut command = Command::new("jq");
    command.args(["-c", filter]).arg(file);
    command
}

/// Their versions, or which of them is missing.
pub fn versions() -> Result<String> {
    let mut said = Vec::new();
    for name in ["rg", "jq"] {
        if !shell::exists(name, &["--version"]) {
            bail!(
                "{name} is not installed: the benchmark compares with it (apt-get install ripgrep jq)"
            );
        }
        let mut command = Command::new(name);
        command.arg("--version");
        said.push(shell::output(command)?.lines().next().unwrap_or_default().to_owned());
    }
    Ok(said.join(", "))
}

/// The time inside, as `--explain` tells it.
pub fn inside_ms(explained: &str) -> Option<f64> {
    let line = explained.lines().find_map(|line| line.trim().strip_prefix("time"))?;
    line.trim().split_once(" ms")?.0.parse().ok()
}

/// The bytes read, as `--explain` tells them.
pub fn bytes_read(explained: &str) -> Option<u64> {
    let line = explained.lines().find(|line| line.contains(" bytes read"))?;
    line.split(" bytes read").next()?.rsplit(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn explanations_are_read() {
        let text = "segments     35 total, 1 opened; left out: 0 by time\n\
                    rows         8192 of 5000000 looked at, 3 pages, 91234 bytes read\n\
                    time         3.1 ms: open 0.4; on 2 threads: prune 0.2, scan 1.0, fetch 0.3\n";
        assert_eq!(inside_ms(text), Some(3.1));
        assert_eq!(bytes_read(text), Some(91_234));
        assert_eq!(inside_ms("nothing"), None);
    }
}
