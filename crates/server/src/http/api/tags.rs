//! `/manage/audit/tag`.

use std::sync::Arc;

use domain::secret::Secret;

use super::super::{Call, Management, answer::Reply};
use crate::manage::{
    error::{Error, Result},
    fields::Fields,
    tags,
};

/// Longer than any credential that anybody sends in a header.
const CREDENTIAL_BYTES_MAX: usize = 32 * 1024;

/// The body of a look-up, for the description; read by [`tag`].
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "describes a body that is read field by field")]
pub struct TagOrder {
    /// The credential that leaked. It is kept nowhere.
    credential: String,
}

pub async fn tag(management: Arc<Management>, call: Call) -> Result<Reply> {
    call.query.finish()?;
    let mut body = Fields::parse(&call.body)?;
    let credential = Secret::new(body.required_text("credential")?);
    body.finish()?;
    if credential.is_empty() || credential.expose().len() > CREDENTIAL_BYTES_MAX {
        return Err(Error::invalid("credential must be 1 to 32768 bytes"));
    }
    let (view, entry) = tags::tags(&management.manage, &call.caller, &credential).await?;
    Ok(Reply::ok(&view)?.audited(Some(entry)))
}
