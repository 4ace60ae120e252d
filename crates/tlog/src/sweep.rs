//! Removing files: what was never signed, partial tiles that wider ones
//! replace, and bundles past their retention. Nothing else is ever removed.

use std::path::{Path, PathBuf};

use domain::audit::tree::{BUNDLE_BYTES_MAX, LEVEL_MAX, TILE_WIDTH, TileKind, TilePath};

use crate::{
    error::Error,
    files::{self, Files},
    layout::{Layout, TEMPORARY},
    writer::APPEND_LEAVES_MAX,
};

/// Widths of an unfinished tile that are kept, the newest included.
const WIDTHS_KEPT: usize = 4;
/// Tiles that one batch can have begun beyond the signed ones.
const BATCH_TILES_MAX: u64 = APPEND_LEAVES_MAX as u64 / TILE_WIDTH + 1;

/// Every level, and the bundles.
fn kinds() -> impl Iterator<Item = TileKind> {
    let levels = (0..=LEVEL_MAX).map(|level| TileKind::Hashes { level });
    std::iter::once(TileKind::Entries).chain(levels)
}

/// Removes the files that a tree of `size` does not have and one batch more
/// could have left, and temporary ones. Returns how many there were.
pub(crate) fn remove_unsigned(files: &mut Files, layout: &Layout, size: u64) -> Result<u64, Error> {
    let mut removed = 0;
    for dir in [layout.tree(), layout.signer_dir(), layout.rotations()] {
        for name in files::list(&**files.fs(), &dir)? {
            if name.ends_with(TEMPORARY) {
                files.remove(&dir.join(name))?;
            }
        }
    }
    let is_unsigned = |path: TilePath| {
        let signed = path.kind().tile(path.index(), size);
        signed.is_none_or(|signed| path.width() > signed.width())
    };
    for kind in kinds() {
        let edge = kind.count(size) / TILE_WIDTH;
        // A crash after signing leaves partial tiles that the batch made whole.
        for index in edge.saturating_sub(BATCH_TILES_MAX)..edge {
            remove_widths_of_whole(files, layout, kind, index)?;
        }
        let mut dirs: Vec<PathBuf> = (edge..=edge + BATCH_TILES_MAX)
            .filter_map(|index| TilePath::new(kind, index, TILE_WIDTH))
            .filter_map(|path| layout.tile(path).parent().map(Path::to_owned))
            .collect();
        dirs.dedup();
        for dir in dirs {
            removed += sweep_dir(files, layout, &dir, is_unsigned)?;
        }
    }
    Ok(removed)
}

/// Removes partial tiles beside the whole one, if that is really there.
fn remove_widths_of_whole(
    files: &mut Files,
    layout: &Layout,
    kind: TileKind,
    index: u64,
) -> Result<(), Error> {
    let Some(path) = TilePath::new(kind, index, TILE_WIDTH) else { return Ok(()) };
    let whole = layout.tile(path);
    let has_widths = TilePath::new(kind, index, 1).is_some_and(|narrow| {
        let file = layout.tile(narrow);
        file.parent().is_some_and(|dir| files.fs().list(dir).is_ok())
    });
    if has_widths && files::read(&**files.fs(), &whole, BUNDLE_BYTES_MAX)?.is_some() {
        remove_widths(files, layout, path, 0)?;
    }
    Ok(())
}

/// Removes the tiles directly in `dir`, or partial in directories of it, of
/// which `goes` says so.
fn sweep_dir(
    files: &mut Files,
    layout: &Layout,
    dir: &Path,
    goes: impl Fn(TilePath) -> bool,
) -> Result<u64, Error> {
    let tree = layout.tree();
    let read = |path: &Path| {
        let relative = path.strip_prefix(&tree).ok()?.to_str()?;
        TilePath::parse(relative).ok()
    };
    let mut removed = 0;
    for name in files::list(&**files.fs(), dir)? {
        let path = dir.join(&name);
        if name.ends_with(TEMPORARY) || read(&path).is_some_and(&goes) {
            files.remove(&path)?;
            removed += u64::from(!name.ends_with(TEMPORARY));
        } else if name.ends_with(".p") {
            let names = files::list(&**files.fs(), &path)?;
            let mut left = names.len();
            for name in names {
                let path = path.join(&name);
                if name.ends_with(TEMPORARY) || read(&path).is_some_and(&goes) {
                    files.remove(&path)?;
                    removed += u64::from(!name.ends_with(TEMPORARY));
                    left -= 1;
                }
            }
            if left == 0 {
                remove_empty_dir(files, &path);
            }
        }
    }
    Ok(removed)
}

/// After the tree has grown from `before` to `size`: partial tiles that became
/// whole go, and of those that are still partial all but the newest widths.
/// What cannot be removed now stays; it is true, only not needed.
pub(crate) fn remove_narrower(files: &mut Files, layout: &Layout, before: u64, size: u64) {
    for kind in kinds() {
        let index = kind.count(before) / TILE_WIDTH;
        let Some(path) = kind.tile(index, size) else { continue };
        if kind.count(before) == kind.count(size) {
            continue;
        }
        let kept = if path.is_partial() { WIDTHS_KEPT } else { 0 };
        if let Err(error) = remove_widths(files, layout, path, kept) {
            let error: &dyn std::error::Error = &error;
            tracing::warn!(error, "partial tiles that are not needed any more stay");
        }
    }
}

fn remove_widths(
    files: &mut Files,
    layout: &Layout,
    path: TilePath,
    kept: usize,
) -> Result<(), Error> {
    let Some(narrow) = TilePath::new(path.kind(), path.index(), 1) else { return Ok(()) };
    let file = layout.tile(narrow);
    let Some(dir) = file.parent() else { return Ok(()) };
    let names = files::list(&**files.fs(), dir)?;
    let mut widths: Vec<u64> = names.iter().filter_map(|name| name.parse().ok()).collect();
    widths.sort_unstable();
    let gone = widths.len().saturating_sub(kept);
    for width in &widths[..gone] {
        files.remove(&dir.join(width.to_string()))?;
    }
    if kept == 0 {
        remove_empty_dir(files, dir);
    }
    Ok(())
}

/// A directory that is not empty after all stays.
fn remove_empty_dir(files: &mut Files, dir: &Path) {
    if files.fs().remove_dir(dir).is_ok() {
        files.forget_dir(dir);
    }
}

/// Removes whole bundles of which every leaf is below `index`.
pub(crate) fn prune_bundles(files: &mut Files, layout: &Layout, index: u64) -> Result<u64, Error> {
    let whole = index / TILE_WIDTH;
    let goes = |path: TilePath| path.kind() == TileKind::Entries && path.index() < whole;
    let mut removed = 0;
    let mut dirs = vec![layout.tiles(TileKind::Entries)];
    while let Some(dir) = dirs.pop() {
        let names = files::list(&**files.fs(), &dir)?;
        dirs.extend(names.iter().filter(|name| name.starts_with('x')).map(|name| dir.join(name)));
        let here = sweep_dir(files, layout, &dir, goes)?;
        if here > 0 {
            files.sync_dir(&dir)?;
        }
        removed += here;
    }
    Ok(removed)
}
