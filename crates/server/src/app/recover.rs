//! What a person orders after database or tree came back from an older copy.
//!
//! Nothing here invents history: rows are made from the tree's leaves, tiles
//! from rows that have the signed root. What was done is an entry.

use std::sync::Arc;

use domain::audit::{Action, Actor, Detail, EntryContext, EntryDraft, TargetKind};
use store::{Remembered, Restored, Store};
use tlog::{Kind, Reader, Writer, fs::StdFs};
use tokio::runtime::Handle;

use super::{
    Ground, StartError,
    sequencer::{self, TreeConfig},
};

/// Leaves that are restored in one transaction.
const ROWS_MAX: u32 = 1024;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// Rows anew from the tree.
    Rebuild,
    /// The same though one of the two is older than the other.
    Recover,
}

#[derive(Clone, Copy, Debug)]
pub struct Report {
    pub size: u64,
    pub tiles_rebuilt: bool,
    pub rows: Restored,
}

#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("read or restore rows")]
    Store(#[from] store::Error),
    #[error("read or restore the audit tree")]
    Tree(#[from] tlog::Error),
    #[error(
        "the database has {database} entries and the tree {tree}: the database is an older copy. \
         `llm-proxy audit recover` goes on with it: what was changed since stays undone, its \
         entries stay"
    )]
    DatabaseOlder { database: u64, tree: u64 },
    #[error("the work on files broke off")]
    Broken(#[from] tokio::task::JoinError),
}

/// Carries the order out, with the data directory for itself.
pub async fn carry_out(ground: Ground, order: Order) -> Result<Report, RecoverError> {
    let store = ground.open_store().await.map_err(StartError::from)?;
    let done = restore(&ground, &store, order).await;
    if done.is_ok() {
        // The entry of what was done gets its place too.
        sequencer::alone(&ground, &store).await?.stop().await;
    }
    store.close().await;
    done
}

async fn restore(ground: &Ground, store: &Store, order: Order) -> Result<Report, RecoverError> {
    let config = Arc::new(sequencer::tree_config(ground, store)?);
    let (writer, tiles_rebuilt) = open(ground, store, &config, order).await?;
    let chain = store.audit_chain().await?;
    let size = writer.size();
    if order == Order::Rebuild && size > chain.size {
        return Err(RecoverError::DatabaseOlder { database: chain.size, tree: size });
    }
    let rows = restore_rows(store, writer.reader(), chain.pruned_to.min(size), size).await?;
    if size > chain.size {
        store.restore_size(size).await?;
    }
    if let Some(checkpoint) = writer.checkpoint() {
        let at = ground.clock.now();
        let (root, note) = (checkpoint.root().to_string(), checkpoint.to_string());
        store.remember_checkpoint(&Remembered { size, root, at, note }).await?;
    }
    drop(writer);
    let reason = match (tiles_rebuilt, size > chain.size) {
        (true, _) => "audit_tiles",
        (false, true) => "audit_rollback",
        (false, false) => "audit_index",
    };
    let draft = EntryDraft::new(Action::SystemRecovered)
        .reason(reason)
        .target(TargetKind::Instance, &ground.instance)
        .detail(Detail::Rows(rows.added + rows.replaced));
    let actor = Actor::local(rustix::process::getuid().as_raw());
    let tx = store.begin(actor, EntryContext::default()).await?;
    tx.commit(draft).await.map(drop)?;
    Ok(Report { size, tiles_rebuilt, rows })
}

/// Opens the tree; where its tiles are gone, from the rows, if they have the
/// root that was signed.
async fn open(
    ground: &Ground,
    store: &Store,
    config: &Arc<TreeConfig>,
    order: Order,
) -> Result<(Writer, bool), RecoverError> {
    let rng = Arc::clone(&ground.rng);
    let opening = Arc::clone(config);
    let opened = tokio::task::spawn_blocking(move || sequencer::open(&opening, &*rng)).await?;
    match opened {
        Err(error) if order == Order::Recover && error.kind() == Kind::Corrupt => {
            tracing::warn!(%error, "the tiles of the audit tree are made anew");
        }
        opened => return Ok((opened?, false)),
    }
    let (runtime, rows) = (Handle::current(), store.clone());
    let (opening, rng) = (Arc::clone(config), Arc::clone(&ground.rng));
    let rebuilt = tokio::task::spawn_blocking(move || -> Result<Writer, RecoverError> {
        tlog::rebuild(&opening.data_dir, Arc::new(StdFs), || {
            Ok::<_, RecoverError>(Leaves {
                store: rows.clone(),
                runtime: runtime.clone(),
                next: 0,
                read: Vec::new(),
            })
        })?;
        Ok(sequencer::open(&opening, &*rng)?)
    });
    Ok((rebuilt.await??, true))
}

/// The leaves of the rows, in the order of the tree.
struct Leaves {
    store: Store,
    runtime: Handle,
    next: u64,
    /// The last first.
    read: Vec<String>,
}

impl Iterator for Leaves {
    type Item = Result<Vec<u8>, RecoverError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.read.is_empty() {
            let read = self.runtime.block_on(self.store.sequenced_leaves(self.next, ROWS_MAX));
            match read {
                Ok(leaves) => self.read = leaves.into_iter().rev().collect(),
                Err(error) => return Some(Err(error.into())),
            }
        }
        self.next += 1;
        self.read.pop().map(|leaf| Ok(leaf.into_bytes()))
    }
}

async fn restore_rows(
    store: &Store,
    reader: Reader,
    from: u64,
    size: u64,
) -> Result<Restored, RecoverError> {
    let (store, runtime) = (store.clone(), Handle::current());
    let done = tokio::task::spawn_blocking(move || -> Result<Restored, RecoverError> {
        let mut all = Restored::default();
        for bundle in reader.leaves_from(from, size) {
            let (first, leaves) = bundle?;
            let text = |leaf: Vec<u8>| String::from_utf8(leaf).unwrap_or_default();
            let leaves: Vec<String> = leaves.into_iter().map(text).collect();
            let done = runtime.block_on(store.restore_entries(first, &leaves))?;
            all.kept += done.kept;
            all.added += done.added;
            all.replaced += done.replaced;
            all.removed += done.removed;
        }
        Ok(all)
    });
    done.await?
}
