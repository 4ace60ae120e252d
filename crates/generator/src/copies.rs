//! The same segments many times over, by links: a data directory of any size
//! that costs no disk. Each copy is an instance of its own, so its rows count
//! as others; their ids repeat.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// What a manifest ends with, after the text that is summed.
const CHECKSUM_KEY: &str = ",\"sha256\":\"";

#[derive(Debug)]
pub struct Copying {
    pub from: PathBuf,
    pub to: PathBuf,
    pub instance: String,
    pub copies: u32,
}

impl Copying {
    pub fn read(words: impl IntoIterator<Item = String>) -> Result<Self> {
        let (mut from, mut to) = (None, None);
        let (mut instance, mut copies) = ("gen".to_owned(), 1);
        let mut words = words.into_iter();
        while let Some(flag) = words.next() {
            let value = words.next().with_context(|| format!("{flag} needs a value"))?;
            match flag.as_str() {
                "--from" => from = Some(PathBuf::from(value)),
                "--to" => to = Some(PathBuf::from(value)),
                "--instance" => instance = value,
                "--copies" => {
                    copies = value.parse().with_context(|| format!("--copies {value}"))?
                }
                _ => bail!("unknown argument '{flag}'"),
            }
        }
        let from = from.context("--from is missing")?;
        Ok(Self { from, to: to.context("--to is missing")?, instance, copies })
    }

    /// Links every listed file of the instance, and writes a manifest for each
    /// copy. Returns how many rows there are now.
    pub fn run(&self) -> Result<u64> {
        let manifest = newest_manifest(&self.from, &self.instance)?;
        let mut rows = 0;
        for number in 0..self.copies {
            let name = format!("{}-{number:02}", self.instance);
            rows += self.copy(&manifest, &name)?;
        }
        Ok(rows)
    }

    fn copy(&self, manifest: &Value, name: &str) -> Result<u64> {
        let mut manifest = manifest.clone();
        let mut rows = 0;
        let segments = manifest["segments"].as_array_mut().context("no segments")?;
        for segment in segments {
            rows += segment["rows"].as_u64().unwrap_or(0);
            let file = segment["file"].as_str().context("a segment without a file")?;
            let copied = renamed(file, &self.instance, name)?;
            for extension in ["parquet", "ids"] {
                let sealed = |dir: &Path, file: &str| {
                    dir.join("logs/v1").join(file).with_extension(extension)
                };
                let (from, to) = (sealed(&self.from, file), sealed(&self.to, &copied));
                if from.exists() {
                    link(&from, &to)?;
                }
            }
            segment["file"] = copied.into();
        }
        manifest["instance"] = name.into();
        manifest["number"] = 1.into();
        for list in ["retired", "events"] {
            manifest[list] = Value::Array(Vec::new());
        }
        let dir = self.to.join("logs/v1/_manifest").join(name);
        fs::create_dir_all(&dir)?;
        fs::write(dir.join("1.json"), summed(&manifest)?)?;
        Ok(rows)
    }
}

fn newest_manifest(data_dir: &Path, instance: &str) -> Result<Value> {
    let dir = data_dir.join("logs/v1/_manifest").join(instance);
    let number = |path: &PathBuf| path.file_stem()?.to_str()?.parse::<u64>().ok();
    let files = fs::read_dir(&dir).with_context(|| format!("list {}", dir.display()))?;
    let newest = files.flatten().map(|file| file.path()).max_by_key(number);
    let text = fs::read(newest.context("no manifest")?)?;
    serde_json::from_slice(&text).context("read the manifest")
}

/// `records/date=2026-11-23/gen-000000000001-….parquet` of another instance.
fn renamed(file: &str, instance: &str, name: &str) -> Result<String> {
    let (dir, base) = file.rsplit_once('/').context("a file without a directory")?;
    let rest = base.strip_prefix(instance).and_then(|rest| rest.strip_prefix('-'));
    let rest = rest.with_context(|| format!("{file} is not a file of {instance}"))?;
    Ok(format!("{dir}/{name}-{rest}"))
}

fn link(from: &Path, to: &Path) -> Result<()> {
    if let Some(dir) = to.parent() {
        fs::create_dir_all(dir)?;
    }
    fs::hard_link(from, to).with_context(|| format!("link {} to {}", from.display(), to.display()))
}

/// The manifest as its readers want it: the checksum last, over all before it.
fn summed(manifest: &Value) -> Result<Vec<u8>> {
    let mut fields = manifest.as_object().context("no object")?.clone();
    fields.remove("sha256");
    let mut text = serde_json::to_string(&fields)?;
    text.pop();
    let sum: String = Sha256::digest(&text).iter().map(|byte| format!("{byte:02x}")).collect();
    text.push_str(CHECKSUM_KEY);
    text.push_str(&sum);
    text.push_str("\"}\n");
    Ok(text.into_bytes())
}
