//! The product: configuration, wiring, lifecycle, management API, delivery,
//! command line and demo around the data plane, the store and the log store.
//!
//! `main → cli → app → { http → api → manage }, directory, delivery, config`.
//! Only `app` names everything; `api` calls use cases in `manage` and nothing
//! below them.

pub mod app;
pub mod cli;
pub mod config;
pub mod delivery;
pub mod demo;
pub mod directory;
pub mod http;
pub mod manage;
pub mod metrics;
pub mod readiness;
pub mod system;
pub mod trace;
