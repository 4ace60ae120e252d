//! The side index.
