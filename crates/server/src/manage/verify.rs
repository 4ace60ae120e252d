//! The audit chain held against everything that is known of it: its files, kept
//! checkpoints, the database, sealed segments, exports, witnesses.
//!
//! Owns what `audit verify` does beyond the tree itself. Promises to read only,
//! to need no running server, and that the report says what was not looked at.
//! Must never trust what lies beside the tree more than what came from outside.

mod database;
mod export;
mod known;
mod policy;
mod segments;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use domain::audit::{
    tree::{Keyring, NOTE_BYTES_MAX, SignedCheckpoint, VerifierKey},
    verify::{Class, Report},
};
use tlog::verify::{Ask, Entry, Remembered, Source, read_file};
use tokio::sync::mpsc;

use self::{database::Rows, export::Export};
pub use self::{
    export::verify_alone,
    known::{KnownError, from_file},
    policy::{Policy, PolicyError},
};

/// What the signer keeps, escaped in JSON.
const SIGNER_BYTES_MAX: usize = 2 * NOTE_BYTES_MAX;

/// What is verified, against what.
pub struct Question<'q> {
    pub source: &'q dyn Source,
    /// The data directory that the tree is in, if it is in one.
    pub data_dir: Option<&'q Path>,
    /// Keys that came from outside.
    pub keys: Vec<VerifierKey>,
    /// Checkpoints that were kept elsewhere.
    pub remembered: Vec<Remembered>,
    /// The rows of the database.
    pub rows: Option<mpsc::Receiver<store::Result<store::Stored>>>,
    /// Whether sealed segments are held against their entries.
    pub records: bool,
    pub exports: Vec<PathBuf>,
    pub policy: Option<Policy>,
}

/// Reads everything; takes its time, off the asynchronous threads.
pub fn verify(question: Question<'_>) -> Report {
    let Question { source, data_dir, mut keys, mut remembered, rows, exports, .. } = question;
    let policy = question.policy.as_ref();
    keys.extend(policy.into_iter().flat_map(|policy| policy.chain_keys().iter().cloned()));
    let mut early = Report::default();
    let mut opened = Vec::new();
    for path in &exports {
        match from_file(path).and_then(|known| Ok((known, Export::open(path)?))) {
            Ok((known, export)) => {
                remembered.extend(known);
                opened.push(export);
            }
            Err(error @ (KnownError::Line { .. } | KnownError::Nothing { .. })) => {
                let place = path.display();
                early.find(Class::Truncated, None, place, known::with_causes(&error));
            }
            Err(error) => early.incomplete.push(known::with_causes(&error)),
        }
    }
    let (local_keys, signer) =
        data_dir.map_or_else(Default::default, |dir| beside(dir, &mut early));
    if let Some(dir) = data_dir {
        remembered.extend(known::of_journals(dir, &mut early));
    }
    let mut rows = rows.map(Rows::new);
    let ask = Ask { keys: &keys, local_keys: &local_keys, remembered: &remembered, signer };
    let mut each = |entry: Entry<'_>, report: &mut Report| {
        if let Some(rows) = &mut rows {
            rows.entry(&entry, report);
        }
        opened.iter_mut().for_each(|export| export.entry(&entry, report));
    };
    let (mut report, leaves) = tlog::verify::verify(source, &ask, &mut each);
    if let Some(rows) = rows {
        rows.finish(&leaves, &mut report);
    } else {
        report.unchecked.push("the database (--db)".to_owned());
    }
    opened.into_iter().for_each(|export| export.finish(&mut report));
    match data_dir.filter(|_| question.records) {
        Some(dir) => segments::check(dir, &leaves, &mut report),
        None => report.unchecked.push("sealed segments of records (--records)".to_owned()),
    }
    if let Some(policy) = policy {
        policy.check(source, &remembered, &mut report);
    }
    for (list, more) in [
        (&mut report.incomplete, early.incomplete),
        (&mut report.unchecked, early.unchecked),
        (&mut report.checked, early.checked),
    ] {
        list.extend(more);
    }
    for finding in early.findings {
        report.find(finding.class, finding.index, finding.place, finding.text);
    }
    report
}

/// The public key and the signer's memory, which lie in the data directory.
fn beside(data_dir: &Path, report: &mut Report) -> (Vec<VerifierKey>, Option<SignedCheckpoint>) {
    let layout = tlog::layout::Layout::new(data_dir);
    let mut keys = Vec::new();
    match read_file(&layout.public_key(), NOTE_BYTES_MAX) {
        Ok(Some(bytes)) => {
            let text = String::from_utf8_lossy(&bytes);
            match VerifierKey::parse(text.trim()) {
                Ok(key) => keys.push(key),
                Err(error) => report.find(Class::Signature, None, "audit/vkey", error),
            }
        }
        Ok(None) => {}
        Err(error) => report.incomplete.push(format!("audit/vkey cannot be read: {error}")),
    }
    let signer = match read_file(&layout.signer_state(), SIGNER_BYTES_MAX) {
        Ok(None) => None,
        Ok(Some(bytes)) => match known::of_signer(&bytes) {
            Ok(signer) => signer,
            Err(what) => {
                report.find(Class::Signature, None, "audit/signer.json", what);
                None
            }
        },
        Err(error) => {
            report.incomplete.push(format!("audit/signer.json cannot be read: {error}"));
            None
        }
    };
    (keys, signer)
}

/// Verifier keys in a text: one, one a line, or a keyring.
pub fn keys_in(text: &str) -> Result<Vec<VerifierKey>, domain::audit::tree::KeyError> {
    if let Ok(keyring) = Keyring::parse(text) {
        return Ok(keyring.spans().iter().map(|span| span.key.clone()).collect());
    }
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(VerifierKey::parse).collect()
}
