//! `fuzz`: libFuzzer on the stable toolchain.
//!
//! cargo-fuzz wants nightly for its sanitizers; coverage alone is a pass that
//! stable has too, so the targets are built with it by hand.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{args::Args, shell};

const MANIFEST: &str = "fuzz/Cargo.toml";
const SECONDS: u32 = 30;
/// What cargo-fuzz passes, without the sanitizers.
const RUSTFLAGS: &str = "-Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares \
    --cfg fuzzing -Cdebug-assertions=on -Coverflow-checks=on";
/// An input past this would only slow the search down.
const INPUT_BYTES_MAX: u32 = 16 * 1024;
const MEMORY_MB_MAX: u32 = 1024;

/// The task: `fuzz [TARGET] [--seconds N]`.
pub fn run(mut args: Args) -> Result<()> {
    let target = args.word();
    let seconds = args.value("--seconds")?.unwrap_or(SECONDS);
    args.finish()?;
    if let Some(why) = missing() {
        bail!("cannot fuzz: {why}");
    }
    let binaries = build()?;
    let targets = target.map_or_else(targets, |target| Ok(vec![target]))?;
    for target in targets {
        // New inputs stay below target/ and are begun with next time.
        let found = shell::target_dir().join("fuzz/corpus").join(&target);
        run_target(&binaries, &target, seconds, &found, None)?;
    }
    Ok(())
}

/// Why fuzzing is not possible here, if it is not.
pub fn missing() -> Option<&'static str> {
    if !shell::root().join(MANIFEST).exists() {
        return Some("fuzz/ is not there");
    }
    let compiler = ["c++", "g++", "clang++"].iter().any(|name| shell::exists(name, &["--version"]));
    (!compiler).then_some("no C++ compiler (libFuzzer is C++)")
}

/// Each target for a short time, the same inputs each time: a change is judged
/// by what it changed. How many targets there were.
pub fn briefly(seconds: u32) -> Result<u64> {
    let binaries = build()?;
    let targets = targets()?;
    for target in &targets {
        let found = shell::target_dir().join("fuzz/brief").join(target);
        if found.exists() {
            std::fs::remove_dir_all(&found)?;
        }
        run_target(&binaries, target, seconds, &found, Some(1))?;
    }
    Ok(targets.len() as u64)
}

fn targets() -> Result<Vec<String>> {
    let text = std::fs::read_to_string(shell::root().join(MANIFEST))?;
    let manifest: toml::Table = toml::from_str(&text).context(MANIFEST)?;
    let binaries = manifest.get("bin").and_then(|bin| bin.as_array()).cloned().unwrap_or_default();
    let names = binaries.iter().filter_map(|bin| Some(bin.get("name")?.as_str()?.to_owned()));
    let names: Vec<String> = names.collect();
    if names.is_empty() {
        bail!("{MANIFEST} names no target");
    }
    Ok(names)
}

fn build() -> Result<PathBuf> {
    let host = host()?;
    let target_dir = shell::target_dir().join("fuzz");
    // An explicit target keeps the flags away from build scripts and macros.
    let mut command = shell::cargo(["build", "--quiet", "--release", "--manifest-path", MANIFEST]);
    command.args(["--target", &host]).arg("--target-dir").arg(&target_dir);
    command.env("RUSTFLAGS", RUSTFLAGS);
    shell::run(command)?;
    Ok(target_dir.join(host).join("release"))
}

fn host() -> Result<String> {
    let mut command = Command::new("rustc");
    command.arg("-vV");
    let text = shell::output(command)?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc names no host")?.to_owned())
}

fn run_target(
    binaries: &Path,
    target: &str,
    seconds: u32,
    found: &Path,
    seed: Option<u32>,
) -> Result<()> {
    println!("fuzz {target}: {seconds} s");
    std::fs::create_dir_all(found)?;
    let mut command = Command::new(binaries.join(target));
    command.arg(format!("-max_total_time={seconds}"));
    command.arg(format!("-max_len={INPUT_BYTES_MAX}"));
    command.arg(format!("-rss_limit_mb={MEMORY_MB_MAX}"));
    command.arg("-verbosity=0").arg("-print_final_stats=0");
    command.args(seed.map(|seed| format!("-seed={seed}")));
    command.arg(format!("-artifact_prefix={}/", found.display()));
    command.arg(found);
    // The committed inputs are only read.
    let committed = shell::root().join("fuzz/corpus").join(target);
    if committed.exists() {
        command.arg(committed);
    }
    shell::run(command).with_context(|| format!("fuzz target {target}"))
}
