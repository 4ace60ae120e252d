//! Verifies a tree from its files alone: streaming, in memory that does not
//! grow with it.
//!
//! Owns what `audit verify` says of tiles, bundles, checkpoints and their
//! signatures. Promises to name the class and the index of whatever is not as it
//! was signed, to hold every checkpoint that it is given against the tree, and
//! to say what it did not check. Must never write, and never believe a key that
//! lies beside the tree: such a key finds damage, it proves nothing.

mod anchors;
mod inventory;
mod keys;
mod lanes;
mod source;
mod tiles;
mod walk;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt, io};

use domain::audit::{
    Leaf,
    tree::{NOTE_BYTES_MAX, NodeHash, SignedCheckpoint, TileKind, VerifierKey},
    verify::{Class, Leaves, Report},
};

pub use self::{
    anchors::Remembered,
    source::{Directory, Listed, Source, read_file},
};
use self::{
    anchors::Trust,
    inventory::Inventory,
    keys::Keys,
    tiles::{Shelf, entries},
    walk::{Walk, Walked},
};

/// Ids that may be there twice and are looked at again.
const TWICE_MAX: usize = 1_000;

/// What a verification is given besides the tree.
#[derive(Default)]
pub struct Ask<'a> {
    /// Keys of the chain that came from outside.
    pub keys: &'a [VerifierKey],
    /// Keys that lie beside the tree.
    pub local_keys: &'a [VerifierKey],
    /// What the signer signed last, if its memory is at hand.
    pub signer: Option<SignedCheckpoint>,
    /// Checkpoints that are known from somewhere.
    pub remembered: &'a [Remembered],
}

/// An entry as it passes.
pub struct Entry<'e> {
    pub index: u64,
    pub bytes: &'e [u8],
    pub hash: NodeHash,
    /// None if its bytes are not a leaf; that is found already.
    pub leaf: Option<&'e Leaf>,
}

/// Reads a whole tree. `each` sees every entry that is there, in order, and may
/// find more; what the leaves say together comes back with the report.
pub fn verify(
    source: &dyn Source,
    ask: &Ask<'_>,
    each: &mut dyn FnMut(Entry<'_>, &mut Report),
) -> (Report, Leaves) {
    let mut report = Report::default();
    let mut leaves = Leaves::new("");
    if let Err(error) = run(source, ask, each, &mut report, &mut leaves) {
        report.incomplete.push(format!("the files cannot be read: {error}"));
    }
    report.findings.sort_by_key(|finding| (finding.index, finding.class));
    report.notes.sort_by_key(|finding| (finding.class, finding.index));
    (report, leaves)
}

fn run(
    source: &dyn Source,
    ask: &Ask<'_>,
    each: &mut dyn FnMut(Entry<'_>, &mut Report),
    report: &mut Report,
    leaves: &mut Leaves,
) -> io::Result<()> {
    let inventory = Inventory::take(source)?;
    let mut remembered = ask.remembered.to_vec();
    let Some(head) = head(source, ask, inventory.as_ref(), &mut remembered, report)? else {
        anchors::without_head(&remembered, report);
        if inventory.as_ref().is_some_and(|it| it.extent(TileKind::Entries) > 0) {
            report.incomplete.push("there are entries, but no checkpoint".to_owned());
        }
        return Ok(());
    };
    *leaves = Leaves::new(head.checkpoint().origin.as_str());
    report.origin = Some(head.checkpoint().origin.to_string());
    (report.size, report.root) = (head.size(), Some(head.root().to_string()));
    let keys = Keys::read(source, ask.keys, ask.local_keys, inventory.is_some(), report)?;
    for (place, note) in &keys.rotations {
        let (place, note) = (place.clone(), note.clone());
        remembered.push(Remembered { place, note, outside: false });
    }
    let trust = Trust { keys: &keys, remembered: &remembered };
    let is_signed = trust.check_head(&head, report);
    let shelf = Shelf { source, inventory: inventory.as_ref() };
    let marks = anchors::marks(&remembered, head.size());
    let walk = Walk { shelf: &shelf, size: head.size(), leaves: &mut *leaves, report, each };
    let walked = walk.run(&marks, head.root())?;
    settle(&shelf, &head, is_signed, &walked, leaves, report)?;
    trust.check_remembered(&head, &walked.roots, report);
    strangers(inventory.as_ref(), head.size(), report);
    Ok(())
}

/// The checkpoint that the tree is held against: the published one, or what the
/// signer signed behind it if all of that was written.
fn head(
    source: &dyn Source,
    ask: &Ask<'_>,
    inventory: Option<&Inventory>,
    remembered: &mut Vec<Remembered>,
    report: &mut Report,
) -> io::Result<Option<SignedCheckpoint>> {
    let bytes = source.read("checkpoint", NOTE_BYTES_MAX)?;
    let published = match bytes.map(|bytes| SignedCheckpoint::parse(&bytes)) {
        Some(Err(error)) => {
            report.find(Class::Signature, None, "checkpoint", causes(&error));
            None
        }
        Some(Ok(note)) => Some(note),
        None => None,
    };
    let Some(signed) = ask.signer.clone() else { return Ok(published) };
    let extent = inventory.map_or(0, |it| it.extent(TileKind::Entries));
    let is_ahead = published.as_ref().is_none_or(|note| note.size() < signed.size());
    let own = |place: &str, note| Remembered { place: place.to_owned(), note, outside: false };
    if is_ahead && (1..=extent).contains(&signed.size()) {
        match published {
            Some(note) => {
                let text = "the published checkpoint is behind the signer's, which is used";
                report.checked.push(text.to_owned());
                remembered.push(own("checkpoint", note));
            }
            None => {
                let text = "there is no published checkpoint, though the signer signed one";
                report.find(Class::Truncated, None, "checkpoint", text);
            }
        }
        return Ok(Some(signed));
    }
    remembered.push(own("signer.json", signed));
    Ok(published)
}

/// What can be said only after the last entry.
fn settle(
    shelf: &Shelf<'_>,
    head: &SignedCheckpoint,
    is_signed: bool,
    walked: &Walked,
    leaves: &mut Leaves,
    report: &mut Report,
) -> io::Result<()> {
    let pruned_to = leaves.pruned_to();
    for (from, to) in &walked.missing {
        let (kept, to) = ((*to).min(pruned_to), *to);
        if *from < kept {
            let text =
                format_args!("the entries before {kept} were dropped, their hashes are kept");
            report.find(Class::Pruned, *from, "", text);
        }
        if kept.max(*from) < to {
            let first = kept.max(*from);
            let text = format_args!("the bundles of the entries {first} to {} are missing", to - 1);
            report.find(Class::Truncated, first, "tile/entries", text);
        }
    }
    let twice = leaves.finish(report);
    find_twice(shelf, head.size(), &twice, report)?;
    let is_explained = report.tampering() > 0 && !is_signed;
    let is_damaged = [Class::Leaf, Class::Tile, Class::Truncated].iter();
    let is_damaged = is_damaged.map(|class| report.count(*class)).sum::<u64>() > 0;
    let fits = walked.roots.get(&head.size()).is_some_and(|roots| roots.has(head.root()));
    if !fits && !is_explained && !is_damaged {
        let text = "the files hold another history than the one whose root was signed";
        report.find(Class::Fork, None, "checkpoint", text);
    }
    report.checked.push(format!("all tiles up to the root over {} entries", head.size()));
    Ok(())
}

/// Looks again at ids whose pieces were there twice.
fn find_twice(shelf: &Shelf<'_>, size: u64, pieces: &[u64], report: &mut Report) -> io::Result<()> {
    if pieces.is_empty() {
        return Ok(());
    }
    let pieces = &pieces[..pieces.len().min(TWICE_MAX)];
    let mut seen = BTreeMap::new();
    lanes::in_order(shelf, size, &mut |work| {
        let Some(bundle) = work.bundle else { return Ok(()) };
        for (at, judged) in bundle.entries.iter().enumerate() {
            let Ok(leaf) = &judged.leaf else { continue };
            if pieces.binary_search(&Leaves::id_piece(leaf)).is_err() {
                continue;
            }
            let index = work.index * domain::audit::tree::TILE_WIDTH + at as u64;
            if let Some(first) = seen.get(&leaf.id) {
                let text = format_args!("the entry has the id of entry {first}, {}", leaf.id);
                report.find(Class::Duplicate, index, &bundle.path, text);
            } else {
                seen.insert(leaf.id, index);
            }
        }
        Ok(())
    })
}

/// Names what lies there and is not part of the tree.
fn strangers(inventory: Option<&Inventory>, size: u64, report: &mut Report) {
    let Some(inventory) = inventory else {
        let text = "superseded tiles and unknown files: the source cannot list them";
        report.unchecked.push(text.to_owned());
        return;
    };
    let extent = inventory.extent(TileKind::Entries);
    if extent > size {
        let text = format_args!("{} entries are written that no checkpoint covers", extent - size);
        report.find(Class::UnanchoredTail, size, "tile/entries", text);
    }
    for path in &inventory.strangers {
        report.unchecked.push(format!("{path}: it is no part of the tree"));
    }
    if inventory.strangers_left_out > 0 {
        let count = inventory.strangers_left_out;
        report.unchecked.push(format!("{count} more files that are no part of the tree"));
    }
    if inventory.tiles_left_out {
        report.incomplete.push("there are more tiles than this can tell apart".to_owned());
    }
}

/// The entries of a bundle's bytes; for whoever looks for one.
pub fn bundle_entries(bytes: &[u8]) -> Vec<&[u8]> {
    entries(bytes)
}

fn causes(error: &dyn std::error::Error) -> impl fmt::Display {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
