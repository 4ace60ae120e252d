//! Management keys.

use domain::ids::ManagementKeyId;

use super::{AuditedTx, check_rev, to_json};
use crate::{
    error::{Error, Result},
    model::{self, ManagementKey, ManagementKeyPatch, NewManagementKey, Updated},
    read, rows,
};

impl AuditedTx {
    pub async fn create_management_key(&mut self, new: NewManagementKey) -> Result<ManagementKey> {
        let key = ManagementKey {
            id: ManagementKeyId::new(self.now, &*self.inner.rng),
            name: new.name,
            obfuscated: new.obfuscated,
            role: new.role,
            project_ids: new.project_ids,
            expires_at: new.expires_at,
            revoked_at: None,
            rev: 1,
            created_at: self.now,
            updated_at: self.now,
        };
        model::check_management_key(&key)?;
        self.refuse_taken_key_name(&key).await?;
        let insert = sqlx::query(
            "INSERT INTO management_keys (id, name, hash, obfuscated, role, project_ids, \
             expires_at, revoked_at, rev, created_at, updated_at) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(key.id.to_string())
        .bind(key.name.clone())
        .bind(rows::hex(new.hash.as_bytes()))
        .bind(key.obfuscated.clone())
        .bind(key.role.as_str())
        .bind(key.project_ids.as_ref().map(to_json))
        .bind(key.expires_at.map(|time| time.as_micros()))
        .bind(key.revoked_at.map(|time| time.as_micros()))
        .bind(rows::stored(key.rev))
        .bind(key.created_at.as_micros())
        .bind(key.updated_at.as_micros());
        self.write(insert).await?;
        Ok(key)
    }

    pub async fn management_key(&mut self, id: ManagementKeyId) -> Result<ManagementKey> {
        let found = read::management_key(self.connection(), id).await?;
        found.ok_or_else(|| Error::not_found("management key"))
    }

    /// Applies a patch. `expected_rev` refuses to overwrite another's change.
    pub async fn update_management_key(
        &mut self,
        id: ManagementKeyId,
        expected_rev: Option<u64>,
        patch: ManagementKeyPatch,
    ) -> Result<Updated<ManagementKey>> {
        let before = self.management_key(id).await?;
        check_rev(expected_rev, before.rev)?;
        let mut after = before.clone();
        let ManagementKeyPatch { name, role, project_ids, expires_at } = patch;
        after.name = name.unwrap_or(after.name);
        after.role = role.unwrap_or(after.role);
        after.project_ids = project_ids.unwrap_or(after.project_ids);
        after.expires_at = expires_at.unwrap_or(after.expires_at);
        model::check_management_key(&after)?;
        if after.name != before.name {
            self.refuse_taken_key_name(&after).await?;
        }
        self.put_management_key(before, after).await
    }

    /// Entries name their actor: two keys that can be used at the same time
    /// need names of their own. The write lock makes looking first safe.
    async fn refuse_taken_key_name(&mut self, key: &ManagementKey) -> Result<()> {
        let taken = sqlx::query(
            "SELECT id FROM management_keys WHERE name = ? AND id <> ? AND revoked_at IS NULL",
        )
        .bind(key.name.clone())
        .bind(key.id.to_string())
        .fetch_optional(self.connection())
        .await?;
        match taken {
            None => Ok(()),
            Some(_) => Err(Error::conflict("a management key of this name exists")),
        }
    }

    /// Ends a key for good; a second time changes nothing.
    pub async fn revoke_management_key(
        &mut self,
        id: ManagementKeyId,
    ) -> Result<Updated<ManagementKey>> {
        let before = self.management_key(id).await?;
        let mut after = before.clone();
        after.revoked_at = after.revoked_at.or(Some(self.now));
        self.put_management_key(before, after).await
    }

    async fn put_management_key(
        &mut self,
        before: ManagementKey,
        mut after: ManagementKey,
    ) -> Result<Updated<ManagementKey>> {
        if after == before {
            return Ok(Updated { before, after });
        }
        after.rev += 1;
        after.updated_at = self.now;
        let update = sqlx::query(
            "UPDATE management_keys SET name = ?, role = ?, project_ids = ?, expires_at = ?, \
             revoked_at = ?, rev = ?, updated_at = ? WHERE id = ?",
        )
        .bind(after.name.clone())
        .bind(after.role.as_str())
        .bind(after.project_ids.as_ref().map(to_json))
        .bind(after.expires_at.map(|time| time.as_micros()))
        .bind(after.revoked_at.map(|time| time.as_micros()))
        .bind(rows::stored(after.rev))
        .bind(after.updated_at.as_micros())
        .bind(after.id.to_string());
        self.write(update).await?;
        Ok(Updated { before, after })
    }
}
