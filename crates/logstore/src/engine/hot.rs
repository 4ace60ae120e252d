//! The journal's hot part as a source: committed batches, passed over by what
//! must stand in a raw line, decoded by the same decoder that seals them.
//!
//! A large file is read in parts by several threads, each from an end of a batch
//! that is proven. Damage between batches is a problem of the answer. Where only an
//! id is looked for, parts whose bytes do not hold it are not proven; whoever finds
//! nothing at all asks for [`HotFile::damage`], since the id may lie in it.

use std::{
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use arrow_array::{BooleanArray, RecordBatch};
use arrow_select::filter::filter_record_batch;
use domain::ids::InstanceId;

use super::{
    Problem,
    evaluate::Evaluator,
    needle::Prefilter,
    plan::{Node, Plan, time_leaf},
    source::{Counters, Halt, Lines, Rows, Scan, Source, Span, Unit},
};
use crate::{
    format::{FORMAT, INTERNAL_PREFIX},
    fs::{Fs, JournalFile},
    recover::read_header,
    scan::{Batch, ResumePoint, Scanner, resume_point},
    segment::{Dataset, Decoder, decode::head},
};

/// What one thread reads before the next part.
const PART_BYTES: u64 = 8 * 1024 * 1024;
/// What is looked through at once for an id; stays in a core's cache.
const LOOK_BYTES: usize = 256 * 1024;
/// Rows that are decoded before they are tested.
const BATCH_ROWS: usize = 4096;
/// More than most lines; longer ones are read in two steps.
const LINE_BYTES: usize = 4096;
/// No line is longer: the scanner would not find its commit line either.
const LINE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A journal file as of the moment at which it was opened.
pub(crate) struct HotFile {
    pub(crate) path: PathBuf,
    file: Arc<dyn JournalFile>,
    pub(crate) instance: InstanceId,
    /// Numbers of lines that count: not sealed, not superseded.
    lines: Range<u64>,
    parts: Vec<Part>,
}

struct Part {
    from: ResumePoint,
    to: u64,
}

impl HotFile {
    /// `lines`: the numbers of the lines that count.
    pub(crate) fn open(
        fs: &dyn Fs,
        path: &Path,
        instance: &InstanceId,
        first_seq: u64,
        lines: Range<u64>,
    ) -> io::Result<Self> {
        let file = fs.open_read(path)?;
        let bytes = file.identity()?.bytes;
        let mut parts = Vec::new();
        let mut from = ResumePoint { offset: 0, seq: first_seq.saturating_sub(1) };
        while bytes.saturating_sub(from.offset) > PART_BYTES * 3 / 2 {
            match resume_point(&*file, from.offset + PART_BYTES)? {
                Some(point) if point.offset < bytes => {
                    parts.push(Part { from, to: point.offset });
                    from = point;
                }
                _ => break,
            }
        }
        parts.push(Part { from, to: bytes });
        let (path, instance) = (path.to_owned(), instance.clone());
        Ok(Self { path, file, instance, lines, parts })
    }

    /// The number of the last committed line, if the file has one.
    pub(crate) fn last_seq(&self) -> io::Result<Option<u64>> {
        let Some(part) = self.parts.last() else { return Ok(None) };
        let near = part.to.saturating_sub(2 * LOOK_BYTES as u64);
        let point = match near > part.from.offset {
            true => resume_point(&*self.file, near)?.filter(|point| point.offset < part.to),
            false => None,
        };
        let mut scanner = Scanner::resume(Arc::clone(&self.file), point.unwrap_or(part.from));
        let mut last = scanner.seq();
        while let Some(batch) = scanner.next_batch()? {
            if batch.end > part.to {
                break;
            }
            last = batch.last_seq;
        }
        Ok((last >= self.lines.start).then_some(last))
    }

    /// Adds what of the file is damaged to the problems of an answer.
    pub(crate) fn damage(&self, counters: &mut Counters) {
        for part in &self.parts {
            let mut scanner = Scanner::resume(Arc::clone(&self.file), part.from);
            loop {
                match scanner.next_batch() {
                    Ok(Some(batch)) => {
                        self.note_damage(&batch, part, counters);
                        if batch.end >= part.to {
                            break;
                        }
                    }
                    Ok(None) => break,
                    Err(error) => {
                        counters.problem(self.io_problem(&error));
                        break;
                    }
                }
            }
        }
    }

    fn note_damage(&self, batch: &Batch<'_>, part: &Part, counters: &mut Counters) {
        if let Some(damage) = batch.damage.filter(|damage| damage.offset < part.to) {
            counters.problem(self.problem(format!(
                "{} bytes from byte {} on are damaged ({} lines)",
                damage.bytes, damage.offset, damage.lines,
            )));
        }
    }

    /// Whether the bytes of a part hold what a match must hold.
    fn may_match(&self, part: &Part, prefilter: &Prefilter) -> io::Result<bool> {
        let Some(overlap) = prefilter.overlap() else { return Ok(true) };
        let mut buffer = vec![0; LOOK_BYTES + overlap];
        let mut offset = part.from.offset;
        // Bytes of the piece before, at the beginning.
        let mut kept = 0;
        while offset < part.to {
            let read = self.file.read_at(&mut buffer[kept..], offset)?;
            if read == 0 {
                break;
            }
            let filled = kept + read;
            if prefilter.is_in(&buffer[..filled]) {
                return Ok(true);
            }
            kept = overlap.min(filled);
            buffer.copy_within(filled - kept..filled, 0);
            offset += read as u64;
        }
        Ok(false)
    }

    fn problem(&self, what: impl ToString) -> Problem {
        Problem { path: self.path.clone(), what: what.to_string() }
    }

    fn io_problem(&self, error: &io::Error) -> Problem {
        self.problem(format!("cannot be read: {error}"))
    }

    /// Whether this build can read it.
    pub(crate) fn newer(&self) -> Option<Problem> {
        let format = read_header(&*self.file)?.format;
        (format > FORMAT)
            .then(|| self.problem(format!("has format {format}; this build reads up to {FORMAT}")))
    }

    fn line_at(&self, offset: u64, out: &mut Vec<u8>) -> io::Result<()> {
        let begin = out.len();
        let mut want = LINE_BYTES;
        loop {
            let filled = out.len() - begin;
            out.resize(begin + want, 0);
            let read = self.file.read_at(&mut out[begin + filled..], offset + filled as u64)?;
            out.truncate(begin + filled + read);
            if let Some(end) = memchr::memchr(b'\n', &out[begin + filled..]) {
                out.truncate(begin + filled + end);
                return Ok(());
            }
            if read == 0 || out.len() - begin > LINE_BYTES_MAX {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            want = (out.len() - begin) * 2 + LINE_BYTES;
        }
    }
}

/// A journal file, as one dataset of one question.
pub(crate) struct Hot {
    pub(crate) file: Arc<HotFile>,
    pub(crate) dataset: Dataset,
}

/// The dataset of a line; none of the journal's own lines.
pub(crate) fn dataset_of(line: &[u8]) -> Option<Dataset> {
    match line.starts_with(INTERNAL_PREFIX) {
        true => None,
        false => head(line).dataset,
    }
}

impl Source for Hot {
    fn dataset(&self) -> Dataset {
        self.dataset
    }

    fn instance(&self) -> &InstanceId {
        &self.file.instance
    }

    fn span(&self) -> Span {
        Span::ALWAYS
    }

    fn rows(&self) -> u64 {
        0
    }

    fn prune(&self, _plan: &Plan, _counters: &mut Counters) -> Result<Vec<Unit>, Halt> {
        if let Some(problem) = self.file.newer() {
            return Err(problem.into());
        }
        let parts = 0..self.file.parts.len() as u64;
        let unit = |at| Unit { span: Span::ALWAYS, ranges: std::iter::once(at..at + 1).collect() };
        Ok(parts.map(unit).collect())
    }

    fn scan(
        &self,
        unit: &Unit,
        scan: &Scan<'_>,
        evaluator: &mut Evaluator,
        counters: &mut Counters,
        visit: &mut dyn FnMut(Rows),
    ) -> Result<(), Halt> {
        let begun = Instant::now();
        for number in unit.ranges.iter().cloned().flatten() {
            let part = usize::try_from(number).ok().and_then(|at| self.file.parts.get(at));
            let Some(part) = part else { continue };
            let mut reading = Reading::new(self, scan, evaluator)?;
            if scan.plan.ids.is_some() {
                let holds = self.file.may_match(part, &reading.prefilter);
                if !holds.map_err(|error| self.file.io_problem(&error))? {
                    counters.hot_bytes += part.to - part.from.offset;
                    counters.hot_unproven += 1;
                    scan.meter.check()?;
                    continue;
                }
            }
            let read = reading.part(part, counters, visit);
            counters.hot_lines_decoded += reading.decoded;
            read?;
        }
        counters.scan += begun.elapsed();
        Ok(())
    }

    fn lines(&self, handles: &[u64], counters: &mut Counters) -> Result<Lines, Problem> {
        let begun = Instant::now();
        let mut lines = Lines::default();
        for handle in handles {
            let read = self.file.line_at(*handle, &mut lines.bytes);
            read.map_err(|error| self.file.io_problem(&error))?;
            lines.ends.push(lines.bytes.len());
        }
        counters.fetch += begun.elapsed();
        Ok(lines)
    }
}

/// One part on its way through decoder and evaluator.
struct Reading<'a, 's> {
    hot: &'a Hot,
    scan: &'a Scan<'s>,
    evaluator: &'a mut Evaluator,
    prefilter: Prefilter,
    decoder: Decoder,
    time: Option<Node>,
    /// Offsets of the lines in the decoder.
    handles: Vec<u64>,
    decoded: u64,
}

impl<'a, 's> Reading<'a, 's> {
    fn new(hot: &'a Hot, scan: &'a Scan<'s>, evaluator: &'a mut Evaluator) -> Result<Self, Halt> {
        let mut columns = scan.plan.columns();
        columns.push(crate::segment::schema::TS);
        columns.extend(scan.columns);
        let prefilter = Prefilter::new(&scan.plan.needles)
            .map_err(|error| Halt::Problem(hot.file.problem(error)))?;
        let is_bounded = !scan.plan.covers(i64::MIN, i64::MAX - 1);
        Ok(Self {
            hot,
            scan,
            evaluator,
            prefilter,
            decoder: Decoder::new(hot.dataset, Some(&columns)),
            time: is_bounded.then(|| Node::Leaf(time_leaf(scan.plan))),
            handles: Vec::new(),
            decoded: 0,
        })
    }

    fn part(
        &mut self,
        part: &Part,
        counters: &mut Counters,
        visit: &mut dyn FnMut(Rows),
    ) -> Result<(), Halt> {
        let file = &self.hot.file;
        let mut scanner = Scanner::resume(Arc::clone(&file.file), part.from);
        let mut good_end = part.from.offset;
        loop {
            let batch = scanner.next_batch().map_err(|error| file.io_problem(&error))?;
            let Some(batch) = batch else { break };
            // A batch behind the part is the next part's, or is newer than the
            // moment that is answered for.
            let is_ours = batch.end <= part.to;
            file.note_damage(&batch, part, counters);
            if !is_ours || batch.first_seq >= file.lines.end {
                break;
            }
            good_end = batch.end;
            if batch.last_seq >= file.lines.start {
                self.batch(&batch, visit)?;
            }
            if good_end >= part.to {
                break;
            }
        }
        counters.hot_bytes += good_end - part.from.offset;
        self.flush(visit)
    }

    fn batch(&mut self, batch: &Batch<'_>, visit: &mut dyn FnMut(Rows)) -> Result<(), Halt> {
        let counting = &self.hot.file.lines;
        // Of the line at `counted`.
        let (mut counted, mut seq) = (0, batch.first_seq);
        let mut from = 0;
        while let Some((start, end)) = self.prefilter.next_line(batch.bytes, from) {
            from = end + 1;
            seq += memchr::memchr_iter(b'\n', &batch.bytes[counted..start]).count() as u64;
            counted = start;
            let line = &batch.bytes[start..end];
            if !counting.contains(&seq) || dataset_of(line) != Some(self.hot.dataset) {
                continue;
            }
            // A committed line is JSON; one that is not has no fields.
            if self.decoder.push(line, seq).is_ok() {
                self.handles.push(batch.start + start as u64);
            }
            if self.decoder.rows() >= BATCH_ROWS {
                self.flush(visit)?;
            }
        }
        self.scan.meter.check()
    }

    fn flush(&mut self, visit: &mut dyn FnMut(Rows)) -> Result<(), Halt> {
        let rows = self.decoder.rows();
        if rows == 0 {
            return Ok(());
        }
        self.decoded += rows as u64;
        let batch = self.decoder.finish();
        let handles = std::mem::take(&mut self.handles);
        self.scan.meter.scan(rows)?;
        let mut mask = arrow_buffer::BooleanBuffer::new_set(rows);
        let parts = self.scan.plan.parts.iter().map(|part| &part.node);
        for node in self.time.as_ref().into_iter().chain(parts) {
            mask = &mask & &self.evaluator.mask(node, &batch);
            if mask.count_set_bits() == 0 {
                return Ok(());
            }
        }
        let handles = match self.scan.handles {
            true => mask.set_indices().map(|row| handles[row]).collect(),
            false => Vec::new(),
        };
        let batch = kept(&batch, self.scan.columns, mask)
            .map_err(|what| Halt::Problem(self.hot.file.problem(what)))?;
        visit(Rows { batch, handles });
        Ok(())
    }
}

/// The rows that hold, with the columns that were asked for.
fn kept(
    batch: &RecordBatch,
    columns: &[&'static str],
    mask: arrow_buffer::BooleanBuffer,
) -> Result<RecordBatch, String> {
    let schema = batch.schema();
    let mut places: Vec<usize> =
        columns.iter().filter_map(|name| schema.index_of(name).ok()).collect();
    places.sort_unstable();
    places.dedup();
    let batch = batch.project(&places).map_err(|error| error.to_string())?;
    if mask.count_set_bits() == batch.num_rows() {
        return Ok(batch);
    }
    filter_record_batch(&batch, &BooleanArray::new(mask, None)).map_err(|error| error.to_string())
}
