//! A second opinion on audit chains: the verifier in Python, which shares no
//! line with ours, and ours judge the same chains, good ones and damaged ones.

use std::process::Command;

use anyhow::Result;

use crate::{
    clients, python, shell,
    test::{Tally, skip, watch},
};

const AUDIT: &str = "tests/audit";
const VERIFIER: &str = "tools/verify_audit.py";

/// The step of the suite.
pub fn run() -> Result<Tally> {
    let what = "the second opinion on audit chains";
    let dir = shell::root().join(AUDIT);
    let python = match python::environment("audit", &dir.join("requirements.txt"))? {
        Ok(python) => python,
        Err(why) => return skip(what, &why),
    };
    clients::build()?;
    let mut tests = Command::new(python);
    tests.args(["-B", "run.py"]).current_dir(&dir);
    tests.env("LLM_PROXY", clients::binary()).env("VERIFIER", shell::root().join(VERIFIER));
    watch(tests, clients::read_closing_line)
}
