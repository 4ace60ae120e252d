//! Clients that share no code with the product: the official SDKs for Python
//! and Node against `llm-proxy demo`, and a provider and a client of our own
//! with `llm-proxy server` between them. What they need is installed below
//! `target/`, so that the tree stays clean.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::{
    python, shell,
    test::{Tally, skip, watch},
};

const CLIENTS: &str = "tests/clients";
/// From the start of the demo until it has written where everything is.
const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// The Python SDKs.
pub fn python() -> Result<Tally> {
    let what = "the Python SDK tests";
    let dir = shell::root().join(CLIENTS).join("python");
    if !dir.exists() {
        return skip(what, "tests/clients/python is not there");
    }
    let python = match python::environment("clients", &dir.join("requirements.txt"))? {
        Ok(python) => python,
        Err(why) => return skip(what, &why),
    };
    let demo = Demo::start("python")?;
    let mut tests = Command::new(python);
    tests.arg("run.py").current_dir(&dir).env("READY_FILE", &demo.ready);
    watch(tests, read_closing_line)
}

/// The Node SDKs.
pub fn node() -> Result<Tally> {
    let what = "the Node SDK tests";
    let dir = shell::root().join(CLIENTS).join("node");
    if !dir.exists() {
        return skip(what, "tests/clients/node is not there");
    }
    if !shell::exists("node", &["--version"]) || !shell::exists("npm", &["--version"]) {
        return skip(what, "no Node with npm");
    }
    let place = shell::target_dir().join("clients/node");
    copy(&dir, &place)?;
    let mut install = Command::new("npm");
    install.args(["ci", "--silent", "--no-audit", "--no-fund"]).current_dir(&place);
    if let Err(error) = shell::run(install) {
        return skip(what, &format!("the SDKs cannot be installed: {error:#}"));
    }
    let demo = Demo::start("node")?;
    let mut tests = Command::new("node");
    tests.arg("run.mjs").current_dir(&place).env("READY_FILE", &demo.ready);
    watch(tests, read_closing_line)
}

/// A provider of its own make behind `llm-proxy server`: what was sent, what
/// it received and what was recorded, joined by request id.
pub fn ledger() -> Result<Tally> {
    let what = "the join of the ledgers";
    let Some(python) = ["python3", "python"].iter().find(|name| shell::exists(name, &["-V"]))
    else {
        return skip(what, "no Python 3");
    };
    build()?;
    let mut tests = Command::new(python);
    // No byte code beside the sources: the tree stays clean.
    tests.args(["-B", "ledger.py"]).current_dir(shell::root().join(CLIENTS));
    tests.env("LLM_PROXY", binary());
    watch(tests, read_closing_line)
}

pub fn build() -> Result<()> {
    shell::run(shell::cargo(["build", "--quiet", "--locked", "--package", "server"]))
}

pub fn binary() -> PathBuf {
    shell::target_dir().join("debug/llm-proxy")
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if entry.file_type()?.is_file() {
            fs::copy(entry.path(), to.join(name))?;
        } else if name != "node_modules" {
            copy(&entry.path(), &to.join(name))?;
        }
    }
    Ok(())
}

/// The last line of a runner: `12 passed, 0 failed`.
pub fn read_closing_line(line: &str) -> Option<Tally> {
    let (passed, failed) = line.split_once(" passed, ")?;
    let failed = failed.split_once(" failed")?.0;
    Some(Tally { passed: passed.parse().ok()?, failed: failed.parse().ok()? })
}

/// A running demo, ended when it is dropped.
struct Demo {
    child: Child,
    ready: PathBuf,
}

impl Demo {
    fn start(name: &str) -> Result<Self> {
        build()?;
        let dir = shell::target_dir().join(format!("clients/demo-{name}"));
        if dir.exists() {
            fs::remove_dir_all(&dir)?;
        }
        fs::create_dir_all(&dir)?;
        let ready = dir.join("ready.json");
        let said = fs::File::create(dir.join("demo.out"))?;
        let child = Command::new(binary())
            .args(["demo", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(dir.join("data"))
            .arg("--ready-file")
            .arg(&ready)
            .stdin(Stdio::null())
            .stdout(said.try_clone()?)
            .stderr(said)
            .spawn()
            .context("start llm-proxy demo")?;
        let mut demo = Self { child, ready };
        demo.wait(&dir)?;
        Ok(demo)
    }

    fn wait(&mut self, dir: &Path) -> Result<()> {
        let start = Instant::now();
        while !self.ready.exists() {
            if let Some(status) = self.child.try_wait()? {
                let said = fs::read_to_string(dir.join("demo.out")).unwrap_or_default();
                bail!("llm-proxy demo ended with {status}: {said}");
            }
            if start.elapsed() > READY_TIMEOUT {
                bail!("llm-proxy demo is not ready after {} s", READY_TIMEOUT.as_secs());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_are_read() {
        let tally = Some(Tally { passed: 12, failed: 3 });
        assert_eq!(read_closing_line("12 passed, 3 failed"), tally);
        assert_eq!(read_closing_line("12 passed, 3 failed, 4 skipped"), tally);
        assert_eq!(read_closing_line("ok stream"), None);
    }
}
