//! Every task of the workspace: `cargo xtask` lists them.
//!
//! Needs nothing beyond the Rust toolchain; what else a task can use, it looks
//! for, and says so when it is not there. Not shipped.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool")]
#![expect(clippy::disallowed_methods, reason = "a tool reads its environment, and waits")]

mod args;
mod auditors;
mod bench;
mod ci;
mod clients;
mod docs;
mod fuzz;
mod generate;
mod licences;
mod python;
mod readers;
mod shell;
mod test;
mod tidy;

use anyhow::{Result, bail};

use crate::args::Args;

/// The same allocator on both sides of the benchmark.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const TASKS: &str = "\
cargo xtask TASK

  test            the whole test suite: Rust, the official SDKs, the join of
                  three ledgers, DuckDB and pandas on our files, a
                  short fuzz run
  ci              fmt, tidy, licences, clippy, test, doc: what must hold
  tidy            crate and module edges, sizes, words, links
                  --bless writes the ratchet of long functions anew
  docs            the pages and tables that are made from the code
  licences        licences, duplicates, wrappers and sources of dependencies
  fuzz [TARGET]   every fuzz target, or one; --seconds N each
  gen             realistic traffic in a data directory, on the product's own way
                  --records N --data-dir D [--seed S] [--days 7] [--rate R]
                  [--end TIME] [--also-jsonl FILE] [--unsealed] [--compact]
  bench proxy     what llm-proxy costs beside the floor and the line
                  --rounds N (3)  --seconds S a phase (3)  --shape multi|percore
                  --json FILE     raw samples
                  --check         fail when a goal is missed
                  --peer NAME=http://ADDRESS:PORT[/PREFIX],PID
                                  measures another proxy too; it must forward
                                  to the provider, whose address is fixed with
                  --provider ADDRESS:PORT
                  --mock inner    proves the harness: no product, inner provider
  bench search    what finding costs, beside ripgrep, jq and DuckDB
                  --records N (5000000)  --copies N (20)  --seed S (42)
                  --quick         few records and runs: proves the harness
                  --fresh         writes the records anew
                  --built         measures the binaries that are there
                  --json FILE     every figure
                  --check         fail when a goal is missed
";

fn main() -> std::process::ExitCode {
    match dispatch(Args::new(std::env::args().skip(1))) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}

fn dispatch(mut args: Args) -> Result<()> {
    match args.word().as_deref() {
        None => {
            print!("{TASKS}");
            args.finish()
        }
        Some("test") => test::run(args),
        Some("ci") => ci::run(args),
        Some("tidy") => tidy::run(args),
        Some("docs") => args.finish().and_then(|()| docs::run()),
        Some("licences") => args.finish().and_then(|()| licences::run()),
        Some("fuzz") => fuzz::run(args),
        Some("gen") => generate::run(args),
        Some("bench") => bench::run(args),
        // Not for people: the processes of a benchmark.
        Some("bench-part") => bench::part(args),
        Some(other) => bail!("unknown task '{other}'\n\n{TASKS}"),
    }
}
