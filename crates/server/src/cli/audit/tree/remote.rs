//! The tree of a server elsewhere, a file at a time from `/audit/tlog/`.

use std::io;

use anyhow::Context as _;
use http::StatusCode;
use tlog::verify::{Listed, Source};
use tokio::runtime::Runtime;

use crate::cli::client::Client;

/// Fetches the files that are asked for; it cannot list.
pub(super) struct Server {
    client: Client,
    runtime: Runtime,
}

impl Server {
    pub fn new(client: Client) -> anyhow::Result<Self> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        Ok(Self { client, runtime: runtime.context("cannot begin a runtime")? })
    }
}

impl Source for Server {
    fn read(&self, path: &str, bytes_max: usize) -> io::Result<Option<Vec<u8>>> {
        let address = format!("/audit/tlog/{path}");
        let (status, body) = self
            .runtime
            .block_on(self.client.fetch(&address))
            .map_err(|error| io::Error::other(format!("{address}: {error:#}")))?;
        match status {
            StatusCode::OK => {
                let mut bytes = Vec::from(body);
                bytes.truncate(bytes_max.saturating_add(1));
                Ok(Some(bytes))
            }
            StatusCode::NOT_FOUND => Ok(None),
            other => Err(io::Error::other(format!("{address}: the server answers {other}"))),
        }
    }

    fn list(&self, _path: &str) -> io::Result<Option<Vec<Listed>>> {
        Ok(None)
    }
}
