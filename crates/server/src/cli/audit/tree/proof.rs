//! `llm-proxy audit proof`: the receipt of one entry (C2SP tlog-proof, with the
//! entry itself as extra data), made from the tree, or checked without it.

use std::{io::Write, path::PathBuf};

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use domain::audit::{
    Leaf,
    tree::{
        BUNDLE_BYTES_MAX, HASH_BYTES, NodeHash, ProofError, RECEIPT_BYTES_MAX, Receipt, TILE_WIDTH,
        TileHashes, TileKind, TilePath, TileSource, VerifierKey, inclusion_proof, parse_tile,
    },
};
use tlog::verify::{Source, bundle_entries, read_file};

use super::{
    inputs::{Ground, TreeArgs, Wrong, read_keys},
    newest,
};
use crate::render::harmless_json;

#[derive(Debug, Args)]
pub struct ProofArgs {
    /// The number of the entry
    #[arg(value_name = "INDEX", required_unless_present = "check")]
    index: Option<u64>,
    #[command(flatten)]
    tree: TreeArgs,
    /// Check a proof that was kept, instead of making one: 0 it holds, 1 it does
    /// not, 2 it was not signed by a key that was given
    #[arg(long, value_name = "FILE", conflicts_with_all = ["index", "dir"])]
    check: Option<PathBuf>,
    /// The verifier key to check it with, or a file with some (repeatable)
    #[arg(long, value_name = "VKEY|FILE", requires = "check")]
    key: Vec<String>,
}

pub(super) fn run(args: &ProofArgs, ground: &Ground<'_>, out: &mut dyn Write) -> Result<u8, Wrong> {
    if let Some(path) = &args.check {
        let mut keys = Vec::new();
        for text in &args.key {
            keys.extend(read_keys(text).map_err(Wrong::Usage)?);
        }
        return check(path, &keys, out).map_err(Wrong::Reading);
    }
    let index = args.index.ok_or_else(|| Wrong::Usage(anyhow!("which entry?")))?;
    let place = args.tree.place(ground)?;
    let head = newest(&*place.source)?;
    let receipt = make(&*place.source, index, head).map_err(Wrong::Reading)?;
    write!(out, "{receipt}").map_err(|error| Wrong::Reading(error.into()))?;
    Ok(0)
}

fn make(
    source: &dyn Source,
    index: u64,
    checkpoint: domain::audit::tree::SignedCheckpoint,
) -> anyhow::Result<Receipt> {
    let size = checkpoint.size();
    if index >= size {
        bail!("there is no entry {index}: the newest checkpoint covers {size}");
    }
    let leaf = leaf(source, index, size)?;
    let proof = inclusion_proof(&mut TileHashes::new(Tiles(source), size), index, size)?;
    let receipt = Receipt { extra: Some(leaf), index, proof, checkpoint };
    let leaf = receipt.extra.as_deref().unwrap_or_default();
    let (hash, root) = (NodeHash::of_leaf(leaf), receipt.checkpoint.root());
    domain::audit::tree::verify_inclusion(hash, index, size, &receipt.proof, root)
        .context("the files do not lead to the signed root; audit verify says where")?;
    Ok(receipt)
}

fn leaf(source: &dyn Source, index: u64, size: u64) -> anyhow::Result<Vec<u8>> {
    let path = TileKind::Entries.tile(index / TILE_WIDTH, size).context("it has no bundle")?;
    let bytes = read_tile(source, path, BUNDLE_BYTES_MAX)?;
    let at = usize::try_from(index % TILE_WIDTH)?;
    let leaf = bundle_entries(&bytes).get(at).map(|leaf| leaf.to_vec());
    leaf.with_context(|| format!("{path} is cut short"))
}

/// A tile, or a wider one that took its place.
fn read_tile(source: &dyn Source, path: TilePath, bytes_max: usize) -> anyhow::Result<Vec<u8>> {
    let wider = (path.width()..=TILE_WIDTH).rev();
    let wider = wider.filter_map(|width| TilePath::new(path.kind(), path.index(), width));
    for path in std::iter::once(path).chain(wider) {
        if let Some(bytes) = source.read(&path.to_string(), bytes_max)? {
            return Ok(bytes);
        }
    }
    bail!("{path} is missing")
}

struct Tiles<'s>(&'s dyn Source);

/// Anything that a tile can fail with.
#[derive(Debug, thiserror::Error)]
#[error("{0:#}")]
struct Unread(anyhow::Error);

impl From<ProofError> for Unread {
    fn from(error: ProofError) -> Self {
        Self(error.into())
    }
}

impl TileSource for Tiles<'_> {
    type Error = Unread;

    fn tile(&mut self, path: TilePath) -> Result<Vec<NodeHash>, Unread> {
        let width = usize::try_from(path.width()).unwrap_or_default();
        let bytes_max = HASH_BYTES * TILE_WIDTH as usize;
        let mut bytes = read_tile(self.0, path, bytes_max).map_err(Unread)?;
        bytes.truncate(width * HASH_BYTES);
        parse_tile(&bytes, path.width()).map_err(|error| Unread(anyhow!("{path}: {error}")))
    }
}

fn check(path: &std::path::Path, keys: &[VerifierKey], out: &mut dyn Write) -> anyhow::Result<u8> {
    let shown = path.display();
    let bytes = read_file(path, RECEIPT_BYTES_MAX).with_context(|| format!("read {shown}"))?;
    let bytes = bytes.with_context(|| format!("there is no {shown}"))?;
    let receipt = match Receipt::parse(&bytes) {
        Ok(receipt) => receipt,
        Err(error) => {
            writeln!(out, "NOT PROVEN: {shown} is no proof: {error}")?;
            return Ok(1);
        }
    };
    let leaf = receipt.extra.as_deref().context("the proof does not carry its entry")?;
    if keys.is_empty() {
        writeln!(out, "NOT PROVEN: no key was given (--key)")?;
        return Ok(2);
    }
    if let Err(error) = receipt.verify(NodeHash::of_leaf(leaf), keys, &[]) {
        let error: &dyn std::error::Error = &error;
        let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
        writeln!(out, "NOT PROVEN: {error}{cause}")?;
        return Ok(1);
    }
    if let Err(error) = Leaf::parse(leaf) {
        writeln!(out, "NOT PROVEN: what it proves is no entry: {error}")?;
        return Ok(1);
    }
    let size = receipt.checkpoint.size();
    writeln!(
        out,
        "PROVEN: this is entry {} of a chain of {size} that the key signed",
        receipt.index
    )?;
    writeln!(out, "{}", harmless_json(leaf))?;
    Ok(0)
}
