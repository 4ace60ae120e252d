//! Findings, the report that holds them, and what follows from it.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::audit::action::words;

/// Findings that are told one by one; the rest is counted by class.
pub const FINDINGS_MAX: usize = 1_000;
/// Notes that are told one by one.
const NOTES_MAX: usize = 1_000;

words! {
    /// What kind of finding it is. The last three inform, the others accuse.
    Class {
        /// An entry is not the one that was hashed.
        Leaf = "LEAF",
        /// A hash of the tree is not that of what is below it.
        Tile = "TILE",
        /// Something that the tree needs is missing or cut short.
        Truncated = "TRUNCATED",
        /// The chain is shorter than it is known to have been.
        Rollback = "ROLLBACK",
        /// The chain is not a continuation of what it is known to have been.
        Fork = "FORK",
        /// A checkpoint does not carry the signature that it must carry.
        Signature = "SIGNATURE",
        /// A producer's number is missing.
        Gap = "GAP",
        /// A producer's number or an id is there again.
        Duplicate = "DUPLICATE",
        /// A row of the database is not that of its entry.
        DbRow = "DB_ROW",
        /// Refusals that were counted and those that were recorded differ.
        CountMismatch = "COUNT_MISMATCH",
        /// An opening does not open its commitment.
        Opening = "OPENING",
        /// An entry stands in other bytes than its canonical ones.
        NotCanonical = "NOT_CANONICAL",
        /// A sealed segment is not the one that its entry names.
        Segment = "SEGMENT",
        /// A sealed value can no longer be shown.
        Erased = "ERASED",
        /// Entries were dropped by retention; their hashes are kept.
        Pruned = "PRUNED",
        /// Entries that no signed checkpoint covers yet.
        UnanchoredTail = "UNANCHORED_TAIL",
    }
}

impl Class {
    /// Whether it speaks of tampering; the others inform.
    pub const fn is_tampering(self) -> bool {
        !matches!(self, Self::Erased | Self::Pruned | Self::UnanchoredTail)
    }
}

/// One thing that does not hold, or is worth knowing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Finding {
    pub class: Class,
    /// The first entry that it concerns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<u64>,
    /// The file, table or other place where it shows.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub place: String,
    pub text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { class, index, place, text } = self;
        write!(f, "{class}")?;
        if let Some(index) = index {
            write!(f, " at entry {index}")?;
        }
        if !place.is_empty() {
            write!(f, ", {place}")?;
        }
        write!(f, ": {text}")
    }
}

/// What follows from a report.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Nothing is wrong, under a key that was given from outside.
    Verified,
    Tampered,
    /// Nothing is wrong, but nobody vouches for the key.
    SelfConsistent,
    /// Something could not be read, so nothing follows.
    Incomplete,
    /// There is no chain here.
    Nothing,
}

impl Verdict {
    /// The status with which `audit verify` exits.
    pub const fn exit_status(self) -> u8 {
        match self {
            Self::Verified => 0,
            Self::Tampered => 1,
            Self::SelfConsistent | Self::Incomplete | Self::Nothing => 2,
        }
    }
}

/// Everything that a verification found, and what it rests on.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    pub origin: Option<String>,
    pub size: u64,
    /// The signed root, hexadecimal.
    pub root: Option<String>,
    /// The name of the outside key under which the checkpoint verified.
    pub key: Option<String>,
    /// Earlier checkpoints that were held against the tree, of which the first
    /// and the last entry say how far the anchor reaches.
    pub anchors: u64,
    /// Entries below this number are under a checkpoint that somebody kept.
    pub anchored_to: u64,
    /// Entries that were read.
    pub entries: u64,
    pub findings: Vec<Finding>,
    pub notes: Vec<Finding>,
    /// How many there are of each class.
    pub counts: BTreeMap<&'static str, u64>,
    pub checked: Vec<String>,
    pub unchecked: Vec<String>,
    /// Why nothing can follow.
    pub incomplete: Vec<String>,
}

impl Report {
    pub fn find(
        &mut self,
        class: Class,
        index: impl Into<Option<u64>>,
        place: impl fmt::Display,
        text: impl fmt::Display,
    ) {
        *self.counts.entry(class.as_str()).or_default() += 1;
        let (list, bound) = match class.is_tampering() {
            true => (&mut self.findings, FINDINGS_MAX),
            false => (&mut self.notes, NOTES_MAX),
        };
        if list.len() < bound {
            let (place, text) = (place.to_string(), text.to_string());
            list.push(Finding { class, index: index.into(), place, text });
        }
    }

    pub fn count(&self, class: Class) -> u64 {
        self.counts.get(class.as_str()).copied().unwrap_or(0)
    }

    /// Findings of tampering, told or not.
    pub fn tampering(&self) -> u64 {
        let classes = Class::ALL.iter().filter(|class| class.is_tampering());
        classes.map(|class| self.count(*class)).sum()
    }

    pub fn verdict(&self) -> Verdict {
        if self.tampering() > 0 {
            Verdict::Tampered
        } else if self.origin.is_none() || self.size == 0 {
            Verdict::Nothing
        } else if !self.incomplete.is_empty() {
            Verdict::Incomplete
        } else if self.key.is_none() {
            Verdict::SelfConsistent
        } else {
            Verdict::Verified
        }
    }
}
