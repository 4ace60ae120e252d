//! One proxied request, from bytes in to bytes out and a record.
//!
//! Owns everything between a client's socket and a provider's. Promises that a
//! request whose head was parsed ends in exactly one [`domain::record::Record`],
//! and that nothing on the way waits for disk or database. Must never speak
//! SQL, touch a file, or know the management side: it asks a
//! [`ports::Directory`] who may, and tells a [`ports::Outbox`] what happened.

pub mod observe;
pub mod ports;
pub mod provider;
pub mod scope;
