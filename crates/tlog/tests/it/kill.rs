//! kill -9 while leaves are added, with the ledger in another process.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
    sync::Arc,
};

use domain::audit::tree::{SignedCheckpoint, root_of};
use tlog::fs::StdFs;

use crate::{
    fake::Dice,
    support::{append, check_tree, leaves, open, open_on},
};

const CHILD_DIR: &str = "TLOG_KILL_TEST_DIR";
const ROUNDS: u64 = 8;
const LEAVES_MAX: u64 = 4000;

/// The process that is killed: a test of its own when it is not called.
#[test]
#[expect(clippy::disallowed_methods, reason = "its parent sets its environment")]
fn child() {
    let Ok(dir) = std::env::var(CHILD_DIR) else { return };
    let mut writer = open(std::path::Path::new(&dir));
    while writer.size() < LEAVES_MAX {
        let size = writer.size();
        let signed = append(&mut writer, size + 1 + size % 9);
        let text = signed.to_string().replace('\n', "|");
        writeln!(std::io::stdout(), "signed {text}").unwrap();
    }
}

#[test]
fn what_was_signed_before_a_kill_stays() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = leaves(0, LEAVES_MAX + 20);
    let mut dice = Dice(0x5eed);
    let mut seen: Vec<SignedCheckpoint> = Vec::new();
    for _ in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kill::child", "--nocapture"])
            .env(CHILD_DIR, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut left = 1 + dice.below(25);
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        for line in lines {
            let Some((_, text)) = line.split_once("signed ") else { continue };
            // The last line may be cut in two.
            let text = text.replace('|', "\n");
            seen.extend(SignedCheckpoint::parse(text.as_bytes()));
            left -= u64::from(left > 0);
            if left == 0 {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        let (writer, _) = open_on(Arc::new(StdFs), dir.path()).unwrap();
        let published = check_tree(&writer.reader(), &ledger);
        for old in &seen {
            let root = root_of(&mut writer.reader().hashes(published.size()), old.size());
            assert_eq!(root.unwrap(), old.root(), "the checkpoint of {}", old.size());
        }
    }
    assert!(seen.len() >= ROUNDS as usize, "{} checkpoints", seen.len());
}
