//! `ci`: what must hold before a change is taken, each step with its time.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::{args::Args, licences, shell, test, tidy};

type Step = (&'static str, fn() -> Result<()>);

/// Cheap ones first; all run, so that one look tells everything.
const STEPS: &[Step] = &[
    ("fmt", || shell::run(shell::cargo(["fmt", "--all", "--check"]))),
    ("tidy", || tidy::run(nothing())),
    ("licences", licences::run),
    ("clippy", clippy),
    ("test", || test::run(nothing())),
    ("doc", doc),
];

/// The task.
pub fn run(args: Args) -> Result<()> {
    args.finish()?;
    let mut times: Vec<(&str, Duration, bool)> = Vec::new();
    for (name, step) in STEPS {
        println!("\n== {name}");
        let start = Instant::now();
        let result = step();
        if let Err(error) = &result {
            println!("== {name} FAILED: {error:#}");
        }
        times.push((name, start.elapsed(), result.is_ok()));
    }
    println!("\n== times");
    for (name, time, passed) in &times {
        let word = if *passed { "ok" } else { "FAILED" };
        println!("{name:<10} {:>7.1} s  {word}", time.as_secs_f64());
    }
    let failed = times.iter().filter(|(.., passed)| !passed).count();
    if failed > 0 {
        bail!("{failed} of {} steps failed", STEPS.len());
    }
    Ok(())
}

fn nothing() -> Args {
    Args::new([""; 0])
}

fn clippy() -> Result<()> {
    let args = ["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];
    shell::run(shell::cargo(args))
}

fn doc() -> Result<()> {
    let mut command = shell::cargo(["doc", "--workspace", "--no-deps", "--locked"]);
    command.env("RUSTDOCFLAGS", "-D warnings");
    shell::run(command)
}
