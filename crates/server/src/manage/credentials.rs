//! Who presents a management key: the root key of the configuration, or one of
//! the store's, remembered for a moment.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering},
};

use domain::{
    secret::Secret,
    time::Timestamp,
    token::{MANAGEMENT_KEY_PREFIX, TokenHash, TokenHashKey},
};
use parking_lot::Mutex;
use store::{ManagementKey, Store};
use subtle::ConstantTimeEq;

use super::error::{Error, Kind, Result};

/// How long a key found in the store is believed without asking again: within
/// the promise for other instances, while this one forgets at once.
const REMEMBERED_US: i64 = 2_000_000;
const REMEMBERED_MAX: usize = 1024;
/// Longer than any management key; a bound for what is hashed.
const CREDENTIAL_BYTES_MAX: usize = 512;

/// Whom a credential stands for.
#[derive(Clone, Debug)]
pub enum Holder {
    Root,
    Key(Box<ManagementKey>),
}

/// Why a credential was refused, for the operator; the caller hears one answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    Unknown,
    Revoked,
    Expired,
}

impl Refused {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
        }
    }
}

pub struct Credentials {
    root: TokenHash,
    hash_key: TokenHashKey,
    remembered: Mutex<HashMap<TokenHash, (ManagementKey, Timestamp)>>,
    /// Grows whenever a key changes here, so that an answer of the store from
    /// before the change is not remembered after it.
    generation: AtomicU64,
}

impl Credentials {
    pub fn new(root: &Secret, hash_key: &TokenHashKey) -> Self {
        Self {
            root: hash_key.hash(root),
            hash_key: hash_key.clone(),
            remembered: Mutex::default(),
            generation: AtomicU64::new(0),
        }
    }

    /// What a credential is remembered by; none for what is too long to be one.
    pub fn hash(&self, presented: &Secret) -> Option<TokenHash> {
        let fits = presented.expose().len() <= CREDENTIAL_BYTES_MAX;
        fits.then(|| self.hash_key.hash(presented))
    }

    /// Comparisons are of keyed hashes, in constant time for the root key; a
    /// look-up by hash reveals nothing about the key by its time.
    pub async fn check(
        &self,
        store: &Store,
        presented: &Secret,
        now: Timestamp,
    ) -> Result<std::result::Result<Holder, Refused>> {
        let Some(hash) = self.hash(presented) else { return Ok(Err(Refused::Unknown)) };
        if bool::from(hash.as_bytes().ct_eq(self.root.as_bytes())) {
            return Ok(Ok(Holder::Root));
        }
        if !presented.expose().starts_with(MANAGEMENT_KEY_PREFIX) {
            return Ok(Err(Refused::Unknown));
        }
        let Some(key) = self.find(store, &hash, now).await? else {
            return Ok(Err(Refused::Unknown));
        };
        if key.revoked_at.is_some() {
            return Ok(Err(Refused::Revoked));
        }
        if key.expires_at.is_some_and(|end| end <= now) {
            return Ok(Err(Refused::Expired));
        }
        Ok(Ok(Holder::Key(Box::new(key))))
    }

    async fn find(
        &self,
        store: &Store,
        hash: &TokenHash,
        now: Timestamp,
    ) -> Result<Option<ManagementKey>> {
        if let Some((key, until)) = self.remembered.lock().get(hash)
            && *until > now
        {
            return Ok(Some(key.clone()));
        }
        let generation = self.generation.load(Ordering::Acquire);
        let found = store.management_key_by_hash(hash).await.map_err(|error| {
            Error::new(Kind::Unavailable, "management keys cannot be checked now")
                .with_source(error)
        })?;
        if let Some(key) = &found {
            let mut remembered = self.remembered.lock();
            if self.generation.load(Ordering::Acquire) == generation {
                if remembered.len() >= REMEMBERED_MAX {
                    remembered.clear();
                }
                remembered.insert(*hash, (key.clone(), now.plus_micros(REMEMBERED_US)));
            }
        }
        Ok(found)
    }

    /// Makes every next use ask the store: some key was changed or revoked.
    pub fn forget(&self) {
        let mut remembered = self.remembered.lock();
        self.generation.fetch_add(1, Ordering::AcqRel);
        remembered.clear();
    }
}
