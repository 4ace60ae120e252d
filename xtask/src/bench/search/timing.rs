//! Programs as a user runs them: from the start to the end of the process, all
//! of what they print taken.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::shell;

/// Starts a program and waits for it, so that the kernel says what it took. The
/// figure includes what this small interpreter had when it started the program
/// (about 10 MB): it is a bound, never too small.
const MEASURE: &str = "\
import os, sys
pid = os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ)
_, status, usage = os.wait4(pid, 0)
open(sys.argv[1], 'w').write(f'{usage.ru_maxrss} {os.waitstatus_to_exitcode(status)}')
";

/// One finished run.
pub struct Run {
    pub time: Duration,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Run {
    pub fn ms(&self) -> f64 {
        self.time.as_secs_f64() * 1000.0
    }

    /// The lines that were printed, in the order of their bytes.
    pub fn sorted_lines(&self) -> Vec<&[u8]> {
        let lines = self.stdout.split(|byte| *byte == b'\n');
        let mut lines: Vec<&[u8]> = lines.filter(|line| !line.is_empty()).collect();
        lines.sort_unstable();
        lines
    }
}

/// Runs a program whose status is 0 for found and 1 for nothing found.
pub fn run(mut command: Command) -> Result<Run> {
    let shown = shell::show(&command);
    command.stdin(Stdio::null());
    let start = Instant::now();
    let output = command.output().with_context(|| format!("start {shown}"))?;
    let time = start.elapsed();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    if !matches!(output.status.code(), Some(0 | 1)) {
        bail!("{shown}: {}: {stderr}", output.status);
    }
    Ok(Run { time, stdout: output.stdout, stderr })
}

/// The most memory that was resident while a program ran, and for how long it
/// ran; what it prints is thrown away.
pub fn peak_mb(python: &Path, scratch: &Path, command: &Command) -> Result<(f64, Duration)> {
    let shown = shell::show(command);
    let file = scratch.join("peak");
    let mut measured = Command::new(python);
    measured.args(["-I", "-S", "-c", MEASURE]).arg(&file);
    measured.arg(command.get_program()).args(command.get_args());
    measured.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let start = Instant::now();
    let status = measured.status()?;
    let time = start.elapsed();
    if !status.success() {
        bail!("the memory of {shown} could not be measured: {status}");
    }
    let text = std::fs::read_to_string(&file)?;
    let (kib, code) = text.split_once(' ').context("two figures")?;
    if !["0", "1"].contains(&code) {
        bail!("{shown}: status {code}");
    }
    Ok((kib.parse::<f64>()? * 1024.0 / 1e6, time))
}
