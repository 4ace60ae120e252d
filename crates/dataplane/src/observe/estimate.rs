//! Estimates usage where the provider reported none: one low-priority thread
//! tokenises kept text and then lets the record go on its way.
//!
//! Promises that every record handed in is delivered exactly once, estimated or
//! not. Must never make a request wait: a full queue delivers at once.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use domain::{
    provider::Operation,
    record::Record,
    usage::{Usage, UsageSource},
};
use parking_lot::Mutex;
use tiktoken_rs::CoreBPE;

use super::{
    is_counted,
    prompt::PromptText,
    response::generated,
    text::{TextBudget, Texts},
};

/// Records that wait for their estimate; past it they go without one.
pub const ESTIMATES_QUEUED_MAX: usize = 256;
/// The tables take some 46 MB; they are dropped when nothing needs them.
const TABLES_IDLE: Duration = Duration::from_secs(60);
const NICENESS: i32 = 10;
/// What the chat format adds to each message and to the whole, by OpenAI's own
/// guide to counting.
const TOKENS_A_MESSAGE: u64 = 4;
const TOKENS_A_CHAT: u64 = 3;

type Deliver = Box<dyn FnOnce(Box<Record>) + Send>;

struct Job {
    record: Box<Record>,
    texts: Texts,
    deliver: Deliver,
}

/// The queue and the thread behind it.
pub struct Estimator {
    jobs: Mutex<Option<SyncSender<Job>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// Set when there is no time left: deliver without estimates.
    hurry: Arc<AtomicBool>,
    budget: TextBudget,
}

impl Estimator {
    pub fn start(budget: TextBudget) -> io::Result<Self> {
        let (jobs, queue) = sync_channel(ESTIMATES_QUEUED_MAX);
        let hurry = Arc::new(AtomicBool::new(false));
        let thread = std::thread::Builder::new().name("estimator".to_owned()).spawn({
            let hurry = Arc::clone(&hurry);
            move || run(&queue, &hurry)
        })?;
        Ok(Self { jobs: Mutex::new(Some(jobs)), thread: Mutex::new(Some(thread)), hurry, budget })
    }

    /// The budget for text, to hand to the observers.
    pub fn budget(&self) -> &TextBudget {
        &self.budget
    }

    /// Estimates `record`'s usage and then calls `deliver` with it, on the
    /// estimator's thread; with a full queue or after shutdown at once, here,
    /// and the usage stays unknown. Only for records that [`Self::wants`].
    pub fn submit(
        &self,
        record: Box<Record>,
        texts: Texts,
        deliver: impl FnOnce(Box<Record>) + Send + 'static,
    ) {
        let job = Job { record, texts, deliver: Box::new(deliver) };
        let refused = match &*self.jobs.lock() {
            Some(jobs) => jobs.try_send(job).err().map(|error| match error {
                TrySendError::Full(job) | TrySendError::Disconnected(job) => job,
            }),
            None => Some(job),
        };
        if let Some(job) = refused {
            drop(job.texts);
            (job.deliver)(job.record);
        }
    }

    /// Whether this request makes a provider count tokens, as far as can be told
    /// before its answer. Paths below an operation's own (`…/count_tokens`,
    /// `…/batches`) do not.
    pub fn may_want(record: &Record) -> bool {
        const LAST_WORDS: [&str; 4] = ["completions", "responses", "embeddings", "messages"];
        let last = record.path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        &*record.method == "POST" && is_counted(record.operation) && LAST_WORDS.contains(&last)
    }

    /// Whether an estimate of this record's usage means something.
    pub fn wants(record: &Record) -> bool {
        record.usage_source == UsageSource::Unknown
            && record.upstream_status_code.is_some_and(|status| (200..300).contains(&status))
            && Self::may_want(record)
    }

    /// Delivers what is queued and ends the thread; `with_estimates` false means
    /// that there is no time left for them. Blocks, shortly in that case.
    pub fn shut_down(&self, with_estimates: bool) {
        self.hurry.store(!with_estimates, Ordering::Relaxed);
        drop(self.jobs.lock().take());
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("the estimator's thread panicked");
        }
    }
}

impl std::fmt::Debug for Estimator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Estimator").finish_non_exhaustive()
    }
}

fn run(queue: &Receiver<Job>, hurry: &AtomicBool) {
    // On Linux this is the thread's own niceness.
    if let Err(error) = rustix::process::nice(NICENESS) {
        tracing::debug!(%error, "the estimator runs at normal priority");
    }
    let mut tables = Tables::default();
    loop {
        let mut job = match queue.recv_timeout(TABLES_IDLE) {
            Ok(job) => job,
            Err(RecvTimeoutError::Timeout) => {
                tables = Tables::default();
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return,
        };
        if !hurry.load(Ordering::Relaxed) {
            // A tokenizer that fails on some text must not cost the record.
            let estimated = catch_unwind(AssertUnwindSafe(|| tables.estimate(&mut job)));
            if estimated.is_err() {
                tracing::warn!(request_id = job.record.request_id.as_str(), "an estimate failed");
            }
        }
        drop(job.texts);
        (job.deliver)(job.record);
    }
}

/// Loaded when first needed: 0.2 s each.
#[derive(Default)]
struct Tables {
    o200k: Option<CoreBPE>,
    cl100k: Option<CoreBPE>,
}

impl Tables {
    fn estimate(&mut self, job: &mut Job) {
        let record = &mut job.record;
        let model = record.response_model.as_deref().or(record.model.as_deref());
        let Some((table, method)) = self.for_model(model.unwrap_or_default()) else { return };
        let count = |text: &str| table.encode_ordinary(text).len();
        let chat = if record.operation == Operation::Chat { TOKENS_A_CHAT } else { 0 };
        let input = job.texts.request.as_ref().and_then(|body| {
            let prompt = PromptText::of(body)?;
            let tokens = prompt.text.tokens(count) + prompt.messages * TOKENS_A_MESSAGE + chat;
            Some(body.scaled(tokens))
        });
        let output = job.texts.answer.as_ref().and_then(|answer| {
            let text = generated(answer)?;
            Some(answer.scaled(text.tokens(count)))
        });
        // Nothing found is nothing known, never zero.
        let (input, output) = (input.filter(|tokens| *tokens > 0), output.filter(|t| *t > 0));
        // Some failures come with status 200, and cost nothing.
        let failed = record.error.is_some() && output.is_none();
        if failed || (input.is_none() && output.is_none()) {
            return;
        }
        let total = input.filter(|_| record.operation == Operation::Embeddings);
        let (input_tokens, output_tokens) = (input, output);
        record.usage =
            Usage { input_tokens, output_tokens, total_tokens: total, ..Usage::default() }
                .with_total();
        record.usage_source = UsageSource::Estimated;
        record.usage_method = Some(method);
    }

    /// The newest table for models that nobody has published one for: it is
    /// nearer to them than any other.
    fn for_model(&mut self, model: &str) -> Option<(&CoreBPE, &'static str)> {
        let name = model.rsplit('/').next().unwrap_or_default();
        let is_older = name.starts_with("gpt-3.5")
            || name.starts_with("text-embedding-")
            || name == "gpt-4"
            || name.starts_with("gpt-4-");
        let (slot, load, method): (_, fn() -> _, _) = if is_older {
            (&mut self.cl100k, tiktoken_rs::cl100k_base, "tiktoken:cl100k_base")
        } else {
            (&mut self.o200k, tiktoken_rs::o200k_base, "tiktoken:o200k_base")
        };
        if slot.is_none() {
            match load() {
                Ok(table) => *slot = Some(table),
                Err(error) => tracing::error!(%error, "the tokenizer's table does not load"),
            }
        }
        slot.as_ref().map(|table| (table, method))
    }
}
