//! `llm-proxy key create|list|revoke`: management keys.

use http::Method;
use serde_json::json;

use super::{
    client::Client,
    input::{Surroundings, query, segment},
    show::{Column, Format, show},
};

const COLUMNS: &[Column] = &[
    ("ID", "id"),
    ("NAME", "name"),
    ("KEY", "key"),
    ("ROLE", "role"),
    ("PROJECTS", "project_ids"),
    ("EXPIRES", "expires_at"),
    ("REVOKED", "revoked_at"),
];

#[derive(Debug, clap::Subcommand)]
pub enum KeyCommand {
    /// Create a management key and print it, once.
    Create {
        name: String,
        /// admin, operator, auditor or viewer.
        #[arg(long)]
        role: String,
        /// Limit it to this project; may be repeated.
        #[arg(long = "project", value_name = "ID")]
        projects: Vec<String>,
        /// When it ends, as an RFC 3339 time.
        #[arg(long, value_name = "TIME")]
        expires_at: Option<String>,
    },
    /// List management keys.
    List {
        #[arg(long, default_value_t = 100)]
        limit: u32,
        #[arg(long)]
        cursor: Option<String>,
    },
    /// Revoke a management key.
    Revoke { id: String },
}

pub async fn run(
    command: KeyCommand,
    client: &Client,
    around: &mut Surroundings<'_>,
) -> anyhow::Result<()> {
    match command {
        KeyCommand::Create { name, role, projects, expires_at } => {
            let mut body = json!({ "name": name, "role": role, "expires_at": expires_at });
            if !projects.is_empty() {
                body["project_ids"] = projects.into();
            }
            let answer = client.call(Method::POST, "/manage/keys", Some(body)).await?;
            show(around.out, around.format, COLUMNS, &answer.body)?;
            if around.format == Format::Table {
                writeln!(around.out, "\nThe key is shown this once. Keep it in MANAGEMENT_TOKEN.")?;
            }
        }
        KeyCommand::List { limit, cursor } => {
            let query = query(&[("limit", Some(limit.to_string())), ("cursor", cursor)]);
            let answer = client.get(&format!("/manage/keys{query}")).await?;
            show(around.out, around.format, COLUMNS, &answer.body)?;
        }
        KeyCommand::Revoke { id } => {
            let path = format!("/manage/keys/{}", segment(&id));
            client.call(Method::DELETE, &path, None).await?;
            writeln!(around.out, "Revoked.")?;
        }
    }
    Ok(())
}
