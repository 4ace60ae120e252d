//! An entry as a row: the plain words of its leaf in columns to look by, the
//! leaf itself, and its openings.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use domain::audit::{Leaf, LeafHash, Opening, Word, leaf_hash};
use sha2::{Digest, Sha256};
use sqlx::Row as _;

use crate::{
    dialect::{Connection, Row},
    error::{Error, Result},
    rows,
};

macro_rules! insert_into {
    ($table:literal, $place:literal) => {
        concat!(
            "INSERT INTO ",
            $table,
            " (",
            $place,
            ", id, producer, seq, at, action, result, reason_code, actor_kind, actor_id, \
             project_id, token_id, target_type, target_id, trace_id, method, route, instance, \
             leaf, leaf_hash) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        )
    };
}

/// Where a row goes, and what says its place there.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    Pending { position: u64 },
    Sequenced { index: u64 },
}

/// The columns of one sequenced entry.
pub(super) const SELECT_ENTRY: &str = "SELECT idx, id, producer, seq, at, action, result, \
    reason_code, actor_kind, actor_id, project_id, token_id, target_type, target_id, trace_id, \
    method, route, instance, leaf, leaf_hash FROM audit_entry WHERE idx = ?";

/// Openings that entries are looked for by; they are found by a short hash.
const LOOKED_UP: &[&str] = &[
    "/request/id",
    "/request/correlation_id",
    "/request/client_ip",
    "/request/user_agent",
    "/actor/name",
];

pub(super) async fn insert(
    connection: &mut Connection,
    place: Place,
    leaf: &Leaf,
    text: &str,
    hash: LeafHash,
) -> Result<()> {
    let (statement, place) = match place {
        Place::Pending { position } => (insert_into!("audit_pending", "position"), position),
        Place::Sequenced { index } => (insert_into!("audit_entry", "idx"), index),
    };
    let mut query = sqlx::query(statement)
        .bind(rows::stored(place))
        .bind(leaf.id.to_string())
        .bind(leaf.producer.as_str().to_owned())
        .bind(rows::stored(leaf.seq))
        .bind(leaf.at.as_micros());
    for (_, word) in words(leaf) {
        query = query.bind(word);
    }
    query.bind(text.to_owned()).bind(hash.to_string()).execute(connection).await?;
    Ok(())
}

/// The plain words of a leaf by column, in the order of the statements above.
fn words(leaf: &Leaf) -> [(&'static str, Option<String>); 13] {
    let request = leaf.request.as_ref();
    let word = |word: Option<&Word>| word.map(|word| word.as_str().to_owned());
    let target = leaf.target.as_ref();
    [
        ("action", Some(leaf.action.as_str().to_owned())),
        ("result", Some(leaf.result.as_str().to_owned())),
        ("reason_code", word(leaf.reason_code.as_ref())),
        ("actor_kind", Some(leaf.actor.kind.as_str().to_owned())),
        ("actor_id", word(leaf.actor.id.as_ref())),
        ("project_id", leaf.project_id.map(|id| id.to_string())),
        ("token_id", leaf.token_id.map(|id| id.to_string())),
        ("target_type", target.map(|target| target.kind.as_str().to_owned())),
        ("target_id", word(target.map(|target| &target.id))),
        ("trace_id", word(request.and_then(|request| request.trace_id.as_ref()))),
        ("method", word(request.and_then(|request| request.method.as_ref()))),
        ("route", word(request.and_then(|request| request.route.as_ref()))),
        ("instance", Some(leaf.instance.as_str().to_owned())),
    ]
}

/// Whether a row says in every column what this leaf says.
pub(super) fn says(row: &Row, leaf: &Leaf, text: &str) -> Result<bool> {
    let numbers =
        rows::count(row, "seq")? == leaf.seq && row.try_get::<i64, _>("at")? == leaf.at.as_micros();
    let mut same = numbers
        && rows::text(row, "id")? == leaf.id.to_string()
        && rows::text(row, "producer")? == leaf.producer.as_str()
        && rows::text(row, "leaf")? == text
        && rows::text(row, "leaf_hash")? == leaf_hash(text.as_bytes()).to_string();
    for (column, word) in words(leaf) {
        same &= row.try_get::<Option<String>, _>(column)? == word;
    }
    Ok(same)
}

pub(super) async fn insert_openings(
    connection: &mut Connection,
    entry_id: &str,
    openings: &[Opening],
) -> Result<()> {
    for opening in openings {
        let is_looked_up = LOOKED_UP.contains(&opening.path.as_str());
        sqlx::query(
            "INSERT INTO audit_opening (entry_id, path, salt, value, lookup) \
             VALUES (?, ?, ?, ?, ?)",
        )
        .bind(entry_id)
        .bind(opening.path.as_str())
        .bind(STANDARD.encode(opening.salt))
        .bind(opening.value.as_str())
        .bind(is_looked_up.then(|| lookup(&opening.value)))
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// What finds an opening by its value. It lies beside the value itself and goes
/// with it.
pub(super) fn lookup(value: &str) -> String {
    let hash = Sha256::digest(value);
    rows::hex(&hash[..8])
}

pub(super) fn opening(row: &Row) -> Result<Opening> {
    let salt = STANDARD.decode(row.try_get::<&str, _>("salt")?).ok();
    let salt = salt.and_then(|salt| <[u8; 32]>::try_from(salt).ok());
    let salt = salt.ok_or_else(|| Error::corrupt("the salt of an opening cannot be read"))?;
    Ok(Opening { path: rows::text(row, "path")?, salt, value: rows::text(row, "value")? })
}
