//! Whose signatures count: the keys that were given, those that they lead to by
//! way of rotations, and those that merely lie beside the tree.

use std::io;

use domain::audit::{
    Action, Leaf,
    tree::{Keyring, NodeHash, RECEIPT_BYTES_MAX, Receipt, SignedCheckpoint, VerifierKey},
    verify::{Class, Report},
};

use super::{causes, source::Source};

/// A thousand keys, each in a line.
const KEYRING_BYTES_MAX: usize = 1 << 20;
pub(super) const KEYRING: &str = "keys";
pub(super) const ROTATIONS: &str = "rotations";

/// The keys of a tree, by how far they are to be believed.
#[derive(Default)]
pub(super) struct Keys {
    /// Given from outside, or named by such a key as the next one.
    pub trusted: Vec<VerifierKey>,
    /// Found beside the tree.
    pub local: Vec<VerifierKey>,
    pub keyring: Option<Keyring>,
    /// Checkpoints at which one key followed another.
    pub rotations: Vec<(String, SignedCheckpoint)>,
}

impl Keys {
    /// Reads the keyring and follows its rotations from the `given` keys on.
    pub fn read(
        source: &dyn Source,
        given: &[VerifierKey],
        beside: &[VerifierKey],
        can_list: bool,
        report: &mut Report,
    ) -> io::Result<Self> {
        let mut keys = Self { trusted: given.to_vec(), local: beside.to_vec(), ..Self::default() };
        let Some(bytes) = source.read(KEYRING, KEYRING_BYTES_MAX)? else {
            match can_list {
                true => report.find(Class::Truncated, None, KEYRING, "the keyring is missing"),
                false => report.unchecked.push("the keyring: it is not to be had".to_owned()),
            }
            return Ok(keys);
        };
        let keyring = match std::str::from_utf8(&bytes).map(Keyring::parse) {
            Err(_) => {
                report.find(Class::Signature, None, KEYRING, "the keyring is not UTF-8");
                return Ok(keys);
            }
            Ok(Err(error)) => {
                report.find(Class::Signature, None, KEYRING, causes(&error));
                return Ok(keys);
            }
            Ok(Ok(keyring)) => keyring,
        };
        for pair in keyring.spans().windows(2) {
            let place = format!("{ROTATIONS}/{}", pair[1].from);
            match keys.rotation(source, &place, &pair[0].key, &pair[1].key, pair[1].from)? {
                Err(wrong) => report.find(Class::Signature, None, &place, wrong),
                Ok(receipt) => {
                    if keys.trusted.contains(&pair[0].key) && !keys.trusted.contains(&pair[1].key) {
                        let (old, new) = (name(&pair[0].key), name(&pair[1].key));
                        report.checked.push(format!("{place}: the key {old} names {new} as next"));
                        keys.trusted.push(pair[1].key.clone());
                    }
                    keys.rotations.push((place, receipt.checkpoint));
                }
            }
        }
        keys.local.extend(keyring.spans().iter().map(|span| span.key.clone()));
        keys.keyring = Some(keyring);
        Ok(keys)
    }

    /// The receipt of a rotation, or what is wrong with it.
    fn rotation(
        &self,
        source: &dyn Source,
        place: &str,
        old: &VerifierKey,
        new: &VerifierKey,
        size: u64,
    ) -> io::Result<Result<Receipt, String>> {
        let Some(bytes) = source.read(place, RECEIPT_BYTES_MAX)? else {
            return Ok(Err("the receipt of the rotation is missing".to_owned()));
        };
        Ok(check_receipt(&bytes, old, new, size))
    }
}

fn check_receipt(
    bytes: &[u8],
    old: &VerifierKey,
    new: &VerifierKey,
    size: u64,
) -> Result<Receipt, String> {
    let receipt = Receipt::parse(bytes).map_err(|error| causes(&error).to_string())?;
    if receipt.checkpoint.size() != size {
        return Err(format!("the receipt is of size {}", receipt.checkpoint.size()));
    }
    let leaf = receipt.extra.as_deref().unwrap_or_default();
    for key in [old, new] {
        let verified = receipt.verify(NodeHash::of_leaf(leaf), [key], &[]);
        verified.map_err(|error| format!("{}: {}", name(key), causes(&error)))?;
    }
    let leaf = Leaf::parse(leaf).map_err(|error| causes(&error).to_string())?;
    let named = leaf.details.as_ref().and_then(|details| details.get("key_id")?.as_str());
    if leaf.action != Action::AuditKeyRotate || named != Some(new.to_string().as_str()) {
        return Err(format!("its entry does not name {} as the next key", name(new)));
    }
    Ok(receipt)
}

pub(super) fn name(key: &VerifierKey) -> String {
    format!("{}+{:08x}", key.name(), key.id())
}
