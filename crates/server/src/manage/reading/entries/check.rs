//! `POST /manage/audit/verify`: the whole tree verified where it lies, by the
//! server that wrote it. Whoever does not trust this server runs `audit verify`
//! on a copy, with a key and a checkpoint from elsewhere.

use std::collections::BTreeMap;

use domain::{
    audit::{
        Action, Detail, EntryDraft, TargetKind, Word,
        verify::{Report, Verdict},
    },
    ids::EntryId,
};
use serde::Serialize;
use tlog::verify::Directory;
use tokio::sync::mpsc;

use crate::manage::{
    Manage,
    access::Caller,
    entered::entered,
    error::{Error, Kind, Result},
    verify,
};

/// Pages of rows that wait for the tree.
const PAGES_AHEAD: usize = 2;

/// What was found.
#[derive(Debug, Serialize)]
pub struct Verified {
    pub verdict: Verdict,
    pub exit_status: u8,
    #[serde(flatten)]
    pub report: Report,
}

/// Verifies tree and database, and sealed segments where that is wanted. One at
/// a time: it reads everything.
pub async fn check(manage: &Manage, caller: &Caller, records: bool) -> Result<(Verified, EntryId)> {
    let busy = || Error::new(Kind::Busy, "the audit tree is being verified already");
    let place = manage.tree.verifying.clone().try_acquire_owned().map_err(|_| busy())?;
    let report = report(manage, records).await;
    drop(place);
    let report = report?;
    let counts = report.counts.iter().map(|(class, count)| (Word::lossy(class), *count));
    let draft = EntryDraft::new(Action::AuditVerify)
        .target(TargetKind::Instance, &manage.reader.instance)
        .detail(Detail::TreeSize(report.size))
        .detail(Detail::Rows(report.entries))
        .detail(Detail::Findings(counts.collect::<BTreeMap<_, _>>()));
    let entry = entered(manage, caller, draft).await?;
    let verdict = report.verdict();
    Ok((Verified { verdict, exit_status: verdict.exit_status(), report }, entry))
}

async fn report(manage: &Manage, records: bool) -> Result<Report> {
    let key = manage.tree.status.borrow().key.clone();
    let (sender, rows) = mpsc::channel(PAGES_AHEAD);
    let store = manage.store.clone();
    tokio::spawn(async move { store.stored_entries_here(sender).await });
    let data_dir = manage.reader.data_dir.clone();
    let done = tokio::task::spawn_blocking(move || {
        verify::verify(verify::Question {
            source: &Directory::new(data_dir.join("tlog")),
            data_dir: Some(&data_dir),
            keys: key.into_iter().collect(),
            remembered: Vec::new(),
            rows: Some(rows),
            records,
            exports: Vec::new(),
            policy: None,
        })
    });
    done.await.map_err(|panic| {
        Error::new(Kind::Internal, "the verification broke off").with_source(panic)
    })
}
