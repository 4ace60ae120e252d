//! `llm-proxy project create|list|get|update`.

use std::path::PathBuf;

use http::Method;
use serde_json::{Map, Value, json};

use super::{
    client::Client,
    input::{Surroundings, labels, query, secret},
    show::{Column, show},
};

const COLUMNS: &[Column] = &[
    ("ID", "id"),
    ("NAME", "name"),
    ("ACTIVE", "is_active"),
    ("KEYS", "provider_keys"),
    ("LABELS", "labels"),
    ("CREATED", "created_at"),
];

#[derive(Debug, clap::Subcommand)]
pub enum ProjectCommand {
    /// Create a project; its provider key comes from stdin, a file or a variable.
    Create {
        name: String,
        #[command(flatten)]
        key: ProviderKey,
        /// NAME=VALUE; may be repeated.
        #[arg(long = "label")]
        labels: Vec<String>,
    },
    /// List projects.
    List {
        /// Only the project of this name.
        #[arg(long)]
        name: Option<String>,
        #[arg(long, default_value_t = 100)]
        limit: u32,
        #[arg(long)]
        cursor: Option<String>,
    },
    /// Show a project.
    Get { id: String },
    /// Change a project; what is not named stays.
    Update {
        id: String,
        #[arg(long)]
        name: Option<String>,
        #[command(flatten)]
        key: ProviderKey,
        /// false stops the project's traffic.
        #[arg(long)]
        active: Option<bool>,
        /// Also revoke every token of the project.
        #[arg(long)]
        revoke_tokens: bool,
        /// With --active false or --revoke-tokens: also end running requests.
        #[arg(long)]
        terminate: bool,
        /// NAME=VALUE; may be repeated; replaces all labels.
        #[arg(long = "label")]
        labels: Vec<String>,
    },
}

/// Where the provider's key comes from: never the command line itself, which
/// other users of the machine can read.
#[derive(Debug, clap::Args)]
pub struct ProviderKey {
    /// Whose key it is; the default provider's if not given.
    #[arg(long)]
    provider: Option<String>,
    /// Read the provider's key from standard input.
    #[arg(long, group = "key_source")]
    api_key_stdin: bool,
    /// Read the provider's key from a file.
    #[arg(long, value_name = "PATH", group = "key_source")]
    api_key_file: Option<PathBuf>,
    /// Read the provider's key from this environment variable.
    #[arg(long, value_name = "VARIABLE", group = "key_source")]
    api_key_env: Option<String>,
}

impl ProviderKey {
    fn put(
        &self,
        body: &mut Map<String, Value>,
        around: &mut Surroundings<'_>,
    ) -> anyhow::Result<()> {
        let file = self.api_key_file.as_deref();
        let key = secret(around, self.api_key_stdin, file, self.api_key_env.as_deref())?;
        match (key, &self.provider) {
            (None, None) => {}
            (None, Some(_)) => anyhow::bail!(
                "--provider needs the key: --api-key-stdin, --api-key-file or --api-key-env"
            ),
            (Some(key), None) => {
                body.insert("api_key".to_owned(), key.expose().into());
            }
            (Some(key), Some(provider)) => {
                let keys = json!({ provider.as_str(): key.expose() });
                body.insert("provider_keys".to_owned(), keys);
            }
        }
        Ok(())
    }
}

pub async fn run(
    command: ProjectCommand,
    client: &Client,
    around: &mut Surroundings<'_>,
) -> anyhow::Result<()> {
    let answer = match command {
        ProjectCommand::Create { name, key, labels: given } => {
            let mut body = Map::new();
            body.insert("name".to_owned(), name.into());
            key.put(&mut body, around)?;
            if let Some(labels) = labels(&given)? {
                body.insert("labels".to_owned(), labels);
            }
            client.call(Method::POST, "/manage/projects", Some(body.into())).await?
        }
        ProjectCommand::List { name, limit, cursor } => {
            let limit = Some(limit.to_string());
            let query = query(&[("limit", limit), ("cursor", cursor), ("name", name)]);
            client.get(&format!("/manage/projects{query}")).await?
        }
        ProjectCommand::Get { id } => {
            client.get(&format!("/manage/projects/{}", super::input::segment(&id))).await?
        }
        ProjectCommand::Update {
            id,
            name,
            key,
            active,
            revoke_tokens,
            terminate,
            labels: given,
        } => {
            let mut body = Map::new();
            if let Some(name) = name {
                body.insert("name".to_owned(), name.into());
            }
            key.put(&mut body, around)?;
            if let Some(active) = active {
                body.insert("is_active".to_owned(), active.into());
            }
            if revoke_tokens {
                body.insert("revoke_tokens".to_owned(), true.into());
            }
            if let Some(labels) = labels(&given)? {
                body.insert("labels".to_owned(), labels);
            }
            let query = query(&[("terminate", terminate.then(|| "true".to_owned()))]);
            let path = format!("/manage/projects/{}{query}", super::input::segment(&id));
            client.call(Method::PATCH, &path, Some(body.into())).await?
        }
    };
    show(around.out, around.format, COLUMNS, &answer.body)?;
    Ok(())
}
