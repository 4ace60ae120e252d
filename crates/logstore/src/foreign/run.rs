//! Takes the inputs one after the other and each of them block by block: two
//! threads search a plain file and one unpacks a compressed one, while the
//! thread that asked puts the answer in order.
//!
//! Blocks of a plain file go to the threads in turn and come back through a
//! short queue of each, so their order needs no sorting and nobody runs ahead.

use std::{
    io::Read,
    path::PathBuf,
    sync::{
        Arc, OnceLock,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    time::Instant,
};

use super::{
    Input, Report, Search,
    block::{Answer, BlockSearch, Tally, Want},
    emit::{Coming, Sink},
    plan::{LineReader, Plan},
    source::{Blocks, Opened, PlainFile, Sizes, open, open_live},
};
use crate::{
    engine::{EngineError, Problem, Progress, Stop},
    fs::Fs,
};

/// Threads that search a plain file.
pub(super) const THREADS: usize = 2;

/// Answers of a thread that wait for their turn.
const QUEUE_BLOCKS: usize = 4;

/// A question on its way through the inputs.
pub(super) struct Run<'a> {
    fs: &'a Arc<dyn Fs>,
    search: &'a Search,
    plan: &'a Plan,
    sizes: Sizes,
    report: Report,
    progress: Progress,
    begun: Instant,
}

impl<'a> Run<'a> {
    pub(super) fn new(
        fs: &'a Arc<dyn Fs>,
        search: &'a Search,
        plan: &'a Plan,
        sizes: Sizes,
    ) -> Self {
        let (report, progress) = (Report::default(), Progress::default());
        Self { fs, search, plan, sizes, report, progress, begun: Instant::now() }
    }

    pub(super) fn over<T: Tally>(
        mut self,
        inputs: Vec<Input<'_>>,
        mut sink: Option<&mut dyn Sink>,
        tallies: &mut [T; THREADS],
    ) -> Result<Report, EngineError> {
        self.report.inputs = inputs.len() as u64;
        self.progress.files_total = inputs.len() as u64;
        let mut inputs: Vec<(usize, Input<'_>)> = inputs.into_iter().enumerate().collect();
        if sink.as_deref().is_some_and(Sink::is_backwards) {
            inputs.reverse();
        }
        for (nth, input) in inputs {
            let path = input.path().to_owned();
            if self.is_over(sink.as_deref()) {
                self.spare(&input);
                continue;
            }
            let opened = match input {
                Input::File(path) => open(&**self.fs, &path, self.sizes),
                Input::Stream(_, read) => open_live(read),
            };
            let problem = match opened {
                Ok(opened) => {
                    if let Some(sink) = &mut sink {
                        let coming = match &opened {
                            Opened::Plain(_) => Coming::Plain,
                            Opened::Packed(_) => Coming::Packed,
                            Opened::Live(_) => Coming::Live,
                        };
                        sink.begin(nth, coming);
                    }
                    self.input(opened, &mut sink, tallies)?.map(|e| e.to_string())
                }
                Err(error) => Some(error.to_string()),
            };
            if let Some(what) = problem {
                self.failed(path, what);
            }
            self.progress.files_done += 1;
            self.tell();
        }
        if let Some(sink) = sink {
            let (matched, stopped) = sink.finish();
            self.report.matched = matched;
            self.report.stopped = self.report.stopped.or(stopped);
        }
        self.report.elapsed = self.begun.elapsed();
        Ok(self.report)
    }

    /// An input that need not be read; that it is not there is said all the same.
    fn spare(&mut self, input: &Input<'_>) {
        if let Input::File(path) = input
            && let Err(error) = self.fs.identity(path)
        {
            self.failed(path.clone(), error.to_string());
        }
    }

    fn failed(&mut self, path: PathBuf, what: String) {
        self.report.inputs_failed += 1;
        self.report.problems.push(Problem { path, what });
    }

    /// Searches one input; what is returned kept the rest of it from being read.
    fn input<T: Tally>(
        &mut self,
        opened: Opened<'_>,
        sink: &mut Option<&mut dyn Sink>,
        tallies: &mut [T; THREADS],
    ) -> Result<Option<std::io::Error>, EngineError> {
        let want = match sink {
            None => Want::Nothing,
            Some(sink) if sink.wants_context() => Want::Block,
            Some(_) => Want::Matches,
        };
        let choice = OnceLock::new();
        let search = BlockSearch { plan: self.plan, choice: &choice, want };
        let [first, ..] = tallies;
        match opened {
            Opened::Live(read) => {
                let mut blocks = Blocks::new(read, self.sizes, true);
                let mut reader = self.plan.reader();
                loop {
                    let answer = next_answer(&mut blocks, search, &mut reader, first);
                    let Some(answer) = answer else { return Ok(None) };
                    match self.take(answer, sink) {
                        Took::All => {}
                        Took::Enough => return Ok(None),
                        Took::Error(error) => return Ok(Some(error)),
                    }
                }
            }
            Opened::Packed(read) => self.packed(read, search, sink, first),
            Opened::Plain(file) if file.blocks() < THREADS as u64 => {
                let mut reader = self.plan.reader();
                let answer = search.plain(&file, 0, &mut Vec::new(), &mut reader, first);
                Ok(match self.take(answer, sink) {
                    Took::Error(error) => Some(error),
                    Took::All | Took::Enough => None,
                })
            }
            Opened::Plain(file) => self.plain(&file, search, sink, tallies),
        }
    }

    fn plain<T: Tally>(
        &mut self,
        file: &PlainFile,
        search: BlockSearch<'_>,
        sink: &mut Option<&mut dyn Sink>,
        tallies: &mut [T; THREADS],
    ) -> Result<Option<std::io::Error>, EngineError> {
        let blocks = file.blocks();
        let is_backwards = sink.as_deref().is_some_and(Sink::is_backwards);
        let nth_block = move |nth| if is_backwards { blocks - 1 - nth } else { nth };
        std::thread::scope(|scope| {
            let mut queues = Vec::with_capacity(THREADS);
            for (thread, tally) in tallies.iter_mut().enumerate() {
                let (send, receive) = sync_channel(QUEUE_BLOCKS);
                queues.push(receive);
                let work = move || {
                    let mut reader = search.plan.reader();
                    let mut buffer = Vec::new();
                    for nth in (thread as u64..blocks).step_by(THREADS) {
                        let block = nth_block(nth);
                        let answer = search.plain(file, block, &mut buffer, &mut reader, tally);
                        // Nobody listens any more: enough was found.
                        if send.send(answer).is_err() {
                            return;
                        }
                    }
                };
                let builder = std::thread::Builder::new().name("search".to_owned());
                builder.spawn_scoped(scope, work).map_err(EngineError::Thread)?;
            }
            for nth in 0..blocks {
                let Ok(answer) = queues[nth as usize % THREADS].recv() else { break };
                match self.take(answer, sink) {
                    Took::All => {}
                    Took::Enough => break,
                    Took::Error(error) => return Ok(Some(error)),
                }
            }
            Ok(None)
        })
    }

    /// Unpacking is what takes the time, so the search has a thread of its own.
    fn packed<T: Tally>(
        &mut self,
        read: Box<dyn Read + Send>,
        search: BlockSearch<'_>,
        sink: &mut Option<&mut dyn Sink>,
        tally: &mut T,
    ) -> Result<Option<std::io::Error>, EngineError> {
        std::thread::scope(|scope| {
            let (send, receive) = sync_channel(QUEUE_BLOCKS);
            let (give_back, recycled) = sync_channel(QUEUE_BLOCKS + 1);
            let blocks = Blocks::new(read, self.sizes, false);
            let work = move || unpack(blocks, &send, &recycled);
            let builder = std::thread::Builder::new().name("unpack".to_owned());
            builder.spawn_scoped(scope, work).map_err(EngineError::Thread)?;
            let mut reader = self.plan.reader();
            for unpacked in &receive {
                let mut answer = Answer {
                    bytes_read: unpacked.bytes_read,
                    passed_over: unpacked.passed_over,
                    error: unpacked.error,
                    ..Answer::default()
                };
                search.block(&unpacked.lines, &mut reader, tally, &mut answer);
                // A full queue of buffers only means that one is made anew.
                give_back.try_send(unpacked.lines).unwrap_or_default();
                match self.take(answer, sink) {
                    Took::All => {}
                    Took::Enough => break,
                    Took::Error(error) => return Ok(Some(error)),
                }
            }
            Ok(None)
        })
    }

    /// Adds the answer for one block.
    fn take(&mut self, answer: Answer, sink: &mut Option<&mut dyn Sink>) -> Took {
        let report = &mut self.report;
        report.bytes += answer.bytes_read;
        report.lines += answer.census.lines;
        report.not_json += answer.census.not_json;
        report.looked_at += answer.looked_at;
        report.passed_over += answer.passed_over;
        report.matched += answer.matched;
        if answer.full {
            report.stopped = Some(Stop::Memory);
        }
        if let Some(sink) = sink {
            sink.block(&answer.lines, &answer.matches);
        }
        self.tell();
        if let Some(error) = answer.error {
            return Took::Error(error);
        }
        if self.is_over(sink.as_deref()) { Took::Enough } else { Took::All }
    }

    fn tell(&mut self) {
        self.progress.rows_scanned = self.report.lines;
        self.progress.bytes_read = self.report.bytes;
        if let Some(tell) = &self.search.progress {
            tell(&self.progress);
        }
    }

    /// Whether whoever asked has enough, or a bound is reached.
    fn is_over(&mut self, sink: Option<&dyn Sink>) -> bool {
        let budget = &self.search.budget;
        let rows_max = budget.rows_scanned.unwrap_or(u64::MAX);
        let stop = match () {
            () if sink.is_some_and(Sink::is_done) => return true,
            () if self.search.cancel.is_cancelled() => Some(Stop::Cancelled),
            () if self.report.lines >= rows_max => Some(Stop::RowsScanned),
            () if budget.deadline.is_some_and(|deadline| Instant::now() >= deadline) => {
                Some(Stop::Deadline)
            }
            () => None,
        };
        self.report.stopped = self.report.stopped.or(stop);
        self.report.stopped.is_some()
    }
}

enum Took {
    All,
    Enough,
    Error(std::io::Error),
}

struct Unpacked {
    lines: Vec<u8>,
    bytes_read: u64,
    passed_over: u64,
    error: Option<std::io::Error>,
}

fn unpack<R: Read>(
    mut blocks: Blocks<R>,
    send: &SyncSender<Unpacked>,
    recycled: &Receiver<Vec<u8>>,
) {
    loop {
        let (bytes_before, passed_before) = (blocks.bytes_read, blocks.passed_over);
        let mut lines = recycled.try_recv().unwrap_or_default();
        lines.clear();
        let (ended, error) = match blocks.next() {
            Ok(Some(block)) => {
                lines.extend_from_slice(block);
                (false, None)
            }
            Ok(None) => (true, None),
            Err(error) => (true, Some(error)),
        };
        let unpacked = Unpacked {
            lines,
            bytes_read: blocks.bytes_read - bytes_before,
            passed_over: blocks.passed_over - passed_before,
            error,
        };
        // Nobody listens any more: enough was found.
        if send.send(unpacked).is_err() || ended {
            return;
        }
    }
}

/// The answer for the next block of a stream; none where it ends.
fn next_answer<T: Tally>(
    blocks: &mut Blocks<impl Read>,
    search: BlockSearch<'_>,
    reader: &mut LineReader<'_>,
    tally: &mut T,
) -> Option<Answer> {
    let (bytes_before, passed_before) = (blocks.bytes_read, blocks.passed_over);
    let mut answer = Answer::default();
    let ended = match blocks.next() {
        Ok(Some(block)) => {
            search.block(block, reader, tally, &mut answer);
            false
        }
        Ok(None) => true,
        Err(error) => {
            answer.error = Some(error);
            false
        }
    };
    answer.bytes_read = blocks.bytes_read - bytes_before;
    answer.passed_over = blocks.passed_over - passed_before;
    (!ended || answer.passed_over > 0).then_some(answer)
}
