//! Receipts: one text that proves, without the tree, that a leaf is in it.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{
    CheckpointError, HashError, NOTE_BYTES_MAX, NodeHash, NumberError, ProofError,
    SignedCheckpoint, TREE_SIZE_MAX, VerifierKey, parse_number, verify_inclusion,
};

/// Bound of a receipt: its checkpoint, a proof, and a leaf as extra data.
pub const RECEIPT_BYTES_MAX: usize = NOTE_BYTES_MAX + 32 * 1024;

const HEAD: &str = "c2sp.org/tlog-proof@v1\n";
/// No proof in a tree of the largest size is longer.
const PROOF_HASHES_MAX: usize = TREE_SIZE_MAX.count_ones() as usize;

/// The place of a leaf in a tree, with the proof and the checkpoint.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Receipt {
    /// What the writer added. Nothing vouches for it, unless it is the leaf.
    pub extra: Option<Vec<u8>>,
    pub index: u64,
    pub proof: Vec<NodeHash>,
    pub checkpoint: SignedCheckpoint,
}

/// Why a text is not a receipt, or a receipt proves nothing.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ReceiptError {
    #[error("the receipt has {0} bytes, more than {RECEIPT_BYTES_MAX}")]
    TooLarge(usize),
    #[error("the receipt is not UTF-8")]
    NotUtf8,
    #[error("the receipt does not begin with the line c2sp.org/tlog-proof@v1")]
    Head,
    #[error("the receipt's extra data is not base64")]
    Extra,
    #[error("the receipt has no line with an index")]
    NoIndex,
    #[error("the receipt's index is malformed")]
    Index(#[source] NumberError),
    #[error("the receipt has no empty line before its checkpoint")]
    NoCheckpoint,
    #[error("the receipt has a malformed hash in its proof")]
    Hash(#[source] HashError),
    #[error("the receipt has more than {PROOF_HASHES_MAX} hashes")]
    TooManyHashes,
    #[error("the receipt's checkpoint cannot be believed")]
    Checkpoint(#[from] CheckpointError),
    #[error("the receipt proves nothing of this leaf")]
    Proof(#[from] ProofError),
}

impl Receipt {
    /// Reads what [`fmt::Display`] writes. Believe it after [`Self::verify`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ReceiptError> {
        if bytes.len() > RECEIPT_BYTES_MAX {
            return Err(ReceiptError::TooLarge(bytes.len()));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| ReceiptError::NotUtf8)?;
        let mut rest = text.strip_prefix(HEAD).ok_or(ReceiptError::Head)?;
        let mut extra = None;
        if let Some(after) = rest.strip_prefix("extra ") {
            let (encoded, after) = after.split_once('\n').ok_or(ReceiptError::NoIndex)?;
            extra = Some(STANDARD.decode(encoded).map_err(|_| ReceiptError::Extra)?);
            rest = after;
        }
        let rest = rest.strip_prefix("index ").ok_or(ReceiptError::NoIndex)?;
        let (index, mut rest) = rest.split_once('\n').ok_or(ReceiptError::NoCheckpoint)?;
        let index = parse_number(index).map_err(ReceiptError::Index)?;
        let mut proof = Vec::new();
        let checkpoint = loop {
            let (line, after) = rest.split_once('\n').ok_or(ReceiptError::NoCheckpoint)?;
            if line.is_empty() {
                break SignedCheckpoint::parse(after.as_bytes())?;
            }
            if proof.len() >= PROOF_HASHES_MAX {
                return Err(ReceiptError::TooManyHashes);
            }
            proof.push(NodeHash::from_base64(line).map_err(ReceiptError::Hash)?);
            rest = after;
        };
        Ok(Self { extra, index, proof, checkpoint })
    }

    /// Whether `leaf` is in the tree that one of `keys` signed; with when which
    /// of the `witnesses` saw that tree.
    pub fn verify<'k>(
        &self,
        leaf: NodeHash,
        keys: impl IntoIterator<Item = &'k VerifierKey>,
        witnesses: &'k [VerifierKey],
    ) -> Result<Vec<(&'k VerifierKey, u64)>, ReceiptError> {
        let seen = self.checkpoint.verify(keys, witnesses)?;
        let (size, root) = (self.checkpoint.size(), self.checkpoint.root());
        verify_inclusion(leaf, self.index, size, &self.proof, root)?;
        Ok(seen)
    }
}

impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HEAD)?;
        if let Some(extra) = &self.extra {
            writeln!(f, "extra {}", STANDARD.encode(extra))?;
        }
        writeln!(f, "index {}", self.index)?;
        self.proof.iter().try_for_each(|hash| writeln!(f, "{}", hash.to_base64()))?;
        write!(f, "\n{}", self.checkpoint)
    }
}
