//! Puts matches in front of the caller: in the order of the input, with the
//! lines around them, all of them or the first or last so many.

use std::{collections::VecDeque, ops::ControlFlow, ops::Range};

use super::{Hit, Take};
use crate::engine::Stop;

/// How the blocks of an input come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Coming {
    /// From the end where the sink goes backwards.
    Plain,
    Packed,
    /// Whenever there is more.
    Live,
}

/// Where matches go.
pub(super) trait Sink {
    /// Lines from here on are of another input.
    fn begin(&mut self, input: usize, coming: Coming);
    /// The lines of a block (all of them where context is wanted), and which
    /// of them match.
    fn block(&mut self, lines: &[u8], matches: &[Range<usize>]);
    fn wants_context(&self) -> bool;
    /// Whether the last inputs and blocks are to come first.
    fn is_backwards(&self) -> bool;
    /// Whoever asked has enough.
    fn is_done(&self) -> bool;
    /// Visits what was kept: how many matches there were, and which bound was met.
    fn finish(&mut self) -> (u64, Option<Stop>);
}

pub(super) struct Emitter<'v> {
    take: Take,
    context: usize,
    memory_bytes: usize,
    visit: &'v mut dyn FnMut(Hit<'_>) -> ControlFlow<()>,
    input: usize,
    is_live: bool,
    /// The block has no match behind the line that is shown.
    at_once: bool,
    /// Matches visited, or kept.
    matched: u64,
    /// Lines behind the last match that are still to be shown.
    after: usize,
    /// The newest lines that were not shown, for the next match.
    before: VecDeque<Vec<u8>>,
    before_bytes: usize,
    /// Lines were left out since the last one shown.
    gap: bool,
    kept: VecDeque<Kept>,
    kept_bytes: usize,
    stopped: Option<Stop>,
    /// Whoever asked has enough.
    done: bool,
}

struct Kept {
    input: usize,
    line: Vec<u8>,
    context: bool,
    gap: bool,
}

/// Lines in front of a match that are longer together are not all shown.
const BEFORE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What keeping a line costs beside its bytes.
const KEPT_EXTRA_BYTES: usize = size_of::<Kept>();

impl<'v> Emitter<'v> {
    pub(super) fn new(
        take: Take,
        context: usize,
        memory_bytes: usize,
        visit: &'v mut dyn FnMut(Hit<'_>) -> ControlFlow<()>,
    ) -> Self {
        Self {
            take,
            context,
            memory_bytes,
            visit,
            input: 0,
            is_live: false,
            at_once: false,
            matched: 0,
            after: 0,
            before: VecDeque::new(),
            before_bytes: 0,
            gap: false,
            kept: VecDeque::new(),
            kept_bytes: 0,
            stopped: None,
            done: matches!(take, Take::First(0) | Take::Last(0)),
        }
    }
}

impl Sink for Emitter<'_> {
    fn begin(&mut self, input: usize, coming: Coming) {
        self.input = input;
        self.is_live = coming == Coming::Live;
        self.after = 0;
        self.before.clear();
        self.before_bytes = 0;
        self.gap = self.matched > 0;
        self.done |= !self.wants_more();
    }

    fn block(&mut self, lines: &[u8], matches: &[Range<usize>]) {
        self.at_once = self.is_live && matches.is_empty();
        if !self.wants_context() {
            for (nth, line) in matches.iter().enumerate() {
                self.at_once = self.is_live && nth + 1 == matches.len();
                self.line(&lines[line.clone()], false);
            }
            return;
        }
        let mut at = 0;
        for (nth, line) in matches.iter().enumerate() {
            self.at_once = self.is_live && nth + 1 == matches.len();
            if !self.wants_more() {
                break;
            }
            let rest = self.show_after(&lines[at..line.start]);
            self.keep_before(rest);
            self.before_bytes = 0;
            for line in std::mem::take(&mut self.before) {
                self.line(&line, true);
            }
            self.line(&lines[line.clone()], false);
            self.after = self.context;
            at = lines.len().min(line.end + 1);
        }
        let rest = self.show_after(&lines[at..]);
        self.keep_before(rest);
        self.done |= !self.wants_more() && self.after == 0;
    }

    fn finish(&mut self) -> (u64, Option<Stop>) {
        visit_kept(std::mem::take(&mut self.kept), self.visit);
        (self.matched, self.stopped)
    }

    fn wants_context(&self) -> bool {
        self.context > 0
    }

    fn is_backwards(&self) -> bool {
        false
    }

    fn is_done(&self) -> bool {
        self.done
    }
}

impl Emitter<'_> {
    fn wants_more(&self) -> bool {
        match self.take {
            Take::First(count) => self.matched < count as u64,
            Take::All | Take::Last(_) => true,
        }
    }

    /// Shows lines that still belong to the last match; returns the others.
    fn show_after<'l>(&mut self, mut lines: &'l [u8]) -> &'l [u8] {
        while self.after > 0 && !lines.is_empty() {
            let end = memchr::memchr(b'\n', lines).unwrap_or(lines.len());
            self.line(&lines[..end], true);
            self.after -= 1;
            lines = lines.get(end + 1..).unwrap_or_default();
        }
        lines
    }

    /// Remembers the last of lines that were not shown.
    fn keep_before(&mut self, lines: &[u8]) {
        let mut rest = lines.strip_suffix(b"\n").unwrap_or(lines);
        let mut found = Vec::new();
        let mut any = !lines.is_empty();
        while any && found.len() < self.context {
            let start = memchr::memrchr(b'\n', rest).map_or(0, |end| end + 1);
            found.push(rest[start..].to_vec());
            any = start > 0;
            rest = &rest[..start.saturating_sub(1)];
        }
        self.gap |= any;
        self.before_bytes += found.iter().map(Vec::len).sum::<usize>();
        self.before.extend(found.into_iter().rev());
        while self.before.len() > self.context || self.before_bytes > BEFORE_BYTES_MAX {
            let dropped = self.before.pop_front();
            self.before_bytes -= dropped.map_or(self.before_bytes, |line| line.len());
            self.gap = true;
        }
    }

    fn line(&mut self, line: &[u8], context: bool) {
        if self.done {
            return;
        }
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let gap = std::mem::take(&mut self.gap) && self.context > 0;
        self.matched += u64::from(!context);
        match self.take {
            Take::Last(count) => {
                let line = line.to_vec();
                self.kept_bytes += line.len() + KEPT_EXTRA_BYTES;
                self.kept.push_back(Kept { input: self.input, line, context, gap });
                self.trim(count);
            }
            Take::All | Take::First(_) => {
                let at_once = self.at_once;
                let hit = Hit { line, input: self.input, context, gap, at_once };
                self.done = (self.visit)(hit).is_break();
                self.done |= self.context == 0 && !self.wants_more();
            }
        }
    }

    /// Drops the oldest match, and what was shown for it alone, while there are
    /// too many.
    fn trim(&mut self, count: usize) {
        while self.matched > count as u64 {
            self.drop_oldest();
        }
        while self.kept_bytes > self.memory_bytes && self.matched > 0 {
            self.stopped = Some(Stop::Memory);
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        while let Some(kept) = self.pop_kept() {
            if !kept.context {
                self.matched -= 1;
                break;
            }
        }
        let next = self.kept.iter().position(|kept| !kept.context).unwrap_or(self.kept.len());
        // How many lines before the next match are there because of it.
        let mut own = 0;
        while own < self.context.min(next) && self.kept.get(next - own).is_some_and(|at| !at.gap) {
            own += 1;
        }
        for _ in 0..next - own {
            self.pop_kept();
        }
        if let Some(first) = self.kept.front_mut() {
            first.gap = false;
        }
    }

    fn pop_kept(&mut self) -> Option<Kept> {
        let kept = self.kept.pop_front()?;
        self.kept_bytes -= kept.line.len() + KEPT_EXTRA_BYTES;
        Some(kept)
    }
}

fn visit_kept(kept: VecDeque<Kept>, visit: &mut dyn FnMut(Hit<'_>) -> ControlFlow<()>) {
    for kept in &kept {
        let Kept { input, line, context, gap } = kept;
        let hit = Hit { line, input: *input, context: *context, gap: *gap, at_once: false };
        if visit(hit).is_break() {
            break;
        }
    }
}

/// The last so many matches without their neighbours: plain files are read from
/// their end until there are enough.
pub(super) struct Backwards<'v> {
    count: usize,
    memory_bytes: usize,
    visit: &'v mut dyn FnMut(Hit<'_>) -> ControlFlow<()>,
    input: usize,
    is_plain: bool,
    kept: VecDeque<Kept>,
    /// Of a stream, which can only be read forwards.
    stream: VecDeque<Kept>,
    bytes: usize,
    stopped: Option<Stop>,
}

impl<'v> Backwards<'v> {
    pub(super) fn new(
        count: usize,
        memory_bytes: usize,
        visit: &'v mut dyn FnMut(Hit<'_>) -> ControlFlow<()>,
    ) -> Self {
        let (kept, stream) = (VecDeque::new(), VecDeque::new());
        let (input, is_plain, bytes, stopped) = (0, false, 0, None);
        Self { count, memory_bytes, visit, input, is_plain, kept, stream, bytes, stopped }
    }

    fn keep(&mut self, line: &[u8]) -> Kept {
        self.bytes += line.len() + KEPT_EXTRA_BYTES;
        if self.bytes > self.memory_bytes {
            self.stopped = Some(Stop::Memory);
        }
        Kept { input: self.input, line: line.to_vec(), context: false, gap: false }
    }

    fn join_stream(&mut self) {
        while let Some(line) = self.stream.pop_back() {
            self.kept.push_front(line);
        }
    }
}

impl Sink for Backwards<'_> {
    fn begin(&mut self, input: usize, coming: Coming) {
        self.join_stream();
        self.input = input;
        self.is_plain = coming == Coming::Plain;
    }

    fn block(&mut self, lines: &[u8], matches: &[Range<usize>]) {
        if self.is_plain {
            for line in matches.iter().rev() {
                if self.is_done() {
                    return;
                }
                let kept = self.keep(&lines[line.clone()]);
                self.kept.push_front(kept);
            }
            return;
        }
        for line in matches {
            let kept = self.keep(&lines[line.clone()]);
            self.stream.push_back(kept);
            let is_over = |backwards: &Self| {
                backwards.bytes > backwards.memory_bytes
                    || backwards.stream.len() + backwards.kept.len() > backwards.count
            };
            while is_over(self)
                && let Some(oldest) = self.stream.pop_front()
            {
                self.bytes -= oldest.line.len() + KEPT_EXTRA_BYTES;
            }
        }
    }

    fn wants_context(&self) -> bool {
        false
    }

    fn is_backwards(&self) -> bool {
        true
    }

    fn is_done(&self) -> bool {
        self.kept.len() >= self.count || (self.is_plain && self.stopped.is_some())
    }

    fn finish(&mut self) -> (u64, Option<Stop>) {
        self.join_stream();
        let kept = std::mem::take(&mut self.kept);
        let matched = kept.len() as u64;
        visit_kept(kept, self.visit);
        (matched, self.stopped)
    }
}
