//! `llm-proxy audit export`: entries with what proves them, as they come.

use std::{fs::OpenOptions, io::Write, os::unix::fs::OpenOptionsExt as _, path::PathBuf};

use anyhow::Context as _;

use super::list::FilterArgs;
use crate::cli::{
    client::Client,
    input::{Surroundings, query},
};

#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum ExportFormat {
    /// JSON lines: index, leaf, openings; the last line has the checkpoint
    Json,
    /// For spreadsheets; proves nothing by itself
    Csv,
}

#[derive(Debug, clap::Args)]
pub struct ExportArgs {
    #[command(flatten)]
    filter: FilterArgs,
    #[arg(long, value_enum, default_value = "json")]
    format: ExportFormat,
    /// Entries behind this index
    #[arg(long, value_name = "INDEX")]
    after: Option<u64>,
    /// Entries before this index
    #[arg(long, value_name = "INDEX")]
    before: Option<u64>,
    /// At most so many
    #[arg(long, value_name = "NUMBER")]
    limit: Option<u64>,
    /// Write to this file (0600) instead of standard output
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

pub async fn run(
    args: &ExportArgs,
    client: &Client,
    around: &mut Surroundings<'_>,
) -> anyhow::Result<()> {
    let number = |number: Option<u64>| number.map(|number| number.to_string());
    let mut parameters = args.filter.parameters();
    parameters.push(("after", number(args.after)));
    parameters.push(("before", number(args.before)));
    parameters.push(("limit", number(args.limit)));
    let path = format!("/manage/audit{}", query(&parameters));
    let accept = match args.format {
        ExportFormat::Json => "application/x-ndjson",
        ExportFormat::Csv => "text/csv",
    };
    let Some(file) = &args.file else { return client.copy(&path, accept, around.out).await };
    let cannot = || format!("cannot write {}", file.display());
    let mut open = OpenOptions::new();
    let opened = open.write(true).create(true).truncate(true).mode(0o600).open(file);
    let mut opened = opened.with_context(cannot)?;
    client.copy(&path, accept, &mut opened).await?;
    opened.flush().and_then(|()| opened.sync_all()).with_context(cannot)
}
