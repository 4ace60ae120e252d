//! The Merkle tree over the leaves, and the texts that speak of it: RFC 6962
//! hashing, tiles and bundles (C2SP tlog-tiles), notes and their keys (C2SP
//! signed-note), checkpoints (tlog-checkpoint), cosignatures (tlog-cosignature)
//! and receipts (tlog-proof).
//!
//! Owns the bytes of all of them, both ways. Promises that a text which parses
//! is the only text for what it says (no second spelling of a number, a hash or
//! a line end), that whatever a verify function accepts was signed or hashed
//! so, and that a tree written here is read by programs of others. Must never do
//! I/O, know what a leaf means, or tell a reader less than what was wrong: each
//! refusal has an error of its own.

mod checkpoint;
mod cosignature;
mod hash;
mod key;
mod keyring;
mod note;
mod proof;
mod range;
mod reader;
mod receipt;
mod tile;

pub use self::{
    checkpoint::{Checkpoint, CheckpointError, SignedCheckpoint},
    cosignature::{Cosignature, cosign},
    hash::{HashError, NodeHash},
    key::{KeyError, KeyKind, KeyName, SigningKey, VerifierKey},
    keyring::{KeySpan, Keyring, KeyringError},
    note::{NOTE_BYTES_MAX, NOTE_SIGNATURES_MAX, Note, NoteError, NoteSignature},
    proof::{
        HashReader, ProofError, consistency_proof, inclusion_proof, root_of, verify_consistency,
        verify_inclusion,
    },
    range::Frontier,
    reader::{TileHashes, TileSource},
    receipt::{RECEIPT_BYTES_MAX, Receipt, ReceiptError},
    tile::{
        BUNDLE_BYTES_MAX, BundleError, HASH_BYTES, LEVEL_MAX, PathError, TILE_WIDTH, TileError,
        TileKind, TilePath, parse_bundle, parse_tile, push_to_bundle, tile_root, tiles_of,
        write_tile,
    },
};

/// The largest tree: every JSON reader keeps its size exactly, and no
/// arithmetic on sizes and indexes of nodes can overflow.
pub const TREE_SIZE_MAX: u64 = (1 << 53) - 1;

/// Why a text is not a number of leaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NumberError {
    #[error("a number is missing")]
    Empty,
    #[error("a number has something else than digits")]
    NotDecimal,
    #[error("a number has leading zeros")]
    LeadingZero,
    #[error("a number is larger than {TREE_SIZE_MAX}")]
    TooLarge,
}

/// A size or an index in its only spelling.
pub fn parse_number(text: &str) -> Result<u64, NumberError> {
    if text.is_empty() {
        return Err(NumberError::Empty);
    }
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(NumberError::NotDecimal);
    }
    if text.len() > 1 && text.starts_with('0') {
        return Err(NumberError::LeadingZero);
    }
    // Digits alone can fail only by being too many.
    let number = text.parse().map_err(|_| NumberError::TooLarge)?;
    if number > TREE_SIZE_MAX { Err(NumberError::TooLarge) } else { Ok(number) }
}

#[cfg(test)]
mod tests;
