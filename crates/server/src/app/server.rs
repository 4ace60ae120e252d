//! A whole proxy in one process: started in causal order, stopped in the
//! reverse one.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use dataplane::{
    connect::Upstreams,
    listen::{Lane, accept},
    plane::Plane,
    ports::{Denials, Outbox},
    upstream::Pools,
};
use domain::record::Record;
use logstore::{
    Journal, RecoveryReport,
    catalog::{Catalog, Sealer},
    fs::StdFs,
};
use store::Store;
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Ground, StartError, VERSION, adapters,
    entries::EntryLines,
    events::{self, Early},
    lanes::Lanes,
    outbox::JournalOutbox,
    plane, reading, segments,
    sequencer::{self, Sequencer, beats},
    tls::{self, TlsFiles},
};
use crate::{
    config::values::{AuditPolicy, JournalSync},
    delivery::Delivery,
    directory::{
        self, TokenDirectory,
        usage::{UsageCounter, UsageObserver},
    },
    events::Events,
    http::{Door, Management, Settings, socket::AdminSocket},
    manage::{
        Manage, credentials::Credentials, entered::Said, reading::Reader, segments::Segments,
        tree::Tree,
    },
    metrics::Metrics,
    readiness::Readiness,
    trace::LevelControl,
};

/// How often aggregates of refusals are looked at.
const COALESCE_INTERVAL: Duration = Duration::from_millis(250);
/// For showing the last lines once the journal is closed.
pub(super) const DELIVERY_TIMEOUT: Duration = Duration::from_secs(3);
/// For sealing what the journal holds at the end.
const SEAL_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections that may wait to be accepted.
const BACKLOG: u32 = 4096;
/// Room that the journal reserves for a request until its record is written.
const RESERVATION_BYTES: u64 = 4096;

/// What is not the same for a server and for a demo or a benchmark.
#[derive(Clone, Copy, Debug, Default)]
pub struct Manner {
    /// Show the journal's lines on stdout or in `LOG_FILE`.
    pub shows_lines: bool,
    /// Records go nowhere: what the benchmark compares with.
    #[cfg(feature = "bench")]
    pub forgets_records: bool,
    /// One runtime for all cores instead of one a core.
    #[cfg(feature = "bench")]
    pub shares_runtime: bool,
    /// So many made-up records a second beside those of requests.
    #[cfg(feature = "bench")]
    pub ingests: Option<u32>,
}

/// A proxy that serves.
pub struct Server {
    pub ground: Ground,
    pub address: SocketAddr,
    pub management: Arc<Management>,
    pub journal: Arc<Journal>,
    pub recovery: RecoveryReport,
    store: Store,
    plane: Arc<Plane>,
    readiness: Arc<Readiness>,
    delivery: Option<Delivery>,
    sealer: Sealer,
    entry_lines: EntryLines,
    events: Events,
    sequencer: Sequencer,
    lanes: Lanes,
    /// Background work that ends before the journal.
    tasks: TaskTracker,
    /// Use cases under way.
    changes: TaskTracker,
    /// The flush of uses ends after the journal.
    flushing: tokio::task::JoinHandle<()>,
    stop_accepting: CancellationToken,
    stop_tasks: CancellationToken,
    stop_flushing: CancellationToken,
}

/// What lanes serve with.
struct Serving<'a> {
    plane: &'a Arc<Plane>,
    management: &'a Arc<Management>,
    stop: &'a CancellationToken,
    tasks: &'a TaskTracker,
}

/// The parts that hold state, opened and recovered.
struct State {
    store: Store,
    counter: Arc<UsageCounter>,
    metrics: Arc<Metrics>,
    catalog: Arc<Catalog>,
    journal: Arc<Journal>,
    recovery: RecoveryReport,
    early: Early,
}

impl Server {
    /// Starts everything; when this returns, requests are served.
    pub async fn start(ground: Ground, manner: Manner) -> Result<Self, StartError> {
        let settings = &ground.config.settings;
        let (listener, address) = bind(settings.listen_addr)?;
        let state = open_state(&ground).await?;
        let State { store, counter, metrics, catalog, journal, recovery, early } = state;
        let (delivery, delivered) = deliver(&ground, &journal, manner)?;
        let intake = journal.intake();
        let (tasks, changes) = (TaskTracker::new(), TaskTracker::new());
        let [stop_accepting, stop_tasks, stop_flushing] =
            std::array::from_fn(|_| CancellationToken::new());
        let directory = begin_directory(&ground, &store, &tasks, &stop_tasks).await?;
        let (events, previous_end) = events::begin(&ground, &store, &journal, &early).await?;
        let sequencer = sequencer::beside(&ground, &store, &journal).await?;
        let outbox = (outbox(&ground, &intake, manner), early.denials.clone() as Arc<dyn Denials>);
        let plane = plane::start(&ground, &directory, outbox, &store)?;
        segments::measure_all(&metrics, &intake, &plane, (&store, &events), &catalog)?;
        let readiness = adapters::readiness(&intake, &directory);
        sequencer::watch_tree(&ground, &sequencer.tree, &readiness, &metrics)?;
        let needed = (&early.mailbox, sequencer.reached());
        let required = segments::required(&journal, &counter, delivered, needed);
        let sealer = segments::begin(&catalog, &journal, settings, required.clone())?;
        let kept = segments::beside(&catalog, journal.closed_files(), settings, required);
        let reader = reading::beside(&ground, &journal, stop_accepting.clone());
        let ways = (kept, reader, sequencer.tree.clone());
        let manage = manage(&ground, &store, &directory, ways, events.clone());
        let http = http_settings(&ground);
        let management =
            Management::new(manage, http, Arc::clone(&readiness), metrics, changes.clone());
        let past = (previous_end, early.migrations);
        events::started(&ground, &store, &events, past, &recovery).await?;
        events::look_after(&store, &ground.clock, early, &tasks, &stop_tasks);
        let entry_lines = reading::entry_lines(&ground, &store, &journal).await?;
        let flushing = tokio::spawn(counter.run(stop_flushing.clone()));
        let serving = Serving {
            plane: &plane,
            management: &management,
            stop: &stop_accepting,
            tasks: &tasks,
        };
        let lanes = serve(&ground, manner, listener, serving)?;
        let server = Self {
            address,
            management,
            recovery,
            store,
            plane,
            readiness,
            delivery,
            sealer,
            entry_lines,
            events,
            sequencer,
            lanes,
            tasks,
            changes,
            flushing,
            stop_accepting,
            stop_tasks,
            stop_flushing,
            journal,
            ground,
        };
        server.begin_tasks()?;
        #[cfg(feature = "bench")]
        server.ingest(manner)?;
        server.say_ready();
        Ok(server)
    }

    fn say_ready(&self) {
        self.readiness.started();
        let (address, data_dir) = (self.address, self.ground.data_dir.path().display());
        tracing::info!(%address, %data_dir, "ready");
    }

    fn begin_tasks(&self) -> Result<(), StartError> {
        let socket = AdminSocket::bind(self.ground.data_dir.path()).map_err(|source| {
            StartError::System { what: "bind the admin socket".into(), source }
        })?;
        self.tasks.spawn(socket.serve(
            Arc::clone(&self.management),
            self.changes.clone(),
            self.stop_tasks.clone(),
        ));
        let plane = Arc::clone(&self.plane);
        self.until_stopped(async move {
            let mut ticks = tokio::time::interval(COALESCE_INTERVAL);
            loop {
                ticks.tick().await;
                plane.flush_coalesced(false);
            }
        });
        let about = (self.sequencer.tree.clone(), self.journal.intake());
        let instance = self.ground.instance.clone();
        self.until_stopped(beats(self.events.clone(), self.store.clone(), about, instance));
        let levels = Arc::downgrade(&self.ground.levels);
        self.until_stopped(LevelControl::revert_loop(levels, Arc::clone(&self.ground.clock)));
        Ok(())
    }

    #[cfg(feature = "bench")]
    fn ingest(&self, manner: Manner) -> Result<(), StartError> {
        let Some(per_second) = manner.ingests else { return Ok(()) };
        let (envelope, clock) = (self.ground.envelope(), &self.ground.clock);
        super::ingest::begin(self.journal.intake(), envelope, clock, per_second)
            .map_err(|source| StartError::System { what: "make up records".into(), source })
    }

    fn until_stopped(&self, work: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop_tasks.clone();
        self.tasks.spawn(async move {
            let _stopped = stop.run_until_cancelled(work).await;
        });
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Opens `LOG_FILE` anew (SIGHUP).
    pub fn reopen(&self) -> impl Fn() + Send + use<> {
        let reopen = self.delivery.as_ref().map(Delivery::reopener);
        move || {
            if let Some(reopen) = &reopen {
                reopen();
            }
        }
    }

    /// Lets running requests end until `hard`, then cuts them; then the journal,
    /// the uses, the database and the shown lines, in this order. Returns
    /// whether nothing was lost.
    pub async fn stop(self, hard: CancellationToken) -> bool {
        self.stop_for(None, hard).await
    }

    /// As [`Server::stop`], and says in the audit log which signal asked for it.
    pub async fn stop_for(mut self, signal: Option<&'static str>, hard: CancellationToken) -> bool {
        self.readiness.stopping();
        self.stop_accepting.cancel();
        let drained = hard.run_until_cancelled(self.lanes.ended()).await.is_some();
        if !drained {
            let active = self.plane.active_requests();
            tracing::warn!(active, "running requests are cut");
            self.plane.interrupt();
            self.lanes.cut();
            self.lanes.ended().await;
        }
        self.changes.close();
        self.changes.wait().await;
        self.stop_tasks.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.entry_lines.stop().await;
        events::stopped(&self.events, signal).await;
        let (plane, journal) = (Arc::clone(&self.plane), Arc::clone(&self.journal));
        let traces = self.ground.traces.clone();
        let closed = tokio::task::spawn_blocking(move || {
            plane.shut_down_workers(drained);
            plane.flush_coalesced(true);
            tracing::info!("stopped");
            traces.detach();
            journal.close()
        });
        let closed = closed.await;
        self.stop_flushing.cancel();
        if self.flushing.await.is_err() {
            tracing::error!("the flush of uses panicked");
        }
        let (delivery, sealer) = (self.delivery.take(), self.sealer);
        let ended = tokio::task::spawn_blocking(move || {
            if let Some(delivery) = delivery {
                delivery.stop(DELIVERY_TIMEOUT);
            }
            // What was closed is sealed while the store still takes entries.
            sealer.stop(SEAL_TIMEOUT)
        });
        if !ended.await.unwrap_or(false) {
            tracing::warn!("the last files of the journal are sealed at the next start");
        }
        // The last entries get their place in the tree.
        self.sequencer.stop().await;
        self.store.close().await;
        self.ground.traces.flush(DELIVERY_TIMEOUT);
        closed.is_ok_and(|report| report.synced && report.accounts.lost.total() == 0)
    }
}

/// Shows the journal's lines where that is wanted; says up to where they are.
fn deliver(
    ground: &Ground,
    journal: &Journal,
    manner: Manner,
) -> Result<(Option<Delivery>, adapters::Reached), StartError> {
    if !manner.shows_lines {
        return Ok((None, adapters::Reached::everything()));
    }
    let (delivery, reached) = ground.deliver(journal)?;
    Ok((Some(delivery), reached))
}

async fn begin_directory(
    ground: &Ground,
    store: &Store,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> Result<Arc<TokenDirectory>, StartError> {
    let settings = &ground.config.settings;
    let config = directory::Config {
        capture: settings.capture_bodies,
        ..directory::Config::new(settings.directory_max_stale)
    };
    let providers = Arc::new(ground.config.providers.clone());
    let (store, clock, stop) = (store.clone(), Arc::clone(&ground.clock), stop.clone());
    Ok(TokenDirectory::start(store, providers, clock, config, tasks, stop).await?)
}

fn http_settings(ground: &Ground) -> Settings {
    let settings = &ground.config.settings;
    Settings {
        metrics_path: settings.enable_metrics.then(|| settings.metrics_path.0.clone()),
        metrics_token: settings.metrics_token.clone(),
        trusted_proxies: settings.trusted_proxies.clone(),
        version: VERSION,
    }
}

fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let bound = || -> io::Result<(TcpListener, SocketAddr)> {
        let socket = match address {
            SocketAddr::V4(_) => tokio::net::TcpSocket::new_v4()?,
            SocketAddr::V6(_) => tokio::net::TcpSocket::new_v6()?,
        };
        // A restart must not wait for the connections of the process before.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let listener = socket.listen(BACKLOG)?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    };
    bound().map_err(|source| StartError::System { what: format!("listen on {address}"), source })
}

/// Database, then journal; whatever the journal holds beyond the database is
/// counted before anything is served.
async fn open_state(ground: &Ground) -> Result<State, StartError> {
    let migrations = events::migrations(ground).await;
    let store = ground.open_store().await?;
    let config = ground.journal_config();
    let (mut early, uses) = Early::new(&ground.clock);
    early.migrations = migrations;
    let catalog = segments::open(ground, &store, tokio::runtime::Handle::current())?;
    let sealed_to = catalog.figures().sealed_to;
    let last_committed = Journal::last_committed(&config.dir, &ground.instance, &StdFs)?;
    let last_committed = last_committed.max(sealed_to);
    let counter =
        UsageCounter::open(store.clone(), ground.instance.clone(), last_committed).await?;
    let metrics = Arc::new(Metrics::new(VERSION, ground.instance.as_str())?);
    let observers = adapters::Observers {
        metrics: Arc::clone(&metrics),
        uses,
        mailbox: early.mailbox.clone(),
        clock: Arc::clone(&ground.clock),
        next: Box::new(UsageObserver(Arc::clone(&counter))),
    };
    let mut config = config;
    let requests = ground.config.settings.max_concurrent_requests.0.into();
    let room = RESERVATION_BYTES.saturating_mul(requests).saturating_add(8 << 20);
    config.queue_bytes_max = config.queue_bytes_max.max(room);
    config.closes_last_file = true;
    config.seq_floor = sealed_to;
    let (envelope, clock) = (ground.envelope(), Arc::clone(&ground.clock));
    let replaying = Arc::clone(&counter);
    let opened = tokio::task::spawn_blocking(move || {
        let fs = Arc::new(StdFs);
        let (journal, recovery) = Journal::open(config, envelope, fs, clock, Box::new(observers))?;
        replaying.replay(&journal)?;
        Ok::<_, StartError>((journal, recovery))
    });
    let (journal, recovery) = opened.await.map_err(|panic| StartError::System {
        what: "recover the journal".into(),
        source: io::Error::other(panic),
    })??;
    counter.flush().await?;
    Ok(State { store, counter, metrics, catalog, journal: Arc::new(journal), recovery, early })
}

#[cfg_attr(not(feature = "bench"), expect(unused_variables, reason = "a benchmark's choice"))]
fn outbox(ground: &Ground, intake: &logstore::Intake, manner: Manner) -> Arc<dyn Outbox> {
    #[cfg(feature = "bench")]
    if manner.forgets_records {
        return Arc::new(super::outbox::NullOutbox);
    }
    let holds_answers = matches!(ground.config.settings.journal_sync, JournalSync::Each);
    let serves_unrecorded = ground.config.settings.audit_policy == AuditPolicy::Available;
    Arc::new(JournalOutbox { intake: intake.clone(), holds_answers, serves_unrecorded })
}

pub(super) fn manage(
    ground: &Ground,
    store: &Store,
    directory: &Arc<TokenDirectory>,
    (segments, reader, tree): (Segments, Reader, Tree),
    events: Events,
) -> Arc<Manage> {
    let providers = &ground.config.providers;
    Arc::new(Manage {
        store: store.clone(),
        directory: Arc::clone(directory),
        credentials: Credentials::new(&ground.management_token.0, store.token_hash_key()),
        levels: Arc::clone(&ground.levels),
        segments,
        reader,
        tree,
        events,
        said: Said::default(),
        reasons_required: ground.config.settings.audit_require_reason.clone(),
        clock: Arc::clone(&ground.clock),
        rng: Arc::clone(&ground.rng),
        default_provider: Arc::clone(&providers.default_provider().name),
        providers: providers.all.iter().map(|provider| Arc::clone(&provider.name)).collect(),
    })
}

/// Starts the lanes and the loop that deals connections out to them.
#[cfg_attr(not(feature = "bench"), expect(unused_variables, reason = "a benchmark's choice"))]
fn serve(
    ground: &Ground,
    manner: Manner,
    listener: TcpListener,
    serving: Serving<'_>,
) -> Result<Lanes, StartError> {
    let Serving { plane, management, stop, tasks } = serving;
    let settings = &ground.config.settings;
    let trust = match &settings.upstream_ca_file {
        Some(path) => tls::certificates(path)?,
        None => Vec::new(),
    };
    let proxy = settings.https_proxy.as_ref().map(|proxy| proxy.0.as_str());
    let direct = settings.no_proxy.iter().map(|rule| rule.0.as_str()).collect::<Vec<_>>();
    let upstreams = Upstreams::new(&trust, proxy, Some(&direct.join(",")))?;
    let files = settings.tls_cert_file.clone().zip(settings.tls_key_file.clone());
    let files = files.map(|(certificates, key)| TlsFiles { certificates, key });
    let shared = tls::shared(files.as_ref())?;
    if let Some(files) = files {
        tasks.spawn(files.reload_loop(Arc::clone(&shared), stop.clone()));
    }
    let lane = || Lane {
        plane: Arc::clone(plane),
        pools: Pools::new(&plane.providers(), &upstreams),
        fallback: Arc::new(Door(Arc::clone(management))),
        tls: Arc::clone(&shared),
        stop: stop.clone(),
    };
    #[cfg(feature = "bench")]
    let started =
        if manner.shares_runtime { Lanes::start_shared(lane) } else { Lanes::start(lane) };
    #[cfg(not(feature = "bench"))]
    let started = Lanes::start(lane);
    let (lanes, senders) =
        started.map_err(|source| StartError::System { what: "start the lanes".into(), source })?;
    tasks.spawn(accept(listener, Arc::clone(plane), senders, stop.clone()));
    Ok(lanes)
}

/// Keeps the compiler honest about the size of what every request allocates.
const _: () = assert!(size_of::<Record>() <= 1024);
