#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::sync::Arc;

use clap::{Parser, Subcommand};
use domain::secret::Secret;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    client::Client,
    input::Surroundings,
    key::{self, KeyCommand},
    project::{self, ProjectCommand},
    show::Format,
    token::{self, TokenCommand},
};
use crate::http::{
    socket::AdminSocket,
    tests::harness::{ROOT, Server},
};

#[derive(Parser)]
struct Line {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    #[command(subcommand)]
    Project(ProjectCommand),
    #[command(subcommand)]
    Token(TokenCommand),
    #[command(subcommand)]
    Key(KeyCommand),
}

const PROVIDER_KEY: &str = "sk-canary-provider-0123456789abcdef";

/// Runs a command line with the provider's key on its standard input.
async fn run(client: &Client, line: &str, format: Format) -> anyhow::Result<String> {
    let words = std::iter::once("llm-proxy").chain(line.split_whitespace());
    let mut out = Vec::new();
    let mut input = std::io::Cursor::new(format!("{PROVIDER_KEY}\n"));
    let mut around = Surroundings {
        out: &mut out,
        input: &mut input,
        environment: &|name| (name == "OPENAI_API_KEY").then(|| PROVIDER_KEY.to_owned()),
        format,
        proxy_url: "http://127.0.0.1:8080".to_owned(),
    };
    match Line::try_parse_from(words)?.command {
        Command::Project(command) => project::run(command, client, &mut around).await?,
        Command::Token(command) => token::run(command, client, &mut around).await?,
        Command::Key(command) => key::run(command, client, &mut around).await?,
    }
    Ok(String::from_utf8(out)?)
}

async fn json(client: &Client, line: &str) -> serde_json::Value {
    serde_json::from_str(&run(client, line, Format::Json).await.unwrap()).unwrap()
}

/// One life of a project, by whatever way the client goes.
async fn check(client: &Client, name: &str) {
    let line = format!("project create {name} --api-key-stdin --label team=a");
    let made = json(client, &line).await;
    let project = made["id"].as_str().unwrap();
    assert_eq!(made["api_key"], "sk-****cdef");
    let line =
        format!("project update {project} --provider anthropic --api-key-env OPENAI_API_KEY");
    let made = json(client, &line).await;
    assert_eq!(made["provider_keys"]["anthropic"], "sk-****cdef");
    let line = format!("token create --project {project} --max-requests 3 --model gpt-4*");
    let shown = run(client, &line, Format::Table).await.unwrap();
    let token = shown.split("OPENAI_API_KEY=").nth(1).unwrap().trim();
    assert_eq!(token.len(), 46, "{shown}");
    let tokens = json(client, &format!("token list --project {project}")).await;
    let id = tokens["items"][0]["id"].as_str().unwrap();
    assert_eq!(tokens["items"][0]["max_requests"], 3);
    let made = json(client, &format!("token update {id} --never-expires --active false")).await;
    assert_eq!(
        (&made["expires_at"], &made["is_active"]),
        (&serde_json::Value::Null, &false.into())
    );
    let said = run(client, &format!("token revoke {id} --terminate"), Format::Table).await.unwrap();
    assert_eq!(said, "Revoked.\n");
    let refused = run(client, &format!("token update {id} --active true"), Format::Table).await;
    assert!(refused.unwrap_err().to_string().contains("(conflict, request "));
    let said = run(client, "project list", Format::Table).await.unwrap();
    assert!(said.contains(name) && said.contains("team=a"), "{said}");
    let made = json(client, &format!("key create {name} --role viewer --project {project}")).await;
    assert!(made["key"].as_str().unwrap().starts_with("mk-"));
    let line = format!("key revoke {}", made["id"].as_str().unwrap());
    assert_eq!(run(client, &line, Format::Table).await.unwrap(), "Revoked.\n");
    assert!(!shown.contains(PROVIDER_KEY) && !said.contains(PROVIDER_KEY));
}

#[tokio::test]
async fn commands_reach_a_server_over_the_network() {
    let server = Server::start().await;
    let url = format!("http://{}", server.address);
    check(&Client::remote(&url, Some(Secret::new(ROOT))).unwrap(), "far").await;
    let wrong = Client::remote(&url, Some(Secret::new("mk-wrong"))).unwrap();
    let refused = run(&wrong, "project list", Format::Table).await.unwrap_err().to_string();
    assert!(refused.contains("unauthorized") && !refused.contains("mk-wrong"), "{refused}");
    assert!(Client::remote("ftp://x", Some(Secret::new(ROOT))).is_err());
    assert!(Client::remote(&url, None).is_err());
}

#[tokio::test]
async fn commands_reach_the_server_of_the_data_directory() {
    let server = Server::start().await;
    assert!(Client::running(server.dir.path()).await.is_none());
    let socket = AdminSocket::bind(server.dir.path()).unwrap();
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let serving =
        tokio::spawn(socket.serve(Arc::clone(&server.management), tasks.clone(), stop.clone()));
    let mut client = Client::running(server.dir.path()).await.expect("somebody listens");
    client.reason = Some("a test".to_owned());
    client.ticket = Some("OPS-1".to_owned());
    check(&client, "near").await;
    let page = store::Page { limit: 1000, cursor: None };
    let entries =
        server.store().audit_entries(&store::EntryFilter::default(), &page).await.unwrap();
    let newest = serde_json::to_value(&entries.items[0]).unwrap();
    assert_eq!(newest["actor"]["kind"], "local");
    let uid = rustix::process::getuid().as_raw().to_string();
    assert_eq!(newest["actor"]["id"], uid.as_str());
    stop.cancel();
    serving.await.unwrap();
    assert!(!crate::http::socket::path(server.dir.path()).exists());
}

#[tokio::test]
async fn commands_need_no_server() {
    let server = Server::start().await;
    check(&Client::in_process(Arc::clone(&server.management)), "here").await;
}
