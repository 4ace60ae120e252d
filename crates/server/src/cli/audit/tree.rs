//! `llm-proxy audit verify|proof|checkpoint`: the tree, read and proven without
//! a server, a database or any key but the public one. Never writes.

mod inputs;
mod proof;
mod remote;
mod report;
#[cfg(test)]
mod tests;

use std::{
    io::{self, Write},
    path::Path,
};

use clap::Subcommand;
use domain::{
    audit::{
        tree::{NOTE_BYTES_MAX, SignedCheckpoint},
        verify::{Report, Verdict},
    },
    ids::InstanceId,
};
use store::Store;
use tlog::verify::Source;
use tokio::{runtime::Runtime, sync::mpsc};

use self::inputs::{Ground, TreeArgs, VerifyArgs, Wrong};
use crate::{
    config::Environment,
    manage::verify::{self, Question, verify_alone},
    render,
    system::{self, SystemClock, SystemRng},
};

/// Wrong usage of these commands: 1 is tampering and 2 is nothing to verify.
pub const USAGE: u8 = 3;
/// Nothing to verify, or it could not be read.
const NOTHING: u8 = 2;
/// Pages of rows that wait for the tree.
const PAGES_AHEAD: usize = 2;

#[derive(Debug, Subcommand)]
pub enum TreeCommand {
    /// Prove that no entry was changed, removed, added or reordered
    ///
    /// Exit status: 0 verified; 1 tampering found, each finding with its class
    /// and the number of the entry; 2 nothing to verify, incomplete, or (without
    /// --key) self-consistent only; 3 wrong usage.
    Verify(VerifyArgs),
    /// Print the proof that an entry is in the tree, or check one
    Proof(proof::ProofArgs),
    /// Print the newest signed checkpoint, to be kept elsewhere
    Checkpoint {
        #[command(flatten)]
        tree: TreeArgs,
    },
}

/// Carries a command out; its exit status.
pub fn run(
    command: &TreeCommand,
    url: Option<&str>,
    environment: &Environment,
    file: Option<&Path>,
    out: &mut dyn Write,
) -> u8 {
    let ground = Ground { url, environment, file };
    let done = match command {
        TreeCommand::Verify(args) => run_verify(args, &ground, out),
        TreeCommand::Proof(args) => proof::run(args, &ground, out),
        TreeCommand::Checkpoint { tree } => run_checkpoint(tree, &ground, out),
    };
    done.unwrap_or_else(|wrong| {
        let (status, error) = match wrong {
            Wrong::Usage(error) => (USAGE, error),
            Wrong::Reading(error) => (NOTHING, error),
        };
        if error.chain().any(is_closed_pipe) {
            return status;
        }
        let text = render::harmless(&format!("{error:#}"));
        // Nobody is left to tell when this fails too.
        writeln!(io::stderr(), "error: {text}").unwrap_or_default();
        status
    })
}

fn is_closed_pipe(error: &(dyn std::error::Error + 'static)) -> bool {
    let error = error.downcast_ref::<io::Error>();
    error.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn run_verify(args: &VerifyArgs, ground: &Ground<'_>, out: &mut dyn Write) -> Result<u8, Wrong> {
    let inputs = args.inputs()?;
    let report = if args.is_export_alone(ground) {
        let mut reports = args.exports().iter().map(|path| verify_alone(path, &inputs.keys));
        reports.next().into_iter().chain(reports).fold(Report::default(), worse)
    } else {
        let place = args.tree().place(ground)?;
        let runtime = runtime()?;
        let rows = match (args.wants_database(), &place.data_dir) {
            (false, _) => None,
            (true, None) => {
                let text = "--db needs a data directory (--dir), which has the database";
                return Err(Wrong::Usage(anyhow::anyhow!(text)));
            }
            (true, Some(dir)) => {
                Some(rows(&runtime, &ground.database(dir, args.tree().names_dir())?)?)
            }
        };
        let question = Question {
            source: &*place.source,
            data_dir: place.data_dir.as_deref(),
            keys: inputs.keys,
            remembered: inputs.remembered,
            rows,
            records: args.wants_records(),
            exports: args.exports().to_vec(),
            policy: inputs.policy,
        };
        verify::verify(question)
    };
    let written = match args.wants_json() {
        true => report::json(&report, out),
        false => report::text(&report, out),
    };
    written.map_err(|error| Wrong::Reading(error.into()))?;
    Ok(report.verdict().exit_status())
}

/// Of several exports the one about which most is wrong.
fn worse(one: Report, other: Report) -> Report {
    let rank = |report: &Report| match report.verdict() {
        Verdict::Nothing if report.origin.is_none() && report.incomplete.is_empty() => 0,
        Verdict::Verified => 1,
        Verdict::SelfConsistent => 2,
        Verdict::Incomplete | Verdict::Nothing => 3,
        Verdict::Tampered => 4,
    };
    if rank(&one) >= rank(&other) { one } else { other }
}

/// Begins to read the rows of a database.
fn rows(
    runtime: &Runtime,
    database: &Path,
) -> Result<mpsc::Receiver<store::Result<store::Stored>>, Wrong> {
    let (sender, receiver) = mpsc::channel(PAGES_AHEAD);
    // Nothing is written under this name.
    let instance = InstanceId::parse("verify").ok_or_else(|| anyhow::anyhow!("a name"));
    let instance = instance.map_err(Wrong::Usage)?;
    let boot = system::boot_id(&SystemClock, &SystemRng);
    let options = store::Options::new(database, instance, boot);
    runtime.spawn(async move { Store::stored_entries(&options, sender).await });
    Ok(receiver)
}

fn runtime() -> Result<Runtime, Wrong> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    runtime.map_err(|error| {
        Wrong::Reading(anyhow::Error::new(error).context("cannot begin a runtime"))
    })
}

fn run_checkpoint(tree: &TreeArgs, ground: &Ground<'_>, out: &mut dyn Write) -> Result<u8, Wrong> {
    let place = tree.place(ground)?;
    let note = newest(&*place.source)?;
    write!(out, "{note}").map_err(|error| Wrong::Reading(error.into()))?;
    Ok(0)
}

fn newest(source: &dyn Source) -> Result<SignedCheckpoint, Wrong> {
    let bytes = source.read("checkpoint", NOTE_BYTES_MAX);
    let bytes = bytes.map_err(|error| {
        Wrong::Reading(anyhow::Error::new(error).context("the checkpoint cannot be read"))
    })?;
    let bytes = bytes.ok_or_else(|| Wrong::Reading(anyhow::anyhow!("there is no checkpoint")))?;
    SignedCheckpoint::parse(&bytes).map_err(|error| Wrong::Reading(error.into()))
}
