//! The command line. (The root of the command tree is added with the process.)

pub mod client;
pub mod input;
pub mod key;
pub mod logs;
pub mod project;
pub mod show;
pub mod token;

#[cfg(test)]
mod tests;
