//! Makes a grant of what the store says of a token and its project.

use std::{collections::BTreeMap, sync::Arc};

use dataplane::{
    ports::{Grant, Live, ProviderKey},
    provider::Providers,
};
use domain::{capture::Capture, glob::Glob, secret::Secret};
use store::DirectoryRow;

pub(super) fn build(
    row: DirectoryRow,
    providers: &Providers,
    capture: Capture,
    live: Arc<Live>,
) -> Grant {
    let DirectoryRow { token, project, keys, .. } = row;
    let labels = project.labels.merged(&token.labels);
    Grant {
        token_id: token.id,
        project_id: project.id,
        project: project.name.into(),
        labels: (!labels.is_empty()).then(|| labels.to_json().into()),
        token_active: token.is_active && token.revoked_at.is_none(),
        project_active: project.is_active,
        expires_at: token.expires_at,
        allowed_models: token
            .allowed_models
            .map(|models| models.into_iter().map(Glob::new).collect()),
        max_requests: token.max_requests,
        rate_limit_rpm: token.rate_limit_rpm,
        capture: token.capture_bodies.or(project.capture_bodies).unwrap_or(capture),
        keys: provider_keys(keys, providers),
        live,
    }
}

/// Keys as they go upstream. A key of a provider that is no longer configured
/// has nowhere to go; one that no header can hold counts as missing.
fn provider_keys(
    keys: BTreeMap<String, Secret>,
    providers: &Providers,
) -> BTreeMap<Arc<str>, ProviderKey> {
    keys.into_iter()
        .filter_map(|(name, secret)| {
            let provider = providers.by_name(&name)?;
            let key = ProviderKey::new(secret, provider)?;
            Some((Arc::clone(&provider.name), key))
        })
        .collect()
}
