//! The product: configuration, wiring, lifecycle, management API, delivery,
//! command line and demo around the data plane, the store and the log store.
//!
//! `main → cli → app → { http → api → manage }, directory, delivery, config`.
//! Only `app` names everything; `api` calls use cases in `manage` and nothing
//! below them.

pub mod cli;
pub mod app;
pub mod config;
pub mod system;
pub mod trace;
pub mod delivery;
pub mod directory;
pub mod metrics;
pub mod readiness;
pub mod render;
pub mod events;
pub mod manage;
pub mod http;
pub mod demo;
