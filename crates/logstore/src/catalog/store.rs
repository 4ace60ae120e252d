//! The catalog of the process that writes the data directory.
//!
//! One step at a time: each takes the lock, works on the lists in memory, and
//! puts a new manifest in place. After any error nobody trusts the lists: the
//! next step reads them again and removes what the failed one left.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use domain::{
    ids::InstanceId,
    time::{Clock, Timestamp},
};
use parking_lot::Mutex;

use super::{
    CatalogError, CatalogObserver, Manifest, Problem,
    books::PerDataset,
    files,
    manifest::{self, listed_path},
    rebuild,
};
use crate::{
    fs::Fs,
    journal_dir,
    recover::{all_files, files_of},
    segment::{Dataset, SealOptions},
};

/// Where the catalog is and how it writes.
#[derive(Clone, Debug)]
pub struct CatalogConfig {
    pub data_dir: PathBuf,
    /// Whose journal this process writes.
    pub instance: InstanceId,
    /// Of the program.
    pub version: &'static str,
    /// How long a file that is out of the list stays for readers who have an
    /// older one.
    pub grace: Duration,
    /// Files below this are worth merging; none above twice this is made.
    pub target_bytes: u64,
}

impl CatalogConfig {
    pub fn new(data_dir: impl Into<PathBuf>, instance: InstanceId, version: &'static str) -> Self {
        Self {
            data_dir: data_dir.into(),
            instance,
            version,
            grace: Duration::from_secs(60),
            target_bytes: 256 * 1024 * 1024,
        }
    }
}

/// What the catalog holds and has done since the start, for metrics.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct CatalogFigures {
    pub files: PerDataset,
    pub rows: PerDataset,
    pub bytes: PerDataset,
    /// Of this process's journal.
    pub sealed_to: u64,
    pub seals: u64,
    pub seal_seconds: f64,
    pub rows_sealed: u64,
    pub compactions: u64,
    pub files_compacted: u64,
    pub files_pruned: u64,
    pub rows_erased: u64,
    pub failures: u64,
    /// Events that nobody has written down yet.
    pub events_pending: u64,
}

pub(crate) struct Lists {
    pub(crate) by_instance: BTreeMap<String, (InstanceId, Manifest)>,
    stale: bool,
    problems: Vec<Problem>,
}

/// See the module's page. The caller holds the [`crate::DataDirLock`].
pub struct Catalog {
    pub(crate) fs: Arc<dyn Fs>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) config: CatalogConfig,
    observer: Box<dyn CatalogObserver>,
    lists: Mutex<Lists>,
    pub(crate) figures: Mutex<CatalogFigures>,
    hurry: AtomicBool,
    stop: AtomicBool,
}

impl std::fmt::Debug for Catalog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Catalog").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Catalog {
    /// Reads every list, finishes what a crash left half done, and says what it
    /// met on the way.
    pub fn open(
        config: CatalogConfig,
        fs: Arc<dyn Fs>,
        clock: Arc<dyn Clock>,
        observer: Box<dyn CatalogObserver>,
    ) -> Result<(Self, Vec<Problem>), CatalogError> {
        let catalog = Self {
            fs,
            clock,
            config,
            observer,
            lists: Mutex::new(Lists {
                by_instance: BTreeMap::new(),
                stale: true,
                problems: Vec::new(),
            }),
            figures: Mutex::default(),
            hurry: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        };
        let problems = catalog.step(|lists| Ok(std::mem::take(&mut lists.problems)))?;
        Ok((catalog, problems))
    }

    /// Runs one step on the lists.
    pub(crate) fn step<T>(
        &self,
        work: impl FnOnce(&mut Lists) -> Result<T, CatalogError>,
    ) -> Result<T, CatalogError> {
        let mut lists = self.lists.lock();
        let result = match lists.stale {
            false => Ok(()),
            true => self.load().map(|loaded| *lists = loaded),
        };
        let result = result.and_then(|()| work(&mut lists));
        if let Err(error) = &result {
            lists.stale = true;
            if !matches!(error, CatalogError::Stopped) {
                self.figures.lock().failures += 1;
            }
        }
        self.count(&lists);
        result
    }

    /// Tells a rewrite to leave its work, so that what is closed can be sealed.
    pub fn hurry(&self) {
        self.hurry.store(true, Ordering::Relaxed);
    }

    pub(crate) fn check_hurry(&self) -> Result<(), CatalogError> {
        match self.hurry.load(Ordering::Relaxed) {
            true => Err(CatalogError::Stopped),
            false => self.check_stop(),
        }
    }

    /// Tells every step to leave its work; nothing is done any more.
    pub fn interrupt(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    pub(crate) fn check_stop(&self) -> Result<(), CatalogError> {
        match self.stop.load(Ordering::Relaxed) {
            true => Err(CatalogError::Stopped),
            false => Ok(()),
        }
    }

    pub fn figures(&self) -> CatalogFigures {
        *self.figures.lock()
    }

    pub fn config(&self) -> &CatalogConfig {
        &self.config
    }

    /// The lists as they are now.
    pub fn manifests(&self) -> Result<Vec<Manifest>, CatalogError> {
        self.step(|lists| Ok(lists.by_instance.values().map(|(_, it)| it.clone()).collect()))
    }

    fn load(&self) -> Result<Lists, CatalogError> {
        let (fs, data_dir) = (&*self.fs, &self.config.data_dir);
        let mut instances = manifest::instances(fs, data_dir)?;
        let dir = journal_dir(data_dir);
        let journals = all_files(fs, &dir).map_err(CatalogError::io("list", &dir))?;
        instances.push(self.config.instance.clone());
        instances.extend(journals.into_iter().map(|(instance, ..)| instance));
        instances.extend(files::owners(fs, data_dir)?);
        let mut loaded = Lists { by_instance: BTreeMap::new(), stale: false, problems: Vec::new() };
        for instance in instances {
            let key = instance.as_str().to_owned();
            if !loaded.by_instance.contains_key(&key) {
                let manifest = self.load_instance(&instance, &mut loaded.problems)?;
                loaded.by_instance.insert(key, (instance, manifest));
            }
        }
        Ok(loaded)
    }

    fn load_instance(
        &self,
        instance: &InstanceId,
        problems: &mut Vec<Problem>,
    ) -> Result<Manifest, CatalogError> {
        let (fs, data_dir) = (&*self.fs, &self.config.data_dir);
        manifest::settle(fs, data_dir, instance)?;
        let loaded = manifest::load(fs, data_dir, instance)?;
        let damaged = !loaded.problems.is_empty();
        let dir = journal_dir(data_dir);
        let journal = files_of(fs, &dir, instance);
        let journal = match journal {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            journal => journal.map_err(CatalogError::io("list", &dir))?,
        };
        let now = self.clock.now();
        let fitted = rebuild::fit(&self.fs, data_dir, instance, loaded, &journal, now)?;
        let mut manifest = fitted.manifest;
        if fitted.changed || damaged {
            manifest::save(fs, data_dir, instance, &mut manifest, now)?;
        }
        for file in fitted.remove {
            let path = listed_path(data_dir, &file);
            tracing::debug!(path = %path.display(), "removes what an unfinished step left");
            files::remove_segment(fs, &path).map_err(CatalogError::io("remove", &path))?;
        }
        for dataset in Dataset::ALL {
            for path in files::fragments(fs, data_dir, *dataset, instance)? {
                files::remove(fs, &path).map_err(CatalogError::io("remove", &path))?;
            }
        }
        problems.extend(fitted.problems);
        Ok(manifest)
    }

    pub(crate) fn save(
        &self,
        instance: &InstanceId,
        manifest: &mut Manifest,
    ) -> Result<(), CatalogError> {
        let now = self.clock.now();
        manifest::save(&*self.fs, &self.config.data_dir, instance, manifest, now)
    }

    pub(crate) fn seal_options(&self, instance: &InstanceId, zstd_level: i32) -> SealOptions {
        SealOptions {
            instance: instance.clone(),
            version: self.config.version.to_owned(),
            zstd_level,
        }
    }

    /// Tells of what happened, and forgets what was heard. Whatever fails here
    /// is tried again at the next occasion and fails no step.
    pub(crate) fn tell(&self, lists: &mut Lists) -> Result<(), CatalogError> {
        for (instance, manifest) in lists.by_instance.values_mut() {
            let heard = manifest.events.iter().take_while(|event| self.observer.told(event));
            let heard = heard.count();
            if heard > 0 {
                manifest.events.drain(..heard);
                self.save(instance, manifest)?;
            }
        }
        Ok(())
    }

    /// Tells of events that an earlier occasion could not get rid of.
    pub fn tell_pending(&self) -> Result<(), CatalogError> {
        self.step(|lists| self.tell(lists))
    }

    /// Removes files that left the lists at least `grace` ago.
    pub fn sweep(&self) -> Result<u64, CatalogError> {
        let grace = i64::try_from(self.config.grace.as_micros()).unwrap_or(i64::MAX);
        self.step(|lists| self.sweep_older(lists, grace))
    }

    pub(crate) fn sweep_older(
        &self,
        lists: &mut Lists,
        grace_micros: i64,
    ) -> Result<u64, CatalogError> {
        let now = self.clock.now();
        let mut removed = 0;
        for (instance, manifest) in lists.by_instance.values_mut() {
            // A clock that was set back must not keep files for ever.
            let due = |at: Timestamp| at > now || at.plus_micros(grace_micros) <= now;
            let (gone, kept): (Vec<_>, Vec<_>) =
                std::mem::take(&mut manifest.retired).into_iter().partition(|it| due(it.at));
            for retired in &gone {
                let path = listed_path(&self.config.data_dir, &retired.file);
                files::remove_segment(&*self.fs, &path)
                    .map_err(CatalogError::io("remove", &path))?;
            }
            manifest.retired = kept;
            if !gone.is_empty() {
                removed += gone.len() as u64;
                self.save(instance, manifest)?;
            }
        }
        Ok(removed)
    }

    fn count(&self, lists: &Lists) {
        let mut figures = self.figures.lock();
        let (mut files, mut rows, mut bytes) =
            (PerDataset::default(), PerDataset::default(), PerDataset::default());
        let mut pending = 0;
        for (_, manifest) in lists.by_instance.values() {
            pending += manifest.events.len() as u64;
            for segment in &manifest.segments {
                files.add(segment.dataset, 1);
                rows.add(segment.dataset, segment.rows);
                bytes.add(segment.dataset, segment.bytes_all());
            }
        }
        let own = lists.by_instance.get(self.config.instance.as_str());
        figures.sealed_to = own.map_or(figures.sealed_to, |(_, manifest)| manifest.sealed_to);
        (figures.files, figures.rows, figures.bytes) = (files, rows, bytes);
        figures.events_pending = pending;
    }
}
