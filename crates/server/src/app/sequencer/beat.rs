//! Heartbeats: entries that say, while nothing else happens, how far everything
//! is, so that a verifier can tell silence from suppression.

use std::{collections::BTreeMap, time::Duration};

use domain::{
    audit::{Action, Detail, EntryDraft, TargetKind, Word},
    ids::InstanceId,
};
use logstore::Intake;
use store::Store;

use crate::{
    events::{Event, Events},
    manage::tree::Tree,
};

const INTERVAL: Duration = Duration::from_secs(600);
/// Producers that a heartbeat names; a leaf has a bound.
const PRODUCERS_MAX: usize = 100;

/// Enters one every ten minutes, for as long as it runs.
pub async fn beats(
    events: Events,
    store: Store,
    (tree, intake): (Tree, Intake),
    instance: InstanceId,
) {
    let mut ticks = tokio::time::interval(INTERVAL);
    // The start has an entry of its own.
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let draft = draft(&store, &tree, &intake, &instance).await;
        if let Err(error) = events.enter_with_totals(Event::of_system(draft)).await {
            let error: &dyn std::error::Error = &error;
            tracing::warn!(error, "a heartbeat could not be entered in the audit log");
        }
    }
}

async fn draft(store: &Store, tree: &Tree, intake: &Intake, instance: &InstanceId) -> EntryDraft {
    let size = tree.checkpoint().map_or(0, |checkpoint| checkpoint.size());
    let draft = EntryDraft::new(Action::AuditHeartbeat)
        .target(TargetKind::Instance, instance)
        .detail(Detail::JournalSeq(intake.accounts().seq))
        .detail(Detail::Pending(store.entry_counts().1))
        .detail(Detail::TreeSize(size));
    // With the database away the rest still counts.
    let Ok(seqs) = store.producer_seqs().await else { return draft };
    let seqs = seqs.into_iter().take(PRODUCERS_MAX);
    let seqs: BTreeMap<Word, u64> =
        seqs.map(|(producer, seq)| (Word::lossy(&producer), seq)).collect();
    draft.detail(Detail::ProducerSeqs(seqs))
}
