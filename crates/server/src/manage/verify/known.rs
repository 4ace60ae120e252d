//! Checkpoints that are known from somewhere: notes that were kept, lines of
//! JSON that carry them, the journal, the signer's memory.

use std::{
    io::{self, BufRead as _, BufReader, Read as _},
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::Arc,
};

use domain::{
    audit::{
        tree::{CheckpointError, NOTE_BYTES_MAX, SignedCheckpoint},
        verify::Report,
    },
    fields::Stream,
    query,
    time::Timestamp,
};
use logstore::{
    engine::{self, Order, Search, Sources},
    fs::{Fs, StdFs},
};
use memchr::memmem::Finder;
use tlog::verify::Remembered;

/// Checkpoints of one file or journal: one a minute for two weeks.
const REMEMBERED_MAX: usize = 20_000;
/// A line with a note in it, and an entry beside it.
const LINE_BYTES_MAX: u64 = 4 << 20;
const KEY: &[u8] = b"\"checkpoint\":";

/// Why a file with checkpoints cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KnownError {
    #[error("{path} cannot be read")]
    Io { path: PathBuf, source: io::Error },
    #[error("{path} is no checkpoint")]
    Note { path: PathBuf, source: CheckpointError },
    #[error("line {line} of {path} is no line of JSON with a checkpoint in it")]
    Line { path: PathBuf, line: u64 },
    #[error("line {line} of {path} is longer than {LINE_BYTES_MAX} bytes")]
    Long { path: PathBuf, line: u64 },
    #[error("{path} carries no checkpoint")]
    Nothing { path: PathBuf },
}

/// The checkpoint that a file is, or those in its lines of JSON.
pub fn from_file(path: &Path) -> Result<Vec<Remembered>, KnownError> {
    let io_error = |source| KnownError::Io { path: path.to_owned(), source };
    let stream = StdFs.open_stream(path).map_err(io_error)?;
    let mut lines = BufReader::new(stream);
    let begin = lines.fill_buf().map_err(io_error)?;
    if !begin.starts_with(b"{") {
        let mut bytes = Vec::new();
        lines.take(NOTE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(io_error)?;
        let note = SignedCheckpoint::parse(&bytes);
        let note = note.map_err(|source| KnownError::Note { path: path.to_owned(), source })?;
        return Ok(vec![kept(path, note)]);
    }
    let finder = Finder::new(KEY);
    let (mut found, mut number, mut line) = (Vec::new(), 0, Vec::new());
    loop {
        line.clear();
        number += 1;
        let read = (&mut lines).take(LINE_BYTES_MAX + 1).read_until(b'\n', &mut line);
        let read = read.map_err(io_error)? as u64;
        if read == 0 {
            break;
        }
        if read > LINE_BYTES_MAX {
            return Err(KnownError::Long { path: path.to_owned(), line: number });
        }
        if finder.find(&line).is_none() {
            continue;
        }
        let note = note_in(&line);
        let note = note.ok_or_else(|| KnownError::Line { path: path.to_owned(), line: number })?;
        // The newest say most, and an old one now and then is enough.
        if found.len() >= REMEMBERED_MAX {
            let mut at = 0;
            found.retain(|_| {
                at += 1;
                at % 2 == 0
            });
        }
        found.push(kept(path, note));
    }
    match found.is_empty() {
        true => Err(KnownError::Nothing { path: path.to_owned() }),
        false => Ok(found),
    }
}

fn kept(path: &Path, note: SignedCheckpoint) -> Remembered {
    Remembered { place: path.display().to_string(), note, outside: true }
}

/// The newest that the journal of a data directory and its segments carry.
pub(super) fn of_journals(data_dir: &Path, report: &mut Report) -> Vec<Remembered> {
    if !logstore::journal_dir(data_dir).is_dir() && !data_dir.join("logs").is_dir() {
        return Vec::new();
    }
    let fs: Arc<dyn Fs> = Arc::new(StdFs);
    let mut found = Vec::new();
    let mut searched = || -> Result<(), String> {
        let expr = query::parse("msg:\"audit checkpoint\"", Timestamp::EPOCH)
            .map_err(|error| error.to_string())?;
        let search = Search {
            streams: vec![Stream::Trace],
            order: Order::NewestFirst,
            limit: Some(REMEMBERED_MAX),
            ..Search::new(expr)
        };
        let sources = Sources::open(&fs, data_dir).map_err(|error| with_causes(&error))?;
        let result = engine::search(&sources, &search, &mut |hit| {
            if let Some(note) = note_in(hit.line) {
                found.push(Remembered { place: "the journal".to_owned(), note, outside: false });
            }
            ControlFlow::Continue(())
        });
        result.map(drop).map_err(|error| with_causes(&error))
    };
    if let Err(what) = searched() {
        report.unchecked.push(format!("checkpoints in the journal, which cannot be read: {what}"));
    }
    found
}

/// What the signer signed last; none before the first.
pub(super) fn of_signer(bytes: &[u8]) -> Result<Option<SignedCheckpoint>, String> {
    let value: serde_json::Value =
        serde_json::from_slice(bytes).map_err(|error| format!("it is not JSON: {error}"))?;
    let Some(text) = value.get("checkpoint").and_then(serde_json::Value::as_str) else {
        return match value["size"].as_u64() {
            Some(0) => Ok(None),
            _ => Err("it has no checkpoint".to_owned()),
        };
    };
    SignedCheckpoint::parse(text.as_bytes()).map(Some).map_err(|error| with_causes(&error))
}

fn note_in(line: &[u8]) -> Option<SignedCheckpoint> {
    let value: serde_json::Value = serde_json::from_slice(line).ok()?;
    let text = value.get("checkpoint")?.as_str()?;
    SignedCheckpoint::parse(text.as_bytes()).ok()
}

pub(super) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
