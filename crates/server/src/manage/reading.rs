//! Reading what is kept: searches, exports, tails, figures, stories.
//!
//! Owns what the doors of the search owe others: that a caller limited to
//! projects sees nothing else, that the work is bounded and stops when nobody
//! waits for it, and that the audit log knows of it. Promises that bodies and
//! exports are shown only after their entry is durable. Must never run a search
//! on an asynchronous thread.

mod asked;
pub mod entries;
mod figures;
mod outlet;
mod request;
mod search;
mod tail;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use domain::{
    audit::{Action, Detail, EntryDraft, TargetKind, Text, Word},
    fields::Stream,
    ids::InstanceId,
};
use logstore::{
    engine::{Budget, EngineError, Report, Search, Sources},
    follow::Follower,
    fs::Fs,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// What work listens to.
pub use logstore::engine::Cancel;

pub use self::{
    asked::{Asked, Form},
    figures::{FiguresAsked, UsageAsked, stats, usage},
    outlet::Pieces,
    request::request,
    search::{export, search},
    tail::tail,
};
use super::{
    Manage,
    access::{Caller, Permission},
    entered::{entered, looked, looked_inside},
    error::{Error, Kind, Result},
};

/// Searches at work at once, and exports beside them: each takes two threads
/// and its memory from the proxy.
const SEARCHES_MAX: usize = 4;
const EXPORTS_MAX: usize = 2;
/// Each tail keeps a thread.
const TAILS_MAX: usize = 32;
/// How long a search waits for others to end.
const TURN_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a search, and an export, may take.
const SEARCH_TIME_MAX: Duration = Duration::from_secs(30);
const EXPORT_TIME_MAX: Duration = Duration::from_secs(15 * 60);

/// Follows this instance's journal behind a line.
pub type Follow = Arc<dyn Fn(u64) -> Follower + Send + Sync>;

/// The way to what is kept.
pub struct Reader {
    pub fs: Arc<dyn Fs>,
    pub data_dir: PathBuf,
    pub instance: InstanceId,
    pub follow: Follow,
    /// The last line that is committed.
    pub committed: Arc<dyn Fn() -> u64 + Send + Sync>,
    /// Ends tails and exports.
    pub stopping: CancellationToken,
    searches: Arc<Semaphore>,
    exports: Arc<Semaphore>,
    tails: Arc<Semaphore>,
}

impl Reader {
    pub fn new(
        fs: Arc<dyn Fs>,
        data_dir: &Path,
        instance: InstanceId,
        follow: Follow,
        committed: Arc<dyn Fn() -> u64 + Send + Sync>,
        stopping: CancellationToken,
    ) -> Self {
        Self {
            fs,
            data_dir: data_dir.to_owned(),
            instance,
            follow,
            committed,
            stopping,
            searches: Arc::new(Semaphore::new(SEARCHES_MAX)),
            exports: Arc::new(Semaphore::new(EXPORTS_MAX)),
            tails: Arc::new(Semaphore::new(TAILS_MAX)),
        }
    }

    /// Waits for one of few places.
    async fn turn(&self, places: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit> {
        let place = tokio::time::timeout(TURN_TIMEOUT, Arc::clone(places).acquire_owned()).await;
        match place {
            Ok(Ok(place)) => Ok(place),
            _ => Err(Error::new(Kind::Busy, "too many searches are at work; try again")),
        }
    }
}

/// Tells work that nobody waits for it any more. Dropping [`Gone`] tells.
#[derive(Debug, Default)]
pub struct Gone(Cancel);

impl Gone {
    pub fn cancel(&self) -> Cancel {
        self.0.clone()
    }
}

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Restricts a question to what the caller may see, and bounds it. Words are
/// looked for in captured bodies where the caller may read those.
fn bounded(mut search: Search, caller: &Caller, cancel: &Cancel, time_max: Duration) -> Search {
    search.projects = caller.project_ids();
    search.bodies &= search.expr.has_words() && Permission::ReadBodies.granted_to(caller.role);
    search.budget = Budget { deadline: Some(Instant::now() + time_max), ..Budget::default() };
    search.cancel = cancel.clone();
    search
}

/// Runs work on files off the asynchronous threads, in one of few places.
async fn read<T: Send + 'static>(
    manage: &Manage,
    work: impl FnOnce(&Sources) -> Result<T, EngineError> + Send + 'static,
) -> Result<T> {
    let reader = &manage.reader;
    let place = reader.turn(&reader.searches).await?;
    let (fs, data_dir) = (Arc::clone(&reader.fs), reader.data_dir.clone());
    let done = tokio::task::spawn_blocking(move || {
        let _place = place;
        work(&Sources::open(&fs, &data_dir)?)
    });
    let done = done
        .await
        .map_err(|panic| Error::new(Kind::Internal, "the search broke off").with_source(panic))?;
    done.map_err(refused)
}

/// Why there is no answer, for the caller.
fn refused(error: EngineError) -> Error {
    match error {
        EngineError::Question(text) => {
            Error::invalid(domain::redact::redacted(&text, &[]).to_string())
        }
        EngineError::TooManyGroups { .. } => Error::invalid(error.to_string()),
        EngineError::Catalog(_) | EngineError::Thread(_) => {
            let text = "what is kept cannot be read now; the server's traces say why";
            Error::new(Kind::Unavailable, text).with_source(error)
        }
    }
}

/// What an answer lacks, without where on this machine it lies.
fn missing(report: &Report, data_dir: &Path) -> Vec<String> {
    let shown = |problem: &logstore::engine::Problem| {
        let path = problem.path.strip_prefix(data_dir).unwrap_or(&problem.path);
        format!("{}: {}", path.display(), problem.what)
    };
    let problems = report.problems.iter().map(shown);
    problems.chain(report.stopped.map(|stop| stop.to_string())).collect()
}

/// What the audit log keeps of a search.
struct Subject {
    query: String,
    streams: Vec<Stream>,
    /// Captured bodies are searched, too: what is found tells what they say.
    bodies: bool,
    since: Option<domain::time::Timestamp>,
    until: Option<domain::time::Timestamp>,
}

impl Subject {
    fn of(search: &Search) -> Self {
        let (since, until, bodies) = (search.since, search.until, search.bodies);
        let (query, streams) = (search.expr.to_string(), search.streams.clone());
        Self { query, streams, bodies, since, until }
    }

    /// `record+trace+bodies`
    fn datasets(&self) -> String {
        let streams = self.streams.iter().map(|stream| stream.as_str());
        let all: Vec<&str> = streams.chain(self.bodies.then_some("bodies")).collect();
        all.join("+")
    }

    fn draft(&self, action: Action) -> EntryDraft {
        let mut draft = EntryDraft::new(action)
            .detail(Detail::Query(Text::new(&self.query)))
            .detail(Detail::Stream(Word::lossy(&self.datasets())));
        if let Some(since) = self.since {
            draft = draft.detail(Detail::Since(since));
        }
        if let Some(until) = self.until {
            draft = draft.detail(Detail::Until(until));
        }
        draft
    }
}

/// Tells the audit log of a search, once in a while for each caller and query.
/// What captured bodies say is shown only behind a durable entry.
async fn searched(manage: &Manage, caller: &Caller, subject: &Subject) -> Result<()> {
    let what = format!("{} {}", subject.datasets(), subject.query);
    let draft = subject.draft(Action::LogsSearch);
    match subject.bodies {
        true => looked_inside(manage, caller, &what, draft).await,
        false => looked(manage, caller, &what, draft).await,
    }
}

/// The entry of captured bodies of a record, about to be shown.
async fn bodies_entered(manage: &Manage, caller: &Caller, id: &str, rows: u64) -> Result<()> {
    let draft = EntryDraft::new(Action::LogsReadBodies)
        .target(TargetKind::Record, id)
        .detail(Detail::Query(Text::new(id)))
        .detail(Detail::Rows(rows));
    entered(manage, caller, draft).await.map(drop)
}

/// Refuses what only some roles may have.
fn may(caller: &Caller, permission: Permission) -> Result<()> {
    if permission.granted_to(caller.role) {
        return Ok(());
    }
    let role = caller.role.as_str();
    Err(Error::forbidden(format!("the role {role} may not export more than a page")))
}
