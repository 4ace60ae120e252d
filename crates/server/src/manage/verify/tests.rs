//! Rows and policies against trees that are made up here.

use std::{collections::BTreeMap, sync::Arc};

use domain::{
    audit::{
        Action, Actor, Detail, EntryContext, EntryDraft, Opening, Origin, SealedEntry, Word,
        tree::{KeyKind, KeyName, SigningKey, cosign},
        verify::{Class, Report, Verdict},
    },
    ids::InstanceId,
    rng::Fixed,
    time::Timestamp,
};
use store::{Stored, StoredRow};
use tlog::{Config, KeySource, Writer, fs::StdFs, verify::Directory};
use tokio::sync::mpsc;

use super::{Policy, Question, verify};

const ORIGIN: &str = "example.com/audit";

struct Chain {
    dir: tempfile::TempDir,
    entries: Vec<SealedEntry>,
    key: domain::audit::tree::VerifierKey,
}

fn entry(at: u64) -> SealedEntry {
    let origin = Origin {
        log: Word::lossy(ORIGIN),
        producer: Word::lossy("i1/db"),
        instance: InstanceId::parse("i1").expect("valid"),
        boot: Word::lossy("b1"),
    };
    let draft = EntryDraft::new(Action::ProjectList).detail(Detail::Rows(at)).note("why");
    let time = Timestamp::from_micros(1_795_428_000_000_000 + 1000 * at as i64);
    let (actor, context) = (Actor::root(), EntryContext::default());
    draft.seal(&actor, &context, &origin, at + 1, time, &Fixed(at)).expect("a leaf")
}

impl Chain {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let entries: Vec<SealedEntry> = (0..10).map(entry).collect();
        let name = KeyName::parse(ORIGIN).expect("a name");
        let data_dir = dir.path().to_owned();
        let config = Config { data_dir, origin: name, key: KeySource::File };
        let (mut writer, _) = Writer::open(config, Arc::new(StdFs), &Fixed(1)).expect("a writer");
        let leaves: Vec<&str> = entries.iter().map(|entry| entry.text.as_str()).collect();
        writer.append(0, &leaves).expect("appended");
        let key = writer.verifier().clone();
        Self { dir, entries, key }
    }

    fn rows(&self) -> Vec<StoredRow> {
        let row = |(at, entry): (usize, &SealedEntry)| StoredRow {
            index: Some(at as u64),
            id: entry.leaf.id.to_string(),
            producer: "i1/db".to_owned(),
            seq: entry.leaf.seq,
            leaf: entry.text.clone(),
            is_derived: true,
            openings: entry.openings.clone(),
            openings_damaged: Vec::new(),
        };
        self.entries.iter().enumerate().map(row).collect()
    }

    fn verify(&self, rows: Option<mpsc::Receiver<store::Result<Stored>>>, policy: &str) -> Report {
        let source = Directory::new(self.dir.path().join("tlog"));
        let policy = (!policy.is_empty()).then(|| Policy::parse(policy).expect("a policy"));
        verify(Question {
            source: &source,
            data_dir: Some(self.dir.path()),
            keys: vec![self.key.clone()],
            remembered: Vec::new(),
            rows,
            records: false,
            exports: Vec::new(),
            policy,
        })
    }

    fn check(&self, rows: Vec<StoredRow>, given: u64, expected: &[(Class, Option<u64>)]) {
        let (sender, receiver) = mpsc::channel(rows.len() + 1);
        for row in rows {
            sender.try_send(Ok(Stored::Rows(vec![row]))).expect("room");
        }
        let producers = BTreeMap::from([("i1/db".to_owned(), given)]);
        sender.try_send(Ok(Stored::Totals { producers, openings_stray: 0 })).expect("room");
        drop(sender);
        let report = self.verify(Some(receiver), "");
        let found: Vec<_> = report.findings.iter().map(|it| (it.class, it.index)).collect();
        assert_eq!(found, expected, "{:?}", report.findings);
    }
}

/// A change of the rows and what it is called.
type Case = (&'static str, fn(&mut Vec<StoredRow>), &'static [(Class, Option<u64>)]);

#[test]
fn rows_are_held_against_their_entries() {
    let chain = Chain::new();
    chain.check(chain.rows(), 10, &[]);
    let cases: &[Case] = &[
        ("gone", |rows| drop(rows.remove(4)), &[(Class::DbRow, Some(4))]),
        ("the last gone", |rows| drop(rows.pop()), &[(Class::DbRow, Some(9))]),
        ("a column", |rows| rows[4].is_derived = false, &[(Class::DbRow, Some(4))]),
        ("another entry", |rows| rows[4].leaf = rows[5].leaf.clone(), &[(Class::DbRow, Some(4))]),
        (
            "an opening of another value",
            |rows| rows[4].openings[0].value = "\"other\"".to_owned(),
            &[(Class::Opening, Some(4))],
        ),
        (
            "an opening too many",
            |rows| {
                let path = "/actor/name".to_owned();
                rows[4].openings.push(Opening { path, salt: [0; 32], value: "1".to_owned() });
            },
            &[(Class::Opening, Some(4))],
        ),
        (
            "a damaged opening",
            |rows| rows[4].openings_damaged.push("/why/note".to_owned()),
            &[(Class::Opening, Some(4))],
        ),
    ];
    for (what, change, expected) in cases {
        let mut rows = chain.rows();
        change(&mut rows);
        println!("{what}");
        chain.check(rows, 10, expected);
    }
    // The newest row was removed before it had an index.
    chain.check(chain.rows(), 11, &[(Class::Gap, None)]);
    let mut waiting = chain.rows();
    let next = StoredRow { index: None, seq: 12, ..waiting[9].clone() };
    waiting.push(next);
    chain.check(waiting, 12, &[(Class::Gap, None)]);
}

#[test]
fn erased_values_inform() {
    let chain = Chain::new();
    let mut rows = chain.rows();
    rows[4].openings.clear();
    let (sender, receiver) = mpsc::channel(2);
    sender.try_send(Ok(Stored::Rows(rows))).expect("room");
    let producers = BTreeMap::from([("i1/db".to_owned(), 10)]);
    sender.try_send(Ok(Stored::Totals { producers, openings_stray: 0 })).expect("room");
    drop(sender);
    let report = chain.verify(Some(receiver), "");
    assert_eq!((report.verdict(), report.count(Class::Erased)), (Verdict::Verified, 1));
}

#[test]
fn a_database_that_breaks_off_proves_nothing() {
    let chain = Chain::new();
    let (sender, receiver) = mpsc::channel(1);
    sender.try_send(Ok(Stored::Rows(chain.rows()))).expect("room");
    drop(sender);
    assert_eq!(chain.verify(Some(receiver), "").verdict(), Verdict::Incomplete);
}

#[test]
fn a_policy_asks_for_its_witnesses() {
    let chain = Chain::new();
    let witness = |seed| {
        let name = KeyName::parse(&format!("witness.example/{seed}")).expect("a name");
        SigningKey::generate(name, KeyKind::Cosignature, &Fixed(seed)).expect("a key")
    };
    let (one, two, three) = (witness(11), witness(12), witness(13));
    let policy = format!(
        "log {} # the chain\nwitness one {}\nwitness two {} https://two.example\nwitness three {}\n\
         group most 2 one two three\nquorum most\n",
        chain.key,
        one.verifier(),
        two.verifier(),
        three.verifier()
    );
    assert_eq!(chain.verify(None, &policy).verdict(), Verdict::Incomplete);
    let path = chain.dir.path().join("tlog/checkpoint");
    for (witness, expected) in [(&one, Verdict::Incomplete), (&three, Verdict::Verified)] {
        let bytes = std::fs::read(&path).expect("a checkpoint");
        let mut note = domain::audit::tree::SignedCheckpoint::parse(&bytes).expect("a checkpoint");
        let text = note.note().text().to_owned();
        note.add(cosign(witness, &text, 1_795_428_000).expect("signed")).expect("added");
        std::fs::write(&path, note.to_string()).expect("written");
        let report = chain.verify(None, &policy);
        assert_eq!(report.verdict(), expected, "{report:?}");
    }
    assert_eq!(chain.verify(None, &policy).anchored_to, 10);
    for wrong in [
        "",
        "quorum most\n",
        "quorum none\nquorum none\n",
        "witness one nonsense\nquorum none\n",
        "group most 2 one\nquorum none\n",
        "everybody\nquorum none\n",
    ] {
        assert!(Policy::parse(wrong).is_err(), "{wrong:?}");
    }
    let twice = format!("witness a {0}\ngroup g 2 a a\nquorum g\n", one.verifier());
    assert!(Policy::parse(&twice).is_err());
    let kind = format!("witness a {}\nquorum a\n", chain.key);
    assert!(Policy::parse(&kind).is_err());
    assert!(Policy::parse("quorum none\n").is_ok());
}
