//! `llm-proxy audit list|show|tail`.

use std::time::Duration;

use serde_json::Value;

use crate::cli::{
    client::Client,
    input::{Surroundings, query, segment},
    show::{Column, Format, show},
};

/// How often a tail looks.
const TAIL_INTERVAL: Duration = Duration::from_secs(1);
const TAIL_PAGE: u32 = 1000;

const COLUMNS: &[Column] = &[
    ("INDEX", "index"),
    ("TIME", "ts"),
    ("ACTION", "action"),
    ("RESULT", "result"),
    ("REASON", "reason_code"),
    ("ACTOR", "who"),
    ("TARGET", "what"),
    ("CLIENT", "client_ip"),
    ("ID", "id"),
];

/// Which entries.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct FilterArgs {
    /// token.create, access.denied and so on
    #[arg(long)]
    action: Option<String>,
    /// success, denied or error
    #[arg(long)]
    result: Option<String>,
    /// root, key, local, user, token, system or anonymous
    #[arg(long, value_name = "KIND")]
    actor_kind: Option<String>,
    /// Who did it
    #[arg(long, value_name = "ID")]
    actor: Option<String>,
    #[arg(long, value_name = "ID")]
    project: Option<String>,
    #[arg(long, value_name = "ID")]
    token: Option<String>,
    /// What it was done to
    #[arg(long, value_name = "ID")]
    target: Option<String>,
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
    /// Stands anywhere in the entry
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
    /// 15m, 1h, 7d, 2026-11-23 or an RFC 3339 time
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

impl FilterArgs {
    pub fn parameters(&self) -> Vec<(&'static str, Option<String>)> {
        vec![
            ("action", self.action.clone()),
            ("result", self.result.clone()),
            ("actor_kind", self.actor_kind.clone()),
            ("actor_id", self.actor.clone()),
            ("project_id", self.project.clone()),
            ("token_id", self.token.clone()),
            ("target_id", self.target.clone()),
            ("request_id", self.request_id.clone()),
            ("search", self.search.clone()),
            ("since", self.since.clone()),
            ("until", self.until.clone()),
        ]
    }
}

#[derive(Debug, clap::Args)]
pub struct ListArgs {
    #[command(flatten)]
    filter: FilterArgs,
    #[arg(long, default_value_t = 50)]
    limit: u32,
    #[arg(long)]
    cursor: Option<String>,
    /// The whole answer as JSON, as `-o json`
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub struct TailArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// Begin behind this index; from now on where it is not given
    #[arg(long, value_name = "INDEX")]
    after: Option<u64>,
    /// End after so many entries
    #[arg(long, value_name = "NUMBER")]
    limit: Option<u64>,
}

pub async fn run(
    args: &ListArgs,
    client: &Client,
    around: &mut Surroundings<'_>,
) -> anyhow::Result<()> {
    let mut parameters = args.filter.parameters();
    parameters.push(("limit", Some(args.limit.to_string())));
    parameters.push(("cursor", args.cursor.clone()));
    let mut answer = client.get(&format!("/manage/audit{}", query(&parameters))).await?.body;
    if args.json || around.format == Format::Json {
        show(around.out, Format::Json, COLUMNS, &answer)?;
        return Ok(());
    }
    if let Some(items) = answer["items"].as_array_mut() {
        items.iter_mut().for_each(name_parties);
    }
    show(around.out, Format::Table, COLUMNS, &answer)?;
    Ok(())
}

pub async fn show_one(
    id: &str,
    client: &Client,
    around: &mut Surroundings<'_>,
) -> anyhow::Result<()> {
    let answer = client.get(&format!("/manage/audit/{}", segment(id))).await?;
    show(around.out, around.format, COLUMNS, &answer.body)?;
    Ok(())
}

/// Prints each entry once it has its place, the oldest first.
pub async fn tail(
    args: &TailArgs,
    client: &Client,
    around: &mut Surroundings<'_>,
) -> anyhow::Result<()> {
    let mut after = match args.after {
        Some(after) => Some(after),
        None => newest(client).await?,
    };
    let mut left = args.limit.unwrap_or(u64::MAX);
    loop {
        let mut parameters = args.filter.parameters();
        parameters.push(("limit", Some(TAIL_PAGE.to_string())));
        match after {
            Some(after) => parameters.push(("after", Some(after.to_string()))),
            None => parameters.push(("before", Some(u64::MAX.to_string()))),
        }
        let answer = client.get(&format!("/manage/audit{}", query(&parameters))).await?.body;
        let items = answer["items"].as_array().cloned().unwrap_or_default();
        for mut item in items {
            after = item["index"].as_u64().or(after);
            print(&mut item, around)?;
            left -= 1;
            if left == 0 {
                return Ok(());
            }
        }
        around.out.flush()?;
        tokio::time::sleep(TAIL_INTERVAL).await;
    }
}

/// The newest index; none in an empty tree.
async fn newest(client: &Client) -> anyhow::Result<Option<u64>> {
    let answer = client.get("/manage/audit?limit=100").await?.body;
    let items = answer["items"].as_array().cloned().unwrap_or_default();
    Ok(items.iter().find_map(|item| item["index"].as_u64()))
}

fn print(item: &mut Value, around: &mut Surroundings<'_>) -> anyhow::Result<()> {
    if around.format == Format::Json {
        writeln!(around.out, "{item}")?;
        return Ok(());
    }
    name_parties(item);
    let cells: Vec<String> =
        COLUMNS.iter().map(|(_, field)| crate::cli::show::cell(&item[*field])).collect();
    writeln!(around.out, "{}", cells.join("  "))?;
    Ok(())
}

/// Actor and target in a word or two, for people.
fn name_parties(item: &mut Value) {
    let words = |parts: &[&Value]| {
        let parts: Vec<&str> = parts.iter().filter_map(|part| part.as_str()).collect();
        parts.join(" ")
    };
    let (actor, target) = (&item["actor"], &item["target"]);
    let named = if actor["name"].is_string() { &actor["name"] } else { &actor["id"] };
    let who = words(&[&actor["kind"], named]);
    let what = words(&[&target["type"], &target["id"]]);
    item["who"] = who.into();
    item["what"] = if what.is_empty() { Value::Null } else { what.into() };
}
