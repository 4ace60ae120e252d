//! One key follows another.
//!
//! First the next key is prepared (in `audit/signing.key.next`, or configured),
//! then the caller adds a leaf `audit.key_rotate` that names it, under the old
//! key, then both keys sign the tree of one size. The receipt of that leaf under
//! that checkpoint stays in `tlog/rotations/<size>`: whoever trusts the old key
//! is led to the new one. The keyring decides which key is in use: once it is
//! written, the rotation has happened, and opening finishes what is left.

use domain::{
    audit::{
        Action, Leaf,
        tree::{KeyKind, SignedCheckpoint, SigningKey, VerifierKey},
    },
    rng::Rng,
};

use crate::{error::Error, keys, writer::Writer};

impl Writer {
    /// The key that is prepared to follow.
    pub fn prepared(&self) -> Option<&VerifierKey> {
        self.keys.next.as_ref().map(SigningKey::verifier)
    }

    /// Makes the next key, unless one is prepared already, and returns it for
    /// the leaf's `key_id`. Configured keys are changed in the configuration.
    pub fn prepare_rotation(&mut self, rng: &dyn Rng) -> Result<VerifierKey, Error> {
        if let Some(key) = self.prepared() {
            return Ok(key.clone());
        }
        if self.is_stale {
            return Err(Error::Stale);
        }
        if !self.keys.in_file {
            return Err(Error::NothingPrepared);
        }
        let name = self.verifier().name().clone();
        let key = SigningKey::generate(name, KeyKind::Ed25519, rng).map_err(Error::Key)?;
        keys::write_key(&mut self.files, &self.layout.next_key(), &key)?;
        let public = key.verifier().clone();
        self.keys.next = Some(key);
        Ok(public)
    }

    /// Changes to the prepared key, which the leaf `index` names. Returns the
    /// checkpoint that both keys signed.
    pub fn rotate(&mut self, index: u64) -> Result<SignedCheckpoint, Error> {
        if self.is_stale {
            return Err(Error::Stale);
        }
        let size = self.size();
        let next = self.keys.next.as_ref().ok_or(Error::NothingPrepared)?.verifier().clone();
        if !self.names(index, &next)? {
            return Err(Error::NotNamed { index, key: next.to_string() });
        }
        let keyring = self.keys.keyring.rotate(next.clone(), size).map_err(Error::Keyring)?;

        self.is_stale = true;
        let tree = (size, self.root());
        let other = self.keys.next.as_ref();
        let signed = self.signer.sign(&mut self.files, &self.layout, tree, &[], other)?;
        let receipt = self.reader().receipt(index, &signed)?;
        self.files.put(&self.layout.rotation(size), receipt.to_string().as_bytes())?;
        self.files.put(&self.layout.keyring(), keyring.to_string().as_bytes())?;

        // It has happened; the rest is done again when the tree is opened.
        if let Some(key) = self.keys.next.as_ref().filter(|_| self.keys.in_file) {
            keys::follow(&mut self.files, &self.layout, key)?;
        }
        self.files.put(&self.layout.checkpoint(), signed.to_string().as_bytes())?;
        keys::publish_public_key(&mut self.files, &self.layout, &keyring)?;
        if let Some(key) = self.keys.next.take() {
            self.signer.key = key;
        }
        self.keys.keyring = keyring;
        self.is_stale = false;
        Ok(signed)
    }

    /// Whether leaf `index` announces the key.
    fn names(&self, index: u64, key: &VerifierKey) -> Result<bool, Error> {
        let leaf = self.reader().leaf(index, self.size())?;
        let Ok(leaf) = Leaf::parse(&leaf) else { return Ok(false) };
        let named = leaf.details.as_ref().and_then(|details| details.get("key_id")?.as_str());
        Ok(leaf.action == Action::AuditKeyRotate && named == Some(key.to_string().as_str()))
    }
}
