//! Trees in memory, true ones and others, signed with keys from a seed.

use std::{
    collections::BTreeMap,
    io,
    sync::atomic::{AtomicU64, Ordering},
};

use domain::{
    audit::{
        Action, Actor, Detail, EntryContext, EntryDraft, Origin, Word, jcs,
        tree::{
            Checkpoint, Frontier, HashReader, KeyKind, KeyName, Keyring, NodeHash, ProofError,
            Receipt, SignedCheckpoint, SigningKey, TileKind, inclusion_proof, push_to_bundle,
            tiles_of, write_tile,
        },
    },
    ids::InstanceId,
    rng::Rng,
    time::Timestamp,
};

use crate::verify::{Listed, Source};

pub const ORIGIN: &str = "example.com/audit";

/// The files of a tree by path.
#[derive(Clone, Default)]
pub struct Files(pub BTreeMap<String, Vec<u8>>);

impl Source for Files {
    fn read(&self, path: &str, bytes_max: usize) -> io::Result<Option<Vec<u8>>> {
        let bytes = self.0.get(path).map(Vec::as_slice);
        Ok(bytes.map(|bytes| bytes[..bytes.len().min(bytes_max.saturating_add(1))].to_vec()))
    }

    fn list(&self, path: &str) -> io::Result<Option<Vec<Listed>>> {
        let prefix = if path.is_empty() { String::new() } else { format!("{path}/") };
        let mut names = BTreeMap::new();
        for below in self.0.keys().filter_map(|known| known.strip_prefix(&prefix)) {
            match below.split_once('/') {
                Some((name, _)) => names.insert(name.to_owned(), true),
                None => names.insert(below.to_owned(), false),
            };
        }
        Ok(Some(names.into_iter().map(|(name, is_dir)| Listed { name, is_dir }).collect()))
    }

    fn lanes(&self) -> usize {
        2
    }
}

pub fn list(files: &Files, wanted: impl Fn(&str) -> bool) -> Vec<String> {
    files.0.keys().filter(|path| wanted(path)).cloned().collect()
}

struct Seeded(AtomicU64);

impl Rng for Seeded {
    fn next_u64(&self) -> u64 {
        // SplitMix64, so that ids of neighbouring seeds have nothing in common.
        let mut z = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn fill_secure(&self, buffer: &mut [u8]) {
        buffer.iter_mut().for_each(|byte| *byte = self.next_u64() as u8);
    }
}

pub fn key_of(name: &str, seed: u64) -> SigningKey {
    let name = KeyName::parse(name).expect("a name");
    SigningKey::generate(name, KeyKind::Ed25519, &Seeded(seed.into())).expect("a key")
}

/// The key of the chain.
pub fn key() -> SigningKey {
    key_of(ORIGIN, 1)
}

pub fn word(text: &str) -> Word {
    Word::lossy(text)
}

pub fn entry(producer: &str, seq: u64, salt: u64, draft: EntryDraft) -> Vec<u8> {
    let origin = Origin {
        log: word(ORIGIN),
        producer: word(producer),
        instance: InstanceId::parse("i1").expect("valid"),
        boot: word("b1"),
    };
    let at = Timestamp::from_micros(1_795_428_000_000_000 + salt as i64);
    let (actor, context) = (Actor::root(), EntryContext::default());
    let sealed = draft.seal(&actor, &context, &origin, seq, at, &Seeded(salt.into()));
    sealed.expect("a leaf").text.into_bytes()
}

/// Entries of two producers.
pub fn leaves(count: u64) -> Vec<Vec<u8>> {
    more(0, count)
}

/// `count` entries that follow the first `from`.
pub fn more(from: u64, count: u64) -> Vec<Vec<u8>> {
    let of = |at: u64| {
        let producer = if at.is_multiple_of(2) { "i1/db" } else { "i2/db" };
        let draft = EntryDraft::new(Action::ProjectList).detail(Detail::Rows(at)).note("why");
        entry(producer, at / 2 + 1, 1000 * (at + 1), draft)
    };
    (from..from + count).map(of).collect()
}

/// The same history without one entry, renumbered so that nothing is missing.
pub fn without(all: &[Vec<u8>], index: usize) -> Vec<Vec<u8>> {
    let producer = |leaf: &[u8]| -> serde_json::Value {
        serde_json::from_slice::<serde_json::Value>(leaf).expect("JSON")["producer"].clone()
    };
    let whose = producer(&all[index]);
    let kept = all.iter().enumerate().filter(|(at, _)| *at != index);
    let renumbered = kept.map(|(at, leaf)| {
        if at < index || producer(leaf) != whose {
            return leaf.clone();
        }
        let mut value: serde_json::Value = serde_json::from_slice(leaf).expect("JSON");
        value["seq"] = (value["seq"].as_u64().expect("a number") - 1).into();
        jcs::to_bytes(&value).expect("canonical")
    });
    renumbered.collect()
}

/// The same history with another action in one entry.
pub fn renamed(mut all: Vec<Vec<u8>>, index: usize) -> Vec<Vec<u8>> {
    let text = String::from_utf8(all[index].clone()).expect("text");
    all[index] = text.replace("project.list", "token.list").into_bytes();
    all
}

pub fn tree(leaves: &[Vec<u8>]) -> Files {
    signed_by(leaves, &key())
}

pub fn signed_by(leaves: &[Vec<u8>], key: &SigningKey) -> Files {
    let mut files = tiles(leaves);
    let note = sign(leaves, &[key]);
    files.0.insert("checkpoint".into(), note.to_string().into_bytes());
    let keyring = Keyring::new(key.verifier().clone());
    files.0.insert("keys".into(), keyring.to_string().into_bytes());
    files
}

pub fn note(files: &Files) -> SignedCheckpoint {
    SignedCheckpoint::parse(&files.0["checkpoint"]).expect("a checkpoint")
}

/// A chain whose key changed at size `at`.
pub fn rotation(old: &SigningKey, new: &SigningKey, at: u64, size: u64) -> Files {
    let mut all = leaves(at - 1);
    let named = Detail::KeyId(word(&new.verifier().to_string()));
    let draft = EntryDraft::new(Action::AuditKeyRotate).detail(named);
    all.push(entry("i3/db", 1, 7_000_000, draft));
    all.extend(more(at - 1, size - at));
    let mut files = signed_by(&all, new);
    let before = &all[..at as usize];
    let proof = inclusion_proof(&mut Nodes(before), at - 1, at).expect("a proof");
    let receipt = Receipt {
        extra: before.last().cloned(),
        index: at - 1,
        proof,
        checkpoint: sign(before, &[old, new]),
    };
    files.0.insert(format!("rotations/{at}"), receipt.to_string().into_bytes());
    let keyring = Keyring::new(old.verifier().clone()).rotate(new.verifier().clone(), at);
    files.0.insert("keys".into(), keyring.expect("a keyring").to_string().into_bytes());
    files
}

fn sign(leaves: &[Vec<u8>], keys: &[&SigningKey]) -> SignedCheckpoint {
    let mut frontier = Frontier::default();
    leaves.iter().for_each(|leaf| frontier.append(NodeHash::of_leaf(leaf)));
    let origin = keys[0].verifier().name().clone();
    let checkpoint = Checkpoint { origin, size: frontier.size(), root: frontier.root() };
    SignedCheckpoint::sign(checkpoint, keys).expect("signed")
}

fn tiles(leaves: &[Vec<u8>]) -> Files {
    let mut rows = vec![leaves.iter().map(|leaf| NodeHash::of_leaf(leaf)).collect::<Vec<_>>()];
    while rows[rows.len() - 1].len() >= 256 {
        let whole = rows[rows.len() - 1].as_chunks::<256>().0;
        rows.push(whole.iter().map(|tile| domain::audit::tree::tile_root(tile)).collect());
    }
    let mut files = Files::default();
    for path in tiles_of(leaves.len() as u64) {
        let from = path.index() as usize * 256;
        let to = from + path.width() as usize;
        let bytes = match path.kind() {
            TileKind::Hashes { level } => write_tile(&rows[usize::from(level)][from..to]),
            TileKind::Entries => {
                let mut bundle = Vec::new();
                for leaf in &leaves[from..to] {
                    push_to_bundle(&mut bundle, leaf).expect("it fits");
                }
                bundle
            }
        };
        files.0.insert(path.to_string(), bytes);
    }
    files
}

/// The nodes of a small tree, from its leaves each time.
struct Nodes<'l>(&'l [Vec<u8>]);

impl HashReader for Nodes<'_> {
    type Error = ProofError;

    fn node(&mut self, level: u32, index: u64) -> Result<NodeHash, ProofError> {
        let (from, to) = ((index << level) as usize, ((index + 1) << level) as usize);
        let mut frontier = Frontier::default();
        self.0[from..to].iter().for_each(|leaf| frontier.append(NodeHash::of_leaf(leaf)));
        Ok(frontier.root())
    }
}
