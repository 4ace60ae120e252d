//! The story of a request, with its captured bodies for those who may read them.

use std::{sync::Arc, time::Instant};

use domain::{fields::Stream, query::Expr};
use logstore::engine::Search;
use serde_json::Value;

use super::{
    Cancel, SEARCH_TIME_MAX, Subject, bodies_entered, bounded, missing, read,
    search::{close, member},
    searched,
};
use crate::manage::{
    Manage,
    access::{Caller, Permission},
    error::{Error, Result},
    story::{self, StoryLine},
};

/// Longer ids are nobody's.
const ID_BYTES_MAX: usize = 128;

/// Everything about an id, as one object. Bodies are read where the caller may
/// and wants them, and shown once the audit log says so.
pub async fn request(
    manage: &Manage,
    caller: &Caller,
    id: String,
    wants_bodies: bool,
    waiting: &Cancel,
) -> Result<Vec<u8>> {
    if id.is_empty() || id.len() > ID_BYTES_MAX {
        return Err(Error::not_found("request"));
    }
    let question = Search { streams: Stream::ALL.to_vec(), ..Search::new(Expr::All) };
    let question = bounded(question, caller, waiting, SEARCH_TIME_MAX);
    let subject = Subject { query: format!("request {id}"), ..Subject::of(&question) };
    searched(manage, caller, &subject).await?;
    let reads_bodies = wants_bodies && Permission::ReadBodies.granted_to(caller.role);
    let data_dir = manage.reader.data_dir.clone();
    let (fs, dir) = (Arc::clone(&manage.reader.fs), data_dir.clone());
    let (sought, begun) = (id.clone(), Instant::now());
    let (question, mut story, bodies) = read(manage, move |sources| {
        let mut story = story::gather(sources, &sought, &question)?;
        let bodies = match reads_bodies {
            true => story::bodies(&fs, &dir, &mut story)?,
            false => Vec::new(),
        };
        Ok((question, story, bodies))
    })
    .await?;
    let nothing_missing = missing(&story.report, &data_dir).is_empty();
    if story.lines.is_empty() && nothing_missing {
        return Err(Error::not_found("request"));
    }
    if !bodies.is_empty() {
        bodies_entered(manage, caller, &id, bodies.len() as u64).await?;
    }
    let mut out = b"{\"id\":".to_vec();
    out.extend_from_slice(Value::from(id).to_string().as_bytes());
    let of = |stream| move |line: &&StoryLine| !line.sibling && line.stream == stream;
    let lines = std::mem::take(&mut story.lines);
    list(&mut out, "records", lines.iter().filter(of(Stream::Record)).map(bytes));
    list(&mut out, "traces", lines.iter().filter(of(Stream::Trace)).map(bytes));
    list(&mut out, "entries", lines.iter().filter(of(Stream::Entry)).map(bytes));
    list(&mut out, "bodies", bodies.iter().map(Vec::as_slice));
    list(&mut out, "siblings", lines.iter().filter(|line| line.sibling).map(bytes));
    member(&mut out, "cut", &story.cut);
    close(&mut out, &question, &story.report, &data_dir, (begun, false));
    Ok(out)
}

fn bytes(line: &StoryLine) -> &[u8] {
    &line.line
}

fn list<'l>(out: &mut Vec<u8>, name: &str, lines: impl Iterator<Item = &'l [u8]>) {
    out.push(b',');
    domain::json::write_text(out, name);
    out.extend_from_slice(b":[");
    for (at, line) in lines.enumerate() {
        out.extend_from_slice(if at > 0 { b",\n" } else { b"" });
        out.extend_from_slice(line);
    }
    out.push(b']');
}
