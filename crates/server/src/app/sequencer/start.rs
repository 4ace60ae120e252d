//! The sequencer put together, beside a running journal and without one.

use std::{io, sync::Arc, time::Duration};

use domain::{
    audit::tree::{KeyKind, KeyName, SigningKey},
    secret::Secret,
};
use logstore::{
    Journal,
    cursor::Cursor,
    follow::Follower,
    fs::{Fs, StdFs},
};
use store::Store;

use super::{Parts, Sequencer, TreeConfig};
use crate::{
    app::{Ground, StartError},
    manage::tree::{Status, Tree},
    metrics::{Kind, Metrics, MetricsError, Reading},
    readiness::{Check, Readiness},
};

/// A sequencer that fails for so long is a reason not to be ready.
const FAILING_MAX: Duration = Duration::from_secs(30);

/// Beside a running journal.
pub async fn beside(
    ground: &Ground,
    store: &Store,
    journal: &Arc<Journal>,
) -> Result<Sequencer, StartError> {
    let seq = cursor(ground, store, journal.committed()).await?;
    let committed = Arc::clone(journal);
    let settings = &ground.config.settings;
    let parts = Parts {
        follower: journal.follower(seq).with_own_lines(),
        committed: Arc::new(move || committed.committed()),
        intake: Some(journal.intake()),
        command: settings.audit_checkpoint_command.as_ref().map(|it| it.0.clone()),
        ..parts(ground, store)?
    };
    Ok(Sequencer::begin(parts).await)
}

/// Without a server: what a command commits gets its place before it ends.
pub async fn alone(ground: &Ground, store: &Store) -> Result<Sequencer, StartError> {
    Ok(Sequencer::begin(parts(ground, store)?).await)
}

fn parts(ground: &Ground, store: &Store) -> Result<Parts, StartError> {
    let fs: Arc<dyn Fs> = Arc::new(StdFs);
    let dir = logstore::journal_dir(ground.data_dir.path());
    let cursor = Cursor { instance: ground.instance.clone(), seq: 0 };
    Ok(Parts {
        store: store.clone(),
        clock: Arc::clone(&ground.clock),
        rng: Arc::clone(&ground.rng),
        tree: tree_config(ground, store)?,
        follower: Follower::new(fs, &dir, cursor).with_own_lines(),
        // A server that starts takes what a journal has; until then it waits.
        committed: Arc::new(|| 0),
        intake: None,
        command: None,
    })
}

/// Where to go on in the journal, which may have lost its end since.
async fn cursor(ground: &Ground, store: &Store, committed: u64) -> Result<u64, StartError> {
    let instance = &ground.instance;
    let kept = store.audit_cursor(instance).await?;
    if kept > committed {
        tracing::warn!(kept, committed, "the journal ends before the place it was read up to");
        store.rewind_audit_cursor(instance, committed).await?;
    }
    Ok(kept.min(committed))
}

/// Which tree this process writes, from its settings.
pub fn tree_config(ground: &Ground, store: &Store) -> Result<TreeConfig, StartError> {
    let wrong = |what: &str, error: String| StartError::System {
        what: what.to_owned(),
        source: io::Error::other(error),
    };
    let origin = KeyName::parse(store.audit_origin())
        .map_err(|error| wrong("name the audit tree", error.to_string()))?;
    let given = ground.config.settings.audit_signing_key.as_ref();
    let given = given.map(|given| given.expose().split_whitespace().map(Secret::new));
    let keys: Vec<Secret> = given.into_iter().flatten().collect();
    for key in &keys {
        SigningKey::parse_for(&origin, KeyKind::Ed25519, key)
            .map_err(|error| wrong("use AUDIT_SIGNING_KEY", error.to_string()))?;
    }
    let data_dir = ground.data_dir.path().to_owned();
    Ok(TreeConfig { data_dir, origin, keys, envelope: ground.envelope() })
}

/// Makes the tree part of readiness and of metrics.
pub fn watch_tree(
    ground: &Ground,
    tree: &Tree,
    readiness: &Readiness,
    metrics: &Metrics,
) -> Result<(), MetricsError> {
    let (status, clock) = (tree.status.clone(), Arc::clone(&ground.clock));
    readiness.watch(Check::Audit, move || match &status.borrow().failing {
        None => Ok(()),
        Some(failing) => {
            let micros = clock.now().as_micros() - failing.since.as_micros();
            let is_old = u128::from(micros.unsigned_abs()) > FAILING_MAX.as_micros();
            if failing.is_final || is_old { Err(failing.why.clone()) } else { Ok(()) }
        }
    });
    let (status, clock) = (tree.status.clone(), Arc::clone(&ground.clock));
    let names = vec![
        (
            Kind::Gauge,
            "llm_proxy_audit_checkpoint_age_seconds",
            "Age of the newest published checkpoint of the audit tree.",
        ),
        (Kind::Gauge, "llm_proxy_audit_tree_size", "Entries under the newest checkpoint."),
        (Kind::Gauge, "llm_proxy_audit_failing", "1 while entries cannot be sequenced."),
        (
            Kind::Counter,
            "llm_proxy_audit_tampered_total",
            "Waiting entries that were found missing, strange or altered.",
        ),
    ];
    metrics.read(Reading::many(names, move || {
        let Status { checkpoint, published_at, failing, tampered, .. } = status.borrow().clone();
        let age = published_at.map_or(0, |at| clock.now().as_micros() - at.as_micros());
        vec![
            age.max(0) as f64 / 1e6,
            checkpoint.map_or(0, |checkpoint| checkpoint.size()) as f64,
            f64::from(u8::from(failing.is_some())),
            tampered as f64,
        ]
    }))
}
