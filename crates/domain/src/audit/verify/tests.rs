use std::sync::atomic::{AtomicU64, Ordering};

use super::{Class, Leaves, Report, Verdict, check_opening};
use crate::{
    audit::{
        Action, Actor, Detail, EntryContext, EntryDraft, Leaf, LeafError, Origin, SealedEntry,
        Word, jcs::NotCanonical,
    },
    ids::InstanceId,
    rng::Rng,
    time::Timestamp,
};

const ORIGIN: &str = "example.com/audit";

struct Counting(AtomicU64);

impl Rng for Counting {
    fn next_u64(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }

    fn fill_secure(&self, buffer: &mut [u8]) {
        buffer.iter_mut().for_each(|byte| *byte = self.next_u64() as u8);
    }
}

fn sealed(producer: &str, seq: u64, salt: u64, draft: EntryDraft) -> SealedEntry {
    let origin = Origin {
        log: Word::lossy(ORIGIN),
        producer: Word::lossy(producer),
        instance: InstanceId::parse("i1").expect("valid"),
        boot: Word::lossy("b1"),
    };
    let rng = Counting(AtomicU64::new(salt));
    let at = Timestamp::from_micros(1_795_428_000_000_000 + salt as i64);
    draft.seal(&Actor::system(), &EntryContext::default(), &origin, seq, at, &rng).expect("a leaf")
}

fn entry(producer: &str, seq: u64, salt: u64) -> Leaf {
    sealed(producer, seq, salt, EntryDraft::new(Action::ProjectList)).leaf
}

fn denied(seq: u64, count: Option<u64>) -> Leaf {
    let draft = match count {
        None => EntryDraft::new(Action::AccessDenied),
        Some(count) => EntryDraft::new(Action::AccessDeniedAggregate).detail(Detail::Count(count)),
    };
    sealed("i1/journal", seq, 100 * seq, draft.denied("rate_limited")).leaf
}

fn heartbeat(seq: u64, total: u64) -> Leaf {
    let totals = [(Word::lossy("rate_limited"), total)].into();
    let draft = EntryDraft::new(Action::AuditHeartbeat).detail(Detail::DeniedTotals(totals));
    sealed("i1/journal", seq, 100 * seq, draft).leaf
}

fn classes(leaves: Vec<Result<Leaf, LeafError>>) -> Vec<(Class, Option<u64>)> {
    from(0, leaves).findings.iter().map(|it| (it.class, it.index)).collect()
}

fn from(first: u64, leaves: Vec<Result<Leaf, LeafError>>) -> Report {
    let (mut report, mut books) = (Report::default(), Leaves::new(ORIGIN));
    for (at, leaf) in leaves.iter().enumerate() {
        books.take(first + at as u64, leaf, "", &mut report);
    }
    books.finish(&mut report);
    report
}

#[test]
fn numbers_are_dense_for_each_producer() {
    let good = [("a", 1), ("b", 1), ("a", 2), ("a", 3), ("b", 2)];
    let of = |numbers: &[(&str, u64)]| {
        let numbered = numbers.iter().zip(1u64..);
        classes(numbered.map(|((by, seq), salt)| Ok(entry(by, *seq, 1000 * salt))).collect())
    };
    assert_eq!(of(&good), []);
    assert_eq!(of(&[("a", 1), ("a", 3)]), [(Class::Gap, Some(1))]);
    assert_eq!(of(&[("a", 2)]), [(Class::Gap, Some(0))]);
    assert_eq!(of(&[("a", 0)]), [(Class::Gap, Some(0))]);
    assert_eq!(of(&[("a", 1), ("a", 1), ("a", 2)]), [(Class::Duplicate, Some(1))]);
    assert_eq!(of(&[("a", 1), ("a", 2), ("a", 1), ("a", 3)]), [(Class::Duplicate, Some(2))]);
}

#[test]
fn after_a_pruned_beginning_any_number_comes_first() {
    let report = from(256, vec![Ok(entry("a", 9, 1)), Ok(entry("a", 10, 2000))]);
    assert_eq!(report.findings, []);
}

#[test]
fn an_unreadable_entry_is_named_once() {
    let broken = || Err(LeafError::NotCanonical(NotCanonical::Bytes));
    let leaves = vec![Ok(entry("a", 1, 1000)), broken(), Ok(entry("a", 3, 3000))];
    assert_eq!(classes(leaves), [(Class::NotCanonical, Some(1))]);
    let leaves = vec![Ok(entry("a", 1, 1000)), broken(), Ok(entry("a", 4, 3000))];
    assert_eq!(classes(leaves), [(Class::NotCanonical, Some(1)), (Class::Gap, Some(2))]);
    let unknown = Err(LeafError::UnknownVersion("2".into()));
    assert_eq!(classes(vec![unknown]), [(Class::Leaf, Some(0))]);
}

#[test]
fn an_entry_of_another_chain_is_found() {
    let mut leaf = entry("a", 1, 1);
    leaf.log = Word::lossy("example.com/other");
    assert_eq!(classes(vec![Ok(leaf)]), [(Class::Leaf, Some(0))]);
}

#[test]
fn an_id_that_comes_twice_is_a_candidate() {
    let (one, mut other) = (entry("a", 1, 1), entry("a", 2, 5000));
    other.id = one.id;
    let mut books = Leaves::new(ORIGIN);
    let piece = Leaves::id_piece(&one);
    let mut report = Report::default();
    books.take(0, &Ok(one), "", &mut report);
    books.take(1, &Ok(other), "", &mut report);
    assert_eq!(books.finish(&mut report), [piece]);
}

#[test]
fn refusals_are_conserved() {
    let of = |leaves: Vec<Leaf>| classes(leaves.into_iter().map(Ok).collect());
    assert_eq!(of(vec![denied(1, None), denied(2, Some(40)), heartbeat(3, 41)]), []);
    let lying = vec![denied(1, None), denied(2, Some(39)), heartbeat(3, 41), heartbeat(4, 41)];
    assert_eq!(of(lying), [(Class::CountMismatch, Some(2))]);
    assert_eq!(of(vec![denied(1, None), heartbeat(2, 0)]), [(Class::CountMismatch, Some(1))]);
    // What was dropped at the beginning is not missed.
    let report = from(256, vec![Ok(denied(7, None)), Ok(heartbeat(8, 90)), Ok(heartbeat(9, 91))]);
    let found: Vec<_> = report.findings.iter().map(|it| (it.class, it.index)).collect();
    assert_eq!(found, [(Class::CountMismatch, Some(258))]);
}

#[test]
fn openings_open_what_is_sealed() {
    let draft = EntryDraft::new(Action::ProjectList).note("because");
    let SealedEntry { leaf, openings, .. } = sealed("a", 1, 1, draft);
    let check = |change: &dyn Fn(&mut crate::audit::Opening)| {
        let mut opening = openings[0].clone();
        change(&mut opening);
        let mut report = Report::default();
        check_opening(0, &leaf, &opening, "audit_opening", &mut report);
        report.count(Class::Opening)
    };
    assert_eq!(check(&|_| {}), 0);
    assert_eq!(check(&|opening| opening.value = "\"other\"".into()), 1);
    assert_eq!(check(&|opening| opening.salt[0] ^= 1), 1);
    assert_eq!(check(&|opening| opening.path = "/actor/name".into()), 1);
}

#[test]
fn the_verdict_says_what_follows() {
    let mut report = Report::default();
    assert_eq!(report.verdict(), Verdict::Nothing);
    (report.origin, report.size) = (Some(ORIGIN.into()), 3);
    assert_eq!(report.verdict(), Verdict::SelfConsistent);
    report.key = Some("k".into());
    assert_eq!(report.verdict(), Verdict::Verified);
    report.find(Class::UnanchoredTail, 0, "", "information");
    assert_eq!(report.verdict().exit_status(), 0);
    report.incomplete.push("a file cannot be read".into());
    assert_eq!(report.verdict(), Verdict::Incomplete);
    report.find(Class::Leaf, 1, "", "tampering");
    assert_eq!(report.verdict().exit_status(), 1);
    (0..5000).for_each(|at| report.find(Class::Leaf, at, "", "tampering"));
    assert_eq!((report.findings.len(), report.tampering()), (super::FINDINGS_MAX, 5001));
}
