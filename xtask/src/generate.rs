//! `gen`: builds the generator in release and hands it the flags.

use std::{path::PathBuf, process::Command};

use anyhow::Result;

use crate::{args::Args, shell};

/// The task.
pub fn run(args: Args) -> Result<()> {
    let mut command = Command::new(build()?);
    command.arg("write").args(args.rest());
    shell::run(command)
}

/// The generator, built.
pub fn build() -> Result<PathBuf> {
    let args = ["build", "--release", "--quiet", "--locked", "--package", "generator"];
    shell::run(shell::cargo(args))?;
    Ok(shell::target_dir().join("release/generator"))
}
