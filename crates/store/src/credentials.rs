//! What is known of credentials beside tokens and keys themselves: the weekly
//! keys that tag unknown ones, and the networks that tokens were used from.
//!
//! A tag key is wrapped as the token hash key is, under a name of its own in
//! `meta`. A network stands as a keyed hash: the table tells nobody where a
//! token's clients are.

use std::collections::BTreeMap;

use domain::{
    audit::{Origin, Word},
    credential::{TagKey, TagPeriod},
    ids::TokenId,
    secret::Secret,
};
use zeroize::Zeroizing;

use crate::{
    Store,
    error::{Error, Result},
    rows,
    tx::AuditedTx,
};

/// Weeks that a tag key is kept for after its own.
pub const TAG_PERIODS_KEPT: u32 = 60;
/// Networks of one token that leave an entry each; more are not told apart.
pub const TOKEN_NETWORKS_MAX: u64 = 256;
const TAG_KEY: &str = "credential_tag_key/";

/// What a use of a token from a network is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Use {
    /// Nothing new, or more networks than are told apart.
    Known,
    /// The first of the token at all.
    First,
    /// The first from this network.
    NewNetwork,
}

impl Store {
    /// Who numbers the entries of this process that are born in its journal.
    pub fn journal_origin(&self) -> Origin {
        let origin = &self.0.origin;
        let producer = Word::lossy(&format!("{}/journal", origin.instance));
        Origin { producer, ..origin.clone() }
    }

    /// The tag keys that are kept, by week.
    pub async fn tag_keys(&self) -> Result<BTreeMap<TagPeriod, TagKey>> {
        let found = sqlx::query("SELECT name, value FROM meta WHERE name LIKE ?")
            .bind(format!("{TAG_KEY}%"))
            .fetch_all(self.readable()?)
            .await?;
        let mut keys = BTreeMap::new();
        for row in found {
            let (name, value) = (rows::text(&row, "name")?, rows::text(&row, "value")?);
            let period = period_of(&name)?;
            let (key, _) = self.0.keys.unwrap_tag_key(&value, &name)?;
            keys.insert(period, TagKey::new(period, &key));
        }
        Ok(keys)
    }

    /// A network as the table of uses has it.
    fn network_hash(&self, network: &str) -> String {
        let text = Secret::new(format!("network {network}"));
        let hash = self.token_hash_key().hash(&text);
        rows::hex(&hash.as_bytes()[..16])
    }

    /// Whether a use of this token from this network leaves an entry; reads
    /// only. [`AuditedTx::note_use`] decides.
    pub async fn is_known_use(&self, token: TokenId, network: &str) -> Result<bool> {
        let row = sqlx::query(
            "SELECT COUNT(*) AS n, \
             COALESCE(SUM(CASE WHEN network = ? THEN 1 ELSE 0 END), 0) AS known \
             FROM token_networks WHERE token_id = ?",
        )
        .bind(self.network_hash(network))
        .bind(token.to_string())
        .fetch_one(self.readable()?)
        .await?;
        let (all, known) = (rows::count(&row, "n")?, rows::count(&row, "known")?);
        Ok(known > 0 || all >= TOKEN_NETWORKS_MAX)
    }

    /// Whether a tag key is wrapped by another key than the current one.
    pub(crate) async fn has_old_tag_keys(&self) -> Result<bool> {
        let mut old = false;
        for (_, value) in wrapped(&mut *self.0.pool.acquire().await?).await? {
            let (key_id, _) = value.split_once(':').ok_or_else(damaged)?;
            self.0.keys.require(key_id)?;
            old |= key_id != self.0.keys.current_id();
        }
        Ok(old)
    }
}

impl AuditedTx {
    /// Makes the key of a week unless there is one, and forgets those that are
    /// too old. Says whether anything changed.
    pub async fn rotate_tag_keys(&mut self, periods: &[TagPeriod]) -> Result<bool> {
        let mut changed = false;
        let there = wrapped(self.connection()).await?;
        for period in periods {
            let name = format!("{TAG_KEY}{}", period.0);
            if there.iter().any(|(known, _)| *known == name) {
                continue;
            }
            let mut key = Zeroizing::new([0; 32]);
            let inner = self.inner();
            inner.rng.fill_secure(&mut *key);
            let value = inner.keys.wrap_tag_key(&key, &name, &*inner.rng)?;
            let insert = sqlx::query("INSERT INTO meta (name, value) VALUES (?, ?)");
            self.write(insert.bind(name).bind(value)).await?;
            changed = true;
        }
        let newest = periods.iter().map(|period| period.0).max().unwrap_or(0);
        for (name, _) in there {
            if period_of(&name)?.0.saturating_add(TAG_PERIODS_KEPT) < newest {
                let delete = sqlx::query("DELETE FROM meta WHERE name = ?");
                self.write(delete.bind(name)).await?;
                changed = true;
            }
        }
        Ok(changed)
    }

    /// Notes the use of a token from a network.
    pub async fn note_use(&mut self, token: TokenId, network: &str) -> Result<Use> {
        let store = Store(self.inner_arc());
        let network = store.network_hash(network);
        let row = sqlx::query(
            "SELECT COUNT(*) AS n, \
             COALESCE(SUM(CASE WHEN network = ? THEN 1 ELSE 0 END), 0) AS known \
             FROM token_networks WHERE token_id = ?",
        )
        .bind(network.clone())
        .bind(token.to_string())
        .fetch_one(self.connection())
        .await?;
        let (all, known) = (rows::count(&row, "n")?, rows::count(&row, "known")?);
        if known > 0 || all >= TOKEN_NETWORKS_MAX {
            return Ok(Use::Known);
        }
        let insert = sqlx::query(
            "INSERT INTO token_networks (token_id, network, first_at) VALUES (?, ?, ?)",
        );
        let now = self.now().as_micros();
        self.write(insert.bind(token.to_string()).bind(network).bind(now)).await?;
        Ok(if all == 0 { Use::First } else { Use::NewNetwork })
    }

    /// Wraps the tag keys with the current encryption key.
    pub(crate) async fn wrap_tag_keys_anew(&mut self) -> Result<u64> {
        let mut count = 0;
        for (name, value) in wrapped(self.connection()).await? {
            let inner = self.inner();
            let (key, is_old) = inner.keys.unwrap_tag_key(&value, &name)?;
            if !is_old {
                continue;
            }
            let value = inner.keys.wrap_tag_key(&key, &name, &*inner.rng)?;
            let update = sqlx::query("UPDATE meta SET value = ? WHERE name = ?");
            self.write(update.bind(value).bind(name)).await?;
            count += 1;
        }
        Ok(count)
    }
}

/// Names and values of the tag keys.
async fn wrapped(connection: &mut crate::dialect::Connection) -> Result<Vec<(String, String)>> {
    let found = sqlx::query("SELECT name, value FROM meta WHERE name LIKE ? ORDER BY name")
        .bind(format!("{TAG_KEY}%"))
        .fetch_all(connection)
        .await?;
    found.iter().map(|row| Ok((rows::text(row, "name")?, rows::text(row, "value")?))).collect()
}

fn period_of(name: &str) -> Result<TagPeriod> {
    let period = name.strip_prefix(TAG_KEY).and_then(|number| number.parse().ok());
    period.map(TagPeriod).ok_or_else(damaged)
}

fn damaged() -> Error {
    Error::corrupt("a key that tags unknown credentials is damaged")
}
