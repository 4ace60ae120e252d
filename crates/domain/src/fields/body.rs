//! The fields of a captured body, in the order in which a line has them.

use super::{Field, Kind, field};

/// See [`crate::body::Body`].
pub const BODY_FIELDS: &[Field] = &[
    field("stream", Kind::Text),
    field("ts", Kind::Time),
    field("instance", Kind::Text),
    field("record_id", Kind::Id),
    field("request_id", Kind::Id),
    field("correlation_id", Kind::Id),
    field("trace_id", Kind::Id),
    field("project_id", Kind::Id),
    field("token_id", Kind::Id),
    field("end_user", Kind::Text),
    field("side", Kind::Text),
    field("content_type", Kind::Text),
    field("encoding", Kind::Text),
    field("body", Kind::Text),
    field("bytes", Kind::Integer),
    field("truncated", Kind::Boolean),
    field("redactions", Kind::Integer),
];
