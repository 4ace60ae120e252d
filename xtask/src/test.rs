//! `test`: the whole suite. Starts what it needs itself; what this machine does
//! not have is said in a line of its own, and is a failure under `CI=true`.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

use crate::{args::Args, fuzz, shell};

const CLIENTS: &str = "tests/clients";
/// Seconds for each fuzz target: enough to catch what is plainly broken.
const FUZZ_SECONDS: u32 = 5;

/// What came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Tally {
    passed: u64,
    failed: u64,
}

/// The task.
pub fn run(args: Args) -> Result<()> {
    args.finish()?;
    let mut tally = cargo_test()?;
    for step in [python_clients, node_clients, fuzz_briefly] {
        match step() {
            Ok(ran) => tally.passed += u64::from(ran),
            Err(error) => {
                println!("FAILED: {error:#}");
                tally.failed += 1;
            }
        }
    }
    println!("{} passed, {} failed", tally.passed, tally.failed);
    if tally.failed > 0 {
        bail!("{} tests failed", tally.failed);
    }
    Ok(())
}

/// Runs the Rust tests and adds up what each binary reports.
fn cargo_test() -> Result<Tally> {
    let mut command = shell::cargo(["test", "--workspace", "--no-fail-fast"]);
    let mut child = command.stdout(Stdio::piped()).spawn().context("start cargo test")?;
    let output = child.stdout.take().context("the output of cargo test")?;
    let mut tally = Tally::default();
    for line in BufReader::new(output).lines() {
        let line = line?;
        println!("{line}");
        if let Some(result) = read_result(&line) {
            tally.passed += result.passed;
            tally.failed += result.failed;
        }
    }
    let status = child.wait()?;
    if !status.success() && tally.failed == 0 {
        // It did not even get to run, or a test process died.
        tally.failed = 1;
    }
    Ok(tally)
}

fn read_result(line: &str) -> Option<Tally> {
    let figures = line.strip_prefix("test result: ")?;
    let figure = |name: &str| -> Option<u64> {
        let words = figures.split(['.', ';']).map(str::trim);
        words.filter_map(|word| word.strip_suffix(name)).next()?.trim().parse().ok()
    };
    Some(Tally { passed: figure(" passed")?, failed: figure(" failed")? })
}

/// Says what is left out; under CI that is a failure.
fn skip(what: &str, why: &str) -> Result<bool> {
    if shell::is_ci() {
        bail!("{what}: {why} (nothing may be skipped under CI)");
    }
    println!("SKIPPED: {what}: {why}");
    Ok(false)
}

/// The official Python SDKs against the sample provider.
fn python_clients() -> Result<bool> {
    let dir = shell::root().join(CLIENTS).join("python");
    let what = "the Python SDK tests";
    if !dir.exists() {
        return skip(what, "tests/clients/python is not there");
    }
    let Some(python) =
        ["python3", "python"].iter().find(|name| shell::exists(name, &["-m", "venv", "-h"]))
    else {
        return skip(what, "no Python 3 with venv");
    };
    let venv = shell::target_dir().join("clients/python");
    let inside = venv.join("bin/python");
    if !inside.exists() {
        let mut command = Command::new(python);
        command.args(["-m", "venv"]).arg(&venv);
        shell::run(command)?;
    }
    let mut install = Command::new(&inside);
    install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"]);
    install.arg(dir.join("requirements.txt"));
    if let Err(error) = shell::run(install) {
        return skip(what, &format!("the SDKs cannot be installed: {error:#}"));
    }
    let mut tests = Command::new(&inside);
    tests.arg("run.py").current_dir(&dir).env("LLM_PROXY_BIN", product()?);
    shell::run(tests).context(what)?;
    Ok(true)
}

/// The official Node SDKs against the sample provider.
fn node_clients() -> Result<bool> {
    let dir = shell::root().join(CLIENTS).join("node");
    let what = "the Node SDK tests";
    if !dir.exists() {
        return skip(what, "tests/clients/node is not there");
    }
    if !shell::exists("node", &["--version"]) || !shell::exists("npm", &["--version"]) {
        return skip(what, "no Node with npm");
    }
    // Installed below target/, so that the tree stays clean.
    let place = shell::target_dir().join("clients/node");
    copy(&dir, &place)?;
    let mut install = Command::new("npm");
    install.args(["ci", "--silent", "--no-audit", "--no-fund"]).current_dir(&place);
    if let Err(error) = shell::run(install) {
        return skip(what, &format!("the SDKs cannot be installed: {error:#}"));
    }
    let mut tests = Command::new("npm");
    tests.args(["test", "--silent"]).current_dir(&place).env("LLM_PROXY_BIN", product()?);
    shell::run(tests).context(what)?;
    Ok(true)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == "node_modules" {
            continue;
        }
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &to.join(name))?;
        } else {
            std::fs::copy(entry.path(), to.join(name))?;
        }
    }
    Ok(())
}

/// The binary that the clients talk to, built as the tests build it.
fn product() -> Result<std::path::PathBuf> {
    shell::run(shell::cargo(["build", "--quiet", "--package", "server"]))?;
    Ok(shell::target_dir().join("debug/llm-proxy"))
}

fn fuzz_briefly() -> Result<bool> {
    match fuzz::missing() {
        Some(why) => skip("the short fuzz run", why),
        None => fuzz::every_target(FUZZ_SECONDS).map(|()| true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_added_up() {
        let line = "test result: FAILED. 12 passed; 3 failed; 0 ignored; 0 measured; 1 filtered out; finished in 0.01s";
        assert_eq!(read_result(line), Some(Tally { passed: 12, failed: 3 }));
        assert_eq!(read_result("running 5 tests"), None);
    }
}
