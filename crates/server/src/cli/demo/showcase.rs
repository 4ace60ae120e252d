//! The demo's proxy: the real one, with embedded defaults, in this process.

use std::{net::SocketAddr, path::Path, time::Duration};

use anyhow::{Context as _, anyhow};
use dataplane::provider::Provider;
use domain::{
    ids::{ProjectId, TokenId},
    secret::Secret,
};
use http::{Method, Uri};
use serde_json::{Value, json};
use store::{EntryFilter, Page};
use tokio_util::sync::CancellationToken;

use crate::{
    app::{Ground, Server, server::Manner},
    cli::client::Client,
    config::Environment,
    demo::proxy::{
        AuditLine, AuditTree, Books, CreatedToken, Launch, Launcher, NewProject, NewToken, Proxy,
    },
    system::KeySource,
};

/// How long entries may take to have their place.
const TREE_WAIT: Duration = Duration::from_secs(20);
/// Entries that the demo shows.
const ENTRIES_MAX: u32 = 1000;

/// Starts the demo's proxy. Of the environment it takes nothing but what the
/// demo itself decides: embedded defaults, whatever else is set.
pub struct Showcase;

impl Launcher for Showcase {
    type Proxy = Running;

    async fn launch(self, launch: Launch) -> anyhow::Result<Running> {
        let environment = Environment::from(
            [
                ("DATA_DIR", launch.data_dir.display().to_string()),
                ("LISTEN_ADDR", launch.listen.to_string()),
                ("LOG_LEVEL", "warn".to_owned()),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        );
        let mut ground = Ground::prepare(&environment, None)?;
        for provider in &mut ground.config.providers.all {
            let url = match &*provider.name {
                "openai" => launch.openai_base_url.as_deref(),
                "anthropic" => launch.anthropic_base_url.as_deref(),
                _ => None,
            };
            if let Some(url) = url {
                redirect(std::sync::Arc::make_mut(provider), url)?;
            }
        }
        let server = Server::start(ground, Manner::default()).await?;
        let client = Client::in_process(std::sync::Arc::clone(&server.management));
        Ok(Running { server, client })
    }
}

fn redirect(provider: &mut Provider, url: &str) -> anyhow::Result<()> {
    let parts = url.parse::<Uri>().context("the sample provider's address")?.into_parts();
    provider.base.scheme = parts.scheme.context("an address with a scheme")?;
    provider.base.authority = parts.authority.context("an address with a host")?;
    let path = parts.path_and_query.as_ref().map_or("", |path| path.path());
    path.trim_end_matches('/').clone_into(&mut provider.base.path);
    Ok(())
}

/// The running proxy of a demo, used as the command line uses one.
pub struct Running {
    server: Server,
    client: Client,
}

impl Running {
    async fn post(&self, path: &str, body: Value) -> anyhow::Result<Value> {
        Ok(self.client.call(Method::POST, path, Some(body)).await?.body)
    }
}

fn text<'a>(body: &'a Value, field: &'static str) -> anyhow::Result<&'a str> {
    body[field].as_str().with_context(|| format!("the answer lacks {field}"))
}

impl Proxy for Running {
    fn address(&self) -> SocketAddr {
        self.server.address
    }

    fn management_key(&self) -> &Secret {
        &self.server.ground.management_token.0
    }

    fn management_key_file(&self) -> &Path {
        match &self.server.ground.management_token.1 {
            KeySource::Created(path) | KeySource::Kept(path) => path,
            KeySource::Configured => Path::new("MANAGEMENT_TOKEN"),
        }
    }

    async fn create_project(&self, project: NewProject) -> anyhow::Result<ProjectId> {
        let key = project.key.expose();
        let body = json!({
            "name": project.name,
            "provider_keys": { "openai": key, "anthropic": key },
        });
        let created = self.post("/manage/projects", body).await?;
        Ok(text(&created, "id")?.parse()?)
    }

    async fn create_token(&self, token: NewToken) -> anyhow::Result<CreatedToken> {
        let mut body = json!({
            "project_id": token.project_id,
            "description": token.description,
            "duration_minutes": token.duration_minutes,
        });
        if let Some(max) = token.max_requests {
            body["max_requests"] = max.into();
        }
        if let Some(rpm) = token.rate_limit_rpm {
            body["rate_limit_rpm"] = rpm.into();
        }
        if !token.allowed_models.is_empty() {
            body["allowed_models"] = token.allowed_models.into();
        }
        let created = self.post("/manage/tokens", body).await?;
        let id = text(&created, "id")?.parse()?;
        Ok(CreatedToken { id, token: Secret::new(text(&created, "token")?) })
    }

    async fn revoke_token(&self, id: TokenId) -> anyhow::Result<()> {
        self.client.call(Method::DELETE, &format!("/manage/tokens/{id}"), None).await?;
        Ok(())
    }

    async fn records(&self, prefix: &str) -> anyhow::Result<Vec<Value>> {
        let mut follower = self.server.journal.follower(0);
        let prefix = prefix.to_owned();
        let read = tokio::task::spawn_blocking(move || {
            let mut records = Vec::new();
            while follower.poll(&mut |lines| {
                let lines = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
                for line in lines {
                    let line: Value = serde_json::from_slice(line)?;
                    let begins = |id: &Value| id.as_str().is_some_and(|id| id.starts_with(&prefix));
                    if line["stream"] == "record" && begins(&line["request_id"]) {
                        records.push(line);
                    }
                }
                Ok(())
            })? {}
            Ok::<_, std::io::Error>(records)
        });
        Ok(read.await??)
    }

    async fn entries(&self) -> anyhow::Result<Vec<AuditLine>> {
        let page = Page { limit: ENTRIES_MAX, cursor: None };
        let listed = self.server.store().audit_entries(&EntryFilter::default(), &page).await?;
        let lines = listed.items.into_iter().rev().map(|entry| {
            let actor = match &entry.actor.id {
                Some(id) => format!("{} {id}", entry.actor.kind.as_str()),
                None => entry.actor.kind.as_str().to_owned(),
            };
            let target = entry.target.as_ref();
            AuditLine {
                index: entry.index,
                ts: entry.ts.to_string(),
                action: entry.action.as_str().to_owned(),
                actor,
                target: target.map(|t| format!("{} {}", t.kind.as_str(), t.id)).unwrap_or_default(),
                result: entry.result.as_str().to_owned(),
            }
        });
        Ok(lines.collect())
    }

    async fn tree(&self) -> anyhow::Result<AuditTree> {
        let tree = &self.server.management.manage.tree;
        let mut status = tree.status.clone();
        let settled = async {
            loop {
                let (_, pending) = self.server.store().entry_counts();
                let newest = status.borrow_and_update().checkpoint.clone();
                let size = self.server.store().audit_chain().await?.size;
                if let Some(newest) = newest.filter(|it| pending == 0 && it.size() == size) {
                    drop(newest);
                    return anyhow::Ok(());
                }
                status.changed().await?;
            }
        };
        let newest = tokio::time::timeout(TREE_WAIT, settled).await;
        newest.context("the audit entries have no place in the tree yet")??;
        // What `audit verify --db --key` would say.
        let body = Some(json!({}));
        let report = self.client.call(Method::POST, "/manage/audit/verify", body).await?.body;
        let found = |list: &Value| -> Vec<String> {
            let found = list.as_array().into_iter().flatten();
            found.map(|it| it["text"].as_str().or(it.as_str()).unwrap_or("?").to_owned()).collect()
        };
        let mut findings = found(&report["findings"]);
        findings.extend(found(&report["incomplete"]));
        if findings.is_empty() && report["verdict"] != "verified" {
            findings.push(format!("the verdict is {}", report["verdict"]));
        }
        let key = tree.status.borrow().key.as_ref().map(ToString::to_string).unwrap_or_default();
        let size = report["size"].as_u64().unwrap_or(0);
        Ok(AuditTree { size, root: text(&report, "root")?.to_owned(), key, findings })
    }

    fn books(&self) -> Books {
        let accounts = self.server.journal.accounts();
        Books {
            accepted: accounts.accepted,
            stored: accounts.stored,
            coalesced: accounts.coalesced,
            lost: accounts.lost.total(),
            in_flight: accounts.in_flight,
        }
    }

    async fn stop(self) -> anyhow::Result<()> {
        let hard = CancellationToken::new();
        let timeout = self.server.ground.config.settings.shutdown_timeout;
        let deadline = hard.clone();
        tokio::spawn(async move {
            tokio::time::sleep(timeout).await;
            deadline.cancel();
        });
        if self.server.stop(hard).await { Ok(()) } else { Err(anyhow!("records were lost")) }
    }
}
