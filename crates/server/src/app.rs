//! How the process starts, runs and stops; the only module that names all
//! others.
//!
//! The order of a start is causal: configuration, traces, data directory and
//! its lock, store, journal and its recovery, reconciliation, directory,
//! listeners. It stops in the reverse order, softly first and hard at the
//! deadline, the journal last, so that whatever ended left its record.

pub mod adapters;
pub mod alone;
mod entries;
mod events;
#[cfg(feature = "bench")]
mod ingest;
mod lanes;
mod outbox;
mod plane;
mod reading;
pub mod recover;
mod segments;
pub(crate) mod sequencer;
pub mod server;
pub mod shutdown;
mod tls;

pub use server::Server;

use std::{
    io::IsTerminal as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use domain::{ids::InstanceId, record::Envelope, rng::Rng, secret::Secret, time::Clock};
use logstore::{DataDirLock, LockError};
use store::Store;
use uuid::Uuid;

use crate::{
    config::{
        Config, Environment, Problems,
        values::{LineFormat, TraceLevel as ConfiguredLevel},
    },
    delivery::{self, Delivery, Look, pretty},
    system::{self, DataDir, DataDirError, KeySource, SystemClock, SystemRng},
    trace::{Fallback, LevelControl, TraceLevel, Traces},
};

pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Why a start was given up.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Config(#[from] Problems),
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error("begin the thread that writes traces")]
    Traces(#[source] std::io::Error),
    #[error("another subscriber for traces is installed")]
    Subscriber(#[from] tracing::subscriber::SetGlobalDefaultError),
    #[error("open {path} for lines")]
    Lines { path: PathBuf, source: std::io::Error },
    #[error("open the database")]
    Store(#[from] store::Error),
    #[error("open the journal")]
    Journal(#[from] logstore::JournalError),
    #[error("open the catalog of segments")]
    Catalog(#[from] logstore::catalog::CatalogError),
    #[error("register metrics")]
    Metrics(#[from] crate::metrics::MetricsError),
    #[error(transparent)]
    Tls(#[from] tls::TlsError),
    #[error("trust the certificates of UPSTREAM_CA_FILE")]
    Trust(#[from] rustls::Error),
    #[error("read the price table {path}")]
    Prices { path: PathBuf, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("{what}")]
    System { what: String, source: std::io::Error },
}

impl StartError {
    /// 64 (usage) for what the operator can set right, 1 for the rest.
    pub fn exit_code(&self) -> u8 {
        if matches!(self, Self::Config(_)) { 64 } else { 1 }
    }
}

/// What comes before store and journal: who we are, and how we say so.
pub struct Ground {
    pub config: Config,
    pub clock: Arc<dyn Clock>,
    pub rng: Arc<dyn Rng>,
    pub levels: Arc<LevelControl>,
    pub traces: Traces,
    pub data_dir: DataDir,
    /// Held for the life of the process.
    pub lock: DataDirLock,
    pub instance: InstanceId,
    pub boot: Uuid,
    pub management_token: (Secret, KeySource),
    pub encryption_key: (Secret, KeySource),
}

impl Ground {
    /// Everything that can be refused without touching store or journal.
    pub fn prepare(environment: &Environment, file: Option<&Path>) -> Result<Self, StartError> {
        let config = Config::load(environment, file)?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let rng: Arc<dyn Rng> = Arc::new(SystemRng);
        let levels = LevelControl::new(level_of(config.settings.log_level));
        let traces = begin_traces(&config, &levels, &clock)?;
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }
        let files = system::raise_open_files();
        tracing::debug!(limit = files, "the limit of open files was raised");

        let data_dir = DataDir::open(&config.settings.data_dir)?;
        let lock = DataDirLock::acquire(data_dir.path())?;
        let instance = data_dir.instance(config.settings.instance_id.as_ref(), &*rng)?;
        traces.identify(instance.clone());
        let settings = &config.settings;
        let management_token =
            data_dir.management_token(settings.management_token.as_ref(), &*rng)?;
        let configured = settings.encryption_key.as_ref().map(|key| &key.0);
        let encryption_key =
            data_dir.encryption_key(configured, &settings.database_path(), &*rng)?;
        if let KeySource::Created(path) = &management_token.1 {
            tracing::info!(path = %path.display(), "the root management key was created");
        }
        if let KeySource::Created(path) = &encryption_key.1 {
            let advice = "keep a copy: without it stored provider keys and tokens are lost";
            tracing::info!(path = %path.display(), advice, "the encryption key was created");
        }
        let boot = system::boot_id(&*clock, &*rng);
        Ok(Self {
            config,
            clock,
            rng,
            levels,
            traces,
            data_dir,
            lock,
            instance,
            boot,
            management_token,
            encryption_key,
        })
    }

    pub fn envelope(&self) -> Envelope {
        Envelope { instance: self.instance.clone(), version: VERSION }
    }

    /// The current key and those before it, as the store takes them.
    pub fn encryption_keys(&self) -> store::Result<store::EncryptionKeys> {
        let old = &self.config.settings.encryption_keys_old;
        let old: Vec<Secret> = old.iter().map(|key| key.0.clone()).collect();
        store::EncryptionKeys::parse(&self.encryption_key.0, &old)
    }

    pub fn store_options(&self) -> store::Options {
        let settings = &self.config.settings;
        let path = settings.database_path();
        store::Options {
            pool_size: settings.database_pool_size.0,
            ..store::Options::new(path, self.instance.clone(), self.boot)
        }
    }

    pub async fn open_store(&self) -> store::Result<Store> {
        let (options, keys) = (self.store_options(), self.encryption_keys()?);
        Store::open(options, keys, Arc::clone(&self.clock), Arc::clone(&self.rng)).await
    }

    pub fn journal_config(&self) -> logstore::JournalConfig {
        use crate::config::values::JournalSync;
        let sync = match self.config.settings.journal_sync {
            JournalSync::Each => logstore::Sync::Each,
            JournalSync::Every(every) => logstore::Sync::Interval(every),
            JournalSync::Os => logstore::Sync::Os,
        };
        let dir = logstore::journal_dir(self.data_dir.path());
        logstore::JournalConfig { sync, ..logstore::JournalConfig::new(dir) }
    }

    /// Begins to show the journal's lines, from `seq` on stdout, from where the
    /// last process stopped in `LOG_FILE`; traces go to the journal from here.
    pub fn deliver(
        &self,
        journal: &logstore::Journal,
    ) -> Result<(Delivery, adapters::Reached), StartError> {
        let settings = &self.config.settings;
        let shown_at = settings.log_file.clone().unwrap_or_else(|| "stdout".into());
        let failed = |source| StartError::Lines { path: shown_at.clone(), source };
        let look = Look {
            style: style(settings.log_format, settings.log_file.is_some()),
            records: settings.log_records.stdout,
        };
        let seq = journal.accounts().seq;
        let (lines, target): (_, Box<dyn delivery::target::Target>) = match &settings.log_file {
            None => {
                let lines = adapters::JournalLines::from(journal.follower(seq));
                (lines, Box::new(delivery::target::Stream::stdout().map_err(failed)?))
            }
            Some(path) => {
                let dir = logstore::journal_dir(self.data_dir.path());
                let lines = adapters::JournalLines::kept(journal, &dir, &self.instance, seq);
                let target = delivery::target::Appended::open(path).map_err(failed)?;
                (lines.map_err(failed)?, Box::new(target))
            }
        };
        let reached = lines.reached();
        let delivery = Delivery::begin(Box::new(lines), target, look).map_err(failed)?;
        self.traces.attach(Box::new(adapters::JournalTraces(journal.intake())));
        Ok((delivery, reached))
    }
}

fn begin_traces(
    config: &Config,
    levels: &Arc<LevelControl>,
    clock: &Arc<dyn Clock>,
) -> Result<Traces, StartError> {
    // Before there is a journal, and when it fails, stderr hears it: stdout
    // shows the journal and nothing else.
    let format = config.settings.log_format;
    let people = match format {
        Some(format) => format == LineFormat::Pretty,
        None => std::io::stderr().is_terminal(),
    };
    let colour = std::io::stderr().is_terminal();
    let style = people.then_some(pretty::Style { colour });
    let fallback = Fallback::begin(std::io::stderr(), style).map_err(StartError::Traces)?;
    let traces = Traces::new(Arc::clone(levels), Arc::clone(clock), VERSION, fallback);
    traces.install()?;
    Ok(traces)
}

fn style(format: Option<LineFormat>, to_file: bool) -> Option<pretty::Style> {
    let terminal = !to_file && std::io::stdout().is_terminal();
    let people = match format {
        Some(format) => format == LineFormat::Pretty,
        None => terminal,
    };
    people.then_some(pretty::Style { colour: terminal })
}

fn level_of(configured: ConfiguredLevel) -> TraceLevel {
    match configured {
        ConfiguredLevel::Error => TraceLevel::Error,
        ConfiguredLevel::Warn => TraceLevel::Warn,
        ConfiguredLevel::Info => TraceLevel::Info,
        ConfiguredLevel::Debug => TraceLevel::Debug,
        ConfiguredLevel::Trace => TraceLevel::Trace,
    }
}
