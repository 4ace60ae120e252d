//! Projects and the provider keys that belong to them.

use std::collections::BTreeMap;

use domain::{
    capture::Capture,
    ids::ProjectId,
    secret::{Secret, looks_obfuscated},
};
use sqlx::Row as _;

use super::{AuditedTx, check_rev, to_json};
use crate::{
    directory::ChangedId,
    error::{Error, Result},
    model::{self, NewProject, Project, ProjectPatch, ProviderKeyRow, Updated},
    read, rows,
};

impl AuditedTx {
    /// Creates a project; a name that is taken is a conflict.
    pub async fn create_project(&mut self, new: NewProject) -> Result<Project> {
        let mut project = Project {
            id: ProjectId::new(self.now, &*self.inner.rng),
            name: new.name,
            provider_keys: BTreeMap::new(),
            is_active: new.is_active,
            deactivated_at: (!new.is_active).then_some(self.now),
            labels: new.labels,
            capture_bodies: new.capture_bodies,
            rev: 1,
            created_at: self.now,
            updated_at: self.now,
        };
        let keys = new.provider_keys.into_iter().map(|(name, key)| (name, Some(key))).collect();
        check(&project, &keys)?;
        self.refuse_taken_name(&project).await?;
        let insert = sqlx::query(
            "INSERT INTO projects (id, name, is_active, deactivated_at, labels, capture_bodies, \
             rev, created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(project.id.to_string())
        .bind(project.name.clone())
        .bind(i64::from(project.is_active))
        .bind(project.deactivated_at.map(|time| time.as_micros()))
        .bind(to_json(&project.labels))
        .bind(project.capture_bodies.map(Capture::as_str))
        .bind(rows::stored(project.rev))
        .bind(project.created_at.as_micros())
        .bind(project.updated_at.as_micros());
        self.write(insert).await?;
        self.put_provider_keys(&mut project, keys).await?;
        self.changed.push(ChangedId::Project(project.id));
        Ok(project)
    }

    /// The project, as nobody else can change it before this transaction ends.
    pub async fn project(&mut self, id: ProjectId) -> Result<Project> {
        let found = read::project(self.connection(), id).await?;
        found.ok_or_else(|| Error::not_found("project"))
    }

    /// Applies a patch. `expected_rev` refuses to overwrite another's change.
    pub async fn update_project(
        &mut self,
        id: ProjectId,
        expected_rev: Option<u64>,
        patch: ProjectPatch,
    ) -> Result<Updated<Project>> {
        let before = self.project(id).await?;
        check_rev(expected_rev, before.rev)?;
        let mut after = before.clone();
        let ProjectPatch { name, provider_keys, is_active, labels, capture_bodies } = patch;
        after.name = name.unwrap_or(after.name);
        after.labels = labels.unwrap_or(after.labels);
        after.capture_bodies = capture_bodies.unwrap_or(after.capture_bodies);
        if let Some(active) = is_active.filter(|active| *active != before.is_active) {
            after.is_active = active;
            after.deactivated_at = (!active).then_some(self.now);
        }
        check(&after, &provider_keys)?;
        if after == before && provider_keys.is_empty() {
            return Ok(Updated { before, after });
        }
        self.refuse_taken_name(&after).await?;
        after.rev += 1;
        after.updated_at = self.now;
        let update = sqlx::query(
            "UPDATE projects SET name = ?, is_active = ?, deactivated_at = ?, labels = ?, \
             capture_bodies = ?, rev = ?, updated_at = ? WHERE id = ?",
        )
        .bind(after.name.clone())
        .bind(i64::from(after.is_active))
        .bind(after.deactivated_at.map(|time| time.as_micros()))
        .bind(to_json(&after.labels))
        .bind(after.capture_bodies.map(Capture::as_str))
        .bind(rows::stored(after.rev))
        .bind(after.updated_at.as_micros())
        .bind(id.to_string());
        self.write(update).await?;
        self.put_provider_keys(&mut after, provider_keys).await?;
        self.changed.push(ChangedId::Project(id));
        Ok(Updated { before, after })
    }

    /// Seals every provider key and the token hash key with the current
    /// encryption key; returns how many provider keys were not.
    pub(crate) async fn seal_with_current_key(&mut self, meta_name: &'static str) -> Result<u64> {
        let keys = &self.inner.keys;
        let row = sqlx::query("SELECT value FROM meta WHERE name = ?")
            .bind(meta_name)
            .fetch_one(&mut *self.tx)
            .await?;
        let (hash_key, _) = keys.unwrap_token_hash_key(row.try_get("value")?)?;
        let wrapped = keys.wrap_token_hash_key(&hash_key, &*self.inner.rng)?;
        let update = sqlx::query("UPDATE meta SET value = ? WHERE name = ?");
        self.write(update.bind(wrapped).bind(meta_name)).await?;
        let old = sqlx::query(
            "SELECT project_id, provider, key_id, ciphertext, obfuscated, version, updated_at \
             FROM provider_keys WHERE key_id <> ?",
        )
        .bind(self.inner.keys.current_id().to_owned())
        .fetch_all(&mut *self.tx)
        .await?;
        for row in &old {
            let row = rows::provider_key(row)?;
            let (keys, rng) = (&self.inner.keys, &*self.inner.rng);
            let (id, provider) = (row.project_id, row.provider.as_str());
            let key = keys.open_provider_key(&row.key_id, &row.ciphertext, id, provider)?;
            let sealed = keys.seal_provider_key(&key, id, provider, rng)?;
            let update = sqlx::query(
                "UPDATE provider_keys SET key_id = ?, ciphertext = ? \
                 WHERE project_id = ? AND provider = ?",
            )
            .bind(keys.current_id().to_owned())
            .bind(sealed)
            .bind(id.to_string())
            .bind(row.provider.clone());
            self.write(update).await?;
        }
        Ok(old.len() as u64)
    }

    /// Says so before a unique index does, which would end the transaction.
    async fn refuse_taken_name(&mut self, project: &Project) -> Result<()> {
        let taken = sqlx::query("SELECT id FROM projects WHERE name = ? AND id <> ?")
            .bind(project.name.clone())
            .bind(project.id.to_string())
            .fetch_optional(self.connection())
            .await?;
        match taken {
            Some(_) => Err(Error::conflict("a project of this name exists")),
            None => Ok(()),
        }
    }

    async fn put_provider_keys(
        &mut self,
        project: &mut Project,
        keys: BTreeMap<String, Option<Secret>>,
    ) -> Result<()> {
        for (provider, key) in keys {
            let known = project.provider_keys.remove(&provider);
            let delete =
                sqlx::query("DELETE FROM provider_keys WHERE project_id = ? AND provider = ?");
            self.write(delete.bind(project.id.to_string()).bind(provider.clone())).await?;
            let Some(key) = key else { continue };
            // Of revisions no two are alike, so a key that was removed and set
            // again shows as changed.
            let version = known.map_or(project.rev, |known| known.version.max(project.rev) + 1);
            let shown =
                ProviderKeyRow { obfuscated: key.obfuscated(), version, updated_at: self.now };
            let (keys, rng) = (&self.inner.keys, &*self.inner.rng);
            let insert = sqlx::query(
                "INSERT INTO provider_keys (project_id, provider, key_id, ciphertext, obfuscated, \
                 version, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?)",
            )
            .bind(project.id.to_string())
            .bind(provider.clone())
            .bind(keys.current_id().to_owned())
            .bind(keys.seal_provider_key(&key, project.id, &provider, rng)?)
            .bind(shown.obfuscated.clone())
            .bind(rows::stored(version))
            .bind(self.now.as_micros());
            self.write(insert).await?;
            project.provider_keys.insert(provider, shown);
        }
        Ok(())
    }
}

fn check(project: &Project, keys: &BTreeMap<String, Option<Secret>>) -> Result<()> {
    model::check_name(&project.name)?;
    for (provider, key) in keys {
        model::check_provider(provider)?;
        let Some(key) = key else { continue };
        model::check_provider_key(key)?;
        if looks_obfuscated(key.expose()) {
            return Err(Error::invalid("a provider key looks obfuscated; give the key itself"));
        }
    }
    model::check_provider_count(project.provider_keys.len() + keys.len())
}
