//! The parts behind entries that change no row, put together: restored, begun,
//! looked after, ended.

use std::{io, sync::Arc, time::Duration};

use domain::{
    audit::{Action, Actor, Detail, EntryContext, EntryDraft, TargetKind, Word},
    time::Clock,
};
use logstore::{
    Journal, RecoveryReport,
    fs::{Fs, StdFs},
};
use store::Store;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Ground, StartError, VERSION, entries::last_written};
use crate::{
    config::values::JournalSync,
    events::{
        Event, Events, Mailbox, Parts, Unwritten,
        denials::Denials,
        restore::{PreviousEnd, Restored, restore},
        uses::{UseObserver, Uses, uses},
    },
};

/// How often the keys of tags are looked at.
const TAGS_INTERVAL: Duration = Duration::from_secs(600);
/// What a crash may take of the counts beside the sync interval.
const COUNTERS_INTERVAL: Duration = Duration::from_millis(100);
/// Where the digest of the configuration is kept.
const CONFIG_DIGEST: &str = "config_digest";

/// What exists before the journal, which tells it of its troubles.
pub struct Early {
    pub mailbox: Mailbox,
    pub denials: Arc<Denials>,
    pub uses: Uses,
    pub migrations: u64,
}

impl Early {
    pub fn new(clock: &Arc<dyn Clock>) -> (Self, UseObserver) {
        let (observer, uses) = uses();
        let denials = Arc::new(Denials::new(Arc::clone(clock)));
        (Self { mailbox: Mailbox::default(), denials, uses, migrations: 0 }, observer)
    }
}

/// Goes on where the last process stopped; says how that ended.
pub async fn begin(
    ground: &Ground,
    store: &Store,
    journal: &Journal,
    early: &Early,
) -> Result<(Events, PreviousEnd), StartError> {
    let origin = store.journal_origin();
    let known = store.producer_seq(origin.producer.as_str()).await?;
    let (data_dir, instance) = (ground.data_dir.path().to_owned(), ground.instance.clone());
    let producer = origin.producer.to_string();
    let restored = tokio::task::spawn_blocking(move || {
        let fs: Arc<dyn Fs> = Arc::new(StdFs);
        let written = last_written(&fs, &data_dir, &producer).map_err(io::Error::other)?;
        restore(&fs, &data_dir, &instance, &producer, written.max(known)).map_err(io::Error::other)
    });
    let failed = |source| StartError::System { what: "restore the audit counts".into(), source };
    let restored: Restored = match restored.await {
        Ok(restored) => restored.map_err(failed)?,
        Err(panic) => return Err(failed(io::Error::other(panic))),
    };
    let previous_end = restored.previous_end;
    let parts = Parts {
        intake: journal.intake(),
        origin,
        version: VERSION,
        clock: Arc::clone(&ground.clock),
        rng: Arc::clone(&ground.rng),
        watches_clock: true,
    };
    let (mailbox, denials) = (early.mailbox.clone(), Arc::clone(&early.denials));
    let events = Events::begin(mailbox, denials, parts, restored).map_err(|source| {
        StartError::System { what: "start the thread that writes entries".into(), source }
    })?;
    Ok((events, previous_end))
}

/// How many migrations opening the database will apply.
pub async fn migrations(ground: &Ground) -> u64 {
    let status = Store::migration_status(&ground.store_options()).await.unwrap_or_default();
    status.iter().filter(|migration| migration.applied_at.is_none()).count() as u64
}

/// Enters the start, what recovery found, and a configuration other than the
/// last one.
pub async fn started(
    ground: &Ground,
    store: &Store,
    events: &Events,
    (previous_end, migrations): (PreviousEnd, u64),
    recovery: &RecoveryReport,
) -> Result<(), StartError> {
    let digest = Word::lossy(&ground.config.digest());
    let mut draft = EntryDraft::new(Action::SystemStart)
        .target(TargetKind::Instance, &ground.instance)
        .detail(Detail::Version(Word::lossy(VERSION)))
        .detail(Detail::PreviousEnd(Word::lossy(previous_end.as_str())))
        .detail(Detail::Sha256(digest.clone()));
    if migrations > 0 {
        draft = draft.detail(Detail::Migrations(migrations));
    }
    if previous_end == PreviousEnd::Crash {
        draft = draft.detail(Detail::UnaccountedMs(unaccounted_ms(ground)));
    }
    let unwritten = |error: Unwritten| StartError::System {
        what: "enter the start in the audit log".into(),
        source: io::Error::other(error),
    };
    events.enter_with_totals(Event::of_system(draft)).await.map_err(unwritten)?;
    let clean = RecoveryReport { last_seq: recovery.last_seq, ..RecoveryReport::default() };
    if *recovery != clean {
        let draft = EntryDraft::new(Action::SystemRecovered)
            .detail(Detail::JournalSeq(recovery.last_seq))
            .detail(Detail::TornBytes(recovery.torn_bytes))
            .detail(Detail::Interrupted(recovery.interrupted));
        events.enter(Event::of_system(draft)).await.map_err(unwritten)?;
    }
    match config_changed(store, digest).await {
        // The database is another than the audit tree's: it is told of later.
        Err(error) if error.kind() == store::ErrorKind::AuditUnavailable => {
            tracing::error!(%error, "the configuration could not be entered in the audit log");
            Ok(())
        }
        changed => Ok(changed?),
    }
}

/// The time before a crash whose refusals nobody may have counted.
fn unaccounted_ms(ground: &Ground) -> u64 {
    let sync = match ground.config.settings.journal_sync {
        JournalSync::Every(every) => every,
        JournalSync::Each | JournalSync::Os => Duration::ZERO,
    };
    u64::try_from((COUNTERS_INTERVAL + sync).as_millis()).unwrap_or(u64::MAX)
}

/// A change of the configuration shows at the start that follows it.
async fn config_changed(store: &Store, digest: Word) -> Result<(), store::Error> {
    let before = store.setting(CONFIG_DIGEST).await?;
    if before.as_ref().is_some_and(|before| before.value == digest.as_str()) {
        return Ok(());
    }
    let mut tx = store.begin(Actor::system(), EntryContext::default()).await?;
    let updated = tx.put_setting(CONFIG_DIGEST, Some(digest.as_str())).await?;
    let draft = EntryDraft::new(Action::ConfigChange)
        .target(TargetKind::Setting, "configuration")
        .revisions(updated.before.map(|it| it.rev), updated.after.map(|it| it.rev))
        .detail(Detail::Sha256(digest));
    tx.commit(draft).await.map(drop)
}

/// Work that goes on while the process runs.
pub fn look_after(
    store: &Store,
    clock: &Arc<dyn Clock>,
    early: Early,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) {
    tasks.spawn(early.uses.run(store.clone(), stop.clone()));
    let (store, clock, denials) = (store.clone(), Arc::clone(clock), early.denials);
    let stop = stop.clone();
    tasks.spawn(async move {
        let renewing = async {
            let mut ticks = tokio::time::interval(TAGS_INTERVAL);
            loop {
                ticks.tick().await;
                if let Err(error) = denials.tags().renew(&store, clock.now()).await {
                    let error: &dyn std::error::Error = &error;
                    tracing::warn!(error, "the keys of credential tags could not be renewed");
                }
            }
        };
        let _stopped = stop.run_until_cancelled(renewing).await;
    });
}

/// Enters the stop with all that was counted.
pub async fn stopped(events: &Events, signal: Option<&'static str>) {
    let mut draft =
        EntryDraft::new(Action::SystemStop).detail(Detail::Version(Word::lossy(VERSION)));
    if let Some(signal) = signal {
        draft = draft.detail(Detail::Signal(Word::lossy(signal)));
    }
    if let Err(error) = events.enter_with_totals(Event::of_system(draft)).await {
        let error: &dyn std::error::Error = &error;
        tracing::warn!(error, "the stop could not be entered in the audit log");
    }
    let events = events.clone();
    if tokio::task::spawn_blocking(move || events.stop()).await.is_err() {
        tracing::error!("the writer of entries could not be ended");
    }
}
