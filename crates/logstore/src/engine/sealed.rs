//! Sealed segments as a source: the side index, then what the file says of its
//! pages, then column after column, each read only where the ones before it left
//! something.

use std::{ops::Range, path::PathBuf, sync::Arc, time::Instant};

use arrow_array::{BooleanArray, RecordBatch};
use arrow_buffer::{BooleanBuffer, BooleanBufferBuilder};
use arrow_select::filter::filter_record_batch;
use domain::{ids::InstanceId, time::Timestamp};

use super::{
    Problem,
    evaluate::Evaluator,
    plan::{Node, Plan, time_leaf},
    prune::{self, count, intersect, unite},
    shelf::Shelf,
    source::{Counters, Halt, Lines, Rows, Scan, Source, Span, Unit},
};
use crate::segment::{
    Dataset, PAGE_ROWS, Renderer, Segment, SegmentError, Selection, schema, schema::TS,
};

/// Below one row in so many, what is left is read by rows instead of by pages.
const SPARSE: usize = 16;

/// One segment, as far as a question is concerned with it.
pub(crate) struct Sealed {
    pub(crate) shelf: Arc<Shelf>,
    pub(crate) path: PathBuf,
    pub(crate) dataset: Dataset,
    pub(crate) instance: InstanceId,
    pub(crate) rows: u64,
    pub(crate) span: Span,
}

impl Sealed {
    /// The file it names is the segment or its side index.
    fn problem(error: &SegmentError) -> Problem {
        Problem { path: PathBuf::from(error.file()), what: error.unnamed() }
    }

    fn open(&self, counters: &mut Counters) -> Result<Arc<Segment>, Problem> {
        let (segment, opened) = self.shelf.take(&self.path).map_err(|e| Self::problem(&e))?;
        counters.opened += u64::from(opened);
        if let Some(problem) = segment.ids_problem().filter(|_| opened) {
            // Nothing is missing from the answer, but nothing proves its pages.
            counters.problem(Self::problem(problem));
        }
        if segment.dataset() != self.dataset {
            let what =
                format!("holds {}, not {}", segment.dataset().as_str(), self.dataset.as_str());
            return Err(Problem { path: self.path.clone(), what });
        }
        Ok(segment)
    }

    /// Rows that may have one of the ids; `None`: any row may.
    fn candidates(
        &self,
        segment: &Segment,
        plan: &Plan,
        counters: &mut Counters,
    ) -> Option<prune::Ranges> {
        let ids = plan.ids.as_ref()?;
        let mut any = Vec::new();
        for id in ids {
            match segment.candidates(id) {
                // A damaged index: the rows themselves may be whole.
                Err(error) => {
                    counters.problem(Self::problem(&error));
                    return None;
                }
                Ok(Some(rows)) => any = unite(any, rows),
                // Slower, but not wrong.
                Ok(None) => return None,
            }
        }
        Some(any)
    }

    fn units(
        &self,
        segment: &Segment,
        plan: &Plan,
        counters: &mut Counters,
    ) -> Result<Vec<Unit>, SegmentError> {
        let candidates = self.candidates(segment, plan, counters);
        if candidates.as_ref().is_some_and(Vec::is_empty) {
            counters.pruned_by_ids += 1;
            return Ok(Vec::new());
        }
        let by_id = candidates.is_some();
        let all = 0..segment.rows();
        let mut left = candidates.unwrap_or_else(|| std::iter::once(all).collect());
        if !plan.covers(self.span.min_ts, self.span.max_ts) {
            let bound =
                |micros: i64, none: i64| (micros != none).then(|| Timestamp::from_micros(micros));
            let rows =
                segment.rows_between(bound(plan.since, i64::MIN), bound(plan.until, i64::MAX))?;
            left = intersect(&left, std::slice::from_ref(&rows));
        }
        if left.is_empty() {
            counters.pruned_by_time += 1;
            return Ok(Vec::new());
        }
        let mut units = Vec::new();
        let groups = segment.groups();
        for (number, group) in groups.iter().enumerate() {
            let mut ranges = intersect(&left, std::slice::from_ref(group));
            // The side index names few rows: asking about pages costs more.
            for part in plan.parts.iter().filter(|_| !by_id) {
                if ranges.is_empty() {
                    break;
                }
                let mut pages = |column: &'static str| segment.pages(number, column);
                let possible = prune::possible(&part.node, group, &mut pages)?;
                ranges = intersect(&ranges, &possible);
            }
            let piece = plan.unit_rows.unwrap_or(u64::MAX);
            for ranges in pieces(ranges, group.start, piece) {
                let span = self.span_of(segment, &ranges)?;
                units.push(Unit { span, ranges });
            }
        }
        counters.groups_total += groups.len() as u64;
        if units.is_empty() {
            counters.pruned_by_statistics += 1;
        }
        Ok(units)
    }

    fn span_of(&self, segment: &Segment, rows: &[Range<u64>]) -> Result<Span, SegmentError> {
        let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return Ok(self.span) };
        let (min_ts, max_ts) = segment.times_of(&(first.start..last.end))?;
        Ok(Span { min_ts, max_ts })
    }

    fn read(
        &self,
        segment: &Segment,
        ranges: &[Range<u64>],
        columns: &[&str],
        visit: &mut dyn FnMut(RecordBatch) -> Result<(), Halt>,
    ) -> Result<(), Halt> {
        let selection = Selection::Rows(ranges.to_vec());
        let batches = segment.read(&selection, columns).map_err(|e| Self::problem(&e))?;
        for batch in batches {
            visit(batch.map_err(|e| Self::problem(&e))?)?;
        }
        Ok(())
    }

    /// The rows of a unit that hold.
    fn matching(
        &self,
        segment: &Segment,
        unit: &Unit,
        scan: &Scan<'_>,
        evaluator: &mut Evaluator,
    ) -> Result<Selected, Halt> {
        let mut selected = Selected::all(unit.ranges.clone());
        let time = (!scan.plan.covers(unit.span.min_ts, unit.span.max_ts))
            .then(|| Node::Leaf(time_leaf(scan.plan)));
        let time = time.as_ref().map(|node| (node, [TS].as_slice()));
        let parts = scan.plan.parts.iter().map(|part| (&part.node, part.columns.as_slice()));
        scan.meter.scan(selected.len())?;
        for (node, columns) in time.into_iter().chain(parts) {
            let mut mask = BooleanBufferBuilder::new(selected.len());
            self.read(segment, &selected.ranges, columns, &mut |batch| {
                mask.append_buffer(&evaluator.mask(node, &batch));
                scan.meter.check()
            })?;
            if mask.len() != selected.len() {
                let what = format!("{} rows read instead of {}", mask.len(), selected.len());
                return Err(Problem { path: self.path.clone(), what }.into());
            }
            selected = selected.narrowed(&mask.finish());
            if selected.ranges.is_empty() {
                break;
            }
        }
        Ok(selected)
    }
}

impl Source for Sealed {
    fn dataset(&self) -> Dataset {
        self.dataset
    }

    fn instance(&self) -> &InstanceId {
        &self.instance
    }

    fn span(&self) -> Span {
        self.span
    }

    fn rows(&self) -> u64 {
        self.rows
    }

    fn prune(&self, plan: &Plan, counters: &mut Counters) -> Result<Vec<Unit>, Halt> {
        let begun = Instant::now();
        let segment = self.open(counters)?;
        let units = self.units(&segment, plan, counters).map_err(|e| Self::problem(&e));
        counters.prune += begun.elapsed();
        Ok(units?)
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
        let segment = self.open(counters)?;
        counters.groups_read += 1;
        let selected = self.matching(&segment, unit, scan, evaluator)?;
        let mut at = 0;
        if !selected.ranges.is_empty() {
            let numbers: Vec<u64> = match scan.handles {
                true => selected.rows().collect(),
                false => Vec::new(),
            };
            let mut given = 0;
            self.read(&segment, &selected.ranges, scan.columns, &mut |batch| {
                let rows = batch.num_rows();
                let batch = selected.kept(batch, at).map_err(|what| self.broken(what))?;
                at += rows;
                let handles = match scan.handles {
                    true => numbers[given..given + batch.num_rows()].to_vec(),
                    false => Vec::new(),
                };
                given += batch.num_rows();
                if batch.num_rows() > 0 {
                    visit(Rows { batch, handles });
                }
                scan.meter.check()
            })?;
        }
        counters.scan += begun.elapsed();
        Ok(())
    }

    fn count(
        &self,
        unit: &Unit,
        scan: &Scan<'_>,
        evaluator: &mut Evaluator,
        counters: &mut Counters,
    ) -> Result<u64, Halt> {
        let begun = Instant::now();
        let segment = self.open(counters)?;
        counters.groups_read += 1;
        let selected = self.matching(&segment, unit, scan, evaluator)?;
        counters.scan += begun.elapsed();
        Ok(match &selected.mask {
            Some(mask) => mask.count_set_bits() as u64,
            None => count(&selected.ranges),
        })
    }

    fn lines(&self, handles: &[u64], counters: &mut Counters) -> Result<Lines, Problem> {
        let begun = Instant::now();
        let segment = self.open(counters)?;
        let mut order: Vec<usize> = (0..handles.len()).collect();
        order.sort_unstable_by_key(|at| handles[*at]);
        let mut ranges: prune::Ranges = Vec::new();
        for at in &order {
            let row = handles[*at];
            match ranges.last_mut() {
                Some(last) if last.end == row => last.end += 1,
                _ => ranges.push(row..row + 1),
            }
        }
        let schema = schema(self.dataset);
        let columns: Vec<&str> =
            schema.fields().iter().map(|field| field.name().as_str()).collect();
        let mut sorted = Lines::default();
        let read = self.read(&segment, &ranges, &columns, &mut |batch| {
            let renderer = Renderer::new(&batch);
            for row in 0..batch.num_rows() {
                renderer.render(row, &mut sorted.bytes);
                sorted.ends.push(sorted.bytes.len());
            }
            Ok(())
        });
        match read {
            Err(Halt::Problem(problem)) => return Err(problem),
            _ if sorted.ends.len() != handles.len() => return Err(self.broken("rows are missing")),
            _ => {}
        }
        counters.fetch += begun.elapsed();
        if order.is_sorted() {
            return Ok(sorted);
        }
        let mut place = vec![0; order.len()];
        order.iter().enumerate().for_each(|(sorted_at, at)| place[*at] = sorted_at);
        let mut lines = Lines { bytes: Vec::with_capacity(sorted.bytes.len()), ends: Vec::new() };
        for at in place {
            lines.bytes.extend_from_slice(sorted.get(at));
            lines.ends.push(lines.bytes.len());
        }
        Ok(lines)
    }
}

impl Sealed {
    fn broken(&self, what: impl ToString) -> Problem {
        Problem { path: self.path.clone(), what: what.to_string() }
    }
}

/// Ranges in pieces that end where a multiple of so many rows, counted from
/// `first`, does.
fn pieces(ranges: prune::Ranges, first: u64, rows: u64) -> Vec<prune::Ranges> {
    let mut pieces: Vec<prune::Ranges> = Vec::new();
    let mut end = 0;
    for range in ranges {
        let mut from = range.start;
        while from < range.end {
            if pieces.is_empty() || from >= end {
                let before = (from - first) / rows;
                end = (before + 1).saturating_mul(rows).saturating_add(first);
                pieces.push(Vec::new());
            }
            let to = range.end.min(end);
            if let Some(piece) = pieces.last_mut() {
                piece.push(from..to);
            }
            from = to;
        }
    }
    pieces
}

/// Rows on the way through the parts of a plan: ranges, and which of their rows.
struct Selected {
    ranges: prune::Ranges,
    /// One bit a row of the ranges; `None`: all.
    mask: Option<BooleanBuffer>,
}

impl Selected {
    fn all(ranges: prune::Ranges) -> Self {
        Self { ranges, mask: None }
    }

    fn len(&self) -> usize {
        usize::try_from(count(&self.ranges)).unwrap_or(usize::MAX)
    }

    /// The rows of these for which a bit is set.
    fn narrowed(self, passed: &BooleanBuffer) -> Self {
        let mask = match &self.mask {
            Some(mask) => mask & passed,
            None => passed.clone(),
        };
        let left = mask.count_set_bits();
        if left == 0 {
            return Self::all(Vec::new());
        }
        if left == mask.len() {
            return Self { mask: None, ..self };
        }
        if left * SPARSE < mask.len() {
            return Self::all(exact(&self.ranges, &mask));
        }
        pages_left(&self.ranges, &mask)
    }

    /// The numbers of the rows.
    fn rows(&self) -> impl Iterator<Item = u64> {
        let all = self.ranges.iter().cloned().flatten();
        all.enumerate()
            .filter(|(at, _)| self.mask.as_ref().is_none_or(|mask| mask.value(*at)))
            .map(|(_, row)| row)
    }

    /// The rows of a batch that begins at the `at`-th row of the ranges.
    fn kept(&self, batch: RecordBatch, at: usize) -> Result<RecordBatch, String> {
        let Some(mask) = &self.mask else { return Ok(batch) };
        if at + batch.num_rows() > mask.len() {
            return Err("more rows than were asked for".to_owned());
        }
        let mask = mask.slice(at, batch.num_rows());
        if mask.count_set_bits() == batch.num_rows() {
            return Ok(batch);
        }
        filter_record_batch(&batch, &BooleanArray::new(mask, None)).map_err(|e| e.to_string())
    }
}

/// Runs of set bits, as rows.
fn exact(ranges: &[Range<u64>], mask: &BooleanBuffer) -> prune::Ranges {
    let mut rows = Vec::new();
    let mut from = 0u64;
    let mut runs = mask.set_slices().peekable();
    for range in ranges {
        let to = from + (range.end - range.start);
        while let Some((start, end)) = runs.peek().copied() {
            let (start, end) = (start as u64, end as u64);
            if start >= to {
                break;
            }
            let first = range.start + start.max(from) - from;
            rows.push(first..range.start + end.min(to) - from);
            if end > to {
                break;
            }
            runs.next();
        }
        from = to;
    }
    rows
}

/// The ranges without the pages of which no row is left.
fn pages_left(ranges: &[Range<u64>], mask: &BooleanBuffer) -> Selected {
    let page = PAGE_ROWS as u64;
    let mut left: prune::Ranges = Vec::new();
    let mut bits = BooleanBufferBuilder::new(mask.len());
    let mut at = 0;
    for range in ranges {
        let mut from = range.start;
        while from < range.end {
            let to = range.end.min((from / page + 1) * page);
            let rows = usize::try_from(to - from).unwrap_or(usize::MAX);
            let slice = mask.slice(at, rows);
            if slice.count_set_bits() > 0 {
                bits.append_buffer(&slice);
                match left.last_mut() {
                    Some(last) if last.end == from => last.end = to,
                    _ => left.push(from..to),
                }
            }
            at += rows;
            from = to;
        }
    }
    Selected { ranges: left, mask: Some(bits.finish()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn narrowing_keeps_exactly_the_rows_that_passed() {
        let rows = |selected: &Selected| selected.rows().collect::<Vec<_>>();
        let ranges = vec![10..20, 8185..8200, 20_000..20_100];
        let all = Selected::all(ranges);
        let numbers = rows(&all);
        for (divisor, rest) in [(2, 0), (3, 1), (50, 7), (1000, 5), (1, 0)] {
            let hold = |row: &u64| row % divisor == rest;
            let passed = BooleanBuffer::from_iter(numbers.iter().map(&hold));
            let once = Selected::all(all.ranges.clone()).narrowed(&passed);
            let expected: Vec<u64> = numbers.iter().copied().filter(&hold).collect();
            assert_eq!(rows(&once), expected, "{divisor}");
            let seen: Vec<u64> = once.ranges.iter().cloned().flatten().collect();
            let again = BooleanBuffer::from_iter(seen.iter().map(|row| row % 5 != 0));
            let expected: Vec<u64> = expected.into_iter().filter(|row| row % 5 != 0).collect();
            if !once.ranges.is_empty() {
                assert_eq!(rows(&once.narrowed(&again)), expected, "{divisor}");
            }
        }
    }
}
