//! `licences`: what the dependencies may be.
//!
//! Reads the policy from `deny.toml` and checks it against `cargo metadata`,
//! without network: licences, duplicate versions, who may wrap what, sources.
//! Where cargo-deny is installed it runs too; only it knows the advisories.

mod spdx;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::Value;

use crate::shell;

/// The part of `deny.toml` that this check understands; cargo-deny reads all.
#[derive(Deserialize)]
struct Policy {
    graph: Graph,
    licenses: Licenses,
    bans: Bans,
    sources: Sources,
}

#[derive(Deserialize)]
struct Graph {
    targets: Vec<String>,
}

#[derive(Deserialize)]
struct Licenses {
    allow: Vec<String>,
    #[serde(default)]
    exceptions: Vec<Exception>,
}

#[derive(Deserialize)]
struct Exception {
    #[serde(rename = "crate")]
    name: String,
    allow: Vec<String>,
}

#[derive(Deserialize)]
struct Bans {
    #[serde(default)]
    deny: Vec<Ban>,
    #[serde(default)]
    skip: Vec<Skip>,
}

#[derive(Deserialize)]
struct Ban {
    #[serde(rename = "crate")]
    name: String,
    #[serde(default)]
    wrappers: Vec<String>,
}

#[derive(Deserialize)]
struct Skip {
    /// `name@version`, where the version may be cut short.
    #[serde(rename = "crate")]
    spec: String,
    reason: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Sources {
    allow_registry: Vec<String>,
}

/// A package of the resolved graph.
#[derive(Debug)]
struct Package {
    name: String,
    version: String,
    license: Option<String>,
    source: Option<String>,
    /// Names of the packages that it depends on.
    uses: BTreeSet<String>,
}

/// The task.
pub fn run() -> Result<()> {
    let text = std::fs::read_to_string(shell::root().join("deny.toml"))?;
    let policy: Policy = toml::from_str(&text).context("deny.toml")?;
    let mut args = Vec::new();
    for target in &policy.graph.targets {
        args.extend(["--filter-platform", target]);
    }
    let packages = packages(&shell::metadata(&args)?)?;
    let mut findings = check_licences(&packages, &policy.licenses);
    findings.extend(check_duplicates(&packages, &policy.bans.skip));
    findings.extend(check_wrappers(&packages, &policy.bans.deny));
    findings.extend(check_sources(&packages, &policy.sources));
    for finding in &findings {
        println!("licences: {finding}");
    }
    if !findings.is_empty() {
        bail!("licences: {} findings", findings.len());
    }
    println!("licences: {} packages keep to deny.toml", packages.len());
    advisories()
}

/// Hands over to cargo-deny, which fetches the advisory database.
fn advisories() -> Result<()> {
    if !shell::exists("cargo-deny", &["--version"]) {
        println!(
            "licences: advisories NOT checked: cargo-deny is not installed (it needs network for \
             the database; 'cargo install cargo-deny', then 'cargo deny check')"
        );
        return Ok(());
    }
    shell::run(shell::cargo(["deny", "check", "licenses", "bans", "sources"]))?;
    if let Err(error) = shell::run(shell::cargo(["deny", "check", "advisories"])) {
        // Without network there is no verdict; with one, it counts.
        if shell::is_ci() {
            return Err(error.context("advisories"));
        }
        println!("licences: advisories: {error:#}");
    }
    Ok(())
}

fn packages(metadata: &Value) -> Result<Vec<Package>> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let nodes = list(&metadata["resolve"]["nodes"]);
    let known = list(&metadata["packages"]);
    let by_id = |id: &Value| known.iter().find(|package| package["id"] == *id);
    nodes
        .iter()
        .map(|node| {
            let package = by_id(&node["id"]).context("a node without package")?;
            let uses = list(&node["dependencies"]);
            Ok(Package {
                name: text(&package["name"]).context("name")?,
                version: text(&package["version"]).context("version")?,
                license: text(&package["license"]),
                source: text(&package["source"]),
                uses: uses.iter().filter_map(|id| text(&by_id(id)?["name"])).collect(),
            })
        })
        .collect()
}

fn check_licences(packages: &[Package], policy: &Licenses) -> Vec<String> {
    let mut findings = Vec::new();
    for package in packages {
        let exception = policy.exceptions.iter().find(|exception| exception.name == package.name);
        let more = exception.map(|exception| exception.allow.as_slice()).unwrap_or_default();
        let allowed = |name: &str| policy.allow.iter().chain(more).any(|allow| allow == name);
        let Package { name, version, license, .. } = package;
        match license.as_deref().map(|license| spdx::satisfied(license, &allowed)) {
            Some(Ok(true)) => {}
            Some(Ok(false)) => findings.push(format!("{name} {version}: licence {license:?}")),
            Some(Err(error)) => findings.push(format!("{name} {version}: {error:#}")),
            None => findings.push(format!("{name} {version}: no licence")),
        }
    }
    findings
}

fn check_duplicates(packages: &[Package], skips: &[Skip]) -> Vec<String> {
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in packages {
        versions.entry(&package.name).or_default().insert(&package.version);
    }
    let mut used = BTreeSet::new();
    let mut findings = Vec::new();
    for (name, versions) in versions.iter().filter(|(_, versions)| versions.len() > 1) {
        let skipped = |version: &str| skips.iter().position(|skip| skip.covers(name, version));
        used.extend(versions.iter().filter_map(|version| skipped(version)));
        let left: Vec<_> = versions.iter().filter(|version| skipped(version).is_none()).collect();
        if left.len() > 1 {
            findings.push(format!("{name} is there in the versions {left:?}"));
        }
    }
    for (index, skip) in skips.iter().enumerate() {
        if skip.reason.is_empty() {
            findings.push(format!("the skip of {} gives no reason", skip.spec));
        }
        if !used.contains(&index) {
            findings.push(format!("the skip of {} is not needed any more", skip.spec));
        }
    }
    findings
}

impl Skip {
    fn covers(&self, name: &str, version: &str) -> bool {
        let (own, prefix) = self.spec.split_once('@').unwrap_or((&self.spec, ""));
        let prefix = prefix.trim_start_matches('=');
        let rest = version.strip_prefix(prefix);
        own == name
            && rest
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.') || prefix.is_empty())
    }
}

fn check_wrappers(packages: &[Package], bans: &[Ban]) -> Vec<String> {
    let mut findings = Vec::new();
    for ban in bans {
        for user in packages.iter().filter(|package| package.uses.contains(&ban.name)) {
            if !ban.wrappers.contains(&user.name) {
                findings.push(format!("{} must not depend on {}", user.name, ban.name));
            }
        }
    }
    findings
}

fn check_sources(packages: &[Package], policy: &Sources) -> Vec<String> {
    let allowed = |source: &str| {
        let address = source.trim_start_matches("registry+");
        policy.allow_registry.iter().any(|registry| registry == address)
    };
    let sourced = packages.iter().filter_map(|package| Some((package, package.source.as_deref()?)));
    sourced
        .filter(|(_, source)| !allowed(source))
        .map(|(package, source)| format!("{} comes from {source}", package.name))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, version: &str, uses: &[&str]) -> Package {
        Package {
            name: name.to_owned(),
            version: version.to_owned(),
            license: Some("MIT".to_owned()),
            source: None,
            uses: uses.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    fn skip(spec: &str) -> Skip {
        Skip { spec: spec.to_owned(), reason: "a reason".to_owned() }
    }

    #[test]
    fn duplicates_need_a_skip_and_skips_a_duplicate() {
        let two = [package("a", "1.0.0", &[]), package("a", "2.1.0", &[])];
        assert_eq!(check_duplicates(&two, &[]).len(), 1);
        assert!(check_duplicates(&two, &[skip("a@1.0.0")]).is_empty());
        assert!(check_duplicates(&two, &[skip("a@1")]).is_empty());
        assert_eq!(check_duplicates(&two, &[skip("a@3")]).len(), 2);
        assert_eq!(check_duplicates(&two[..1], &[skip("a@1.0.0")]).len(), 1);
    }

    #[test]
    fn wrappers_are_the_only_way_in() {
        let bans = [Ban { name: "sqlx".to_owned(), wrappers: vec!["store".to_owned()] }];
        assert!(check_wrappers(&[package("store", "0.0.0", &["sqlx"])], &bans).is_empty());
        assert_eq!(check_wrappers(&[package("server", "0.0.0", &["sqlx"])], &bans).len(), 1);
    }

    #[test]
    fn licences_and_sources_must_be_listed() {
        let mut odd = package("odd", "1.0.0", &[]);
        let policy = Licenses { allow: vec!["MIT".to_owned()], exceptions: Vec::new() };
        assert!(check_licences(std::slice::from_ref(&odd), &policy).is_empty());
        odd.license = Some("GPL-3.0".to_owned());
        odd.source = Some("git+https://example.com/odd".to_owned());
        let sources = Sources { allow_registry: vec!["https://example.com/index".to_owned()] };
        assert_eq!(check_sources(std::slice::from_ref(&odd), &sources).len(), 1);
        assert_eq!(check_licences(&[odd], &policy).len(), 1);
    }
}
