//! One proxied request, from bytes in to bytes out and a record.
//!
//! Owns everything between a client's socket and a provider's. Promises that a
//! request whose head was parsed ends in exactly one [`domain::record::Record`],
//! and that nothing on the way waits for disk or database. Must never speak
//! SQL, touch a file, or know the management side: it asks a
//! [`ports::Directory`] who may, and tells a [`ports::Outbox`] what happened.
//!
//! The modules stand in the order in which a request meets them.

pub mod ports;
pub mod provider;
pub mod limits;
pub mod plane;
pub mod scope;
pub mod stall;
pub mod listen;
pub mod serve;
pub mod path;
pub mod network;
pub mod receive;
pub mod authenticate;
pub mod cors;
pub mod admit;
pub mod client_body;
pub mod upload;
pub mod circuit;
pub mod connect;
mod last_word;
pub mod hop;
pub mod upstream;
pub mod mask;
mod overdue;
mod quiet;
mod joined;
pub mod relay;
pub mod observe;
pub mod capture;
pub mod finish;
pub mod coalesce;
pub mod answer;
pub mod rescue;
