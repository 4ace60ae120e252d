//! Which crate may depend on which: the drawing in ARCHITECTURE.md as a table.

use anyhow::{Context, Result};
use serde_json::Value;

use super::Finding;

/// Our crates, and which of our crates each may name.
const INNER: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("dataplane", &["domain"]),
    ("store", &["domain"]),
    ("logstore", &["domain"]),
    ("tlog", &["domain"]),
    // The generator for the cargo feature `bench` alone.
    ("server", &["domain", "dataplane", "store", "logstore", "tlog", "generator"]),
    ("generator", &["domain", "logstore"]),
    ("xtask", &[]),
];

/// Crates of others that only these of ours may name.
const ONLY: &[(&str, &[&str])] = &[
    ("sqlx", &["store"]),
    ("parquet", &["logstore"]),
    ("arrow", &["logstore"]),
    ("axum", &["server"]),
    ("askama", &["server"]),
    ("utoipa", &["server"]),
    ("clap", &["server"]),
    ("tracing-subscriber", &["server"]),
    ("anyhow", &["generator", "server", "xtask"]),
    ("getrandom", &["server", "store"]),
    ("http", &["dataplane", "server", "xtask"]),
    ("http-body", &["dataplane", "server", "xtask"]),
    ("http-body-util", &["dataplane", "server", "xtask"]),
    ("hyper", &["dataplane", "server", "xtask"]),
    ("hyper-util", &["dataplane", "server", "xtask"]),
    ("hyper-rustls", &["dataplane", "server"]),
    ("rustls", &["dataplane", "server"]),
    // In the data plane for its connectors only: hyper-util asks for the trait.
    ("tower", &["dataplane", "server"]),
    ("tokio", &["dataplane", "store", "logstore", "server", "xtask"]),
    ("tracing", &["dataplane", "store", "logstore", "tlog", "server"]),
];

/// Checks what the manifests declare; `metadata` is `cargo metadata --no-deps`.
pub fn check(metadata: &Value) -> Result<Vec<Finding>> {
    let packages = metadata["packages"].as_array().context("packages in cargo's metadata")?;
    let mut findings = Vec::new();
    for package in packages {
        let name = package["name"].as_str().context("the name of a package")?;
        let Some((_, allowed)) = INNER.iter().find(|(inner, _)| *inner == name) else {
            findings.push(Finding(format!("crate {name} is not in the table of tidy/edges.rs")));
            continue;
        };
        for dependency in package["dependencies"].as_array().context("dependencies")? {
            let other = dependency["name"].as_str().context("the name of a dependency")?;
            // A test may talk HTTP to what it tests; siblings stay strangers.
            let in_tests = dependency["kind"] == "dev";
            if INNER.iter().any(|(inner, _)| *inner == other) && !allowed.contains(&other) {
                findings.push(Finding(format!("crate {name} must not depend on {other}")));
            }
            let only = ONLY.iter().find(|(only, _)| *only == other);
            if only.is_some_and(|(_, users)| !users.contains(&name) && !in_tests) {
                findings.push(Finding(format!("crate {name} must not depend on {other}")));
            }
        }
    }
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn strangers_stay_strangers() {
        for (name, dependency, kind, count) in [
            ("store", "sqlx", None, 0),
            ("logstore", "sqlx", None, 1),
            ("logstore", "store", Some("dev"), 1),
            ("domain", "tokio", None, 1),
            ("domain", "tokio", Some("dev"), 0),
            ("dataplane", "domain", None, 0),
            ("helpers", "serde", None, 1),
        ] {
            let dependency = json!({ "name": dependency, "kind": kind });
            let metadata = json!({"packages": [{"name": name, "dependencies": [dependency]}]});
            assert_eq!(check(&metadata).expect("metadata").len(), count, "{name}: {dependency}");
        }
    }
}
