//! The records that are searched: written once by the generator through the
//! product's own way, and once more as one raw file for those who read lines.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead, BufReader, BufWriter, Write as _},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use serde_json::Value;

use super::Options;
use crate::shell;

const INSTANCE: &str = "gen";
/// Lines for jq, which would take minutes for all.
const SAMPLE_LINES: u64 = 200_000;
/// Lines of a journal that is about to be sealed: 128 MiB.
const HOT_RECORDS: u64 = 85_000;

/// What there is to search.
pub struct Data {
    pub dir: PathBuf,
    /// A data directory, everything sealed.
    pub sealed: PathBuf,
    /// A data directory whose journal is as large as it gets.
    pub hot: PathBuf,
    /// The same lines as in `sealed`, in one file.
    pub raw: PathBuf,
    /// The first lines of it.
    pub sample: PathBuf,
    /// How many times the sample is the whole.
    pub sample_times: f64,
    /// What the generator said when it wrote `sealed`.
    pub written: String,
}

impl Data {
    /// Uses what an earlier run wrote, unless it is told to write anew.
    pub fn prepare(options: &Options, generator: &Path) -> Result<Self> {
        let name = format!("search/{}-{}", options.records, options.seed);
        let dir = shell::target_dir().join("bench").join(name);
        let said = dir.join("written");
        if options.fresh && dir.exists() {
            std::fs::remove_dir_all(&dir)?;
        }
        let mut data = Self {
            sealed: dir.join("sealed"),
            hot: dir.join("hot"),
            raw: dir.join("raw.jsonl"),
            sample: dir.join("sample.jsonl"),
            sample_times: 1.0,
            written: String::new(),
            dir,
        };
        if !said.exists() {
            println!("writing {} records", options.records);
            data.write(options, generator)?;
        }
        data.written = std::fs::read_to_string(&said)?;
        let bytes = |path: &Path| std::fs::metadata(path).map(|file| file.len() as f64);
        data.sample_times = bytes(&data.raw)? / bytes(&data.sample)?;
        Ok(data)
    }

    fn write(&self, options: &Options, generator: &Path) -> Result<()> {
        if self.dir.exists() {
            std::fs::remove_dir_all(&self.dir)?;
        }
        std::fs::create_dir_all(&self.dir)?;
        let call = |task: &str, flags: &[&str], target: &str, path: &Path, records: u64| {
            let mut command = Command::new(generator);
            command.args([task, "--records", &records.to_string()]);
            command.args(["--seed", &options.seed.to_string()]).args(flags);
            command.arg(target).arg(path);
            shell::output(command)
        };
        let written = call("write", &["--compact"], "--data-dir", &self.sealed, options.records)?;
        call("lines", &[], "--also-jsonl", &self.raw, options.records)?;
        let hot = options.records.min(HOT_RECORDS);
        call("write", &["--unsealed"], "--data-dir", &self.hot, hot)?;
        let mut sample = BufWriter::new(File::create(&self.sample)?);
        let mut raw = BufReader::new(File::open(&self.raw)?);
        let mut line = Vec::new();
        for _ in 0..SAMPLE_LINES {
            line.clear();
            if raw.read_until(b'\n', &mut line)? == 0 {
                break;
            }
            sample.write_all(&line)?;
        }
        sample.flush()?;
        // Last: what is half written is written again.
        std::fs::write(self.dir.join("written"), written.trim())?;
        Ok(())
    }

    /// Another data directory whose files are those of `sealed`, so many times.
    pub fn copies(&self, generator: &Path, count: u32) -> Result<PathBuf> {
        let to = self.dir.join(format!("copies-{count}"));
        if to.exists() {
            std::fs::remove_dir_all(&to)?;
        }
        let mut command = Command::new(generator);
        command.args(["copies", "--instance", INSTANCE, "--copies", &count.to_string()]);
        command.arg("--from").arg(&self.sealed).arg("--to").arg(&to);
        shell::run(command)?;
        Ok(to)
    }
}

/// The Parquet files of a data directory by DuckDB's name for them, as
/// `llm-proxy logs files` lists them.
pub fn views(binary: &Path, data_dir: &Path) -> Result<BTreeMap<String, Vec<PathBuf>>> {
    let mut views = BTreeMap::new();
    for (view, stream) in [("records", "record"), ("traces", "trace")] {
        let mut command = Command::new(binary);
        command.args(["logs", "files", "--stream", stream, "--data-dir"]).arg(data_dir);
        let files = shell::output(command)?.lines().map(PathBuf::from).collect::<Vec<_>>();
        if !files.is_empty() {
            views.insert(view.to_owned(), files);
        }
    }
    Ok(views)
}

/// Bytes of the records' segments and side indexes for each record.
pub fn bytes_per_record(data_dir: &Path) -> Result<f64> {
    let manifests = data_dir.join("logs/v1/_manifest").join(INSTANCE);
    let number = |path: &PathBuf| path.file_stem()?.to_str()?.parse::<u64>().ok();
    let files = std::fs::read_dir(&manifests).with_context(|| manifests.display().to_string())?;
    let newest = files.flatten().map(|file| file.path()).max_by_key(number);
    let text = std::fs::read_to_string(newest.context("no manifest")?)?;
    let manifest: Value = serde_json::from_str(&text)?;
    let segments = manifest["segments"].as_array().context("segments")?;
    let of_records = segments.iter().filter(|segment| segment["dataset"] == "records");
    let (mut rows, mut bytes) = (0, 0);
    for segment in of_records {
        let figure = |name: &str| segment[name].as_u64().unwrap_or(0);
        rows += figure("rows");
        bytes += figure("bytes") + figure("ids_bytes");
    }
    Ok(bytes as f64 / rows.max(1) as f64)
}
