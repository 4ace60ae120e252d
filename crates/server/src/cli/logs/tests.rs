//! The commands on a kept journal.

use std::{cell::Cell, sync::Arc};

use clap::Parser;
use logstore::fs::StdFs;

use super::*;

#[derive(Debug, Parser)]
struct Cli {
    #[command(flatten)]
    logs: LogsCommand,
}

impl<'a> Surroundings<'a> {
    /// A pipe, in the first minute of 1970.
    pub(super) fn test(out: &'a mut dyn Write, err: &'a mut dyn Write) -> Self {
        let (terminal, color, columns, meter) = (false, false, None, None);
        let (now, stop) = (Timestamp::EPOCH, &|| true);
        Self { out, err, terminal, color, columns, meter, now, stop, server: None }
    }
}

/// The journal that the log store keeps for ever as its first format.
fn data_dir() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("temporary directory");
    let journal = logstore::journal_dir(dir.path());
    std::fs::create_dir(&journal).expect("a directory");
    let name = "test-1-000000000001.jsonl";
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("../logstore/tests/data/v1");
    std::fs::copy(kept.join(name), journal.join(name)).expect("a copy");
    dir
}

fn run_in(dir: &Path, args: &[&str], stop: &dyn Fn() -> bool) -> (u8, String, String) {
    let all = ["logs"].iter().chain(args).map(ToString::to_string);
    let dir = ["--data-dir".to_owned(), dir.display().to_string()];
    let cli = match Cli::try_parse_from(all.chain(dir)) {
        Ok(cli) => cli,
        Err(error) => return (TROUBLE, String::new(), error.to_string()),
    };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let now = Timestamp::parse("2025-11-23T12:00:00Z").expect("a time");
    let mut around = Surroundings { now, stop, ..Surroundings::test(&mut out, &mut err) };
    let status = run(cli.logs, &mut around);
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (status, text(out), text(err))
}

fn check_output(args: &[&str], expected: (u8, &str)) {
    let dir = data_dir();
    let (status, out, err) = run_in(dir.path(), args, &|| true);
    assert_eq!((status, out.as_str()), expected, "{args:?}: {err}");
}

#[test]
fn simple_flags_find_and_exit_as_grep() {
    let fields = ["-o", "csv", "--fields", "request_id,status_code"];
    let find = |flags: &[&str], (status, out): (u8, &str)| {
        let args: Vec<&str> = [&["search"], flags, &fields].concat();
        check_output(&args, (status, out));
    };
    let (one, two) = ("req-1,200\r\n", "req-3,200\r\n");
    let head = "request_id,status_code\r\n";
    let both = format!("{head}{one}{two}");
    find(&[], (0, &both));
    find(&["--reverse"], (0, &format!("{head}{two}{one}")));
    find(&["--limit", "1"], (0, &format!("{head}{two}")));
    find(&["--request-id", "req-1"], (0, &format!("{head}{one}")));
    find(&["--status", "2xx", "--model", "gpt-*", "--since", "3h"], (0, &both));
    find(&["CHAT", "--slow", "1000", "--level", "info", "--outcome", "ok"], (0, &both));
    find(&["--errors"], (1, head));
    find(&["--until", "2025-11-23T10:00Z"], (1, head));
    check_output(&["search", "--count", "--stream", "record"], (0, "2\n"));
    check_output(
        &["tail", "-n", "1", "--fields", "request_id,project"],
        (0, "REQUEST_ID  PROJECT\nreq-3       blue \"quoted\"\n"),
    );
}

#[test]
fn bad_values_say_what_was_expected() {
    let check = |args: &[&str], part: &str| {
        let (status, _, err) = run_in(data_dir().path(), args, &|| true);
        assert_eq!(status, TROUBLE, "{args:?}");
        assert!(err.contains(part), "{args:?}: {err}");
    };
    check(&["search", "--fields", "statuscode"], "did you mean 'status_code'?");
    check(&["search", "--status", "abc"], "expected 500, 5xx, >=400");
    check(&["search", "--since", "soon"], "--since: expected 15m");
    check(&["search", "--outcome", "fine"], "expected one of ok, denied");
    let (status, _, err) = run_in(Path::new("/nonexistent"), &["search"], &|| true);
    assert_eq!((status, err.as_str()), (2, "error: there are neither records nor traces in /nonexistent\n"));
}

#[test]
fn check_proves_and_finds_damage() {
    let dir = data_dir();
    let (status, out, _) = run_in(dir.path(), &["check"], &|| true);
    assert_eq!(status, FOUND, "{out}");
    assert!(out.ends_with("the books are consistent\n"), "{out}");
    let path = logstore::journal_dir(dir.path()).join("test-1-000000000001.jsonl");
    let mut bytes = std::fs::read(&path).expect("a file");
    bytes[300] ^= 1;
    std::fs::write(&path, bytes).expect("a file");
    let (status, out, _) = run_in(dir.path(), &["check"], &|| true);
    assert_eq!(status, NOTHING, "{out}");
    assert!(out.contains("are damaged, 2 lines are missing"), "{out}");
    let (status, _, err) = run_in(dir.path(), &["search"], &|| true);
    assert_eq!(status, TROUBLE);
    assert!(err.contains("incomplete"), "{err}");
}

#[test]
fn following_shows_what_is_appended() {
    let dir = data_dir();
    let journal = logstore::journal_dir(dir.path());
    let looks = Cell::new(0);
    let stop = || {
        looks.set(looks.get() + 1);
        if looks.get() == 2 {
            let (journal, _) = logstore::Journal::open(
                logstore::JournalConfig::new(&journal),
                domain::record::Envelope {
                    instance: domain::ids::InstanceId::parse("test-1").expect("an id"),
                    version: "0.0.0",
                },
                Arc::new(StdFs),
                Arc::new(domain::time::ManualClock::at(Timestamp::EPOCH)),
                Box::new(()),
            )
            .expect("the journal opens");
            journal.close();
        }
        looks.get() > 4
    };
    let args = ["tail", "-f", "-n", "1", "-o", "logfmt", "--fields", "request_id,outcome"];
    let (status, out, err) = run_in(dir.path(), &args, &stop);
    let expected = "request_id=req-3 outcome=ok\nrequest_id=req-2 outcome=interrupted\n";
    assert_eq!((status, out.as_str()), (FOUND, expected), "{err}");
}

mod remote {
    use std::sync::atomic::{AtomicBool, Ordering};

    use domain::secret::Secret;

    use super::*;
    use crate::{
        cli::client::Client,
        http::tests::{
            harness::{ROOT, START, Server},
            logs::{SOMEBODY, record},
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
            let status =
                run(cli.logs, &mut Surroundings { server: Some(remote), now: START, ..test });
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
                    let status = run(cli.logs, &mut Surroundings { now: START, ..test });
                    (status, String::from_utf8(out).expect("text"))
                }
            });
            let local = local.await.expect("no panic");
            assert_eq!((status, out), local, "{args:?}: {err}");
        }
        let (status, _, err) = run_there(&server, &["check"]).await;
        assert!(status == TROUBLE && err.contains("reads a data directory"), "{err}");
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
}
