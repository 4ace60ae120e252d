//! The catalog of segments as this process runs it: what it may drop, whom it
//! tells, and how the journal's end is sealed when somebody asks.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use dataplane::plane::Plane;
use domain::audit::{Action, Actor, Detail, EntryContext, EntryDraft, TargetKind, Word};
use logstore::{
    ClosedFiles, Journal,
    catalog::{
        Catalog, CatalogConfig, CatalogError, CatalogEvent, CatalogObserver, EventKind, Policy,
        Sealer, SealerConfig,
    },
    fs::StdFs,
};
use store::Store;
use tokio::runtime::Handle;

use super::{Ground, StartError, VERSION, adapters::Reached};
use crate::{
    config::settings::Settings,
    directory::usage::{UsageCounter, UsageObserver},
    events::{Events, Mailbox},
    manage::segments::Segments,
    metrics::{Kind, Metrics, MetricsError, Reading},
};

/// How long the writer may take to begin a new file.
const TURN_TIMEOUT: Duration = Duration::from_secs(10);
/// Replaced files that an entry names; a leaf has a bound.
const REPLACED_MAX: usize = 64;

/// What the settings keep.
pub fn policy(settings: &Settings) -> Policy {
    let micros = |kept: Duration| i64::try_from(kept.as_micros()).unwrap_or(i64::MAX);
    Policy {
        records_micros: micros(settings.retention_records),
        bodies_micros: micros(settings.retention_bodies),
        traces_micros: micros(settings.retention_traces),
        entries_micros: micros(settings.retention_audit.0),
        bytes_max: settings.retention_bytes.map(|bytes| bytes.0),
        ..Policy::default()
    }
}

/// Opens the catalog, before the journal: it knows which numbers are taken.
/// Reads files: not for an asynchronous thread.
pub fn open(ground: &Ground, store: &Store, runtime: Handle) -> Result<Arc<Catalog>, CatalogError> {
    let dir = ground.data_dir.path();
    let config = CatalogConfig::new(dir, ground.instance.clone(), VERSION);
    let entries = SegmentEntries { store: store.clone(), runtime };
    let (fs, clock) = (Arc::new(StdFs), Arc::clone(&ground.clock));
    let (catalog, problems) = Catalog::open(config, fs, clock, Box::new(entries))?;
    for problem in problems {
        let (path, what) = (problem.path.display().to_string(), problem.what);
        tracing::error!(path, what, "the catalog of segments met a problem");
    }
    Ok(Arc::new(catalog))
}

/// Up to where everybody who must see the journal has seen it.
pub fn required(
    journal: &Arc<Journal>,
    counter: &Arc<UsageCounter>,
    delivered: Reached,
    (mailbox, sequenced): (&Mailbox, Arc<AtomicU64>),
) -> impl Fn() -> u64 + Send + Sync + Clone + use<> {
    let (journal, counter) = (Arc::clone(journal), Arc::clone(counter));
    let mailbox = mailbox.clone();
    // Read first: what is committed later is nobody's business in this look.
    move || {
        let counted = counter.settled(journal.committed()).min(delivered.seq());
        counted.min(mailbox.needed()).min(sequenced.load(Ordering::Relaxed))
    }
}

/// Starts the sealer's thread.
pub fn begin(
    catalog: &Arc<Catalog>,
    journal: &Journal,
    settings: &Settings,
    required: impl Fn() -> u64 + Send + 'static,
) -> Result<Sealer, StartError> {
    let config = SealerConfig::new(Box::new(required), policy(settings));
    Sealer::start(Arc::clone(catalog), journal.closed_files(), config)
        .map_err(|source| StartError::System { what: "start the sealer's thread".into(), source })
}

/// The use cases' hold on the catalog beside a running journal.
pub fn beside(
    catalog: &Arc<Catalog>,
    closed: ClosedFiles,
    settings: &Settings,
    required: impl Fn() -> u64 + Send + Sync + 'static,
) -> Segments {
    let sealing = Arc::clone(catalog);
    Segments {
        catalog: Arc::clone(catalog),
        policy: policy(settings),
        seal_now: Arc::new(move || {
            let closed_to = closed.turn(TURN_TIMEOUT).ok_or(CatalogError::NotTurned)?;
            sealing.seal_closed(closed_to)?;
            sealing.drop_sealed(required())?;
            Ok(closed_to)
        }),
    }
}

/// The same without a server: the journal is recovered and closed for it, and
/// what it holds is counted, so that its files can go.
pub fn alone(ground: &Ground, store: &Store, catalog: &Arc<Catalog>, runtime: Handle) -> Segments {
    let sealing = Arc::clone(catalog);
    let (store, instance) = (store.clone(), ground.instance.clone());
    let (config, envelope) = (ground.journal_config(), ground.envelope());
    let clock = Arc::clone(&ground.clock);
    let delivers_file = ground.config.settings.log_file.is_some();
    let seal = move || -> Result<u64, CatalogError> {
        let failed = |source: logstore::JournalError| CatalogError::Journal {
            instance: instance.as_str().to_owned(),
            source: Box::new(source),
        };
        let counting = |error: store::Error| CatalogError::Io {
            operation: "count the uses of",
            path: config.dir.clone(),
            source: std::io::Error::other(error),
        };
        let config = logstore::JournalConfig {
            seq_floor: sealing.figures().sealed_to,
            closes_last_file: true,
            ..config.clone()
        };
        let last = Journal::last_committed(&config.dir, &instance, &StdFs).map_err(failed)?;
        let last = last.max(config.seq_floor);
        let counter = runtime
            .block_on(UsageCounter::open(store.clone(), instance.clone(), last))
            .map_err(counting)?;
        let dir = config.dir.clone();
        let (fs, clock) = (Arc::new(StdFs), Arc::clone(&clock));
        let observer = Box::new(UsageObserver(Arc::clone(&counter)));
        let (journal, _) =
            Journal::open(config.clone(), envelope.clone(), fs, clock, observer).map_err(failed)?;
        counter.replay(&journal).map_err(failed)?;
        journal.close();
        runtime.block_on(counter.flush()).map_err(counting)?;
        let closed_to = journal.closed_to();
        sealing.seal_closed(closed_to)?;
        let shown = super::adapters::kept_seq(&dir, &instance, delivers_file);
        // Entries that were born there reach the database when a server starts.
        let taken = runtime.block_on(store.audit_cursor(&instance)).map_err(counting)?;
        sealing.drop_sealed(counter.settled(journal.committed()).min(shown).min(taken))?;
        Ok(closed_to)
    };
    let policy = policy(&ground.config.settings);
    Segments { catalog: Arc::clone(catalog), policy, seal_now: Arc::new(seal) }
}

/// Writes what happens to segments into the audit log.
struct SegmentEntries {
    store: Store,
    runtime: Handle,
}

impl CatalogObserver for SegmentEntries {
    fn told(&self, event: &CatalogEvent) -> bool {
        let draft = draft(event);
        let written = self.runtime.block_on(async {
            let tx = self.store.begin(Actor::system(), EntryContext::default()).await?;
            tx.commit(draft).await.map(drop)
        });
        if let Err(error) = &written {
            // The event stays in the manifest and is told again.
            let file = &event.file;
            tracing::warn!(%error, file, "the entry of a segment waits for the store");
        }
        written.is_ok()
    }
}

fn draft(event: &CatalogEvent) -> EntryDraft {
    let word = |text: &str| Word::lossy(text);
    let action = match event.kind {
        EventKind::Sealed => Action::SegmentSealed,
        EventKind::Compacted => Action::SegmentCompacted,
        EventKind::Pruned => Action::SegmentPruned,
        EventKind::Erased => Action::LogsErase,
    };
    let draft = EntryDraft::new(action)
        .target(TargetKind::Segment, &event.file)
        .detail(Detail::Dataset(word(&event.dataset)))
        .detail(Detail::File(word(&event.file)))
        .detail(Detail::Rows(event.rows))
        .detail(Detail::Sha256(word(&event.sha256)));
    let replaced = || event.replaced.iter().take(REPLACED_MAX).map(|file| word(file)).collect();
    let draft = match event.replaced.is_empty() {
        true => draft,
        false => draft.detail(Detail::ReplacedFiles(replaced())),
    };
    if event.kind == EventKind::Erased {
        return draft;
    }
    draft
        .detail(Detail::Bytes(event.bytes))
        .detail(Detail::JournalInstance(word(&event.instance)))
        .detail(Detail::JournalFirst(event.first_seq))
        .detail(Detail::JournalLast(event.last_seq))
}

/// Every part's figures, on the page of metrics.
pub fn measure_all(
    metrics: &Metrics,
    intake: &logstore::Intake,
    plane: &Arc<Plane>,
    (store, events): (&Store, &Events),
    catalog: &Arc<Catalog>,
) -> Result<(), MetricsError> {
    super::adapters::measure_journal(metrics, intake)?;
    super::adapters::measure_plane(metrics, plane)?;
    super::adapters::measure_entries(metrics, store, events)?;
    measure(metrics, catalog)?;
    Ok(())
}

/// What the catalog counts, on the page of metrics.
pub fn measure(metrics: &Metrics, catalog: &Arc<Catalog>) -> Result<(), MetricsError> {
    use logstore::catalog::{CatalogFigures, PerDataset};
    type Figure = fn(&CatalogFigures) -> PerDataset;
    let groups: [(&str, &str, Figure); 3] = [
        ("llm_proxy_segments_files", "Sealed files by dataset.", |it| it.files),
        ("llm_proxy_segments_rows", "Rows of sealed files.", |it| it.rows),
        ("llm_proxy_segments_bytes", "Size of sealed files and side indexes.", |it| it.bytes),
    ];
    for (name, help, figure) in groups {
        let catalog = Arc::clone(catalog);
        metrics.read(Reading::gauges(name, help, "dataset", move || {
            let now = figure(&catalog.figures());
            vec![
                ("records", now.records),
                ("bodies", now.bodies),
                ("traces", now.traces),
                ("entries", now.entries),
            ]
        }))?;
    }
    let names = vec![
        (Kind::Gauge, "llm_proxy_segments_sealed_to", "Last journal line that is sealed."),
        (Kind::Counter, "llm_proxy_segments_seals_total", "Journal files sealed."),
        (Kind::Counter, "llm_proxy_segments_seal_seconds_total", "Time spent sealing."),
        (Kind::Counter, "llm_proxy_segments_rows_sealed_total", "Rows sealed."),
        (Kind::Counter, "llm_proxy_segments_compactions_total", "Files made of smaller ones."),
        (Kind::Counter, "llm_proxy_segments_compacted_total", "Files that were merged."),
        (Kind::Counter, "llm_proxy_segments_pruned_total", "Files dropped by retention."),
        (Kind::Counter, "llm_proxy_segments_rows_erased_total", "Rows erased on demand."),
        (Kind::Counter, "llm_proxy_segments_failures_total", "Steps that failed."),
        (Kind::Gauge, "llm_proxy_segments_events_pending", "Changes without their entry yet."),
    ];
    let catalog = Arc::clone(catalog);
    metrics.read(Reading::many(names, move || {
        let now = catalog.figures();
        vec![
            now.sealed_to as f64,
            now.seals as f64,
            now.seal_seconds,
            now.rows_sealed as f64,
            now.compactions as f64,
            now.files_compacted as f64,
            now.files_pruned as f64,
            now.rows_erased as f64,
            now.failures as f64,
            now.events_pending as f64,
        ]
    }))
}
