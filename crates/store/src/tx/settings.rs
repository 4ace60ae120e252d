//! Settings that are kept in the database.

use super::AuditedTx;
use crate::{
    error::Result,
    model::{self, Setting, Updated},
    read, rows,
};

impl AuditedTx {
    /// Sets a setting, or removes it with `None`.
    pub async fn put_setting(
        &mut self,
        name: &str,
        value: Option<&str>,
    ) -> Result<Updated<Option<Setting>>> {
        model::check_setting(name, value)?;
        let before = read::setting(self.connection(), name).await?;
        if before.as_ref().map(|setting| setting.value.as_str()) == value {
            return Ok(Updated { after: before.clone(), before });
        }
        let delete = sqlx::query("DELETE FROM settings WHERE name = ?");
        self.write(delete.bind(name.to_owned())).await?;
        let after = value.map(|value| Setting {
            name: name.to_owned(),
            value: value.to_owned(),
            rev: before.as_ref().map_or(1, |setting| setting.rev + 1),
            updated_at: self.now,
        });
        if let Some(setting) = &after {
            let insert = sqlx::query(
                "INSERT INTO settings (name, value, rev, updated_at) VALUES (?, ?, ?, ?)",
            )
            .bind(setting.name.clone())
            .bind(setting.value.clone())
            .bind(rows::stored(setting.rev))
            .bind(setting.updated_at.as_micros());
            self.write(insert).await?;
        }
        Ok(Updated { before, after })
    }
}
