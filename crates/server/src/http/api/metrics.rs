//! Metrics, in the two forms that are asked for.

use std::sync::Arc;

use super::super::{Call, Management, answer::Reply};
use crate::{
    manage::error::{Error, Kind, Result},
    metrics::TEXT_TYPE,
};

pub async fn negotiated(management: Arc<Management>, call: Call) -> Result<Reply> {
    if call.wants_json {
        return Reply::ok(&management.metrics().json());
    }
    prometheus(management, call).await
}

pub async fn prometheus(management: Arc<Management>, call: Call) -> Result<Reply> {
    drop(call);
    let text = management.metrics().text().map_err(|error| {
        Error::new(Kind::Internal, "metrics cannot be written").with_source(error)
    })?;
    Ok(Reply::text(TEXT_TYPE, text))
}
