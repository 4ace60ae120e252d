//! Hands committed records back to whoever lost count: after a crash the server
//! adds the uses that its tallies had not saved.

use std::{io, path::Path, sync::Arc};

use domain::{
    ids::{InstanceId, RecordId, TokenId},
    time::Timestamp,
};

use crate::{cursor::Cursor, follow::Follower, format::RecordLine, fs::Fs};

/// What a tally needs of one record. `attempts ≥ 1` is one use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Replayed {
    pub record_id: RecordId,
    pub token_id: Option<TokenId>,
    pub attempts: u32,
    pub ts: Timestamp,
}

/// Visits every committed record behind line `after_seq`; returns the number of
/// the last committed line.
pub fn replay(
    fs: &Arc<dyn Fs>,
    journal_dir: &Path,
    instance: &InstanceId,
    after_seq: u64,
    visit: &mut dyn FnMut(Replayed),
) -> io::Result<u64> {
    let cursor = Cursor { instance: instance.clone(), seq: after_seq };
    let mut follower = Follower::new(Arc::clone(fs), journal_dir, cursor);
    follower.poll(&mut |lines| {
        for line in lines.split(|b| *b == b'\n') {
            if let Some(record) = RecordLine::parse(line) {
                let RecordLine { record_id, ts, token_id, attempts, .. } = record;
                visit(Replayed { record_id, token_id, attempts, ts });
            }
        }
        Ok(())
    })?;
    Ok(follower.cursor().seq)
}
