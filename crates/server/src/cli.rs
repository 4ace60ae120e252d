//! cli
pub mod logs;
