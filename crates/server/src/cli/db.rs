//! `llm-proxy db migrate|status`.

use std::{io::Write, sync::Arc};

use anyhow::Context as _;
use domain::{
    audit::{Action, Actor, Detail, EntryContext, EntryDraft, TargetKind, Word},
    ids::InstanceId,
    secret::Secret,
};
use store::{EncryptionKeys, MigrationStatus, Options, Store};

use crate::{
    config::Config,
    system::{self, DataDir, KeySource, SystemClock, SystemRng},
};

#[derive(Debug, Clone, PartialEq, Eq, clap::Subcommand)]
pub enum DbCommand {
    /// Bring the database to this version; a server does so when it starts
    Migrate {
        /// Why, for the audit entry
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        /// The ticket behind it, for the audit entry
        #[arg(long, value_name = "TEXT")]
        ticket: Option<String>,
    },
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
        DbCommand::Migrate { reason, ticket } => {
            let why = Why::new(config, reason.as_deref(), ticket.as_deref())?;
            let data_dir = system::DataDir::open(&settings.data_dir)?;
            let _lock = logstore::DataDirLock::acquire(data_dir.path())?;
            if !options.path.exists() {
                // A server never makes a key for a database that is there.
                let configured = settings.encryption_key.as_ref().map(|key| &key.0);
                let key = data_dir.encryption_key(configured, &options.path, &SystemRng)?;
                if let KeySource::Created(path) = key.1 {
                    writeln!(out, "the encryption key was created: {}", path.display())?;
                }
            }
            let before = Store::migration_status(&options).await.unwrap_or_default();
            let is_new = |it: &MigrationStatus| {
                !before.iter().any(|was| was.version == it.version && was.applied_at.is_some())
            };
            let migrations = Store::migrate(&options, &SystemClock).await?;
            let applied = migrations.iter().filter(|it| is_new(it)).count() as u64;
            if applied > 0 {
                enter(config, &data_dir, applied, why).await?;
            }
            migrations
        }
    };
    for migration in &migrations {
        writeln!(out, "{}", line(migration))?;
    }
    Ok(())
}

/// What the caller says for the entry, checked before anything is done.
struct Why<'a> {
    reason: Option<&'a str>,
    ticket: Option<Word>,
}

impl<'a> Why<'a> {
    fn new(config: &Config, reason: Option<&'a str>, ticket: Option<&str>) -> anyhow::Result<Self> {
        let required = &config.settings.audit_require_reason;
        let explained = reason.is_some_and(|reason| !reason.trim().is_empty());
        if required.contains(&Action::ConfigChange) && !explained {
            anyhow::bail!("config.change needs a reason: give --reason");
        }
        let word = |text| Word::parse(text).context("--ticket must be 1 to 128 plain characters");
        Ok(Self { reason, ticket: ticket.map(word).transpose()? })
    }
}

/// The entry of a migration that a command applied, in the caller's name.
async fn enter(
    config: &Config,
    data_dir: &DataDir,
    applied: u64,
    why: Why<'_>,
) -> anyhow::Result<()> {
    let settings = &config.settings;
    let instance = data_dir.instance(settings.instance_id.as_ref(), &SystemRng)?;
    let path = settings.database_path();
    let configured = settings.encryption_key.as_ref().map(|key| &key.0);
    let key = data_dir.encryption_key(configured, &path, &SystemRng)?.0;
    let old: Vec<Secret> = settings.encryption_keys_old.iter().map(|key| key.0.clone()).collect();
    let keys = EncryptionKeys::parse(&key, &old)?;
    let options = Options::new(path, instance, system::boot_id(&SystemClock, &SystemRng));
    let (clock, rng) = (Arc::new(SystemClock), Arc::new(SystemRng));
    let store = Store::open(options, keys, clock, rng).await?;
    let actor = Actor::local(rustix::process::getuid().as_raw());
    let context = EntryContext { ticket: why.ticket, ..EntryContext::default() };
    let tx = store.begin(actor, context).await?;
    let draft = EntryDraft::new(Action::ConfigChange)
        .target(TargetKind::Setting, "database_schema")
        .detail(Detail::Migrations(applied));
    let draft = why.reason.map_or(draft.clone(), |reason| draft.note(reason));
    drop(tx.commit(draft).await.context("enter the migration in the audit log")?);
    store.close().await;
    Ok(())
}

fn line(migration: &MigrationStatus) -> String {
    let MigrationStatus { version, name, applied_at } = migration;
    let applied = applied_at.map_or_else(|| "pending".to_owned(), |at| at.to_string());
    format!("{version:>4}  {applied:<27}  {name}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Environment;

    #[tokio::test]
    async fn a_server_can_start_on_what_migrate_made() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("data");
        let data_dir = path.display().to_string();
        let environment = Environment::from([("DATA_DIR".to_owned(), data_dir)]);
        let config = Config::load(&environment, None).expect("valid");
        let mut out = Vec::new();
        let migrate = DbCommand::Migrate { reason: None, ticket: Some("OPS-1".to_owned()) };
        run(&migrate, &config, &mut out).await.expect("migrated");
        let database = config.settings.database_path();
        let opened = system::DataDir::open(&path).expect("a data directory");
        let kept = opened.encryption_key(None, &database, &SystemRng);
        assert!(kept.is_ok_and(|(_, source)| matches!(source, KeySource::Kept(_))));
        // A key that went missing afterwards is not made anew.
        std::fs::remove_file(path.join("keys/encryption-key")).expect("removed");
        run(&migrate, &config, &mut out).await.expect("nothing to do");
        assert!(opened.encryption_key(None, &database, &SystemRng).is_err());
    }
}
