//! Metrics, in the two forms that are asked for.

use std::sync::Arc;

use super::super::{Call, Management, answer::Reply};
use crate::manage::error::Result;

/// The version of the Prometheus text format.
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

pub async fn negotiated(management: Arc<Management>, call: Call) -> Result<Reply> {
    if call.wants_json {
        return Reply::ok(&management.metrics().json());
    }
    prometheus(management, call).await
}

pub async fn prometheus(management: Arc<Management>, call: Call) -> Result<Reply> {
    drop(call);
    Ok(Reply::text(PROMETHEUS, management.metrics().prometheus()))
}
