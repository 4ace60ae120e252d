//! What the listed files are now, for whoever holds them against what was
//! promised when they were sealed.

use std::{io, path::Path};

use super::{CatalogError, files, manifest};
use crate::fs::Fs;

/// A file that a manifest lists.
#[derive(Debug)]
pub struct SealedSum {
    /// Relative to `logs/v1`.
    pub file: String,
    /// The checksum that the manifest lists.
    pub listed: String,
    /// The checksum of what is there.
    pub found: io::Result<String>,
    /// Whether its entry may still be to come.
    pub is_untold: bool,
}

/// Reads every listed file of a data directory once, and says what it is.
pub fn sums(
    fs: &dyn Fs,
    data_dir: &Path,
    each: &mut dyn FnMut(SealedSum),
) -> Result<(), CatalogError> {
    for instance in manifest::instances(fs, data_dir)? {
        let Some(manifest) = manifest::load(fs, data_dir, &instance)?.manifest else { continue };
        for segment in &manifest.segments {
            let found = files::sha256(fs, &manifest::listed_path(data_dir, &segment.file));
            let is_untold = manifest.events.iter().any(|event| event.file == segment.file);
            let (file, listed) = (segment.file.clone(), segment.sha256.clone());
            each(SealedSum { file, listed, found, is_untold });
        }
    }
    Ok(())
}
