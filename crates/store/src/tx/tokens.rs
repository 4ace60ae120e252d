//! Tokens: created, changed, revoked one by one or all of a project.

use domain::{
    capture::Capture,
    ids::{ProjectId, TokenId},
};

use super::{AuditedTx, check_rev, to_json};
use crate::{
    directory::ChangedId,
    error::{Error, Result},
    model::{self, NewToken, TokenPatch, TokenRow, Updated},
    read, rows,
};

/// What revoking all tokens of a project did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RevokedBatch {
    pub revoked: Vec<TokenId>,
    pub already_revoked_count: u64,
    pub total_tokens: u64,
}

impl AuditedTx {
    /// Creates a token of a project that exists.
    pub async fn create_token(&mut self, new: NewToken) -> Result<TokenRow> {
        let project = self.project(new.project_id).await?;
        let token = TokenRow {
            id: TokenId::new(self.now, &*self.inner.rng),
            project_id: project.id,
            obfuscated: new.obfuscated,
            is_active: true,
            revoked_at: None,
            expires_at: new.expires_at,
            max_requests: new.max_requests,
            rate_limit_rpm: new.rate_limit_rpm,
            allowed_models: new.allowed_models,
            labels: new.labels,
            description: new.description,
            capture_bodies: new.capture_bodies,
            request_count: 0,
            last_used_at: None,
            rev: 1,
            created_at: self.now,
            updated_at: self.now,
        };
        model::check_token(&token)?;
        let insert = sqlx::query(
            "INSERT INTO tokens (id, project_id, hash, obfuscated, is_active, revoked_at, \
             expires_at, max_requests, rate_limit_rpm, allowed_models, labels, description, \
             capture_bodies, rev, created_at, updated_at) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(token.id.to_string())
        .bind(token.project_id.to_string())
        .bind(rows::hex(new.hash.as_bytes()))
        .bind(token.obfuscated.clone())
        .bind(i64::from(token.is_active))
        .bind(token.revoked_at.map(|time| time.as_micros()))
        .bind(token.expires_at.map(|time| time.as_micros()))
        .bind(token.max_requests.map(rows::stored))
        .bind(token.rate_limit_rpm.map(i64::from))
        .bind(token.allowed_models.as_ref().map(to_json))
        .bind(to_json(&token.labels))
        .bind(token.description.clone())
        .bind(token.capture_bodies.map(Capture::as_str))
        .bind(rows::stored(token.rev))
        .bind(token.created_at.as_micros())
        .bind(token.updated_at.as_micros());
        self.write(insert).await?;
        let usage = sqlx::query("INSERT INTO token_usage (token_id, request_count) VALUES (?, 0)");
        self.write(usage.bind(token.id.to_string())).await?;
        self.changed.push(ChangedId::Token(token.id));
        Ok(token)
    }

    /// The token, as nobody else can change it before this transaction ends.
    pub async fn token(&mut self, id: TokenId) -> Result<TokenRow> {
        let found = read::token(self.connection(), id).await?;
        found.ok_or_else(|| Error::not_found("token"))
    }

    /// Applies a patch. `expected_rev` refuses to overwrite another's change.
    pub async fn update_token(
        &mut self,
        id: TokenId,
        expected_rev: Option<u64>,
        patch: TokenPatch,
    ) -> Result<Updated<TokenRow>> {
        let before = self.token(id).await?;
        check_rev(expected_rev, before.rev)?;
        let mut after = before.clone();
        let TokenPatch {
            is_active,
            expires_at,
            max_requests,
            rate_limit_rpm,
            allowed_models,
            labels,
            description,
            capture_bodies,
        } = patch;
        after.expires_at = expires_at.unwrap_or(after.expires_at);
        after.max_requests = max_requests.unwrap_or(after.max_requests);
        after.rate_limit_rpm = rate_limit_rpm.unwrap_or(after.rate_limit_rpm);
        after.allowed_models = allowed_models.unwrap_or(after.allowed_models);
        after.labels = labels.unwrap_or(after.labels);
        after.description = description.unwrap_or(after.description);
        after.capture_bodies = capture_bodies.unwrap_or(after.capture_bodies);
        after.is_active = is_active.unwrap_or(after.is_active);
        if after.is_active && after.revoked_at.is_some() {
            return Err(Error::conflict("a revoked token stays revoked"));
        }
        model::check_token(&after)?;
        self.put_token(before, after).await
    }

    /// Ends a token for good; a second time changes nothing.
    pub async fn revoke_token(&mut self, id: TokenId) -> Result<Updated<TokenRow>> {
        let before = self.token(id).await?;
        let mut after = before.clone();
        after.is_active = false;
        after.revoked_at = after.revoked_at.or(Some(self.now));
        self.put_token(before, after).await
    }

    /// Revokes every token of a project that is not revoked yet.
    pub async fn revoke_project_tokens(&mut self, id: ProjectId) -> Result<RevokedBatch> {
        self.project(id).await?;
        let found = sqlx::query("SELECT id, revoked_at FROM tokens WHERE project_id = ?")
            .bind(id.to_string())
            .fetch_all(self.connection())
            .await?;
        let mut revoked = Vec::new();
        for row in &found {
            if rows::time_if(row, "revoked_at")?.is_none() {
                revoked.push(rows::parsed(row, "id")?);
            }
        }
        let now = self.now.as_micros();
        let update = sqlx::query(
            "UPDATE tokens SET is_active = 0, revoked_at = ?, rev = rev + 1, updated_at = ? \
             WHERE project_id = ? AND revoked_at IS NULL",
        );
        self.write(update.bind(now).bind(now).bind(id.to_string())).await?;
        // A replica drops all tokens of a project that changed, so one line
        // stands for any number of tokens.
        self.changed.push(ChangedId::Project(id));
        let total_tokens = found.len() as u64;
        let already_revoked_count = total_tokens - revoked.len() as u64;
        Ok(RevokedBatch { revoked, already_revoked_count, total_tokens })
    }

    async fn put_token(
        &mut self,
        before: TokenRow,
        mut after: TokenRow,
    ) -> Result<Updated<TokenRow>> {
        if after == before {
            return Ok(Updated { before, after });
        }
        after.rev += 1;
        after.updated_at = self.now;
        let update = sqlx::query(
            "UPDATE tokens SET is_active = ?, revoked_at = ?, expires_at = ?, max_requests = ?, \
             rate_limit_rpm = ?, allowed_models = ?, labels = ?, description = ?, \
             capture_bodies = ?, rev = ?, updated_at = ? WHERE id = ?",
        )
        .bind(i64::from(after.is_active))
        .bind(after.revoked_at.map(|time| time.as_micros()))
        .bind(after.expires_at.map(|time| time.as_micros()))
        .bind(after.max_requests.map(rows::stored))
        .bind(after.rate_limit_rpm.map(i64::from))
        .bind(after.allowed_models.as_ref().map(to_json))
        .bind(to_json(&after.labels))
        .bind(after.description.clone())
        .bind(after.capture_bodies.map(Capture::as_str))
        .bind(rows::stored(after.rev))
        .bind(after.updated_at.as_micros())
        .bind(after.id.to_string());
        self.write(update).await?;
        self.changed.push(ChangedId::Token(after.id));
        Ok(Updated { before, after })
    }
}
