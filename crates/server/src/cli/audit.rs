//! `llm-proxy audit …`: the audit log from the command line.

pub mod tag;

use super::{client::Client, input::Surroundings};

#[derive(Debug, clap::Subcommand)]
pub enum AuditCommand {
    /// Print the tags of a leaked credential, to look for in the audit log
    Tag(tag::TagArgs),
}

pub async fn run(
    command: AuditCommand,
    client: &Client,
    around: &mut Surroundings<'_>,
) -> anyhow::Result<()> {
    match command {
        AuditCommand::Tag(args) => tag::run(&args, client, around).await,
    }
}
