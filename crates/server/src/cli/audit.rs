//! `llm-proxy audit …`: the audit log from the command line.

pub mod export;
pub mod list;
pub mod recover;
pub mod tag;
pub mod tree;

use std::path::PathBuf;

use super::{client::Client, input::Surroundings};

/// Ask the audit log
#[derive(Debug, clap::Args)]
pub struct AuditArgs {
    #[command(flatten)]
    pub place: super::Place,
    /// The data directory, instead of DATA_DIR
    #[arg(long, global = true, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    #[command(subcommand)]
    pub command: AuditCommand,
}

#[derive(Debug, clap::Subcommand)]
pub enum AuditCommand {
    /// List entries, the newest first
    List(list::ListArgs),
    /// Show one entry with all that it says
    Show {
        /// Its id or its index
        id: String,
    },
    /// Print entries as they get their place in the tree, until interrupted
    Tail(list::TailArgs),
    /// Write entries as JSON lines or CSV, with what proves them
    Export(export::ExportArgs),
    /// Print the tags of a leaked credential, to look for in the audit log
    Tag(tag::TagArgs),
    /// Make the database's index of entries anew from the tree (no server may run)
    Rebuild,
    /// Go on with a database or a tree that came back from an older copy (no server may run)
    Recover,
    #[command(flatten)]
    Tree(tree::TreeCommand),
}

pub async fn run(
    command: AuditCommand,
    client: &Client,
    around: &mut Surroundings<'_>,
) -> anyhow::Result<()> {
    match command {
        AuditCommand::List(args) => list::run(&args, client, around).await,
        AuditCommand::Show { id } => list::show_one(&id, client, around).await,
        AuditCommand::Tail(args) => list::tail(&args, client, around).await,
        AuditCommand::Export(args) => export::run(&args, client, around).await,
        AuditCommand::Tag(args) => tag::run(&args, client, around).await,
        // Needs the directory for itself: see `cli::run`.
        AuditCommand::Rebuild | AuditCommand::Recover => Ok(()),
        AuditCommand::Tree(_) => anyhow::bail!("the tree is read without a server"),
    }
}
