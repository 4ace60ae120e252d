//! One leaf column of one row group, read page by page as rows are asked for:
//! pages of which nobody wants a row are neither read nor decoded.

use std::{ops::Range, sync::Arc};

use super::{
    Segment,
    source::{ReadError, Source},
};
use crate::segment::{
    map::{Extent, Group},
    page::{Dictionary, Page, Shape},
};

/// Read at once where pages follow each other.
const AHEAD_BYTES: u64 = 256 * 1024;

/// The pages of a leaf, and the one that was decoded last.
pub(super) struct Chunk {
    segment: Segment,
    group: usize,
    leaf: usize,
    shape: Shape,
    map: Arc<Group>,
    source: Arc<Source>,
    /// Rows of the group that will be asked for, ascending.
    rows: Arc<[Range<u64>]>,
    /// The page that is decoded.
    at: Option<usize>,
    page: Page,
    dictionary: Option<Arc<Dictionary>>,
    /// Pages that were read together.
    ahead: Vec<u8>,
    ahead_pages: Range<usize>,
}

/// Rows of a decoded page.
pub(super) struct Piece<'p> {
    pub(super) page: &'p Page,
    pub(super) rows: Range<usize>,
    pub(super) dictionary: Option<&'p Arc<Dictionary>>,
}

impl Chunk {
    /// `rows`: those of the group that will be asked for, in this order.
    pub(super) fn open(
        segment: &Segment,
        group: usize,
        leaf: usize,
        shape: Shape,
        rows: &Arc<[Range<u64>]>,
    ) -> Result<Self, crate::segment::SegmentError> {
        let opened = segment.group(group)?;
        Ok(Self {
            segment: segment.clone(),
            group,
            leaf,
            shape,
            map: Arc::clone(&opened.map),
            source: Arc::clone(&segment.0.source),
            rows: Arc::clone(rows),
            at: None,
            page: Page::default(),
            dictionary: None,
            ahead: Vec::new(),
            ahead_pages: 0..0,
        })
    }

    /// Visits a range of rows, page by page.
    pub(super) fn visit(
        &mut self,
        rows: &Range<u64>,
        visit: &mut dyn FnMut(Piece<'_>) -> Result<(), ReadError>,
    ) -> Result<(), ReadError> {
        let map = Arc::clone(&self.map);
        let chunk = map.chunks.get(self.leaf).ok_or("it lacks a column")?;
        let mut from = rows.start;
        while from < rows.end {
            let after = chunk.pages.partition_point(|page| page.first_row <= from);
            let at = after.checked_sub(1).ok_or("it has no page for a row")?;
            let page = &chunk.pages[at];
            let end = page.first_row + page.rows;
            if from >= end {
                return Err("it has no page for a row".into());
            }
            if self.at != Some(at) {
                self.load(at)?;
            }
            let to = rows.end.min(end);
            let local = |row: u64| usize::try_from(row - page.first_row).unwrap_or(usize::MAX);
            let (page, dictionary) = (&self.page, self.dictionary.as_ref());
            visit(Piece { page, rows: local(from)..local(to), dictionary })?;
            from = to;
        }
        Ok(())
    }

    fn load(&mut self, at: usize) -> Result<(), ReadError> {
        self.at = None;
        let map = Arc::clone(&self.map);
        let pages = &map.chunks[self.leaf].pages;
        let page = &pages[at];
        if !self.ahead_pages.contains(&at) {
            self.read_ahead(at)?;
        }
        let begin = pages[self.ahead_pages.start].extent.offset;
        let bytes = slice(&self.ahead, begin, &page.extent)?;
        page.extent.check(bytes)?;
        let wanted = self.last_wanted(page.first_row + page.rows) - page.first_row;
        let size = |rows: u64| usize::try_from(rows).unwrap_or(usize::MAX);
        let decoded = self.page.decode(bytes, self.shape, size(page.rows), size(wanted));
        decoded.map_err(|wrong| wrong_page(&page.extent, wrong))?;
        let has_keys = matches!(self.page.values, crate::segment::page::Values::Keys(_));
        if has_keys && self.dictionary.is_none() {
            let known = self.segment.dictionary(self.group, self.leaf, self.shape.physical)?;
            self.dictionary = Some(known);
        }
        self.at = Some(at);
        Ok(())
    }

    /// Reads a page and those behind it that will be asked for.
    fn read_ahead(&mut self, at: usize) -> Result<(), ReadError> {
        let pages = &self.map.chunks[self.leaf].pages;
        let begin = pages[at].extent.offset;
        let mut end = at + 1;
        while let Some(next) = pages.get(end) {
            let follows = pages[end - 1].extent.end() == next.extent.offset;
            let fits = next.extent.end() - begin <= AHEAD_BYTES;
            if !follows || !fits || !self.is_wanted(next.first_row..next.first_row + next.rows) {
                break;
            }
            end += 1;
        }
        self.ahead_pages = 0..0;
        let bytes = pages[end - 1].extent.end() - begin;
        self.ahead.resize(usize::try_from(bytes)?, 0);
        self.source.read(begin, &mut self.ahead, (end - at) as u64)?;
        self.ahead_pages = at..end;
        Ok(())
    }

    fn is_wanted(&self, rows: Range<u64>) -> bool {
        let first = self.rows.partition_point(|range| range.end <= rows.start);
        self.rows.get(first).is_some_and(|range| range.start < rows.end)
    }

    /// Behind the last row before `end` that will be asked for.
    fn last_wanted(&self, end: u64) -> u64 {
        let behind = self.rows.partition_point(|range| range.start < end);
        let last = behind.checked_sub(1).and_then(|at| self.rows.get(at));
        last.map_or(end, |range| range.end.min(end))
    }
}

fn slice<'b>(bytes: &'b [u8], begin: u64, extent: &Extent) -> Result<&'b [u8], ReadError> {
    let from = usize::try_from(extent.offset - begin)?;
    let piece = bytes.get(from..from.saturating_add(extent.bytes as usize));
    Ok(piece.ok_or("a page lies outside of what was read")?)
}

pub(super) fn wrong_page(extent: &Extent, wrong: &str) -> ReadError {
    format!("the page at {} cannot be decoded: {wrong}", extent.offset).into()
}
