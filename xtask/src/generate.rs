//! `gen`: builds the generator in release and hands it the flags.

use std::process::Command;

use anyhow::Result;

use crate::{args::Args, shell};

/// The task.
pub fn run(args: Args) -> Result<()> {
    let build = ["build", "--release", "--quiet", "--locked", "--package", "generator"];
    shell::run(shell::cargo(build))?;
    let mut command = Command::new(shell::target_dir().join("release/generator"));
    command.arg("write").args(args.rest());
    shell::run(command)
}
