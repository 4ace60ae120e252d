//! `llm-proxy audit tag`: was this leaked credential ever tried here?
//!
//! The credential comes from standard input, a file or a variable, never from
//! the command line, and is kept nowhere.

use std::path::PathBuf;

use anyhow::Context as _;
use http::Method;
use serde_json::json;

use crate::cli::{
    client::Client,
    input::{Surroundings, secret},
    show::{Column, Format, show},
};

const COLUMNS: &[Column] = &[("FROM", "from"), ("UNTIL", "until"), ("TAG", "tag")];

#[derive(Debug, clap::Args)]
#[group(id = "credential_source", required = true, multiple = false)]
pub struct TagArgs {
    /// Read the credential from standard input
    #[arg(long)]
    credential_stdin: bool,
    /// Read the credential from a file
    #[arg(long, value_name = "PATH")]
    credential_file: Option<PathBuf>,
    /// Read the credential from this environment variable
    #[arg(long, value_name = "VARIABLE")]
    credential_env: Option<String>,
}

pub async fn run(
    args: &TagArgs,
    client: &Client,
    around: &mut Surroundings<'_>,
) -> anyhow::Result<()> {
    let (file, variable) = (args.credential_file.as_deref(), args.credential_env.as_deref());
    let credential = secret(around, args.credential_stdin, file, variable)?;
    let credential = credential.context("no credential was given")?;
    let body = json!({ "credential": credential.expose() });
    let answer = client.call(Method::POST, "/manage/audit/tag", Some(body)).await?;
    show(around.out, around.format, COLUMNS, &answer.body)?;
    if around.format == Format::Table {
        writeln!(
            around.out,
            "\nEntries of refusals hold the tag of their week as credential_tag. The newest: \
             llm-proxy logs search --stream entry 'leaf:/{}/'",
            answer.body["items"][0]["tag"].as_str().unwrap_or_default()
        )?;
    }
    Ok(())
}
