//! Python for tests and benchmarks: an environment of its own below `target/`,
//! so that the tree and the machine stay clean.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;

use crate::shell;

/// The interpreter of an environment that has everything in `requirements`, or
/// why this machine cannot have one.
pub fn environment(name: &str, requirements: &Path) -> Result<Result<PathBuf, String>> {
    let has_venv = |name: &&&str| shell::exists(name, &["-c", "import venv, ensurepip"]);
    let Some(python) = ["python3", "python"].iter().find(has_venv) else {
        return Ok(Err("no Python 3 with venv".to_owned()));
    };
    let dir = shell::target_dir().join("python").join(name);
    let inside = dir.join("bin/python");
    if !inside.exists() {
        let mut command = Command::new(python);
        command.args(["-m", "venv"]).arg(&dir);
        shell::run(command)?;
    }
    let mut install = Command::new(&inside);
    install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"]);
    install.arg(requirements);
    Ok(match shell::run(install) {
        Ok(()) => Ok(inside),
        Err(error) => Err(format!("its packages cannot be installed: {error:#}")),
    })
}
