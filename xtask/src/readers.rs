//! Strangers that read our files: DuckDB and pandas on a small data directory,
//! held against our own search. The examples of docs/files.md are part of it.

use std::{fs, process::Command};

use anyhow::Result;

use crate::{
    clients, python, shell,
    test::{Tally, skip, watch},
};

const READERS: &str = "tests/readers";
const RECORDS: &str = "20000";
const DAYS: &str = "2";

/// The step of the suite.
pub fn run() -> Result<Tally> {
    let what = "the readers of our files";
    let dir = shell::root().join(READERS);
    let python = match python::environment("readers", &dir.join("requirements.txt"))? {
        Ok(python) => python,
        Err(why) => return skip(what, &why),
    };
    clients::build()?;
    shell::run(shell::cargo(["build", "--quiet", "--locked", "--package", "generator"]))?;
    let data = shell::target_dir().join("readers/data");
    if data.exists() {
        fs::remove_dir_all(&data)?;
    }
    let mut generate = Command::new(shell::target_dir().join("debug/generator"));
    generate.args(["write", "--records", RECORDS, "--days", DAYS, "--end", "now", "--data-dir"]);
    generate.arg(&data);
    shell::run(generate)?;
    let mut tests = Command::new(python);
    tests.args(["-B", "run.py"]).current_dir(&dir);
    tests.env("LLM_PROXY", clients::binary()).env("DATA_DIR", &data);
    tests.env("PAGE", shell::root().join("docs/files.md"));
    watch(tests, clients::read_closing_line)
}
