//! The walk through a tree, from its leaves up and from left to right: each
//! level is computed twice, from the entries and from the files below, and held
//! against the file of that level. Which of the two fits the level above tells
//! a changed entry from a changed tile.

use std::{collections::BTreeMap, io};

use domain::audit::{
    tree::{NodeHash, TILE_WIDTH, TileKind, TilePath, tile_root},
    verify::{Class, Leaves, Report},
};

use super::{
    Entry,
    lanes::{self, Work},
    tiles::{Shelf, Trouble, first_leaf, hashes},
};

/// Stretches of missing bundles that are told apart.
const MISSING_MAX: usize = 4_096;

/// Both opinions on the hashes of the last tile of a level.
#[derive(Default)]
struct Row {
    from_entries: Vec<NodeHash>,
    from_files: Vec<NodeHash>,
}

/// A tile of level 0 that does not fit its bundle.
struct Suspect {
    slot: usize,
    tile: String,
    bundle: String,
    entries: Vec<u64>,
}

/// Two opinions on one root: from the entries, and from the files.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Roots {
    pub from_entries: NodeHash,
    pub from_files: NodeHash,
}

impl Roots {
    pub fn has(&self, root: NodeHash) -> bool {
        self.from_entries == root || self.from_files == root
    }
}

/// What a walk is over, and what it feeds.
pub(super) struct Walk<'w> {
    pub shelf: &'w Shelf<'w>,
    pub size: u64,
    pub leaves: &'w mut Leaves,
    pub report: &'w mut Report,
    pub each: &'w mut dyn FnMut(Entry<'_>, &mut Report),
}

/// What came of it.
#[derive(Default)]
pub(super) struct Walked {
    /// The roots at the sizes that were asked for.
    pub roots: BTreeMap<u64, Roots>,
    /// Stretches of entries whose bundle is not there, `from..to`.
    pub missing: Vec<(u64, u64)>,
}

impl Walk<'_> {
    /// Walks the whole tree; `root` is the one that it must have.
    pub fn run(self, marks: &[u64], root: NodeHash) -> io::Result<Walked> {
        let mut state = State {
            rows: vec![Row::default()],
            edge: Row::default(),
            suspects: Vec::new(),
            walked: Walked::default(),
            walk: self,
        };
        let empty = Roots { from_entries: NodeHash::EMPTY, from_files: NodeHash::EMPTY };
        state.walked.roots.insert(0, empty);
        let (shelf, size) = (state.walk.shelf, state.walk.size);
        let mut marks = marks.iter().copied().filter(|mark| *mark > 0).peekable();
        lanes::in_order(shelf, size, &mut |work| {
            let end = work.index * TILE_WIDTH + work.width;
            let begin = work.index * TILE_WIDTH;
            let row = state.take(work);
            while let Some(mark) = marks.next_if(|mark| *mark <= end) {
                let count = usize::try_from(mark - begin).unwrap_or(usize::MAX);
                let roots = state.roots_with(&row, count);
                state.walked.roots.insert(mark, roots);
            }
            state.push(end, row)
        })?;
        state.finish(root)?;
        Ok(state.walked)
    }
}

struct State<'w> {
    walk: Walk<'w>,
    /// Levels from 1 on, the tile in the making of each.
    rows: Vec<Row>,
    /// The last tile of level 0, if it is partial.
    edge: Row,
    suspects: Vec<Suspect>,
    walked: Walked,
}

impl State<'_> {
    /// Takes the entries of one tile; both opinions on their hashes.
    fn take(&mut self, work: Work) -> Row {
        let Work { index, width, bundle, tile, troubles } = work;
        self.tell(troubles);
        let (begin, width) = (index * TILE_WIDTH, width as usize);
        let (in_file, tile_path) = tile.unwrap_or_else(|| {
            let path = TilePath::new(TileKind::Hashes { level: 0 }, index, width as u64);
            let path = path.map(|path| path.to_string()).unwrap_or_default();
            self.walk.report.find(Class::Truncated, begin, &path, "the tile is missing");
            (Vec::new(), path)
        });
        let mut row = Row::default();
        let mut bundle_path = String::new();
        match bundle {
            None => self.miss(begin, begin + width as u64),
            Some(bundle) => {
                for (at, judged) in bundle.entries.iter().take(width).enumerate() {
                    let index = begin + at as u64;
                    row.from_entries.push(judged.hash);
                    self.walk.leaves.take(index, &judged.leaf, &bundle.path, self.walk.report);
                    let bytes = &bundle.bytes[judged.bytes.clone()];
                    let leaf = judged.leaf.as_ref().ok();
                    let entry = Entry { index, bytes, hash: judged.hash, leaf };
                    (self.walk.each)(entry, self.walk.report);
                }
                self.walk.leaves.lost(width.saturating_sub(row.from_entries.len()) as u64);
                bundle_path = bundle.path;
            }
        }
        // Where one is silent the other's word is taken.
        row.from_files = in_file.into_iter().take(width).collect();
        for at in 0..width {
            let (entries, files) = (&mut row.from_entries, &mut row.from_files);
            match (entries.get(at).copied(), files.get(at).copied()) {
                (None, Some(hash)) => entries.push(hash),
                (Some(hash), None) => files.push(hash),
                (None, None) => {
                    entries.push(NodeHash::EMPTY);
                    files.push(NodeHash::EMPTY);
                }
                (Some(_), Some(_)) => {}
            }
        }
        let pairs = row.from_entries.iter().zip(&row.from_files).enumerate();
        let differing = pairs.filter(|(_, (one, other))| one != other);
        let entries: Vec<u64> = differing.map(|(at, _)| begin + at as u64).collect();
        if !entries.is_empty() {
            let slot = (index % TILE_WIDTH) as usize;
            self.suspects.push(Suspect { slot, tile: tile_path, bundle: bundle_path, entries });
        }
        row
    }

    fn miss(&mut self, from: u64, to: u64) {
        self.walk.leaves.lost(to - from);
        let missing = &mut self.walked.missing;
        let is_full = missing.len() >= MISSING_MAX;
        match missing.last_mut() {
            Some(last) if last.1 == from || is_full => last.1 = to,
            _ => missing.push((from, to)),
        }
    }

    /// Hands a tile's roots on to the level above, and so on.
    fn push(&mut self, end: u64, row: Row) -> io::Result<()> {
        if row.from_entries.len() < TILE_WIDTH as usize {
            self.edge = row;
            return Ok(());
        }
        let mut roots = (tile_root(&row.from_entries), tile_root(&row.from_files));
        for level in 1u8.. {
            let at = usize::from(level) - 1;
            if at == self.rows.len() {
                self.rows.push(Row::default());
            }
            let row = &mut self.rows[at];
            row.from_entries.push(roots.0);
            row.from_files.push(roots.1);
            if row.from_entries.len() < TILE_WIDTH as usize {
                break;
            }
            let row = std::mem::take(row);
            let kind = TileKind::Hashes { level };
            let files = self.compare(level, kind.count(end) / TILE_WIDTH - 1, &row)?;
            roots = (tile_root(&row.from_entries), tile_root(&files));
        }
        Ok(())
    }

    /// Holds the file of a tile against both opinions on it; what it says.
    fn compare(&mut self, level: u8, index: u64, row: &Row) -> io::Result<Vec<NodeHash>> {
        let (kind, width) = (TileKind::Hashes { level }, row.from_entries.len() as u64);
        let mut troubles = Vec::new();
        let found = self.walk.shelf.load(kind, index, width, &mut troubles)?;
        self.tell(troubles);
        let suspects = if level == 1 { std::mem::take(&mut self.suspects) } else { Vec::new() };
        let (mut files, path) = match found {
            Some(found) => (hashes(&found.bytes), found.path),
            None => {
                let path = TilePath::new(kind, index, width).map(|it| it.to_string());
                let path = path.unwrap_or_default();
                let first = first_leaf(kind, index, 0);
                self.walk.report.find(Class::Truncated, first, &path, "the tile is missing");
                (Vec::new(), path)
            }
        };
        let known = files.len();
        files.extend(row.from_entries.iter().skip(known));
        for (slot, file) in files.iter().enumerate() {
            let is_entries = row.from_entries[slot] == *file;
            let is_files = row.from_files[slot] == *file;
            if let Some(suspect) = suspects.iter().find(|suspect| suspect.slot == slot) {
                self.accuse(suspect, is_entries && slot < known, is_files && slot < known);
            }
            if !is_entries && !is_files {
                let text = format_args!("hash {slot} is not that of the tile below it");
                let first = first_leaf(kind, index, slot as u64);
                self.walk.report.find(Class::Tile, first, &path, text);
            }
        }
        Ok(files)
    }

    /// Tells a changed entry from a changed hash by what fits above.
    fn accuse(&mut self, suspect: &Suspect, entries_fit: bool, files_fit: bool) {
        for index in &suspect.entries {
            let report = &mut *self.walk.report;
            if !entries_fit {
                let text = match files_fit {
                    true => "the entry is not the one that was hashed",
                    false => "the entry does not fit its hash, and neither fits the tile above",
                };
                report.find(Class::Leaf, *index, &suspect.bundle, text);
            }
            if !files_fit {
                let text = "the hash is not that of its entry";
                report.find(Class::Tile, *index, &suspect.tile, text);
            }
        }
    }

    /// The roots of the tree that ends `count` hashes into `row`.
    fn roots_with(&self, row: &Row, count: usize) -> Roots {
        let of = |pick: fn(&Row) -> &Vec<NodeHash>| {
            let first = &pick(row)[..count.min(pick(row).len())];
            let mut above: Vec<NodeHash> = match first.is_empty() {
                true => Vec::new(),
                false => vec![tile_root(first)],
            };
            for row in &self.rows {
                let items: Vec<NodeHash> = pick(row).iter().copied().chain(above).collect();
                above = if items.is_empty() { Vec::new() } else { vec![tile_root(&items)] };
            }
            above.first().copied().unwrap_or(NodeHash::EMPTY)
        };
        Roots { from_entries: of(|row| &row.from_entries), from_files: of(|row| &row.from_files) }
    }

    /// Closes the tiles at the right edge and holds all against the root.
    fn finish(&mut self, root: NodeHash) -> io::Result<()> {
        let edge = std::mem::take(&mut self.edge);
        // Suspects at the edge have no tile above them but the root itself.
        let in_edge = |suspect: &Suspect, size: u64| {
            suspect.entries.first().is_some_and(|first| first / TILE_WIDTH == size / TILE_WIDTH)
        };
        let size = self.walk.size;
        let (at_edge, rest) =
            std::mem::take(&mut self.suspects).into_iter().partition(|it| in_edge(it, size));
        self.suspects = rest;
        let at_edge: Vec<Suspect> = at_edge;
        for at in 0..self.rows.len() {
            let row = std::mem::take(&mut self.rows[at]);
            if row.from_entries.is_empty() {
                continue;
            }
            let level = u8::try_from(at + 1).unwrap_or(u8::MAX);
            let index = TileKind::Hashes { level }.count(size) / TILE_WIDTH;
            let from_files = self.compare(level, index, &row)?;
            self.rows[at] = Row { from_files, ..row };
        }
        let roots = self.roots_with(&edge, edge.from_entries.len());
        for suspect in at_edge {
            self.accuse(&suspect, roots.from_entries == root, roots.from_files == root);
        }
        self.walked.roots.insert(size, roots);
        Ok(())
    }

    fn tell(&mut self, troubles: Vec<Trouble>) {
        for Trouble { class, index, place, text } in troubles {
            self.walk.report.find(class, index, place, text);
        }
    }
}
