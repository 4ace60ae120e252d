//! Which key signs: from a file of our own or from the configuration, held
//! against the keyring.

use domain::{
    audit::tree::{KeyError, KeyKind, KeyName, Keyring, SigningKey},
    rng::Rng,
    secret::Secret,
};
use zeroize::Zeroizing;

use crate::{
    error::Error,
    files::{self, Files},
    layout::Layout,
    signer::SignerState,
};

const KEY_BYTES_MAX: usize = 4 * 1024;
pub(crate) const KEYRING_BYTES_MAX: usize = 1024 * 1024;

/// Where the private key comes from.
#[derive(Debug)]
pub enum KeySource {
    /// `audit/signing.key`, made when a tree begins.
    File,
    /// From the configuration, never written. The first signs a tree that
    /// begins; later the one that the keyring names signs, and another one is
    /// prepared to follow it.
    Given(Vec<SigningKey>),
}

/// The keys of an open tree.
pub(crate) struct Keys {
    pub(crate) current: SigningKey,
    /// What a rotation will change to.
    pub(crate) next: Option<SigningKey>,
    pub(crate) keyring: Keyring,
    pub(crate) in_file: bool,
}

/// Finds the key in use, or makes the first one; finishes a rotation that was
/// decided before a crash.
pub(crate) fn open(
    files: &mut Files,
    layout: &Layout,
    origin: &KeyName,
    source: KeySource,
    state: &SignerState,
    rng: &dyn Rng,
) -> Result<Keys, Error> {
    let keyring = read_keyring(files, layout)?;
    if keyring.is_none() && state.checkpoint.is_some() {
        let because = format!("a tree of {} was signed", state.size);
        return Err(Error::missing(&layout.keyring(), because));
    }
    let in_file = matches!(source, KeySource::File);
    let (current, next) = match source {
        KeySource::File => from_files(files, layout, origin, keyring.as_ref(), rng)?,
        KeySource::Given(keys) => from_configuration(layout, origin, keyring.as_ref(), keys)?,
    };
    let keyring = match keyring {
        Some(keyring) => keyring,
        None => {
            let keyring = Keyring::new(current.verifier().clone());
            files.put(&layout.keyring(), keyring.to_string().as_bytes())?;
            keyring
        }
    };
    publish_public_key(files, layout, &keyring)?;
    Ok(Keys { current, next, keyring, in_file })
}

pub(crate) fn read_keyring(files: &Files, layout: &Layout) -> Result<Option<Keyring>, Error> {
    let path = layout.keyring();
    let Some(bytes) = files::read(&**files.fs(), &path, KEYRING_BYTES_MAX)? else {
        return Ok(None);
    };
    let text = std::str::from_utf8(&bytes).map_err(|error| Error::malformed(&path, error))?;
    Keyring::parse(text).map(Some).map_err(|error| Error::malformed(&path, error))
}

pub(crate) fn publish_public_key(
    files: &mut Files,
    layout: &Layout,
    keyring: &Keyring,
) -> Result<(), Error> {
    let path = layout.public_key();
    let text = format!("{}\n", keyring.current());
    let known = files::read(&**files.fs(), &path, KEY_BYTES_MAX)?;
    if known.as_deref() == Some(text.as_bytes()) {
        Ok(())
    } else {
        files.put(&path, text.as_bytes())
    }
}

type Pair = (SigningKey, Option<SigningKey>);

fn from_files(
    files: &mut Files,
    layout: &Layout,
    origin: &KeyName,
    keyring: Option<&Keyring>,
    rng: &dyn Rng,
) -> Result<Pair, Error> {
    let path = layout.signing_key();
    let is_old = |key: &SigningKey| {
        keyring
            .is_some_and(|keyring| keyring.spans().iter().any(|span| span.key == *key.verifier()))
    };
    let mut next = read_key(files, &layout.next_key(), origin)?;
    let current = match (read_key(files, &path, origin)?, keyring) {
        (Some(key), _) => key,
        (None, Some(keyring)) => {
            return Err(Error::missing(&path, format!("{} signs the tree", keyring.current())));
        }
        (None, None) => {
            let key = SigningKey::generate(origin.clone(), KeyKind::Ed25519, rng);
            let key = key.map_err(Error::Key)?;
            write_key(files, &path, &key)?;
            key
        }
    };
    let Some(keyring) = keyring else { return Ok((current, next)) };
    let expected = keyring.current();
    if current.verifier() == expected {
        // What has followed already does not wait any more.
        if next.as_ref().is_some_and(is_old) {
            files.remove(&layout.next_key())?;
            next = None;
        }
        return Ok((current, next));
    }
    // The keyring decides; the crash came before the file was written.
    match next.take() {
        Some(key) if key.verifier() == expected => {
            follow(files, layout, &key)?;
            Ok((key, None))
        }
        _ => Err(other_key(layout, keyring, &current)),
    }
}

/// Puts the prepared key in the place of the one it follows. Written anew and
/// not renamed: at no moment is there a disk without it.
pub(crate) fn follow(files: &mut Files, layout: &Layout, key: &SigningKey) -> Result<(), Error> {
    write_key(files, &layout.signing_key(), key)?;
    files.remove(&layout.next_key())
}

fn from_configuration(
    layout: &Layout,
    origin: &KeyName,
    keyring: Option<&Keyring>,
    mut keys: Vec<SigningKey>,
) -> Result<Pair, Error> {
    if keys.iter().any(|key| key.verifier().name() != origin) {
        return Err(Error::Key(KeyError::OtherName));
    }
    if keys.iter().any(|key| key.verifier().kind() != KeyKind::Ed25519) {
        return Err(Error::Key(KeyError::OtherKind));
    }
    if keys.is_empty() {
        return Err(Error::Key(KeyError::Shape));
    }
    let Some(keyring) = keyring else {
        let current = keys.remove(0);
        return Ok((current, keys.pop()));
    };
    let Some(at) = keys.iter().position(|key| key.verifier() == keyring.current()) else {
        return Err(other_key(layout, keyring, &keys[0]));
    };
    let current = keys.remove(at);
    // An older key that is still configured does not follow again.
    let is_new = |key: &SigningKey| keyring.spans().iter().all(|span| span.key != *key.verifier());
    Ok((current, keys.into_iter().find(is_new)))
}

fn other_key(layout: &Layout, keyring: &Keyring, found: &SigningKey) -> Error {
    Error::OtherKey {
        path: layout.tree(),
        expected: keyring.current().to_string(),
        found: found.verifier().to_string(),
    }
}

fn read_key(
    files: &Files,
    path: &std::path::Path,
    origin: &KeyName,
) -> Result<Option<SigningKey>, Error> {
    let Some(bytes) = files::read(&**files.fs(), path, KEY_BYTES_MAX)? else { return Ok(None) };
    let bytes = Zeroizing::new(bytes);
    let text = std::str::from_utf8(&bytes).map_err(|error| Error::malformed(path, error))?;
    let secret = Secret::new(text.trim_end_matches('\n'));
    let key = SigningKey::parse_for(origin, KeyKind::Ed25519, &secret);
    key.map(Some).map_err(|error| Error::malformed(path, error))
}

pub(crate) fn write_key(
    files: &mut Files,
    path: &std::path::Path,
    key: &SigningKey,
) -> Result<(), Error> {
    let secret = key.to_secret();
    let mut text = Zeroizing::new(Vec::with_capacity(secret.expose().len() + 1));
    text.extend_from_slice(secret.expose().as_bytes());
    text.push(b'\n');
    files.put(path, &text)
}
