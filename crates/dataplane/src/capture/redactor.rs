//! The thread on which captured bodies go through the rules, and their records
//! with them.
//!
//! Promises that every record handed in is delivered exactly once, with its
//! bodies or without. Must never make a request wait: a full queue delivers at
//! once, without bodies, and the record says so.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::JoinHandle,
};

use domain::{
    body::{Body, CONTENT_TYPE_BYTES_MAX},
    capture::{Fate, Omission, Side},
    record::{Record, bounded},
    redact::{Redacted, Rules, Source},
};
use http::uri::PathAndQuery;
use parking_lot::Mutex;

use super::BodyCopy;
use crate::{finish::query_secrets, ports::Grant};

/// Records that wait for the redaction of their bodies.
pub const REDACTIONS_QUEUED_MAX: usize = 1024;
const NICENESS: i32 = 5;

/// A copy, and whether its body came to its end.
#[derive(Debug)]
pub(crate) struct Copied {
    pub(crate) copy: Box<BodyCopy>,
    pub(crate) ended: bool,
}

/// What was copied of an exchange, and what must not be in it.
#[derive(Debug)]
pub(crate) struct Copies {
    pub(crate) request: Option<Copied>,
    pub(crate) response: Option<Copied>,
    pub(crate) rules: Arc<Rules>,
    pub(crate) grant: Arc<Grant>,
    pub(crate) query: Option<PathAndQuery>,
}

type Deliver = Box<dyn FnOnce(Box<Record>, Vec<Body>) + Send>;

struct Job {
    record: Box<Record>,
    copies: Copies,
    deliver: Deliver,
}

/// The queue and the thread behind it.
pub(crate) struct Redactor {
    jobs: Mutex<Option<SyncSender<Job>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// Set when there is no time left: deliver without bodies.
    hurry: Arc<AtomicBool>,
}

impl Redactor {
    pub(crate) fn start() -> io::Result<Self> {
        let (jobs, queue) = sync_channel(REDACTIONS_QUEUED_MAX);
        let hurry = Arc::new(AtomicBool::new(false));
        let thread = std::thread::Builder::new().name("redactor".to_owned()).spawn({
            let hurry = Arc::clone(&hurry);
            move || run(&queue, &hurry)
        })?;
        Ok(Self { jobs: Mutex::new(Some(jobs)), thread: Mutex::new(Some(thread)), hurry })
    }

    /// Redacts the copies and then calls `deliver`, on the redactor's thread;
    /// with a full queue or after shutdown at once, here, without bodies.
    pub(crate) fn submit(
        &self,
        record: Box<Record>,
        copies: Copies,
        deliver: impl FnOnce(Box<Record>, Vec<Body>) + Send + 'static,
    ) {
        let job = Job { record, copies, deliver: Box::new(deliver) };
        let refused = match &*self.jobs.lock() {
            Some(jobs) => jobs.try_send(job).err().map(|error| match error {
                TrySendError::Full(job) | TrySendError::Disconnected(job) => job,
            }),
            None => Some(job),
        };
        if let Some(job) = refused {
            job.deliver_without(Omission::Queue);
        }
    }

    /// Delivers what is queued and ends the thread; `with_bodies` false means
    /// that there is no time left for them. Blocks, shortly in that case.
    pub(crate) fn shut_down(&self, with_bodies: bool) {
        self.hurry.store(!with_bodies, Ordering::Relaxed);
        drop(self.jobs.lock().take());
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("the redactor's thread panicked");
        }
    }
}

impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redactor").finish_non_exhaustive()
    }
}

fn run(queue: &Receiver<Job>, hurry: &AtomicBool) {
    // On Linux this is the thread's own niceness.
    if let Err(error) = rustix::process::nice(NICENESS) {
        tracing::debug!(%error, "the redactor runs at normal priority");
    }
    while let Ok(mut job) = queue.recv() {
        if hurry.load(Ordering::Relaxed) {
            job.deliver_without(Omission::Queue);
            continue;
        }
        // A rule that fails on some text must not cost the record, and its text
        // must not be kept.
        match catch_unwind(AssertUnwindSafe(|| job.redact())) {
            Ok(bodies) => {
                // The copies' memory is free again before the journal takes more.
                let Job { record, copies, deliver } = job;
                drop(copies);
                deliver(record, bodies);
            }
            Err(_) => {
                tracing::error!(request_id = job.record.request_id.as_str(), "a redaction failed");
                job.deliver_without(Omission::Unreadable);
            }
        }
    }
}

impl Copies {
    fn of(&self, side: Side) -> Option<&Copied> {
        match side {
            Side::Request => self.request.as_ref(),
            Side::Response => self.response.as_ref(),
        }
    }
}

impl Job {
    fn deliver_without(mut self, why: Omission) {
        for side in Side::ALL {
            let copied = self.copies.of(side);
            let was_there = copied.is_some_and(|copied| copied.copy.bytes > 0);
            *self.record.captured.of(side) =
                if was_there { Fate::Omitted(why) } else { Fate::None };
        }
        drop(self.copies);
        (self.deliver)(self.record, Vec::new());
    }

    fn redact(&mut self) -> Vec<Body> {
        let keys = self.copies.grant.keys.values();
        let mut secrets: Vec<&str> = keys.flat_map(|key| key.confidential.texts()).collect();
        secrets.extend(query_secrets(self.copies.query.as_ref()));
        let mut bodies = Vec::new();
        for side in Side::ALL {
            let Some(copied) = self.copies.of(side).filter(|copied| copied.copy.bytes > 0) else {
                continue;
            };
            let fate = match copied.redact(&self.copies.rules, &secrets) {
                Err(why) => Fate::Omitted(why),
                Ok((text, truncated)) => {
                    let redacted = text.redactions() > 0;
                    let copy = &copied.copy;
                    let content_type = copy.content_type.as_deref();
                    let content_type =
                        content_type.map(|text| bounded(text, CONTENT_TYPE_BYTES_MAX).into());
                    let bytes = copy.bytes;
                    let body = Body::of(&self.record, side, text);
                    bodies.push(Body { content_type, bytes, truncated, ..body });
                    Fate::Kept { truncated, redacted }
                }
            };
            *self.record.captured.of(side) = fate;
        }
        bodies
    }
}

impl Copied {
    /// The text, and whether there was more of it.
    fn redact(&self, rules: &Rules, secrets: &[&str]) -> Result<(Redacted, bool), Omission> {
        let copy = &self.copy;
        match copy.stopped {
            // What was copied before there was no room left is a beginning too.
            Some(Omission::Memory) if !copy.kept.is_empty() => {}
            Some(why) => return Err(why),
            None => {}
        }
        let is_all = copy.bytes == copy.kept.len() as u64;
        let coded = copy.coded.as_ref().filter(|coded| !coded.is_plain());
        let decoded = match coded {
            Some(coded) => {
                Some(coded.beginning(&copy.kept, copy.bytes_max).ok_or(Omission::Encoded)?)
            }
            None => None,
        };
        let (bytes, has_more) = match &decoded {
            Some((bytes, has_more)) => (bytes.as_slice(), *has_more),
            None => (copy.kept.as_slice(), false),
        };
        let truncated = !is_all || has_more || !self.ended;
        let content_type = copy.content_type.as_deref();
        let text = rules.redact(&Source { bytes, content_type, cut: truncated }, secrets)?;
        Ok((text, truncated))
    }
}
