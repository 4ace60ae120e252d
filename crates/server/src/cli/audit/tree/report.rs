//! The report of a verification, for people who never saw a Merkle tree, and
//! for programs.

use std::io::{self, Write};

use domain::audit::verify::{Class, Report, Verdict};
use serde::Serialize;

use crate::render::harmless;

/// Findings that people are shown one by one.
const SHOWN_MAX: usize = 50;

#[derive(Serialize)]
struct Json<'r> {
    verdict: Verdict,
    exit_status: u8,
    #[serde(flatten)]
    report: &'r Report,
}

pub(super) fn json(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let verdict = report.verdict();
    let json = Json { verdict, exit_status: verdict.exit_status(), report };
    serde_json::to_writer_pretty(&mut *out, &json)?;
    writeln!(out)
}

pub(super) fn text(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    if let (Some(origin), Some(root)) = (&report.origin, &report.root) {
        writeln!(out, "chain     {}", harmless(origin))?;
        writeln!(
            out,
            "entries   {} under the newest checkpoint, {} read",
            report.size, report.entries
        )?;
        writeln!(out, "root      {root}")?;
        let key = report.key.as_deref().unwrap_or("none that came from outside");
        writeln!(out, "key       {}", harmless(key))?;
        writeln!(out)?;
    }
    findings(report, out)?;
    writeln!(out, "{}", verdict(report))?;
    list(out, "Also", report.notes.iter().map(ToString::to_string))?;
    list(out, "This rests on", report.checked.iter().cloned())?;
    list(out, "Why nothing follows", report.incomplete.iter().cloned())?;
    list(out, "Not checked", report.unchecked.iter().cloned().chain(always_unchecked(report)))
}

fn findings(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    for finding in report.findings.iter().take(SHOWN_MAX) {
        writeln!(out, "{}", harmless(&finding.to_string()))?;
    }
    let shown = report.findings.len().min(SHOWN_MAX) as u64;
    let all = report.tampering();
    if all > shown {
        writeln!(out, "and {} more findings (--json lists up to 1000)", all - shown)?;
    }
    let mut classes: Vec<Class> = report.findings.iter().map(|finding| finding.class).collect();
    classes.sort_unstable();
    classes.dedup();
    if !classes.is_empty() {
        writeln!(out)?;
    }
    for class in classes {
        let count = report.count(class);
        writeln!(out, "{class} ({count}): {}", meaning(class))?;
    }
    if all > 0 { writeln!(out) } else { Ok(()) }
}

fn list(out: &mut dyn Write, heading: &str, lines: impl Iterator<Item = String>) -> io::Result<()> {
    let mut lines = lines.peekable();
    if lines.peek().is_some() {
        writeln!(out, "\n{heading}:")?;
    }
    for line in lines.take(SHOWN_MAX) {
        writeln!(out, "  - {}", harmless(&line))?;
    }
    Ok(())
}

fn verdict(report: &Report) -> String {
    let size = report.size;
    match report.verdict() {
        Verdict::Verified if report.anchored_to > 0 => format!(
            "VERIFIED: none of the {size} entries was changed, removed, added or reordered. The \
             first {} are also under a checkpoint that was kept elsewhere: not even the holder of \
             the signing key could have changed them.",
            report.anchored_to
        ),
        Verdict::Verified => format!(
            "VERIFIED: the {size} entries are exactly those that the key signed; none was \
             changed, removed, added or reordered without it.\nWARNING: history is not anchored. \
             Whoever holds the signing key could have written all of it anew; only a checkpoint \
             that was kept elsewhere shows that (--checkpoint FILE)."
        ),
        Verdict::Tampered => format!(
            "TAMPERED: {} findings. What is listed above is not as it was signed.",
            report.tampering()
        ),
        Verdict::SelfConsistent => format!(
            "SELF-CONSISTENT ONLY: the {size} entries fit each other and their checkpoint, but \
             nothing says whose they are. Give the verifier key that you got on another way \
             (--key)."
        ),
        Verdict::Incomplete => "INCOMPLETE: not everything that is needed could be read, so \
             nothing follows."
            .to_owned(),
        Verdict::Nothing => {
            "NOTHING TO VERIFY: there is no audit chain with entries here, or none \
             that can be read."
                .to_owned()
        }
    }
}

/// What a class of findings means, in a sentence.
fn meaning(class: Class) -> &'static str {
    match class {
        Class::Leaf => "an entry is not the one that was recorded at this place",
        Class::Tile => "a hash of the tree was changed; the entries below it may be right",
        Class::Truncated => "something that was there is missing or cut short",
        Class::Rollback => {
            "newer entries existed: an older copy was put back, or they were removed"
        }
        Class::Fork => "another history was put in the place of the one that was signed before",
        Class::Signature => "a checkpoint or key is not signed as it must be",
        Class::Gap => "numbered entries are missing",
        Class::Duplicate => "an entry was put in again",
        Class::DbRow => "the database shows something else than what was recorded",
        Class::CountMismatch => "refusals were counted that no entry tells, or the reverse",
        Class::Opening => "a shown value is not the one that was recorded",
        Class::NotCanonical => "an entry was written by something else than the product",
        Class::Segment => "a sealed file of records is not the one that was recorded",
        Class::Erased => "values were erased on purpose; the entries prove that they existed",
        Class::Pruned => "old entries were dropped by retention; their hashes still prove the rest",
        Class::UnanchoredTail => "entries that no checkpoint kept elsewhere covers",
    }
}

/// What no verification of this kind can tell.
fn always_unchecked(report: &Report) -> Vec<String> {
    match report.size {
        0 => Vec::new(),
        _ => vec![
            "what a compromised process kept from being recorded at all".to_owned(),
            "entries younger than the newest checkpoint".to_owned(),
        ],
    }
}
