//! DuckDB over the same Parquet files, in a process that stays up: only its
//! queries are timed, not its start.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

const HELPER: &str = include_str!("helper.py");

/// The running helper.
pub struct Duck {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    pub version: String,
}

impl Duck {
    /// Opens a view for each name over its files.
    pub fn open(
        python: &Path,
        views: &BTreeMap<String, Vec<PathBuf>>,
        cores: usize,
    ) -> Result<Self> {
        let mut command = Command::new(python);
        command.args(["-c", HELPER]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("start the helper of DuckDB")?;
        let input = child.stdin.take().context("its input")?;
        let output = BufReader::new(child.stdout.take().context("its output")?);
        let mut duck = Self { child, input, output, version: String::new() };
        let answer = duck.ask(&json!({ "op": "open", "views": views, "threads": cores }))?;
        duck.version = answer["version"].as_str().unwrap_or_default().to_owned();
        Ok(duck)
    }

    fn ask(&mut self, request: &Value) -> Result<Value> {
        writeln!(self.input, "{request}").context("ask DuckDB")?;
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        let answer: Value = serde_json::from_str(&line).context("DuckDB's helper ended")?;
        match answer["error"].as_str() {
            Some(error) => bail!("DuckDB: {error}: {request}"),
            None => Ok(answer),
        }
    }

    /// Milliseconds until all rows are fetched.
    pub fn time(&mut self, sql: &str) -> Result<f64> {
        let answer = self.ask(&json!({ "op": "time", "sql": sql }))?;
        answer["ms"].as_f64().context("milliseconds")
    }

    /// Every value as text; None is null.
    pub fn rows(&mut self, sql: &str) -> Result<Vec<Vec<Option<String>>>> {
        let mut answer = self.ask(&json!({ "op": "rows", "sql": sql }))?;
        Ok(serde_json::from_value(answer["rows"].take())?)
    }

    /// The most memory that was resident during a query.
    pub fn peak_mb(&mut self, sql: &str) -> Result<f64> {
        let answer = self.ask(&json!({ "op": "memory", "sql": sql }))?;
        Ok(answer["peak_kib"].as_f64().context("kibibytes")? * 1024.0 / 1e6)
    }

    /// Fails unless the rows hold, field by field, what the lines in `file` hold.
    pub fn compare(&mut self, sql: &str, file: &Path) -> Result<u64> {
        let answer = self.ask(&json!({ "op": "compare", "sql": sql, "file": file }))?;
        if answer["equal"] != true {
            bail!("not as in DuckDB: {}", answer["why"].as_str().unwrap_or_default());
        }
        answer["rows"].as_u64().context("rows")
    }
}

impl Drop for Duck {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
