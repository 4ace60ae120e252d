//! `llm-proxy token create|list|get|update|revoke`.

use http::Method;
use serde_json::{Map, Value};

use super::{
    client::Client,
    input::{Surroundings, labels, query, segment},
    show::{Column, Format, show},
};

const COLUMNS: &[Column] = &[
    ("ID", "id"),
    ("PROJECT", "project_id"),
    ("TOKEN", "token"),
    ("ACTIVE", "is_active"),
    ("USED", "request_count"),
    ("OF", "max_requests"),
    ("EXPIRES", "expires_at"),
    ("LAST USED", "last_used_at"),
];

#[derive(Debug, clap::Subcommand)]
pub enum TokenCommand {
    /// Create a token and print it, once.
    Create {
        /// The project it belongs to.
        #[arg(long, value_name = "ID")]
        project: String,
        #[command(flatten)]
        lifetime: Lifetime,
        #[command(flatten)]
        limits: Limits,
    },
    /// List tokens.
    List {
        /// Only this project's.
        #[arg(long, value_name = "ID")]
        project: Option<String>,
        /// Leave out revoked, inactive and expired ones.
        #[arg(long)]
        active_only: bool,
        #[arg(long, default_value_t = 100)]
        limit: u32,
        #[arg(long)]
        cursor: Option<String>,
    },
    /// Show a token.
    Get { id: String },
    /// Change a token; what is not named stays.
    Update {
        id: String,
        #[command(flatten)]
        lifetime: Lifetime,
        #[command(flatten)]
        limits: Limits,
        /// false stops it until it is set to true again.
        #[arg(long)]
        active: Option<bool>,
        /// With --active false: also end running requests.
        #[arg(long)]
        terminate: bool,
    },
    /// Revoke a token for good.
    Revoke {
        id: String,
        /// Also end running requests.
        #[arg(long)]
        terminate: bool,
    },
}

#[derive(Debug, clap::Args)]
pub struct Lifetime {
    /// How long it lives from now on, in minutes (at most a year). A new token
    /// lives a day if nothing is said.
    #[arg(long, value_name = "N", group = "lifetime")]
    minutes: Option<u64>,
    /// It does not expire.
    #[arg(long, group = "lifetime")]
    never_expires: bool,
}

#[derive(Debug, clap::Args)]
pub struct Limits {
    /// How often it may be used in its life.
    #[arg(long, value_name = "N")]
    max_requests: Option<u64>,
    /// How often it may be used in a minute.
    #[arg(long, value_name = "N")]
    rpm: Option<u32>,
    /// A model that it may ask for, `*` allowed; may be repeated.
    #[arg(long = "model", value_name = "PATTERN")]
    models: Vec<String>,
    /// NAME=VALUE; may be repeated.
    #[arg(long = "label")]
    labels: Vec<String>,
    #[arg(long)]
    description: Option<String>,
}

const MINUTES_DEFAULT: u64 = 24 * 60;

impl Lifetime {
    fn put(&self, body: &mut Map<String, Value>, default: Option<u64>) {
        let minutes = if self.never_expires {
            Some(Value::Null)
        } else {
            self.minutes.or(default).map(Value::from)
        };
        if let Some(minutes) = minutes {
            body.insert("duration_minutes".to_owned(), minutes);
        }
    }
}

impl Limits {
    fn put(self, body: &mut Map<String, Value>) -> anyhow::Result<()> {
        let mut put = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                body.insert(name.to_owned(), value);
            }
        };
        put("max_requests", self.max_requests.map(Value::from));
        put("rate_limit_rpm", self.rpm.map(Value::from));
        put("allowed_models", (!self.models.is_empty()).then(|| self.models.into()));
        put("labels", labels(&self.labels)?);
        put("description", self.description.map(Value::from));
        Ok(())
    }
}

pub async fn run(
    command: TokenCommand,
    client: &Client,
    around: &mut Surroundings<'_>,
) -> anyhow::Result<()> {
    let answer = match command {
        TokenCommand::Create { project, lifetime, limits } => {
            let mut body = Map::new();
            body.insert("project_id".to_owned(), project.into());
            lifetime.put(&mut body, Some(MINUTES_DEFAULT));
            limits.put(&mut body)?;
            let answer = client.call(Method::POST, "/manage/tokens", Some(body.into())).await?;
            return created(&answer.body, around);
        }
        TokenCommand::List { project, active_only, limit, cursor } => {
            let query = query(&[
                ("limit", Some(limit.to_string())),
                ("cursor", cursor),
                ("projectId", project),
                ("activeOnly", active_only.then(|| "true".to_owned())),
            ]);
            client.get(&format!("/manage/tokens{query}")).await?
        }
        TokenCommand::Get { id } => client.get(&format!("/manage/tokens/{}", segment(&id))).await?,
        TokenCommand::Update { id, lifetime, limits, active, terminate } => {
            let mut body = Map::new();
            lifetime.put(&mut body, None);
            limits.put(&mut body)?;
            if let Some(active) = active {
                body.insert("is_active".to_owned(), active.into());
            }
            let query = query(&[("terminate", terminate.then(|| "true".to_owned()))]);
            let path = format!("/manage/tokens/{}{query}", segment(&id));
            client.call(Method::PATCH, &path, Some(body.into())).await?
        }
        TokenCommand::Revoke { id, terminate } => {
            let query = query(&[("terminate", terminate.then(|| "true".to_owned()))]);
            let path = format!("/manage/tokens/{}{query}", segment(&id));
            client.call(Method::DELETE, &path, None).await?;
            writeln!(around.out, "Revoked.")?;
            return Ok(());
        }
    };
    show(around.out, around.format, COLUMNS, &answer.body)?;
    Ok(())
}

/// The one time that a token is printed, with what to do with it.
fn created(body: &Value, around: &mut Surroundings<'_>) -> anyhow::Result<()> {
    show(around.out, around.format, COLUMNS, body)?;
    if around.format == Format::Table {
        let token = body["token"].as_str().unwrap_or_default();
        writeln!(
            around.out,
            "\nThe token is shown this once. Use it in place of a provider's key:"
        )?;
        writeln!(around.out, "  OPENAI_BASE_URL={}/v1 OPENAI_API_KEY={token}", around.proxy_url)?;
    }
    Ok(())
}
