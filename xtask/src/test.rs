//! `test`: the whole suite. Starts what it needs itself; what this machine does
//! not have is said in a line of its own, and is a failure under `CI=true`.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

use crate::{args::Args, auditors, clients, fuzz, readers, shell};

/// Seconds for each fuzz target: enough to catch what is plainly broken.
const FUZZ_SECONDS: u32 = 5;

/// What came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tally {
    pub passed: u64,
    pub failed: u64,
}

/// The task.
pub fn run(args: Args) -> Result<()> {
    args.finish()?;
    let mut tally = cargo_test()?;
    for step in
        [clients::python, clients::node, clients::ledger, readers::run, auditors::run, fuzz_briefly]
    {
        let ran = step().unwrap_or_else(|error| {
            println!("FAILED: {error:#}");
            Tally { passed: 0, failed: 1 }
        });
        tally.passed += ran.passed;
        tally.failed += ran.failed;
    }
    println!("{} passed, {} failed", tally.passed, tally.failed);
    if tally.failed > 0 {
        bail!("{} tests failed", tally.failed);
    }
    Ok(())
}

/// Runs the Rust tests and adds up what each binary reports.
fn cargo_test() -> Result<Tally> {
    watch(shell::cargo(["test", "--workspace", "--locked", "--no-fail-fast"]), read_result)
}

/// Runs a program, shows what it prints, and adds up the results that `read`
/// finds in its lines.
pub fn watch(mut command: Command, read: fn(&str) -> Option<Tally>) -> Result<Tally> {
    let shown = shell::show(&command);
    let mut child =
        command.stdout(Stdio::piped()).spawn().with_context(|| format!("start {shown}"))?;
    let output = child.stdout.take().context("its output")?;
    let mut tally = Tally::default();
    for line in BufReader::new(output).lines() {
        let line = line?;
        println!("{line}");
        if let Some(result) = read(&line) {
            tally.passed += result.passed;
            tally.failed += result.failed;
        }
    }
    let status = child.wait()?;
    if !status.success() && tally.failed == 0 {
        // It did not even get to run, or a test process died.
        println!("FAILED: {shown}: {status}");
        tally.failed = 1;
    }
    Ok(tally)
}

/// A line of a test binary: `test result: ok. 12 passed; 0 failed; …`.
fn read_result(line: &str) -> Option<Tally> {
    let figures = line.strip_prefix("test result: ")?;
    let figure = |name: &str| -> Option<u64> {
        let mut words = figures.split(['.', ';']).map(str::trim);
        words.find_map(|word| word.strip_suffix(name))?.trim().parse().ok()
    };
    Some(Tally { passed: figure(" passed")?, failed: figure(" failed")? })
}

/// Says what is left out; under CI that is a failure.
pub fn skip(what: &str, why: &str) -> Result<Tally> {
    if shell::is_ci() {
        bail!("{what}: {why} (nothing may be skipped under CI)");
    }
    println!("SKIPPED: {what}: {why}");
    Ok(Tally::default())
}

fn fuzz_briefly() -> Result<Tally> {
    match fuzz::missing() {
        Some(why) => skip("the short fuzz run", why),
        None => fuzz::briefly(FUZZ_SECONDS).map(|passed| Tally { passed, failed: 0 }),
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
