//! `llm-proxy db migrate|status`.

use std::io::Write;

use anyhow::Context as _;
use domain::ids::InstanceId;
use store::{MigrationStatus, Options, Store};

use crate::{
    config::Config,
    system::{self, SystemClock, SystemRng},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::Subcommand)]
pub enum DbCommand {
    /// Bring the database to this version; a server does so when it starts
    Migrate,
    /// List the migrations and when they were applied
    Status,
}

pub async fn run(command: &DbCommand, config: &Config, out: &mut dyn Write) -> anyhow::Result<()> {
    let settings = &config.settings;
    let path = settings.database_path();
    // Migrations name nobody: this stands only where an instance must.
    let instance = InstanceId::parse("db-command").context("the name is not valid")?;
    let boot = system::boot_id(&SystemClock, &SystemRng);
    let options = Options::new(path, instance, boot);
    let migrations = match command {
        DbCommand::Status => Store::migration_status(&options).await?,
        DbCommand::Migrate => {
            let data_dir = system::DataDir::open(&settings.data_dir)?;
            let _lock = logstore::DataDirLock::acquire(data_dir.path())?;
            Store::migrate(&options, &SystemClock).await?
        }
    };
    for migration in &migrations {
        writeln!(out, "{}", line(migration))?;
    }
    Ok(())
}

fn line(migration: &MigrationStatus) -> String {
    let MigrationStatus { version, name, applied_at } = migration;
    let applied = applied_at.map_or_else(|| "pending".to_owned(), |at| at.to_string());
    format!("{version:>4}  {applied:<27}  {name}")
}
