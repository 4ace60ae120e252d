//! `generator`: writes made-up traffic into a data directory, as the product
//! would have. `cargo xtask gen` builds and runs it.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool")]

mod options;
mod gate;
mod seal;
mod write;
mod raw;
mod copies;

/// The product's allocator: what is measured here is measured there.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const USAGE: &str = "\
generator write --data-dir DIR --records N

  --seed S           (42) the same seed writes the same records
  --days D           (7) over how many days they are spread
  --end TIME         (2026-11-23T00:00:00Z) when the last day ends, or now
  --instance NAME    (gen) whose journal it is
  --rate R           so many records a second, now, instead of all at once
  --also-jsonl FILE  the same lines as one raw file too
  --unsealed         leaves everything in the journal
  --compact          merges small files at the end, as the product does with time

generator lines --records N --also-jsonl FILE [--seed S] [--days D] [--end TIME]

  the raw file alone

generator copies --from DIR --to DIR [--copies N] [--instance NAME]

  the sealed files of one instance as those of N, linked
";

fn main() -> std::process::ExitCode {
    match run() {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("generator: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    let mut words = std::env::args().skip(1);
    match words.next().as_deref() {
        Some("write") => {
            let written = write::run(&options::Options::read(words)?)?;
            println!("{}", written.describe());
        }
        Some("lines") => println!("{} lines", raw::run(&options::Options::read(words)?)?),
        Some("copies") => println!("{} rows", copies::Copying::read(words)?.run()?),
        _ => print!("{USAGE}"),
    }
    Ok(())
}
