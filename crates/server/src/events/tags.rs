//! The weekly keys that tag unknown credentials, and their rotation.

use domain::{
    audit::{Action, Actor, Detail, EntryContext, EntryDraft, TargetKind, Word},
    credential::{CredentialMark, TagKey, TagPeriod},
    time::Timestamp,
};
use parking_lot::RwLock;
use store::Store;

/// The keys of this week and the next, so that a database that is away at the
/// turn of the week does not matter.
#[derive(Debug, Default)]
pub struct Tags(RwLock<Vec<TagKey>>);

impl Tags {
    /// What is kept of a credential; no tag while there is no key.
    pub fn mark(&self, credential: &[u8], now: Timestamp) -> CredentialMark {
        let keys = self.0.read();
        let period = TagPeriod::at(now);
        // Before the keys of a new week are made, the last one serves.
        let of_now = keys.iter().rev().find(|key| key.period() <= period).or(keys.first());
        CredentialMark::new(credential, of_now)
    }

    /// Reads the keys of this week and the next; makes those that are missing.
    pub async fn renew(&self, store: &Store, now: Timestamp) -> Result<(), store::Error> {
        let period = TagPeriod::at(now);
        let wanted = [period, period.next()];
        let has = |keys: &[TagKey]| wanted.iter().all(|it| keys.iter().any(|k| k.period() == *it));
        if has(&self.0.read()) {
            return Ok(());
        }
        let mut there = store.tag_keys().await?;
        if !wanted.iter().all(|period| there.contains_key(period)) {
            let mut tx = store.begin(Actor::system(), EntryContext::default()).await?;
            if tx.rotate_tag_keys(&wanted).await? {
                let newest = Word::lossy(&format!("w{}", wanted[1].0));
                let draft = EntryDraft::new(Action::ConfigChange)
                    .target(TargetKind::Setting, "credential_tag_key")
                    .detail(Detail::KeyId(newest));
                drop(tx.commit(draft).await?);
            } else {
                tx.rollback().await?;
            }
            there = store.tag_keys().await?;
        }
        *self.0.write() =
            there.into_values().filter(|key| wanted.contains(&key.period())).collect();
        Ok(())
    }
}
