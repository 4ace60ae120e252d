//! The commands on a server at a URL.

use std::sync::atomic::{AtomicBool, Ordering};

use clap::Parser as _;

use domain::{secret::Secret, time::ManualClock};

use super::{tests::Cli, *};
use crate::{
    cli::client::Client,
    http::tests::{
        harness::{ROOT, START, Server},
        lines::{SOMEBODY, record},
    },
};

/// Runs a command with the server's URL on a thread of its own.
async fn run_there(server: &Server, args: &[&str]) -> (u8, String, String) {
    let url = format!("http://{}", server.address);
    let args: Vec<String> = args.iter().map(ToString::to_string).collect();
    let ran = tokio::task::spawn_blocking(move || {
        let client = Client::remote(&url, Some(Secret::new(ROOT))).expect("a URL");
        let remote = Arc::new(Remote::new(client).expect("a runtime"));
        let all = ["logs".to_owned(), "--url".to_owned(), url].into_iter().chain(args);
        let cli = Cli::try_parse_from(all).expect("a command");
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let test = Surroundings::test(&mut out, &mut err);
        let clock = &ManualClock::at(START);
        let status = run(cli.logs, &mut Surroundings { server: Some(remote), clock, ..test });
        let text = |bytes| String::from_utf8(bytes).expect("text");
        (status, text(out), text(err))
    });
    ran.await.expect("no panic")
}

#[tokio::test]
async fn a_server_answers_as_its_directory_does() {
    let server = Server::start().await;
    server.append((0..1_203).map(|n| record(n, SOMEBODY, ""))).await;
    server.seal().await;
    server.append([record(1_203, SOMEBODY, ",\"error\":\"time out\"")]).await;
    let dir = server.dir.path().to_owned();
    for args in [
        &["search", "status_code:200", "--limit", "3"][..],
        &["search", "model:gpt-4o", "--limit", "0", "-o", "raw"],
        &["search", "timeout OR \"time out\"", "-o", "json"],
        &["search", "--request-id", "r-7", "-C", "2", "-o", "csv"],
        &["search", "--reverse", "--limit", "1100", "-o", "logfmt"],
        &["search", "--count", "duration_ms>=12"],
        &["search", "--stats", "count, p95(duration_ms), sum(cost_usd) by model"],
        &["search", "--stats", "sum(cost_usd)", "--bucket", "10m", "-o", "json"],
        &["search", "nothing-like-it"],
        &["tail", "-n", "2"],
        &["show", "r-1203"],
        &["show", "r-none"],
    ] {
        let (status, out, err) = run_there(&server, args).await;
        let local = tokio::task::spawn_blocking({
            let (dir, args) = (dir.clone(), args.to_vec());
            move || {
                let mut all = vec!["logs".to_owned()];
                all.extend(args.iter().map(ToString::to_string));
                all.extend(["--data-dir".to_owned(), dir.display().to_string()]);
                let cli = Cli::try_parse_from(all).expect("a command");
                let (mut out, mut err) = (Vec::new(), Vec::new());
                let test = Surroundings::test(&mut out, &mut err);
                let clock = &ManualClock::at(START);
                let status = run(cli.logs, &mut Surroundings { clock, ..test });
                (status, String::from_utf8(out).expect("text"))
            }
        });
        let local = local.await.expect("no panic");
        assert_eq!((status, out), local, "{args:?}: {err}");
    }
    let (status, _, err) = run_there(&server, &["check"]).await;
    assert!(status == TROUBLE && err.contains("works on a data directory"), "{err}");
    let (status, _, err) = run_there(&server, &["search", "statsu_code:5"]).await;
    assert!(status == TROUBLE && err.contains("did you mean 'status_code'"), "{err}");
}

#[tokio::test]
async fn a_server_is_followed() {
    let server = Server::start().await;
    server.append([record(0, SOMEBODY, "")]).await;
    let url = format!("http://{}", server.address);
    let enough = Arc::new(AtomicBool::new(false));
    let follower = tokio::task::spawn_blocking({
        let enough = Arc::clone(&enough);
        move || {
            let client = Client::remote(&url, Some(Secret::new(ROOT))).expect("a URL");
            let remote = Remote::new(client).expect("a runtime");
            let (question, mut err) = (Search::new(domain::query::Expr::All), Vec::new());
            let mut lines = Vec::new();
            let stop = || enough.load(Ordering::Relaxed);
            remote
                .tail(&question, Some("0.0.test"), &mut err, &stop, &mut |line| {
                    lines.push(String::from_utf8_lossy(line).into_owned());
                    enough.store(lines.len() == 3, Ordering::Relaxed);
                    Ok(())
                })
                .expect("lines");
            lines
        }
    });
    server.append((1..3).map(|n| record(n, SOMEBODY, ""))).await;
    let lines = follower.await.expect("no panic");
    assert_eq!(lines, (0..3).map(|n| record(n, SOMEBODY, "")).collect::<Vec<_>>());
}
