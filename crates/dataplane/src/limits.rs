//! Every bound of the data plane, named. Defaults stand in the configuration;
//! what is not configurable is a constant here, with its reason.

use std::time::Duration;

/// Bounds that an operator sets.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Of one request body that streams through; more is 413.
    pub request_bytes_max: u64,
    /// Of all bodies together that a rule must see whole.
    pub buffered_bytes_max: usize,
    /// Requests at work at once; more are shed with 503 and a record.
    pub concurrent_requests_max: usize,
    /// Connections at once; more wait in the listener's backlog.
    pub connections_max: usize,
    /// A request head must arrive within this, and an idle connection is closed
    /// after it.
    pub header_read_timeout: Duration,
    /// Silence of a client in the middle of its body.
    pub request_body_idle: Duration,
    /// How long running requests may take to end at shutdown.
    pub shutdown_timeout: Duration,
}

/// Of one body that a rule must see whole: larger ones cannot be decided.
pub const BUFFERED_BODY_BYTES_MAX: usize = 32 << 20;

/// All header names and values of one request. Providers themselves stop at 16
/// to 64 KiB.
pub const HEADER_BYTES_MAX: usize = 32 << 10;

/// What hyper may read before a head is complete; above our own limit, so that
/// a head slightly too large is refused by us, in our shape.
pub const HEAD_BUFFER_BYTES_MAX: usize = 64 << 10;

/// Streams that one HTTP/2 connection may have open.
pub const HTTP2_STREAMS_MAX: u32 = 1024;

/// Waiting frames of an answer are joined up to this before they are handed on.
pub const MERGED_FRAME_BYTES_MAX: usize = 32 << 10;

/// Times that a request is handed to a provider when the first attempt
/// demonstrably never reached it.
pub const ATTEMPTS_MAX: u32 = 2;
