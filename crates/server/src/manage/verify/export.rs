//! Exports: lines of JSON, one an entry with `index`, `leaf` and `leaf_hash` and
//! perhaps `openings`, in the order of the index; the last line has the
//! `checkpoint` and how many `entries` came before it.

use std::{
    io::{BufRead as _, BufReader, Read},
    path::Path,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use domain::audit::{
    Leaf, Opening,
    tree::{Frontier, NodeHash, SignedCheckpoint, VerifierKey},
    verify::{Class, Leaves, Report, check_opening},
};
use logstore::fs::{Fs as _, StdFs};
use serde::Deserialize;
use tlog::verify::Entry;

use super::known::{KnownError, from_file, with_causes};

/// A leaf, escaped, with its openings.
const LINE_BYTES_MAX: u64 = 4 << 20;

#[derive(Deserialize)]
struct Line {
    index: Option<u64>,
    leaf: Option<String>,
    leaf_hash: Option<String>,
    #[serde(default)]
    openings: Vec<LineOpening>,
    checkpoint: Option<String>,
    entries: Option<u64>,
    /// Whether entries between those that are there were left out on purpose.
    #[serde(default)]
    filtered: bool,
}

#[derive(Deserialize)]
struct LineOpening {
    path: String,
    salt: String,
    value: String,
}

/// An export that is read in step with the tree.
pub struct Export {
    place: String,
    lines: BufReader<Box<dyn Read + Send>>,
    number: u64,
    next: Option<Line>,
    is_over: bool,
    first: Option<u64>,
    last: Option<u64>,
    entries: u64,
    gap: Option<u64>,
    trailer: Option<Line>,
    wrong: Vec<(Option<u64>, String)>,
}

impl Export {
    pub fn open(path: &Path) -> Result<Self, KnownError> {
        let io_error = |source| KnownError::Io { path: path.to_owned(), source };
        let lines = BufReader::new(StdFs.open_stream(path).map_err(io_error)?);
        Ok(Self {
            place: path.display().to_string(),
            lines,
            number: 0,
            next: None,
            is_over: false,
            first: None,
            last: None,
            entries: 0,
            gap: None,
            trailer: None,
            wrong: Vec::new(),
        })
    }

    /// Compares the line of an entry of the tree, if there is one.
    pub fn entry(&mut self, entry: &Entry<'_>, report: &mut Report) {
        while let Some(index) = self.peek() {
            if index > entry.index {
                return;
            }
            let Some(line) = self.take() else { return };
            if index < entry.index {
                // Out of order, or of an entry that is not there any more.
                continue;
            }
            self.compare(entry, &line, report);
        }
    }

    fn compare(&self, entry: &Entry<'_>, line: &Line, report: &mut Report) {
        let leaf = line.leaf.as_deref().unwrap_or_default();
        if leaf.as_bytes() != entry.bytes {
            let text = format_args!("line {} does not hold this entry", self.number);
            report.find(Class::Leaf, entry.index, &self.place, text);
        }
        if let Some(leaf) = entry.leaf {
            self.open_all(entry.index, leaf, line, report);
        }
    }

    fn open_all(&self, index: u64, leaf: &Leaf, line: &Line, report: &mut Report) {
        for LineOpening { path, salt, value } in &line.openings {
            let salt = STANDARD.decode(salt).ok().and_then(|salt| salt.try_into().ok());
            let Some(salt) = salt else {
                report.find(Class::Opening, index, &self.place, "a salt cannot be read");
                continue;
            };
            let opening = Opening { path: path.clone(), salt, value: value.clone() };
            check_opening(index, leaf, &opening, &self.place, report);
        }
    }

    pub fn finish(mut self, report: &mut Report) {
        while let Some(index) = self.peek() {
            drop(self.take());
            if index >= report.size {
                let text = "the tree has no such entry";
                report.find(Class::Leaf, index, &self.place, text);
            }
        }
        self.close(report);
        report.checked.push(format!("{} lines of {}", self.entries, self.place));
    }

    /// What can be said of the lines among themselves.
    fn close(&mut self, report: &mut Report) {
        for (index, text) in std::mem::take(&mut self.wrong) {
            report.find(Class::Leaf, index, &self.place, text);
        }
        let Some(trailer) = &self.trailer else {
            let text = "the export does not end with its checkpoint";
            report.find(Class::Truncated, self.last, &self.place, text);
            return;
        };
        if trailer.entries.is_some_and(|entries| entries != self.entries) {
            let entries = trailer.entries.unwrap_or(0);
            let text = format_args!("{entries} entries were exported, {} are here", self.entries);
            report.find(Class::Truncated, self.last, &self.place, text);
        }
        if let Some(gap) = self.gap.filter(|_| !trailer.filtered) {
            report.find(Class::Gap, gap, &self.place, "lines are missing before this one");
        }
    }

    fn take(&mut self) -> Option<Line> {
        let line = self.next.take()?;
        let index = line.index.unwrap_or(0);
        if let Some(last) = self.last {
            if index <= last {
                let text = format!("line {} comes out of order or again", self.number);
                self.wrong(Some(index), text);
            } else if index > last + 1 {
                self.gap.get_or_insert(index);
            }
        }
        self.first.get_or_insert(index);
        self.last = Some(self.last.unwrap_or(0).max(index));
        self.entries += 1;
        let hash = line.leaf.as_ref().map(|leaf| NodeHash::of_leaf(leaf.as_bytes()).to_string());
        if hash != line.leaf_hash {
            let text = format!("line {} has another hash than its entry", self.number);
            self.wrong(Some(index), text);
        }
        Some(line)
    }

    /// The index of the next line.
    fn peek(&mut self) -> Option<u64> {
        while self.next.is_none() && !self.is_over {
            self.read();
        }
        self.next.as_ref().and_then(|line| line.index)
    }

    fn read(&mut self) {
        let mut bytes = Vec::new();
        let read = (&mut self.lines).take(LINE_BYTES_MAX + 1).read_until(b'\n', &mut bytes);
        self.number += 1;
        let number = self.number;
        match read {
            Ok(0) => self.is_over = true,
            Err(error) => {
                self.is_over = true;
                self.wrong(None, format!("line {number} cannot be read: {error}"));
            }
            Ok(read) if read as u64 > LINE_BYTES_MAX || !bytes.ends_with(b"\n") => {
                self.is_over = true;
                self.wrong(None, format!("line {number} has no end"));
            }
            Ok(_) if self.trailer.is_some() => {
                self.wrong(None, format!("line {number} stands behind the checkpoint"));
                self.is_over = true;
            }
            Ok(_) => match serde_json::from_slice::<Line>(&bytes) {
                Ok(line) if line.index.is_some() && line.leaf.is_some() => self.next = Some(line),
                Ok(line) if line.checkpoint.is_some() => self.trailer = Some(line),
                _ => self.wrong(None, format!("line {number} is no line of an export")),
            },
        }
    }

    fn wrong(&mut self, index: Option<u64>, text: String) {
        if self.wrong.len() < domain::audit::verify::FINDINGS_MAX {
            self.wrong.push((index, text));
        }
    }
}

/// Verifies an export without the tree. It proves everything if it holds the
/// whole chain up to its checkpoint.
pub fn verify_alone(path: &Path, keys: &[VerifierKey]) -> Report {
    let mut report = Report::default();
    let (mut export, known) = match from_file(path).and_then(|it| Ok((Export::open(path)?, it))) {
        Ok(opened) => opened,
        Err(error @ (KnownError::Line { .. } | KnownError::Nothing { .. })) => {
            let text = with_causes(&error);
            report.find(Class::Truncated, None, path.display(), text);
            return report;
        }
        Err(error) => {
            report.incomplete.push(with_causes(&error));
            return report;
        }
    };
    let Some(head) = known.last().map(|known| known.note.clone()) else { return report };
    let origin = head.checkpoint().origin.clone();
    (report.origin, report.size) = (Some(origin.to_string()), head.size());
    report.root = Some(head.root().to_string());
    check_signature(&head, keys, &export.place, &mut report);
    let (mut leaves, mut frontier) = (Leaves::new(origin.as_str()), Frontier::default());
    while export.peek().is_some() {
        let Some(line) = export.take() else { break };
        let (index, text) = (line.index.unwrap_or(0), line.leaf.as_deref().unwrap_or_default());
        if index >= head.size() {
            let text = "the entry is beyond the checkpoint";
            report.find(Class::Leaf, index, &export.place, text);
        }
        frontier.append(NodeHash::of_leaf(text.as_bytes()));
        let leaf = Leaf::parse(text.as_bytes());
        if let Ok(leaf) = &leaf {
            export.open_all(index, leaf, &line, &mut report);
        }
        leaves.take(index, &leaf, &export.place, &mut report);
    }
    export.close(&mut report);
    let is_whole = export.first == Some(0) && export.gap.is_none();
    // Numbers of entries that were left out on purpose are not missing.
    if !is_whole {
        report.findings.retain(|finding| finding.class != Class::Gap || export.gap.is_none());
    }
    leaves.finish(&mut report);
    if is_whole && frontier.size() == head.size() {
        if frontier.root() != head.root() && report.tampering() == 0 {
            let text = "the entries are not those that were under the checkpoint";
            report.find(Class::Fork, 0, &export.place, text);
        }
        report.checked.push(format!("the root over all {} entries", head.size()));
    } else {
        let text = "the export holds a part of the chain: give the tree too (--dir or --url)";
        report.incomplete.push(text.to_owned());
    }
    report
}

fn check_signature(
    head: &SignedCheckpoint,
    keys: &[VerifierKey],
    place: &str,
    report: &mut Report,
) {
    if keys.is_empty() {
        report.unchecked.push("the checkpoint's signature: no key was given".to_owned());
        return;
    }
    match head.verify(keys, &[]) {
        Ok(_) => report.key = keys.first().map(|key| format!("{}+{:08x}", key.name(), key.id())),
        Err(error) => report.find(Class::Signature, None, place, with_causes(&error)),
    }
}
