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
        let (catalog, problems) = Catalog::open(config, Arc::new(StdFs), clock, Box::new(()))?;
        if let Some(problem) = problems.first() {
            bail!("{problem}");
        }
        let catalog = Arc::new(catalog);
        // No reader but the sealer needs the journal's files.
        let required = Box::new(|| u64::MAX);
        let config = SealerConfig::new(required, keep_all());
        let sealer = Sealer::start(Arc::clone(&catalog), journal.closed_files(), config)
            .context("start the sealer")?;
        Ok(Self { catalog, sealer })
    }

    /// Seals what is left, once the journal is closed.
    pub fn finish(self) -> Result<Arc<Catalog>> {
        if !self.sealer.stop(SEAL_TIMEOUT) {
            bail!("the sealer did not end within {} s", SEAL_TIMEOUT.as_secs());
        }
        if self.catalog.figures().failures > 0 {
            bail!("not everything could be sealed");
        }
        Ok(self.catalog)
    }
}

/// Merges what is small, as the product does with time.
pub fn compact(catalog: &Catalog) -> Result<()> {
    catalog.compact_all()?;
    catalog.sweep()?;
    Ok(())
}
