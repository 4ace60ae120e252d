//! The management side with no server: for a command, when none runs.
//!
//! Holds the lock of the data directory, as a server does, so that nothing that
//! a server has in memory can be changed behind its back. Promises that what
//! was begun is finished before the store is closed. Must never serve a request
//! of anybody else.

use std::sync::Arc;

use store::Store;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Ground, StartError, VERSION, reading, segments,
    sequencer::{self, Sequencer},
    server,
};
use crate::{
    directory::{self, TokenDirectory},
    events::Events,
    http::{Management, Settings},
    metrics::Metrics,
    readiness::Readiness,
};

/// An opened data directory that use cases can run on.
pub struct Alone {
    pub management: Arc<Management>,
    store: Store,
    sequencer: Sequencer,
    /// Use cases under way.
    changes: TaskTracker,
    tasks: TaskTracker,
    stop: CancellationToken,
    /// Keeps the lock until everything is closed.
    ground: Ground,
}

impl Alone {
    pub async fn start(ground: Ground) -> Result<Self, StartError> {
        let store = ground.open_store().await?;
        let (tasks, changes) = (TaskTracker::new(), TaskTracker::new());
        let stop = CancellationToken::new();
        let settings = &ground.config.settings;
        let directory = TokenDirectory::start(
            store.clone(),
            Arc::new(ground.config.providers.clone()),
            Arc::clone(&ground.clock),
            directory::Config::new(settings.directory_max_stale),
            &tasks,
            stop.clone(),
        )
        .await?;
        let runtime = tokio::runtime::Handle::current();
        let catalog = {
            let (ground, store, runtime) = (&ground, &store, runtime.clone());
            segments::open(ground, store, runtime)?
        };
        let segments = segments::alone(&ground, &store, &catalog, runtime);
        let reader = reading::alone(&ground, stop.clone());
        let sequencer = sequencer::alone(&ground, &store).await?;
        let tree = sequencer.tree.clone();
        let events = Events::in_database(store.clone(), Arc::clone(&ground.clock));
        let manage = server::manage(&ground, &store, &directory, (segments, reader, tree), events);
        let http = Settings {
            metrics_path: None,
            metrics_token: None,
            trusted_proxies: Vec::new(),
            version: VERSION,
        };
        let metrics = Arc::new(Metrics::new(VERSION, ground.instance.as_str())?);
        let readiness = Readiness::new();
        let management = Management::new(manage, http, readiness, metrics, changes.clone());
        Ok(Self { management, store, sequencer, changes, tasks, stop, ground })
    }

    /// Waits for what was begun, then closes the store.
    pub async fn stop(self) {
        self.changes.close();
        self.changes.wait().await;
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.sequencer.stop().await;
        self.store.close().await;
        self.ground.traces.flush(server::DELIVERY_TIMEOUT);
    }
}
