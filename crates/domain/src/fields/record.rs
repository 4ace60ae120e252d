//! The fields of a record with what its page says, in the order in which a line
//! has them.

mod caller;
mod exchange;
mod usage;

pub use caller::CALLER;
pub use exchange::EXCHANGE;
pub use usage::USAGE;
