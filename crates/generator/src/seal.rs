//! The sealer behind the journal, as the product runs it.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use domain::{record::Envelope, time::Clock};
use logstore::{
    Journal,
    catalog::{Catalog, CatalogConfig, Policy, Sealer, SealerConfig},
    fs::StdFs,
};

/// Whatever was written is sealed within this.
const SEAL_TIMEOUT: Duration = Duration::from_secs(3_600);

/// However old the made-up week is.
fn keep_all() -> Policy {
    Policy {
        records_micros: i64::MAX,
        bodies_micros: i64::MAX,
        traces_micros: i64::MAX,
        entries_micros: i64::MAX,
        ..Policy::default()
    }
}

/// The catalog and its thread.
pub struct Sealing {
    config: CatalogConfig,
    clock: Arc<dyn Clock>,
    catalog: Arc<Catalog>,
    sealer: Sealer,
}

impl Sealing {
    pub fn start(
        data_dir: &Path,
        envelope: &Envelope,
        clock: Arc<dyn Clock>,
        journal: &Journal,
    ) -> Result<Self> {
        let mut config = CatalogConfig::new(data_dir, envelope.instance.clone(), envelope.version);
        // Nobody reads while this writes: what is replaced can go at once.
        config.grace = Duration::ZERO;
        let catalog = Arc::new(open(&config, &clock)?);
        // No reader but the sealer needs the journal's files.
        let required = Box::new(|| u64::MAX);
        let sealer_config = SealerConfig::new(required, keep_all());
        let sealer = Sealer::start(Arc::clone(&catalog), journal.closed_files(), sealer_config)
            .context("start the sealer")?;
        Ok(Self { config, clock, catalog, sealer })
    }

    /// Seals what is left, once the journal is closed. Gives the catalog as the
    /// next process finds it: this one's was told to hurry, and merges no more.
    pub fn finish(self) -> Result<Catalog> {
        if !self.sealer.stop(SEAL_TIMEOUT) {
            bail!("the sealer did not end within {} s", SEAL_TIMEOUT.as_secs());
        }
        if self.catalog.figures().failures > 0 {
            bail!("not everything could be sealed");
        }
        drop(self.catalog);
        open(&self.config, &self.clock)
    }
}

fn open(config: &CatalogConfig, clock: &Arc<dyn Clock>) -> Result<Catalog> {
    let (fs, clock) = (Arc::new(StdFs), Arc::clone(clock));
    let (catalog, problems) = Catalog::open(config.clone(), fs, clock, Box::new(()))?;
    match problems.first() {
        None => Ok(catalog),
        Some(problem) => bail!("{problem}"),
    }
}

/// Merges what is small, as the product does with time.
pub fn compact(catalog: &Catalog) -> Result<()> {
    catalog.compact_all()?;
    catalog.sweep()?;
    Ok(())
}
