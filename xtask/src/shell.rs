//! Other programs: how a task calls them, and where things are.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

/// The root of the workspace.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// Where cargo builds.
pub fn target_dir() -> PathBuf {
    // The running binary lies in TARGET/<profile>/, whatever was configured.
    let binary = std::env::current_exe().ok();
    let dir = binary.as_deref().and_then(Path::parent).and_then(Path::parent);
    dir.map_or_else(|| root().join("target"), Path::to_owned)
}

/// The variable is set to something that is not no.
pub fn is_set(name: &str) -> bool {
    std::env::var_os(name)
        .is_some_and(|value| !["", "0", "false"].map(OsStr::new).contains(&&*value))
}

/// Whether a missing tool is a failure.
pub fn is_ci() -> bool {
    is_set("CI")
}

/// The cargo that runs this task.
pub fn cargo<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(args).current_dir(root());
    command
}

/// Runs a program with our input and output.
pub fn run(mut command: Command) -> Result<()> {
    let shown = show(&command);
    let status = command.status().with_context(|| format!("start {shown}"))?;
    if !status.success() {
        bail!("{shown}: {status}");
    }
    Ok(())
}

/// What a program printed.
pub fn output(mut command: Command) -> Result<String> {
    let shown = show(&command);
    let output = command.output().with_context(|| format!("start {shown}"))?;
    if !output.status.success() {
        bail!("{shown}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Whether a program can be started.
pub fn exists(program: &str, args: &[&str]) -> bool {
    Command::new(program).args(args).output().is_ok_and(|output| output.status.success())
}

/// What cargo knows of the workspace.
pub fn metadata(args: &[&str]) -> Result<serde_json::Value> {
    let mut command = cargo(["metadata", "--format-version", "1", "--locked"]);
    command.args(args);
    Ok(serde_json::from_str(&output(command)?)?)
}

/// The command as one would type it.
pub fn show(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let words = std::iter::once(program).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
