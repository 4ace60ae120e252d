//! SIGTERM: softly first, hard at the deadline or when somebody insists; one
//! record for each request either way.

use std::{collections::HashMap, time::Duration};

use serde_json::Value;
use tokio::net::TcpStream;

use crate::{
    harness::{Ask, Client, Credential, Dice, Home, Proxy, Seen, eventually},
    load::{Load, mixture},
};

/// Long streams in the background; returns when all are at the provider.
async fn streams(
    home: &Home,
    proxy: &Proxy,
    token: &Credential,
    directives: &'static str,
) -> Vec<tokio::task::JoinHandle<Seen>> {
    const STREAMS: usize = 12;
    let begin = |number: usize| {
        let ask = Ask::chat(token, format!("stream-{number}")).streamed().told(directives);
        let address = proxy.address;
        tokio::spawn(async move { Client::new().ask(address, &ask).await })
    };
    let running: Vec<_> = (0..STREAMS).map(begin).collect();
    eventually("all streams run", async || {
        let items = home.provider.ledger().page(None).items;
        let begun = items.iter().filter(|item| item.request_id.starts_with("stream-"));
        (begun.filter(|item| item.status == 200).count() == STREAMS).then_some(())
    })
    .await;
    running
}

async fn all(running: Vec<tokio::task::JoinHandle<Seen>>) -> Vec<Seen> {
    let mut seen = Vec::new();
    for stream in running {
        seen.push(stream.await.unwrap());
    }
    seen
}

fn check_records(seen: &[Seen], records: &HashMap<String, Value>) {
    for seen in seen {
        let Some((status, _)) = seen.head else { continue };
        let record = records.get(&seen.id).unwrap_or_else(|| panic!("no record of {seen:?}"));
        assert_eq!(record["status_code"], status.as_u16(), "{seen:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn running_streams_drain_and_nothing_new_is_taken() {
    let mut dice = Dice::thrown("drain");
    let home = Home::new().await;
    let mut proxy = home.start().await;
    let token = proxy.token(&home, "p", None).await;
    let running = streams(&home, &proxy, &token, "chunks=60,chunk_delay=25ms").await;
    let load = Load::begin(8, "load", proxy.address, &token, mixture, &mut dice);
    eventually("load runs", async || (load.sent() > 40).then_some(())).await;
    proxy.terminate();
    eventually("new connections are refused", async || {
        TcpStream::connect(proxy.address).await.err()
    })
    .await;
    assert!(proxy.child.try_wait().unwrap().is_none(), "streams still run");
    let mut seen = all(running).await;
    for stream in &seen {
        assert!(stream.is_good(), "drained: {stream:?}");
    }
    seen.extend(load.ended().await);
    assert_eq!(proxy.ended().await.code(), Some(0));
    home.check();
    let records = home.records_by_id();
    check_records(&seen, &records);
    assert!(records.values().all(|record| record["outcome"] != "interrupted"));
    // A clean end leaves the next start nothing to repair.
    let proxy = home.start().await;
    assert_eq!(home.records_by_id().len(), records.len());
    proxy.stop().await;
}

async fn cut(timeout: &str, insist: bool) {
    let mut home = Home::new().await;
    home.set("SHUTDOWN_TIMEOUT", timeout);
    let mut proxy = home.start().await;
    let token = proxy.token(&home, "p", None).await;
    let mut running = streams(&home, &proxy, &token, "chunks=5000,chunk_delay=20ms").await;
    // One that has no answer yet, one that waits for its body.
    let waiting = Ask::chat(&token, "stream-waiting").told("latency=50s");
    let address = proxy.address;
    running.push(tokio::spawn(async move { Client::new().ask(address, &waiting).await }));
    eventually("it waits", async || home.provider.ledger().entry("stream-waiting")).await;
    let begun = std::time::Instant::now();
    proxy.terminate();
    if insist {
        eventually("it stops", async || TcpStream::connect(address).await.err()).await;
        assert!(proxy.child.try_wait().unwrap().is_none(), "streams still run");
        proxy.terminate();
    }
    let status = proxy.ended().await;
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(20), "it ended after {took:?}");
    assert_eq!(status.code(), Some(0), "nothing was lost: {}", home.errors());
    let seen = all(running).await;
    home.check();
    let records = home.records_by_id();
    check_records(&seen, &records);
    for stream in &seen {
        assert!(stream.whole_at.is_none() || stream.status() != Some(200), "{stream:?}");
        let record = &records[&stream.id];
        assert_eq!(record["outcome"], "interrupted", "{record}");
        assert_eq!(record["attempts"], 1, "{record}");
    }
    assert_eq!(records.len(), seen.len());
    let proxy = home.start().await;
    assert_eq!(home.records_by_id().len(), records.len(), "interrupted once");
    assert_eq!(proxy.uses(&token).await, records.len() as u64);
    proxy.stop().await;
    home.check();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_the_deadline_what_runs_is_cut_and_recorded() {
    cut("700ms", false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_cuts_at_once() {
    cut("10m", true).await;
}
