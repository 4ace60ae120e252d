//! The leaves in the order of their index: what each must be by itself, and
//! what they must be together.

use std::collections::BTreeMap;

use super::{Class, Report, denials::Denials};
use crate::audit::{Action, DetailKey, Leaf, LeafError};

/// Producers that are told apart: two for each instance and replica that ever
/// wrote to a chain.
pub const PRODUCERS_MAX: usize = 65_536;
/// Entries whose ids are held against each other, at 8 bytes each.
pub const IDS_MAX: usize = 16 << 20;
/// Sealed files that are told apart.
const SEGMENTS_MAX: usize = 1 << 20;

/// Files that an entry names as replaced.
const REPLACED_MAX: u64 = 64;

/// What the last entry about a sealed file says of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SegmentHash {
    pub index: u64,
    /// None once it was merged, dropped or written again under another name.
    pub sha256: Option<String>,
}

/// The state of the checks; feed it every leaf that is there, in order.
#[derive(Debug)]
pub struct Leaves {
    origin: String,
    /// The last number of each producer.
    producers: BTreeMap<String, u64>,
    producers_left_out: bool,
    /// A piece of each id, enough to find candidates for being twice.
    ids: Vec<u64>,
    ids_left_out: u64,
    denials: Denials,
    segments: BTreeMap<String, SegmentHash>,
    segments_left_out: bool,
    replaced_cut: bool,
    /// Entries below this number were dropped, says the chain itself.
    pruned_to: u64,
    rotations: u64,
    taken: u64,
    /// Entries that cannot be read: numbers may be missing for them.
    lost: u64,
    lost_ever: u64,
    /// Entries before the first one that was taken are not there to be checked.
    began_at: Option<u64>,
}

impl Leaves {
    /// For the chain that calls itself `origin`.
    pub fn new(origin: &str) -> Self {
        Self {
            origin: origin.to_owned(),
            producers: BTreeMap::new(),
            producers_left_out: false,
            ids: Vec::new(),
            ids_left_out: 0,
            denials: Denials::default(),
            segments: BTreeMap::new(),
            segments_left_out: false,
            replaced_cut: false,
            pruned_to: 0,
            rotations: 0,
            taken: 0,
            lost: 0,
            lost_ever: 0,
            began_at: None,
        }
    }

    /// Takes the leaf at `index`, which is larger than the one before.
    pub fn take(
        &mut self,
        index: u64,
        leaf: &Result<Leaf, LeafError>,
        place: &str,
        report: &mut Report,
    ) {
        self.taken += 1;
        self.began_at.get_or_insert(index);
        let leaf = match leaf {
            Ok(leaf) => leaf,
            Err(error) => {
                let class = match error {
                    LeafError::NotCanonical(_) => Class::NotCanonical,
                    _ => Class::Leaf,
                };
                report.find(class, index, place, with_causes(error));
                self.lost(1);
                return;
            }
        };
        if leaf.log.as_str() != self.origin {
            let text = format_args!("the entry belongs to the chain {}", leaf.log);
            report.find(Class::Leaf, index, place, text);
        }
        self.number(index, leaf, place, report);
        self.id(leaf);
        let is_whole = self.began_at == Some(0) && self.lost_ever == 0;
        self.denials.take(index, leaf, is_whole, place, report);
        match leaf.action {
            Action::SegmentSealed | Action::SegmentCompacted | Action::LogsErase => {
                self.segment(index, leaf);
            }
            Action::SegmentPruned => self.pruned(index, leaf),
            Action::AuditKeyRotate => self.rotations += 1,
            _ => {}
        }
    }

    /// Entries that are not there: somebody else names them.
    pub fn lost(&mut self, count: u64) {
        self.lost += count;
        self.lost_ever += count;
        self.denials.lost();
    }

    /// The last number of each producer.
    pub fn producers(&self) -> &BTreeMap<String, u64> {
        &self.producers
    }

    pub fn pruned_to(&self) -> u64 {
        self.pruned_to
    }

    pub fn rotations(&self) -> u64 {
        self.rotations
    }

    /// Every sealed file that an entry names, by its name.
    pub fn segments(&self) -> &BTreeMap<String, SegmentHash> {
        &self.segments
    }

    /// Whether every file that is gone was named as such.
    pub fn segments_are_complete(&self) -> bool {
        !self.replaced_cut && !self.segments_left_out && self.began_at == Some(0)
    }

    /// Closes the books. Returns pieces of ids that stand there twice: whoever
    /// has the leaves tells whether those are ids.
    pub fn finish(&mut self, report: &mut Report) -> Vec<u64> {
        report.entries = self.taken;
        report.checked.push(format!(
            "{} entries: canonical bytes, schema, chain, dense numbers of {} producers",
            self.taken,
            self.producers.len()
        ));
        self.denials.finish(report);
        if self.producers_left_out {
            let text = format!("numbers of producers beyond the first {PRODUCERS_MAX}");
            report.unchecked.push(text);
        }
        if self.segments_left_out {
            let text = format!("sealed files beyond the first {SEGMENTS_MAX}");
            report.unchecked.push(text);
        }
        if self.ids_left_out > 0 {
            let text = format!("whether the ids of {} entries are unique", self.ids_left_out);
            report.unchecked.push(text);
        }
        self.ids.sort_unstable();
        let twice = self.ids.windows(2).filter(|pair| pair[0] == pair[1]);
        let mut twice: Vec<u64> = twice.map(|pair| pair[0]).collect();
        twice.dedup();
        self.ids = Vec::new();
        twice
    }

    /// The piece of a leaf's id that [`Self::finish`] returns.
    pub fn id_piece(leaf: &Leaf) -> u64 {
        // Of a UUIDv7 the low half is random; the rest keeps others apart.
        let (high, low) = leaf.id.0.as_u64_pair();
        high.rotate_left(32) ^ low
    }

    fn number(&mut self, index: u64, leaf: &Leaf, place: &str, report: &mut Report) {
        let producer = leaf.producer.as_str();
        let Some(last) = self.producers.get_mut(producer) else {
            if self.producers.len() >= PRODUCERS_MAX {
                self.producers_left_out = true;
                return;
            }
            // With entries dropped at the beginning any number may come first.
            let seq = leaf.seq;
            let is_lost = seq > 0 && seq - 1 <= self.lost;
            if self.began_at == Some(0) && !is_lost {
                let text = format_args!("{producer} begins with number {seq}, not with 1");
                report.find(Class::Gap, index, place, text);
            }
            self.producers.insert(producer.to_owned(), leaf.seq);
            return;
        };
        let (was, seq) = (*last, leaf.seq);
        *last = was.max(seq);
        if seq <= was {
            let text = format_args!("number {seq} of {producer} comes again after {was}");
            report.find(Class::Duplicate, index, place, text);
        } else if seq > was + 1 {
            let missing = seq - was - 1;
            if missing <= self.lost {
                self.lost -= missing;
                return;
            }
            let text =
                format_args!("{missing} numbers of {producer} are missing between {was} and {seq}");
            report.find(Class::Gap, index, place, text);
        }
    }

    fn id(&mut self, leaf: &Leaf) {
        if self.ids.len() < IDS_MAX {
            self.ids.push(Self::id_piece(leaf));
        } else {
            self.ids_left_out += 1;
        }
    }

    fn segment(&mut self, index: u64, leaf: &Leaf) {
        let mut replaced = 0;
        for gone in texts(leaf, DetailKey::ReplacedFiles) {
            replaced += 1;
            self.put(gone, SegmentHash { index, sha256: None });
        }
        // Entries name so many at most; more may have been replaced.
        self.replaced_cut |= replaced >= REPLACED_MAX;
        let file = text(leaf, DetailKey::File);
        let Some((file, sha256)) = file.zip(text(leaf, DetailKey::Sha256)) else { return };
        // An erasure that left nothing names the file that was.
        let is_gone = leaf.action == Action::LogsErase && replaced == 0;
        let sha256 = (!is_gone).then(|| sha256.to_owned());
        self.put(file, SegmentHash { index, sha256 });
    }

    fn pruned(&mut self, index: u64, leaf: &Leaf) {
        if text(leaf, DetailKey::Dataset) == Some("audit") {
            // An entry can speak only of those before it.
            let below = number(leaf, DetailKey::TreeSize).unwrap_or(0).min(index);
            self.pruned_to = self.pruned_to.max(below);
        }
        for gone in
            text(leaf, DetailKey::File).into_iter().chain(texts(leaf, DetailKey::ReplacedFiles))
        {
            self.put(gone, SegmentHash { index, sha256: None });
        }
    }

    fn put(&mut self, file: &str, hash: SegmentHash) {
        if self.segments.len() >= SEGMENTS_MAX && !self.segments.contains_key(file) {
            self.segments_left_out = true;
            return;
        }
        self.segments.insert(file.to_owned(), hash);
    }
}

pub(super) fn detail(leaf: &Leaf, key: DetailKey) -> Option<&serde_json::Value> {
    leaf.details.as_ref()?.get(key.as_str())
}

fn text(leaf: &Leaf, key: DetailKey) -> Option<&str> {
    detail(leaf, key)?.as_str()
}

pub(super) fn number(leaf: &Leaf, key: DetailKey) -> Option<u64> {
    detail(leaf, key)?.as_u64()
}

fn texts(leaf: &Leaf, key: DetailKey) -> impl Iterator<Item = &str> {
    let list = detail(leaf, key).and_then(serde_json::Value::as_array);
    list.into_iter().flatten().filter_map(serde_json::Value::as_str)
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
