//! The commands on a directory that the real writer made, and on damaged copies.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use clap::Parser as _;
use domain::{
    audit::{
        Action, Actor, Detail, EntryContext, EntryDraft, Origin, Word, leaf_hash, tree::KeyName,
    },
    ids::InstanceId,
    rng::Rng,
    time::Timestamp,
};
use serde_json::{Value, json};
use tlog::{Config, KeySource, Writer, fs::StdFs};

use crate::{
    cli::{Cli, Command, audit::AuditCommand},
    config::Environment,
};

const ORIGIN: &str = "example.com/audit";

struct Counting(AtomicU64);

impl Rng for Counting {
    fn next_u64(&self) -> u64 {
        self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed)
    }

    fn fill_secure(&self, buffer: &mut [u8]) {
        buffer.iter_mut().for_each(|byte| *byte = (self.next_u64() >> 32) as u8);
    }
}

type Change = Box<dyn Fn(&mut Vec<String>)>;

/// A data directory with a tree in two batches; the first one's checkpoint was
/// kept.
struct Chain {
    dir: tempfile::TempDir,
    leaves: Vec<String>,
}

impl Chain {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let leaves: Vec<String> = (0..300).map(leaf).collect();
        let data = dir.path().join("data");
        fs::create_dir(&data).expect("a directory");
        let origin = KeyName::parse(ORIGIN).expect("a name");
        let config = Config { data_dir: data.clone(), origin, key: KeySource::File };
        let rng = Counting(7.into());
        let (mut writer, _) = Writer::open(config, Arc::new(StdFs), &rng).expect("a writer");
        writer.append(0, &leaves[..100]).expect("appended");
        let note = fs::read(data.join("tlog/checkpoint")).expect("a checkpoint");
        fs::write(dir.path().join("kept"), note).expect("kept");
        writer.append(100, &leaves[100..]).expect("appended");
        fs::copy(data.join("audit/vkey"), dir.path().join("vkey")).expect("the key");
        Self { dir, leaves }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// Runs `llm-proxy audit …`, where `@name` is a path; status and output.
    fn run(&self, line: &str) -> (u8, String) {
        let words = line.split_whitespace().map(|word| match word.strip_prefix('@') {
            Some(name) => self.path(name),
            None => word.to_owned(),
        });
        let words: Vec<String> =
            ["llm-proxy".into(), "audit".into()].into_iter().chain(words).collect();
        let cli = match Cli::try_parse_from(&words) {
            Ok(cli) => cli,
            Err(error) => {
                let words: Vec<_> = words.iter().map(Into::into).collect();
                return (crate::cli::wrong_usage(&words), error.to_string());
            }
        };
        let Command::Audit { place, command: AuditCommand::Tree(command) } = cli.command else {
            panic!("another command");
        };
        let environment = Environment::from([("DATA_DIR".to_owned(), self.path("data"))]);
        let mut out = Vec::new();
        let status = super::run(&command, place.url.as_deref(), &environment, None, &mut out);
        (status, String::from_utf8(out).expect("text"))
    }

    fn check(&self, line: &str, status: u8, says: &[&str]) -> String {
        let (ended, output) = self.run(line);
        assert_eq!(ended, status, "{line}\n{output}");
        for text in says {
            assert!(output.contains(text), "{line}: no {text:?} in\n{output}");
        }
        output
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes an export of the entries `from..to`.
    fn export(&self, name: &str, from: usize, to: usize) -> Vec<String> {
        let mut lines: Vec<String> = (from..to)
            .map(|at| {
                let (leaf, hash) = (&self.leaves[at], leaf_hash(self.leaves[at].as_bytes()));
                json!({"index": at, "leaf": leaf, "leaf_hash": hash.to_string()}).to_string()
            })
            .collect();
        let note = fs::read_to_string(self.file("data/tlog/checkpoint")).expect("a checkpoint");
        lines.push(json!({"checkpoint": note, "entries": to - from}).to_string());
        self.write_lines(name, &lines);
        lines
    }

    fn write_lines(&self, name: &str, lines: &[String]) {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        fs::write(self.file(name), text).expect("written");
    }
}

fn leaf(at: u64) -> String {
    let origin = Origin {
        log: Word::lossy(ORIGIN),
        producer: Word::lossy("i1/db"),
        instance: InstanceId::parse("i1").expect("valid"),
        boot: Word::lossy("b1"),
    };
    let draft = EntryDraft::new(Action::ProjectList).detail(Detail::Rows(at)).note("why");
    let time = Timestamp::from_micros(1_795_428_000_000_000 + at as i64);
    let (actor, context) = (Actor::root(), EntryContext::default());
    let rng = Counting((at * 1_000_003).into());
    draft.seal(&actor, &context, &origin, at + 1, time, &rng).expect("a leaf").text
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).expect("the file");
    bytes[at] ^= 1;
    fs::write(path, bytes).expect("written");
}

#[test]
fn the_exit_status_says_what_follows() {
    let chain = Chain::new();
    let verified = ["VERIFIED", "300 under the newest checkpoint", "not anchored", "Not checked:"];
    chain.check("verify --dir @data --key @vkey", 0, &verified);
    chain.check("verify --key @vkey", 0, &["VERIFIED"]);
    let anchored =
        ["VERIFIED", "first 100 are also under a checkpoint", "UNANCHORED_TAIL at entry 100"];
    chain.check("verify --dir @data --key @vkey --checkpoint @kept", 0, &anchored);
    chain.check("verify --dir @data", 2, &["SELF-CONSISTENT ONLY", "--key"]);
    chain.check("verify --dir @data/tlog --key @vkey", 0, &["VERIFIED"]);
    let vkey = fs::read_to_string(chain.file("vkey")).expect("the key");
    chain.check(&format!("verify --dir @data --key {}", vkey.trim()), 0, &["VERIFIED"]);
    fs::create_dir(chain.file("empty")).expect("a directory");
    chain.check("verify --dir @empty --key @vkey", 2, &["NOTHING TO VERIFY"]);
    chain.check("verify --dir @nowhere --key @vkey", 2, &["NOTHING TO VERIFY"]);
    for wrong in [
        "verify --dir @data --key @nowhere",
        "verify --dir @data --key @kept",
        "verify --dir @data --key @vkey --checkpoint @vkey",
        "verify --dir @data --key @vkey --checkpoint @nowhere",
        "verify --dir @data --key @vkey --policy @nowhere",
        "verify --dir @data --db --records --unknown",
        "verify --dir @data --url http://127.0.0.1:1",
    ] {
        chain.check(wrong, 3, &[]);
    }
    chain.check("verify --dir @data --key @vkey --db", 2, &[]);
    let json: Value =
        serde_json::from_str(&chain.check("verify --dir @data --key @vkey --json", 0, &[]))
            .expect("JSON");
    assert_eq!((&json["verdict"], &json["size"]), (&json!("verified"), &json!(300)));
}

#[test]
fn damage_is_named_by_class_and_entry() {
    let chain = Chain::new();
    for (file, at, says) in [
        ("data/tlog/tile/entries/001.p/44", 50, "LEAF at entry 256"),
        ("data/tlog/tile/0/000", 32 * 7, "TILE at entry 7"),
        ("data/tlog/checkpoint", 40, "SIGNATURE, checkpoint"),
        ("data/tlog/keys", 60, "SIGNATURE, keys"),
    ] {
        flip(&chain.file(file), at);
        chain.check("verify --dir @data --key @vkey", 1, &[says, "TAMPERED"]);
        chain.check("verify --dir @data", 1, &[]);
        flip(&chain.file(file), at);
    }
    fs::rename(chain.file("data/tlog/tile/entries/000"), chain.file("gone")).expect("moved");
    let says = ["TRUNCATED at entry 0", "tile/entries"];
    chain.check("verify --dir @data --key @vkey", 1, &says);
    fs::rename(chain.file("gone"), chain.file("data/tlog/tile/entries/000")).expect("moved");
    chain.check("verify --dir @data --key @vkey", 0, &[]);
}

#[test]
fn checkpoints_are_found_in_lines_of_json() {
    let chain = Chain::new();
    let note = fs::read_to_string(chain.file("kept")).expect("a checkpoint");
    let line = json!({"msg": "audit checkpoint", "checkpoint": note}).to_string();
    chain.write_lines("stdout", &["{\"msg\":\"request completed\"}".into(), line]);
    let says = ["first 100 are also under"];
    chain.check("verify --dir @data --key @vkey --checkpoint @stdout", 0, &says);
    chain.write_lines("stdout", &["{\"msg\":\"request completed\"}".into()]);
    chain.check("verify --dir @data --key @vkey --checkpoint @stdout", 3, &[]);
}

#[test]
fn every_change_of_an_export_is_found() {
    let chain = Chain::new();
    let lines = chain.export("all", 0, 300);
    for with in ["--dir @data ", ""] {
        let verify = format!("verify {with}--key @vkey --export @changed");
        chain.write_lines("changed", &lines);
        chain.check(&verify, 0, &["VERIFIED"]);
        let changes: BTreeMap<&str, Change> = BTreeMap::from([
            ("deleted", Box::new(|it: &mut Vec<String>| drop(it.remove(7))) as _),
            ("the last deleted", Box::new(|it: &mut Vec<String>| drop(it.remove(299))) as _),
            ("the first deleted", Box::new(|it: &mut Vec<String>| drop(it.remove(0))) as _),
            ("cut", Box::new(|it: &mut Vec<String>| it.truncate(200)) as _),
            ("swapped", Box::new(|it: &mut Vec<String>| it.swap(7, 8)) as _),
            ("repeated", Box::new(|it: &mut Vec<String>| it.insert(8, it[7].clone())) as _),
            ("edited", Box::new(|it: &mut Vec<String>| it[7] = it[7].replace("root", "roof")) as _),
            ("renamed", Box::new(|it: &mut Vec<String>| it[7] = it[7].replace(":7,", ":8,")) as _),
            ("junk", Box::new(|it: &mut Vec<String>| it.insert(3, "{}".into())) as _),
            ("behind", Box::new(|it: &mut Vec<String>| it.push(it[7].clone())) as _),
        ]);
        for (what, change) in changes {
            let mut changed = lines.clone();
            change(&mut changed);
            chain.write_lines("changed", &changed);
            let (status, output) = chain.run(&verify);
            assert_ne!(status, 0, "{what} {with}\n{output}");
            // Alone, a part of a chain proves nothing, whoever made it a part.
            assert!(status == 1 || with.is_empty(), "{what} {with}\n{output}");
        }
    }
    chain.export("part", 40, 60);
    chain.check("verify --dir @data --key @vkey --export @part", 0, &["20 lines of"]);
    chain.check("verify --key @vkey --export @part", 2, &["INCOMPLETE"]);
    chain.check("verify --export @all", 2, &["SELF-CONSISTENT ONLY"]);
}

#[test]
fn a_proof_verifies_without_the_tree() {
    let chain = Chain::new();
    for index in ["0", "99", "255", "299"] {
        let proof =
            chain.check(&format!("proof {index} --dir @data"), 0, &["c2sp.org/tlog-proof@v1"]);
        fs::write(chain.file("proof"), &proof).expect("written");
        let proven = format!("this is entry {index} of a chain of 300");
        chain.check("proof --check @proof --key @vkey", 0, &["PROVEN", &proven]);
        chain.check("proof --check @proof", 2, &["NOT PROVEN"]);
        for at in (0..proof.len()).step_by(37) {
            flip(&chain.file("proof"), at);
            let (status, output) = chain.run("proof --check @proof --key @vkey");
            assert_ne!(status, 0, "byte {at}\n{output}");
            flip(&chain.file("proof"), at);
        }
    }
    chain.check("proof 300 --dir @data", 2, &[]);
    chain.check("proof", 3, &[]);
    let note = fs::read_to_string(chain.file("data/tlog/checkpoint")).expect("a checkpoint");
    assert_eq!(chain.run("checkpoint --dir @data"), (0, note));
    chain.check("checkpoint --dir @nowhere", 2, &[]);
}
