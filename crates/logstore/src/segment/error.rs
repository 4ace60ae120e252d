//! What can be wrong with a segment. Every error names its file.

use std::{io, path::Path};

/// Why a segment cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    #[error("failed to {what} {file}")]
    Io { file: String, what: &'static str, source: io::Error },
    /// The bytes are not what was written.
    #[error("{file} is damaged: {what}")]
    Damaged { file: String, what: String },
    /// A newer build wrote it.
    #[error("{file} has format {found}; this build reads up to {known}")]
    Newer { file: String, found: u64, known: u64 },
    /// The caller asked for what cannot be (rows out of order, an unknown column).
    #[error("{file}: {what}")]
    Usage { file: String, what: String },
}

impl SegmentError {
    /// The file that the error is about.
    pub fn file(&self) -> &str {
        match self {
            Self::Io { file, .. }
            | Self::Damaged { file, .. }
            | Self::Newer { file, .. }
            | Self::Usage { file, .. } => file,
        }
    }

    /// What is wrong and why, for whoever has named the file already.
    pub fn unnamed(&self) -> String {
        match self {
            Self::Io { what, source, .. } => format!("failed to {what} it: {source}"),
            Self::Damaged { what, .. } => format!("it is damaged: {what}"),
            Self::Newer { found, known, .. } => {
                format!("it has format {found}; this build reads up to {known}")
            }
            Self::Usage { what, .. } => what.clone(),
        }
    }

    pub(crate) fn io(path: &Path, what: &'static str, source: io::Error) -> Self {
        Self::Io { file: path.display().to_string(), what, source }
    }

    pub(crate) fn damaged(path: &Path, what: impl ToString) -> Self {
        Self::Damaged { file: path.display().to_string(), what: what.to_string() }
    }

    pub(crate) fn usage(path: &Path, what: impl ToString) -> Self {
        Self::Usage { file: path.display().to_string(), what: what.to_string() }
    }
}
