//! `docs`: pages and tables that are made from the code are written anew.
//!
//! The tests that keep them current do it themselves when they are asked to.

use anyhow::Result;

use crate::shell;

/// Crates, and the tests that own a page.
const PAGES: &[(&str, &str)] =
    &[("domain", "fields::"), ("domain", "audit::inventory::"), ("server", "config::")];

/// The task.
pub fn run() -> Result<()> {
    for (package, tests) in PAGES {
        let mut command = shell::cargo(["test", "--quiet", "-p", package, "--lib", tests]);
        command.env("UPDATE", "1");
        shell::run(command)?;
    }
    Ok(())
}
