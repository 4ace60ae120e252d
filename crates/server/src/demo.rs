//! demo

pub mod provider;
