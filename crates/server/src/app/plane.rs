//! The data plane with everything that it needs of the rest.

use std::{sync::Arc, time::Duration};

use dataplane::{
    capture::Capturing,
    limits::Limits,
    observe::{Estimator, TextBudget},
    plane::{Parts, Plane},
    ports::{Denials, Outbox},
};
use domain::price::PriceTable;
use store::Store;

use super::{Ground, StartError};
use crate::directory::TokenDirectory;

/// A head must arrive, and an idle connection is kept, for this long.
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(60);
/// A client may fall silent in the middle of its body for this long.
const REQUEST_BODY_IDLE: Duration = Duration::from_secs(60);

/// Starts the data plane and the threads that work for it.
pub(super) fn start(
    ground: &Ground,
    directory: &Arc<TokenDirectory>,
    (outbox, denials): (Arc<dyn Outbox>, Arc<dyn Denials>),
    store: &Store,
) -> Result<Arc<Plane>, StartError> {
    let settings = &ground.config.settings;
    let estimator = Estimator::start(TextBudget::default()).map_err(|source| {
        StartError::System { what: "start the estimator's thread".into(), source }
    })?;
    let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    let capturing = Capturing::start(size(settings.capture_body_bytes.0)).map_err(|source| {
        StartError::System { what: "start the redactor's thread".into(), source }
    })?;
    let limits = Limits {
        request_bytes_max: settings.max_request_bytes.0,
        buffered_bytes_max: size(settings.max_buffered_bytes.0),
        concurrent_requests_max: size(settings.max_concurrent_requests.0.into()),
        connections_max: size(settings.max_connections.0.into()),
        header_read_timeout: HEADER_READ_TIMEOUT,
        request_body_idle: REQUEST_BODY_IDLE,
        shutdown_timeout: settings.shutdown_timeout,
    };
    Ok(Plane::new(Parts {
        directory: directory.clone(),
        outbox,
        denials,
        clock: Arc::clone(&ground.clock),
        rng: Arc::clone(&ground.rng),
        hash_key: store.token_hash_key().clone(),
        providers: Arc::new(ground.config.providers.clone()),
        prices: Arc::new(prices(ground)?),
        estimator,
        capturing,
        verbosity: ground.levels.clone(),
        limits,
        trusted_proxies: settings.trusted_proxies.clone(),
    }))
}

fn prices(ground: &Ground) -> Result<PriceTable, StartError> {
    let shipped = PriceTable::shipped();
    let Some(path) = &ground.config.settings.price_table_path else { return Ok(shipped) };
    let failed = |source| StartError::Prices { path: path.clone(), source };
    let own = std::fs::read_to_string(path).map_err(|error| failed(error.into()))?;
    let own = PriceTable::parse(&own).map_err(|error| failed(error.into()))?;
    Ok(shipped.overridden_by(own))
}
