//! `llm-proxy audit …`: the audit log from the command line.

pub mod tag;
pub mod tree;

use super::{client::Client, input::Surroundings};

#[derive(Debug, clap::Subcommand)]
pub enum AuditCommand {
    /// Print the tags of a leaked credential, to look for in the audit log
    Tag(tag::TagArgs),
    #[command(flatten)]
    Tree(tree::TreeCommand),
}

pub async fn run(
    command: AuditCommand,
    client: &Client,
    around: &mut Surroundings<'_>,
) -> anyhow::Result<()> {
    match command {
        AuditCommand::Tag(args) => tag::run(&args, client, around).await,
        AuditCommand::Tree(_) => anyhow::bail!("the tree is read without a server"),
    }
}
