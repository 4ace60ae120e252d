//! A pipe that nobody reads, a database that is locked or gone, a disk that is
//! full, a journal that somebody takes away: requests go on or are refused as
//! promised, nothing is lost uncounted, and all heals when the cause does.

use std::{
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use http::Method;
use serde_json::{Value, json};

use crate::{
    harness::{Ask, Client, Credential, Dice, Home, Proxy, Seen, eventually, say, text},
    load::{Load, mixture, plain},
};

/// More than a pipe and every buffer before it hold.
const MANY: u64 = 600;

async fn under_load(home: &Home, proxy: &Proxy, requests: u64) -> Vec<Seen> {
    let mut dice = Dice::thrown("load");
    let token = proxy.token(home, "loaded", None).await;
    let load = Load::begin(8, "load", proxy.address, &token, plain, &mut dice);
    eventually("enough requests", async || (load.sent() >= requests).then_some(())).await;
    load.end().await
}

/// Every request has one record in the journal, as the client saw it.
fn assert_recorded(home: &Home, seen: &[Seen]) {
    home.check();
    let records = home.records_by_id();
    for seen in seen {
        let record = records.get(&seen.id).unwrap_or_else(|| panic!("no record of {seen:?}"));
        assert_eq!(record["status_code"], seen.status().unwrap(), "{seen:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blocked_stdout_delays_nothing() {
    let home = Home::new().await;
    // The reading end stays open in this process, and nobody reads.
    let mut proxy = home.start_showing(Stdio::piped()).await;
    let begun = Instant::now();
    let seen = under_load(&home, &proxy, MANY).await;
    say(&format!("{} requests in {:?}", seen.len(), begun.elapsed()));
    assert!(seen.iter().all(Seen::is_good));
    let books = proxy.settled().await;
    assert_eq!((books.stored, books.lost), (seen.len() as u64, 0));
    assert_recorded(&home, &seen);
    let begun = Instant::now();
    proxy.terminate();
    assert_eq!(proxy.ended().await.code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(15), "the pipe keeps no exit");
    // What did go through the pipe are whole lines, the first of them.
    let mut shown = Vec::new();
    proxy.child.stdout.take().unwrap().read_to_end(&mut shown).unwrap();
    let whole = shown.iter().rposition(|byte| *byte == b'\n').unwrap();
    for line in shown[..whole].split(|byte| *byte == b'\n') {
        serde_json::from_slice::<Value>(line).unwrap();
    }
    home.check();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_stdout_changes_nothing() {
    let home = Home::new().await;
    let mut proxy = home.start_showing(Stdio::piped()).await;
    drop(proxy.child.stdout.take());
    let seen = under_load(&home, &proxy, 100).await;
    assert!(seen.iter().all(Seen::is_good));
    assert_eq!(proxy.settled().await.stored, seen.len() as u64);
    proxy.stop().await;
    assert_recorded(&home, &seen);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renamed_file_of_lines_is_followed_by_a_new_one() {
    let mut home = Home::new().await;
    let file = home.dir.path().join("lines.jsonl");
    home.set("LOG_FILE", file.display().to_string());
    let proxy = home.start().await;
    let mut dice = Dice::thrown("rotation");
    let token = proxy.token(&home, "p", None).await;
    let load = Load::begin(4, "load", proxy.address, &token, mixture, &mut dice);
    let mut parts = Vec::new();
    for number in 0..2 {
        let sent = load.sent();
        eventually("more requests", async || (load.sent() > sent + 20).then_some(())).await;
        let moved = home.dir.path().join(format!("lines.{number}.jsonl"));
        std::fs::rename(&file, &moved).unwrap();
        parts.push(moved);
        eventually("the file is there again", async || file.exists().then_some(())).await;
    }
    let seen = load.end().await;
    proxy.stop().await;
    parts.push(file);
    let mut shown = Vec::new();
    for part in &parts {
        let lines = std::fs::read_to_string(part).unwrap();
        assert!(lines.is_empty() || lines.ends_with('\n'), "whole lines in {part:?}");
        for line in lines.lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            if line["stream"] == "record" {
                shown.push(line["request_id"].as_str().unwrap().to_owned());
            }
        }
    }
    for seen in &seen {
        let times = shown.iter().filter(|id| **id == seen.id).count();
        assert_eq!(times, 1, "shown once: {seen:?}");
    }
    assert_recorded(&home, &seen);
}

/// One request each with a known and an unknown token, and a change.
struct Witness {
    known: Credential,
    /// Valid, but never used: not in memory.
    fresh: Vec<Credential>,
    project: Value,
    asked: u64,
}

impl Witness {
    async fn new(home: &Home, proxy: &Proxy) -> Self {
        let known = proxy.token(home, "p", None).await;
        let (_, view) =
            proxy.manage(Method::GET, &format!("/manage/tokens/{}", known.id), None).await;
        let project = view["project_id"].clone();
        let mut fresh = Vec::new();
        for _ in 0..4 {
            fresh.push(proxy.token_of(&project, None).await);
        }
        let mut witness = Self { known, fresh, project, asked: 0 };
        assert_eq!(witness.ask_known(proxy).await.status(), Some(200));
        witness
    }

    async fn ask(&mut self, proxy: &Proxy, token: &Credential) -> Seen {
        self.asked += 1;
        let ask = Ask::chat(token, format!("witness-{}", self.asked));
        let begun = Instant::now();
        let seen = Client::new().ask(proxy.address, &ask).await;
        assert!(begun.elapsed() < Duration::from_secs(15), "a hang: {seen:?}");
        seen
    }

    async fn ask_known(&mut self, proxy: &Proxy) -> Seen {
        let known = self.known.clone();
        self.ask(proxy, &known).await
    }

    async fn ask_fresh(&mut self, proxy: &Proxy) -> Seen {
        let fresh = self.fresh.pop().unwrap();
        self.ask(proxy, &fresh).await
    }

    /// A governed change.
    async fn change(&self, proxy: &Proxy) -> (u16, Value) {
        let begun = Instant::now();
        let body = json!({ "project_id": self.project, "duration_minutes": 5 });
        let answer = proxy.manage(Method::POST, "/manage/tokens", Some(body)).await;
        assert!(begun.elapsed() < Duration::from_secs(15), "a hang: {answer:?}");
        answer
    }

    /// All is well.
    async fn assert_healed(&mut self, proxy: &Proxy) {
        eventually("changes work", async || (self.change(proxy).await.0 == 201).then_some(()))
            .await;
        assert_eq!(self.ask_known(proxy).await.status(), Some(200));
        assert_eq!(self.ask_fresh(proxy).await.status(), Some(200));
        eventually("ready", async || (proxy.ready().await.0 == 200).then_some(())).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_database_stops_changes_and_nothing_else() {
    let home = Home::new().await;
    let proxy = home.start().await;
    let mut witness = Witness::new(&home, &proxy).await;
    let other = home.other_store().await;
    // What BEGIN EXCLUSIVE is to a database with a write-ahead log: no other
    // writer, for as long as it is held.
    let held = other.begin_operational().await.unwrap();
    let (status, body) = witness.change(&proxy).await;
    assert_eq!((status, body["code"].as_str()), (503, Some("unavailable")), "{body}");
    for _ in 0..20 {
        assert_eq!(witness.ask_known(&proxy).await.status(), Some(200));
    }
    // Reading goes on beside a writer.
    assert_eq!(witness.ask_fresh(&proxy).await.status(), Some(200));
    drop(held);
    other.close().await;
    witness.assert_healed(&proxy).await;
    let known = witness.known.clone();
    proxy.settled().await;
    proxy.stop().await;
    home.check();
    let proxy = home.start().await;
    let used = home.records().iter().filter(|r| r["token_id"] == known.id.as_str()).count();
    assert_eq!(proxy.uses(&known).await, used as u64, "no use was lost with the lock");
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_database_never_reads_as_a_refusal() {
    let home = Home::new().await;
    let proxy = home.start().await;
    let mut witness = Witness::new(&home, &proxy).await;
    let away = home.dir.path().join("away.db");
    std::fs::rename(home.database(), &away).unwrap();
    let seen = witness.ask_fresh(&proxy).await;
    let said = (seen.status(), seen.code.as_deref());
    assert_eq!(said, (Some(503), Some("directory_unavailable")));
    for _ in 0..20 {
        assert_eq!(witness.ask_known(&proxy).await.status(), Some(200));
    }
    let (status, body) = witness.change(&proxy).await;
    assert_eq!(status, 503, "{body}");
    let (status, _) = proxy.manage(Method::GET, "/manage/projects", None).await;
    assert_eq!(status, 503);
    let (status, failing) = proxy.ready().await;
    assert_eq!(status, 503);
    assert!(failing.contains_key("database"), "{failing:?}");
    std::fs::rename(&away, home.database()).unwrap();
    witness.assert_healed(&proxy).await;
    proxy.stop().await;
    home.check();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_database_refuses_the_start() {
    let home = Home::new().await;
    home.start().await.stop().await;
    let bytes = std::fs::metadata(home.database()).unwrap().len();
    std::fs::write(home.database(), vec![0xA5; usize::try_from(bytes).unwrap()]).unwrap();
    let mut proxy = home.spawn(Stdio::null());
    assert_eq!(proxy.ended().await.code(), Some(1));
    assert!(home.errors().contains("the database file is damaged"), "{}", home.errors());
    home.check();
}

/// A small disk of its own, or nothing where nobody may mount one.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    pub fn mount(at: &Path, megabytes: u32) -> Option<Self> {
        std::fs::create_dir_all(at).unwrap();
        let options = format!("size={megabytes}m,mode=0700");
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &options, "llm-proxy-test"]).arg(at);
        let mounted = command.output().is_ok_and(|output| output.status.success());
        if mounted {
            return Some(Self(at.to_owned()));
        }
        #[expect(clippy::disallowed_methods, reason = "a test's own switch")]
        let must = std::env::var("CI").is_ok_and(|ci| ci == "true");
        assert!(!must, "CI must be able to mount a small disk (tmpfs), as root");
        say("SKIPPED: nobody may mount a small disk here, so a full disk cannot be tested");
        None
    }

    /// Takes all the room that is left.
    pub fn fill(&self) {
        let file = std::fs::File::options();
        let file = file.clone().append(true).create(true).open(self.0.join("filler")).unwrap();
        let page = [0; 4096];
        while (&file).write_all(&page).is_ok() {}
    }

    pub fn make_room(&self) {
        std::fs::remove_file(self.0.join("filler")).unwrap();
    }

    fn remount(&self, options: &str) {
        let mut command = Command::new("mount");
        command.args(["-o", &format!("remount,{options}")]).arg(&self.0);
        assert!(command.output().unwrap().status.success(), "remount {options}");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a server may still have files there.
        drop(Command::new("umount").arg("-l").arg(&self.0).output());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_requests_until_there_is_room() {
    let mut home = Home::new().await;
    std::fs::create_dir_all(home.data_dir()).unwrap();
    let Some(disk) = SmallDisk::mount(&home.journal_dir(), 4) else { return };
    // And no answer hangs on a record that cannot be stored.
    home.set("JOURNAL_SYNC", "each");
    fill_up(home, disk).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_below_journal_and_database_is_survived_too() {
    let home = Home::new().await;
    let Some(disk) = SmallDisk::mount(home.data_dir(), 6) else { return };
    fill_up(home, disk).await;
}

async fn fill_up(home: Home, disk: SmallDisk) {
    let mut dice = Dice::thrown("full disk");
    let proxy = home.start().await;
    let token = proxy.token(&home, "p", None).await;
    let load = Load::begin(8, "load", proxy.address, &token, mixture, &mut dice);
    eventually("load runs", async || (load.sent() > 50).then_some(())).await;
    let long = (0..5).map(|number| {
        let ask = Ask::chat(&token, format!("long-{number}")).streamed();
        let (ask, address) = (ask.told("chunks=300,chunk_delay=20ms"), proxy.address);
        tokio::spawn(async move { Client::new().ask(address, &ask).await })
    });
    let long: Vec<_> = long.collect();
    eventually("long streams run", async || {
        let entry = |number| home.provider.ledger().entry(&format!("long-{number}"));
        (0..5).all(|number| entry(number).is_some_and(|entry| entry.status == 200)).then_some(())
    })
    .await;
    disk.fill();
    eventually("the journal fails", async || {
        let (status, failing) = proxy.ready().await;
        (status == 503 && failing.contains_key("disk")).then_some(())
    })
    .await;
    let refused = Client::new().ask(proxy.address, &Ask::chat(&token, "refused")).await;
    let said = (refused.status(), refused.code.as_deref());
    assert_eq!(said, (Some(503), Some("audit_unavailable")));
    let forwarded = home.provider.ledger().entry("refused");
    assert!(forwarded.is_none(), "nothing new is forwarded");
    // Of what the journal had set aside for its last lines nothing stays.
    disk.fill();
    for stream in long {
        assert!(stream.await.unwrap().is_good(), "what runs goes on without its record");
    }
    eventually("losses are counted", async || (proxy.books().await.lost >= 5).then_some(())).await;
    // Room again: service returns by itself.
    disk.make_room();
    eventually("service returns", async || {
        let seen = Client::new().ask(proxy.address, &Ask::chat(&token, "")).await;
        (seen.status() == Some(200)).then_some(())
    })
    .await;
    eventually("ready", async || (proxy.ready().await.0 == 200).then_some(())).await;
    let after = load.sent();
    eventually("load goes on", async || (load.sent() > after + 30).then_some(())).await;
    let seen = load.end().await;
    let books = proxy.settled().await;
    let unrecorded: Vec<&Seen> = {
        let records = home.records_by_id();
        let lost = |seen: &&Seen| !records.contains_key(&seen.id);
        seen.iter().filter(lost).collect()
    };
    let lost = unrecorded.iter().filter(|seen| seen.status() != Some(503)).count() as u64;
    say(&format!("{} requests, {books:?}, {lost} answers without a record", seen.len()));
    assert!(lost <= books.lost, "what is missing was counted: {books:?}");
    let mut proxy = proxy;
    proxy.terminate();
    // 1: it ended well, and says that records were lost.
    assert_eq!(proxy.ended().await.code(), Some(i32::from(books.lost > 0)));
    home.check();
    let proxy = home.start().await;
    let seen = Client::new().ask(proxy.address, &Ask::chat(&token, "after")).await;
    assert!(seen.is_good());
    proxy.stop().await;
    home.check();
    // Their openings had room, so they are not forgotten, nor are their uses.
    let records = home.records_by_id();
    let used = records.values().filter(|record| record["attempts"].as_u64() > Some(0)).count();
    let proxy = home.start().await;
    assert_eq!(proxy.uses(&token).await, used as u64);
    proxy.stop().await;
    for number in 0..5 {
        assert_eq!(records[&format!("long-{number}")]["outcome"], "interrupted");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_only_or_full_disk_of_the_database_stops_changes_alone() {
    let mut home = Home::new().await;
    let Some(disk) = SmallDisk::mount(&home.dir.path().join("db"), 4) else { return };
    home.set("DATABASE_PATH", disk.0.join("llm-proxy.db").display().to_string());
    let proxy = home.start().await;
    let mut witness = Witness::new(&home, &proxy).await;
    disk.fill();
    // The write-ahead log has a little room of its own until it must grow.
    let (status, body) = eventually("no room for changes", async || {
        let answer = witness.change(&proxy).await;
        (answer.0 != 201).then_some(answer)
    })
    .await;
    assert_eq!(status, 503, "{body}");
    for _ in 0..20 {
        assert_eq!(witness.ask_known(&proxy).await.status(), Some(200));
    }
    assert_eq!(witness.ask_fresh(&proxy).await.status(), Some(200));
    disk.make_room();
    witness.assert_healed(&proxy).await;
    proxy.stop().await;
    home.check();
    disk.remount("ro");
    let mut refused = home.spawn(Stdio::null());
    assert_eq!(refused.ended().await.code(), Some(1));
    assert!(home.errors().contains("the database file cannot be opened"), "{}", home.errors());
    disk.remount("rw");
    home.start().await.stop().await;
    home.check();
}

/// What somebody does to the journal's file while it is written.
async fn tampered(name: &str, tamper: impl Fn(&Path)) -> Home {
    let mut dice = Dice::thrown(name);
    let home = Home::new().await;
    let proxy = home.start().await;
    let token = proxy.token(&home, "p", None).await;
    let load = Load::begin(4, "load", proxy.address, &token, mixture, &mut dice);
    eventually("load runs", async || (load.sent() > 40).then_some(())).await;
    let file = home.journal_files().pop().unwrap();
    tamper(&file);
    eventually("it is noticed", async || {
        (proxy.metric("llm_proxy_journal_reopens_total").await > 0.0).then_some(())
    })
    .await;
    let noticed_at = Instant::now();
    let sent = load.sent();
    eventually("load goes on", async || (load.sent() > sent + 40).then_some(())).await;
    let seen = load.end().await;
    let books = proxy.settled().await;
    assert_eq!(books.stored, seen.len() as u64, "{books:?}");
    eventually("ready", async || (proxy.ready().await.0 == 200).then_some(())).await;
    let records = home.readable_records();
    for seen in seen.iter().filter(|seen| seen.sent_at > noticed_at) {
        let same = records.iter().filter(|record| record["request_id"] == seen.id.as_str());
        assert_eq!(same.count(), 1, "{seen:?}");
    }
    proxy.stop().await;
    let torn = std::fs::read_dir(home.journal_dir().join("torn")).unwrap();
    let kept = torn.filter(|entry| {
        entry.as_ref().unwrap().file_name().to_string_lossy().ends_with(".rescued")
    });
    assert_eq!(kept.count(), 1, "what could still be read was kept aside");
    let proxy = home.start().await;
    let seen = Client::new().ask(proxy.address, &Ask::chat(&token, "after")).await;
    assert!(seen.is_good());
    // The uses that went with the lines had been counted.
    proxy.stop().await;
    let proxy = home.start().await;
    assert_eq!(proxy.uses(&token).await, home.provider.ledger().page(None).received);
    proxy.stop().await;
    home
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_journal_file_is_noticed_and_replaced() {
    let home = tampered("deleted", |file| std::fs::remove_file(file).unwrap()).await;
    let said = home.check();
    assert!(said.contains("are not here any more"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replaced_journal_file_is_noticed() {
    let home = tampered("replaced", |file| {
        std::fs::rename(file, file.with_extension("moved")).unwrap();
        std::fs::write(file, b"nonsense\n").unwrap();
    })
    .await;
    assert_not_whole(&home);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_truncated_journal_file_is_noticed() {
    let home = tampered("truncated", |file| {
        std::fs::File::options().write(true).open(file).unwrap().set_len(100).unwrap();
    })
    .await;
    assert_not_whole(&home);
}

/// A journal that lost lines is not called whole, sealed or not.
fn assert_not_whole(home: &Home) {
    let output = home.run(&["logs", "check"]);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("are damaged"), "{said}");
}
