//! A journal that no process writes any more, of another instance: recovered as
//! at a start of its own, sealed under its own name, and removed.

use std::{path::Path, sync::Arc};

use domain::{ids::InstanceId, record::Envelope};

use super::{Catalog, CatalogError, manifest};
use crate::{Journal, JournalConfig, fs::Fs, journal_dir, recover::all_files};

/// What became of one instance's journal.
#[derive(Clone, Debug, PartialEq)]
pub struct AdoptReport {
    pub instance: InstanceId,
    /// Requests that its last process left unfinished.
    pub interrupted: u64,
    pub files: u64,
    pub rows: u64,
    pub segments: u64,
}

/// Instances other than `own` that have a journal in a data directory.
pub fn strangers(
    fs: &dyn Fs,
    data_dir: &Path,
    own: &InstanceId,
) -> Result<Vec<InstanceId>, CatalogError> {
    let dir = journal_dir(data_dir);
    let files = all_files(fs, &dir).map_err(CatalogError::io("list", &dir))?;
    let mut found: Vec<InstanceId> = files.into_iter().map(|(instance, ..)| instance).collect();
    found.retain(|instance| instance != own);
    found.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    found.dedup();
    Ok(found)
}

impl Catalog {
    /// Adopts every journal in the data directory that is not our own: the lock
    /// of the directory says that nobody writes it.
    pub fn adopt(&self) -> Result<Vec<AdoptReport>, CatalogError> {
        let found = strangers(&*self.fs, &self.config.data_dir, &self.config.instance)?;
        let adopted: Result<_, _> =
            found.into_iter().map(|instance| self.adopt_one(instance)).collect();
        let dir = journal_dir(&self.config.data_dir);
        let others = |owner: &InstanceId| *owner != self.config.instance;
        crate::bodies::remove_orphans(&*self.fs, &dir, others)
            .map_err(CatalogError::io("remove bodies in", &dir))?;
        adopted
    }

    fn adopt_one(&self, instance: InstanceId) -> Result<AdoptReport, CatalogError> {
        let data_dir = &self.config.data_dir;
        let config = JournalConfig {
            closes_last_file: true,
            seq_floor: manifest::sealed_to(&*self.fs, data_dir, &instance)?,
            ..JournalConfig::new(journal_dir(data_dir))
        };
        let envelope = Envelope { instance: instance.clone(), version: self.config.version };
        let (fs, clock) = (Arc::clone(&self.fs), Arc::clone(&self.clock));
        let opened = Journal::open(config, envelope, fs, clock, Box::new(()));
        let (journal, recovery) = opened.map_err(|source| CatalogError::Journal {
            instance: instance.as_str().to_owned(),
            source: Box::new(source),
        })?;
        let last_seq = journal.close().accounts.seq;
        let sealed = self.seal_whole(&instance, last_seq)?;
        Ok(AdoptReport {
            instance,
            interrupted: recovery.interrupted,
            files: sealed.files,
            rows: sealed.rows,
            segments: sealed.segments,
        })
    }
}
