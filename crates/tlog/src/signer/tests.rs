use std::sync::Arc;

use domain::{
    audit::tree::{Frontier, HashReader, KeyKind, consistency_proof},
    rng::Fixed,
};

use super::*;
use crate::{error::Kind, fs::StdFs};

struct Tree(Vec<NodeHash>);

impl HashReader for Tree {
    type Error = ProofError;

    fn node(&mut self, level: u32, index: u64) -> Result<NodeHash, ProofError> {
        let from = (index << level) as usize;
        Ok(root(&self.0[from..from + (1 << level)]))
    }
}

fn root(leaves: &[NodeHash]) -> NodeHash {
    let mut frontier = Frontier::default();
    leaves.iter().for_each(|leaf| frontier.append(*leaf));
    frontier.root()
}

#[test]
fn nothing_is_signed_that_did_not_grow_out_of_what_was() {
    let dir = tempfile::tempdir().expect("a directory");
    let layout = Layout::new(dir.path());
    let mut files = Files::new(Arc::new(StdFs), dir.path());
    let name = KeyName::parse("example.com/audit").expect("a name");
    let key = SigningKey::generate(name, KeyKind::Ed25519, &Fixed(1)).expect("a key");
    let mut signer = Signer { key, state: SignerState::FRESH };
    let mut tree = Tree((0..20u8).map(|at| NodeHash::of_leaf(&[at])).collect());
    let seven = root(&tree.0[..7]);
    let nine = root(&tree.0[..9]);
    let proof = consistency_proof(&mut tree, 7, 9).expect("a proof");

    let first = signer.sign(&mut files, &layout, (7, seven), &[], None).expect("signed");
    let again = signer.sign(&mut files, &layout, (7, seven), &[], None).expect("signed");
    assert_eq!(first, again, "one tree, one text");
    let other = root(&tree.0[1..10]);
    let shorter = root(&tree.0[..6]);
    for (size, root, proof, expected) in [
        (6, shorter, &[][..], Refusal::Shrink { signed: 7, asked: 6 }),
        (0, NodeHash::EMPTY, &[], Refusal::Shrink { signed: 7, asked: 0 }),
        (7, other, &[], Refusal::Fork(7)),
        (9, nine, &[], unproven(ProofError::Missing)),
        (9, nine, &proof[1..], unproven(ProofError::Missing)),
        (9, nine, &[&proof[..], &[seven]].concat(), unproven(ProofError::Extra)),
        (9, other, &proof, unproven(ProofError::Root)),
    ] {
        match signer.sign(&mut files, &layout, (size, root), proof, None) {
            Err(error @ Error::Refused(found)) => {
                assert_eq!((found, error.kind()), (expected, Kind::Refused));
            }
            result => panic!("{size}: {result:?}, not {expected:?}"),
        }
        let kept = SignerState::read(&files, &layout).expect("readable").expect("a state");
        assert_eq!((kept.size, kept.root), (7, seven));
    }
    let second = signer.sign(&mut files, &layout, (9, nine), &proof, None).expect("signed");
    let kept = SignerState::read(&files, &layout).expect("readable").expect("a state");
    assert_eq!(kept, SignerState::of(second));
}

fn unproven(source: ProofError) -> Refusal {
    Refusal::Unproven { signed: 7, asked: 9, source }
}

#[test]
fn a_state_that_contradicts_itself_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let layout = Layout::new(dir.path());
    let mut files = Files::new(Arc::new(StdFs), dir.path());
    SignerState::FRESH.write(&mut files, &layout).expect("written");
    let text = std::fs::read_to_string(layout.signer_state()).expect("a file");
    assert!(SignerState::read(&files, &layout).expect("readable").is_some());
    for (from, to) in [
        ("\"v\":1", "\"v\":2"),
        ("\"size\":0", "\"size\":1"),
        ("\"size\":0", "\"size\":-1"),
        ("\"size\":0", "\"size\":0,\"more\":0"),
        ("47DE", "48DE"),
        ("\"root\":\"", "\"root\":\"A"),
        ("{", ""),
        ("}", "}}"),
    ] {
        let changed = text.replacen(from, to, 1);
        assert_ne!(changed, text, "{from}");
        std::fs::write(layout.signer_state(), changed).expect("written");
        let found = SignerState::read(&files, &layout);
        assert!(matches!(&found, Err(error) if error.kind() == Kind::Corrupt), "{from}: {found:?}");
    }
}
