//! The lines of a journal as one raw file, for tools that read lines.

use std::{
    fs::File,
    io::{BufWriter, Write as _},
    path::Path,
};

use anyhow::{Context, Result};
use generator::{lines, record::Records, timeline::Timeline};

use crate::{options::Options, write::envelope};

const BUFFER_BYTES: usize = 1 << 20;

/// The file.
pub struct Raw(BufWriter<File>);

impl Raw {
    pub fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).with_context(|| format!("create {}", path.display()))?;
        Ok(Self(BufWriter::with_capacity(BUFFER_BYTES, file)))
    }

    pub fn line(&mut self, line: &[u8]) -> Result<()> {
        let written = self.0.write_all(line).and_then(|()| self.0.write_all(b"\n"));
        written.context("write the raw file")
    }

    pub fn flush(&mut self) -> Result<()> {
        self.0.flush().context("write the raw file")
    }
}

/// Writes the file alone; returns how many lines it has.
pub fn run(options: &Options) -> Result<u64> {
    let path = options.also_jsonl.as_deref().context("--also-jsonl is missing")?;
    let timeline = Timeline::new(options.end, options.days, options.records);
    let records = Records::new(options.seed, timeline);
    let envelope = envelope(options);
    let mut raw = Raw::create(path)?;
    let mut count = 0;
    let mut line = Vec::new();
    for number in 0..options.records {
        let record = records.get(number);
        for beside in [lines::trace, lines::entry] {
            line.clear();
            if beside(options.seed, number, &record, &envelope, &mut line) {
                raw.line(&line)?;
                count += 1;
            }
        }
        line.clear();
        record.write_json(&envelope, &mut line);
        raw.line(&line)?;
        count += 1;
    }
    raw.flush()?;
    Ok(count)
}
