//! What the demo needs of a running proxy. `app` implements it over the real
//! one; nothing here knows how the proxy is built.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use domain::{
    ids::{ProjectId, TokenId},
    secret::Secret,
};

/// How the demo wants its proxy: everything else is the embedded default.
#[derive(Debug)]
pub struct Launch {
    pub data_dir: PathBuf,
    pub listen: SocketAddr,
    /// Base URL of the provider `openai`; the built-in one where absent.
    pub openai_base_url: Option<String>,
    /// Base URL of the provider `anthropic`; the built-in one where absent.
    pub anthropic_base_url: Option<String>,
}

/// Starts a proxy. A trait of its own so that `app` can pass what it needs.
pub trait Launcher {
    type Proxy: Proxy;

    fn launch(self, launch: Launch) -> impl Future<Output = anyhow::Result<Self::Proxy>>;
}

/// A running proxy, seen through its use cases.
pub trait Proxy {
    fn address(&self) -> SocketAddr;

    fn management_key(&self) -> &Secret;

    fn management_key_file(&self) -> &Path;

    fn create_project(
        &self,
        project: NewProject,
    ) -> impl Future<Output = anyhow::Result<ProjectId>>;

    fn create_token(&self, token: NewToken) -> impl Future<Output = anyhow::Result<CreatedToken>>;

    fn revoke_token(&self, id: TokenId) -> impl Future<Output = anyhow::Result<()>>;

    /// The records stored so far whose request id begins with `prefix`, as
    /// their JSON lines read.
    fn records(&self, prefix: &str)
    -> impl Future<Output = anyhow::Result<Vec<serde_json::Value>>>;

    /// The audit entries written so far, oldest first.
    fn entries(&self) -> impl Future<Output = anyhow::Result<Vec<AuditLine>>>;

    /// The audit tree, once all of them are in it.
    fn tree(&self) -> impl Future<Output = anyhow::Result<AuditTree>>;

    fn books(&self) -> Books;

    /// Drains, flushes and stops.
    fn stop(self) -> impl Future<Output = anyhow::Result<()>>;
}

#[derive(Debug)]
pub struct NewProject {
    pub name: String,
    /// The provider's key, for both providers of the demo.
    pub key: Secret,
}

#[derive(Clone, Debug)]
pub struct NewToken {
    pub project_id: ProjectId,
    pub description: &'static str,
    pub duration_minutes: u64,
    pub max_requests: Option<u64>,
    pub rate_limit_rpm: Option<u32>,
    pub allowed_models: Vec<String>,
}

#[derive(Debug)]
pub struct CreatedToken {
    pub id: TokenId,
    pub token: Secret,
}

/// One audit entry as the demo shows it.
#[derive(Clone, Debug)]
pub struct AuditLine {
    /// Its place in the tree; none while it waits for it.
    pub index: Option<u64>,
    pub ts: String,
    pub action: String,
    pub actor: String,
    pub target: String,
    pub result: String,
}

/// What the audit tree is, held against its own key and its own entries.
#[derive(Clone, Debug)]
pub struct AuditTree {
    pub size: u64,
    pub root: String,
    /// The public key, which auditors are given.
    pub key: String,
    /// What does not hold; empty if all does.
    pub findings: Vec<String>,
}

/// Where every accepted request is, read at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Books {
    pub accepted: u64,
    pub stored: u64,
    pub coalesced: u64,
    pub lost: u64,
    pub in_flight: u64,
}

impl Books {
    pub const fn balance(&self) -> bool {
        self.accepted == self.stored + self.coalesced + self.lost + self.in_flight
    }
}
