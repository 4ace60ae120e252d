//! Lines as they are committed, as server-sent events.
//!
//! Every event's id is a place to go on from: the journal line behind which its
//! reader stood, and how many matches were given since. The journal's files are
//! read as the client takes them, so a slow client lags and costs no memory.

use std::{
    fmt,
    io::{self, Write as _},
    str::FromStr,
    sync::Arc,
    time::{Duration, Instant},
};

use domain::{fields::Stream, ids::InstanceId};
use logstore::{
    engine::{Cancel, Filter, Search},
    follow::Follower,
};
use tokio_util::sync::CancellationToken;

use super::{Asked, Gone, Pieces, Subject, outlet, outlet::Outlet, refused, searched};
use crate::manage::{
    Manage,
    access::Caller,
    error::{Error, Kind, Result},
};

/// How often somebody who sees nothing hears that nothing happened.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How often the end is looked for.
const WAIT: Duration = Duration::from_millis(200);

/// Where a tail stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Place {
    pub(super) instance: InstanceId,
    pub(super) seq: u64,
    /// Matches behind `seq` that were given already.
    pub(super) given: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.seq, self.given, self.instance)
    }
}

impl FromStr for Place {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut parts = text.splitn(3, '.');
        let mut number = || {
            let digits =
                parts.next().filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))?;
            digits.parse::<u64>().ok()
        };
        let numbers = number().zip(number());
        let instance = parts.next().and_then(InstanceId::parse);
        let place = numbers.zip(instance);
        let place = place.map(|((seq, given), instance)| Self { instance, seq, given });
        place.ok_or_else(|| Error::invalid("cursor is not one of ours"))
    }
}

/// Follows what matches, from `last_event` or `cursor` on, or from now on.
pub async fn tail(
    manage: &Manage,
    caller: &Caller,
    asked: &Asked,
    last_event: Option<&str>,
    gone: Gone,
) -> Result<Pieces> {
    let cursor = last_event.or(asked.cursor.as_deref());
    let asked = Asked { cursor: None, ..asked.clone() };
    let mut question = asked.search(manage.clock.now(), Stream::ALL)?;
    question.projects = caller.project_ids();
    // Bodies come apart from the lines that are followed.
    question.bodies = false;
    let reader = &manage.reader;
    let mut place = match cursor {
        Some(cursor) => cursor.parse()?,
        None => Place { instance: reader.instance.clone(), seq: (reader.committed)(), given: 0 },
    };
    if place.instance != reader.instance {
        // Another instance wrote it: its numbers mean nothing here.
        place = Place { instance: reader.instance.clone(), seq: (reader.committed)(), given: 0 };
    }
    // A place that the journal has not reached is not ours to wait for.
    place.seq = place.seq.min((reader.committed)());
    let filter = Filter::new(&question).map_err(refused)?;
    let slot = Arc::clone(&reader.tails)
        .try_acquire_owned()
        .map_err(|_| Error::new(Kind::Busy, "too many tails are followed; end one or try again"))?;
    searched(manage, caller, &Subject::of(&Search { ..question.clone() })).await?;
    let follower = (reader.follow)(place.seq);
    let (cancel, stopping) = (gone.cancel(), reader.stopping.clone());
    outlet::begin(gone, move |outlet| {
        let _slot = slot;
        let mut tail = Tail { follower, filter, place, missing: 0, cancel, stopping };
        tail.run(outlet).map_err(outlet::broken)
    })
    .await
}

struct Tail {
    follower: Follower,
    filter: Filter,
    /// What the client has.
    place: Place,
    missing: u64,
    cancel: Cancel,
    stopping: CancellationToken,
}

impl Tail {
    fn run(&mut self, outlet: &mut Outlet) -> io::Result<()> {
        write!(outlet, "retry: 1000\nid: {}\n: following\n\n", self.place)?;
        outlet.flush()?;
        let mut spoken = Instant::now();
        while !self.is_over() {
            let given = self.follow(outlet)?;
            if given {
                spoken = Instant::now();
            } else if spoken.elapsed() >= HEARTBEAT {
                spoken = Instant::now();
                write!(outlet, "id: {}\n: nothing new\n\n", self.place)?;
            }
            outlet.flush()?;
            self.follower.wait(WAIT);
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        self.cancel.is_cancelled() || self.stopping.is_cancelled()
    }

    /// Gives what is there now; says whether anything was.
    fn follow(&mut self, outlet: &mut Outlet) -> io::Result<bool> {
        let Self { follower, filter, place, cancel, stopping, .. } = self;
        // Of a place that is gone on from, so many were given before.
        let mut skip = place.given;
        let mut seen = 0;
        let mut given = false;
        follower.poll(&mut |lines| {
            if cancel.is_cancelled() || stopping.is_cancelled() {
                return Err(io::ErrorKind::Interrupted.into());
            }
            for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                if !filter.matches(line) {
                    continue;
                }
                seen += 1;
                if seen <= skip {
                    continue;
                }
                place.given = seen;
                write!(outlet, "id: {place}\ndata: ")?;
                outlet.write_all(line)?;
                outlet.write_all(b"\n\n")?;
                given = true;
            }
            Ok(())
        })?;
        skip = skip.saturating_sub(seen);
        if self.follower.cursor().seq != self.place.seq {
            self.place.seq = self.follower.cursor().seq;
            self.place.given = skip;
        }
        let missing = self.follower.missing();
        if missing > self.missing {
            let lines = missing - self.missing;
            self.missing = missing;
            write!(outlet, "event: missing\ndata: {{\"lines\":{lines}}}\n\n")?;
            given = true;
        }
        Ok(given)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_back_exactly() {
        let instance = InstanceId::parse("eu.west-1").expect("valid");
        let place = Place { instance, seq: 812, given: 3 };
        assert_eq!(place.to_string().parse::<Place>().ok(), Some(place));
        for text in ["", "1", "1.2", "1.2.", "x.1.a", "-1.0.a", "1.2./"] {
            assert!(text.parse::<Place>().is_err(), "{text}");
        }
    }
}
