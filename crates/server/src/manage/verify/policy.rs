//! Whose cosignatures are enough: a policy in the format of C2SP tlog-policy.
//!
//! Lines `log <key> [<url>]`, `witness <name> <key> [<url>]`, `group <name>
//! <threshold|all|any> <members…>` and one `quorum <name>|none`; `#` begins a
//! comment. Names are defined before they are used.

use std::collections::BTreeMap;

use domain::audit::{
    tree::{KeyError, KeyKind, NOTE_BYTES_MAX, SignedCheckpoint, VerifierKey},
    verify::Report,
};
use tlog::verify::{Remembered, Source};

/// Witnesses and groups of a policy.
const MEMBERS_MAX: usize = 1_000;

/// Why a policy cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    #[error("line {0} of the policy is of no kind that is known")]
    Unknown(usize),
    #[error("line {0} of the policy is not of its form")]
    Shape(usize),
    #[error("line {line} of the policy has a malformed key")]
    Key { line: usize, source: KeyError },
    #[error("line {0} of the policy has a key of another kind than its line needs")]
    Kind(usize),
    #[error("line {0} of the policy defines a name again, or uses one that is not defined")]
    Name(usize),
    #[error("line {0} of the policy has a threshold that its members cannot meet")]
    Threshold(usize),
    #[error("the policy has no quorum, or two of them")]
    Quorum,
    #[error("the policy has more than {MEMBERS_MAX} names")]
    TooMany,
}

#[derive(Debug)]
enum Member {
    Witness(Box<VerifierKey>),
    Group { threshold: usize, members: Vec<String> },
}

/// Keys of chains, witnesses, and which of them must have signed.
#[derive(Debug)]
pub struct Policy {
    chains: Vec<VerifierKey>,
    members: BTreeMap<String, Member>,
    /// None: no witness is needed.
    quorum: Option<String>,
}

impl Policy {
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let mut policy = Self { chains: Vec::new(), members: BTreeMap::new(), quorum: None };
        let mut has_quorum = false;
        for (at, line) in text.lines().enumerate() {
            let line_number = at + 1;
            let line = line.split('#').next().unwrap_or_default();
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            match words.as_slice() {
                [] => {}
                ["log", key] | ["log", key, _] => {
                    policy.chains.push(parse_key(line_number, key, KeyKind::Ed25519)?);
                }
                ["witness", name, key] | ["witness", name, key, _] => {
                    let key = parse_key(line_number, key, KeyKind::Cosignature)?;
                    policy.define(line_number, name, Member::Witness(Box::new(key)))?;
                }
                ["group", name, threshold, members @ ..] if !members.is_empty() => {
                    let group = policy.group(line_number, threshold, members)?;
                    policy.define(line_number, name, group)?;
                }
                ["quorum", name] if !has_quorum => {
                    has_quorum = true;
                    if *name != "none" {
                        policy.known(line_number, name)?;
                        policy.quorum = Some((*name).to_owned());
                    }
                }
                ["quorum", _] => return Err(PolicyError::Quorum),
                ["log" | "witness" | "group" | "quorum", ..] => {
                    return Err(PolicyError::Shape(line_number));
                }
                _ => return Err(PolicyError::Unknown(line_number)),
            }
        }
        if has_quorum { Ok(policy) } else { Err(PolicyError::Quorum) }
    }

    pub fn chain_keys(&self) -> &[VerifierKey] {
        &self.chains
    }

    /// Whether enough witnesses cosigned a checkpoint of the tree, and up to
    /// where.
    pub(super) fn check(
        &self,
        source: &dyn Source,
        remembered: &[Remembered],
        report: &mut Report,
    ) {
        let Some(quorum) = &self.quorum else { return };
        let published = source.read("checkpoint", NOTE_BYTES_MAX).ok().flatten();
        let published = published.and_then(|bytes| SignedCheckpoint::parse(&bytes).ok());
        let known = remembered.iter().map(|known| &known.note).chain(&published);
        let witnessed = known.filter(|note| self.is_met(quorum, note)).map(|note| note.size());
        match witnessed.filter(|size| *size <= report.size).max() {
            Some(size) => {
                report.checked.push(format!("cosignatures of the quorum {quorum} at size {size}"));
                report.anchored_to = report.anchored_to.max(size);
            }
            None => report.incomplete.push(format!(
                "no checkpoint carries the cosignatures that the quorum {quorum} needs"
            )),
        }
    }

    fn is_met(&self, name: &str, note: &SignedCheckpoint) -> bool {
        match self.members.get(name) {
            None => false,
            Some(Member::Witness(key)) => note.note().verify([&**key]).is_ok(),
            Some(Member::Group { threshold, members }) => {
                members.iter().filter(|member| self.is_met(member, note)).count() >= *threshold
            }
        }
    }

    fn group(&self, line: usize, threshold: &str, members: &[&str]) -> Result<Member, PolicyError> {
        for (at, member) in members.iter().enumerate() {
            self.known(line, member)?;
            if members[..at].contains(member) {
                return Err(PolicyError::Name(line));
            }
        }
        let threshold = match threshold {
            "all" => members.len(),
            "any" => 1,
            number => number.parse().map_err(|_| PolicyError::Threshold(line))?,
        };
        if !(1..=members.len()).contains(&threshold) {
            return Err(PolicyError::Threshold(line));
        }
        let members = members.iter().map(|member| (*member).to_owned()).collect();
        Ok(Member::Group { threshold, members })
    }

    fn known(&self, line: usize, name: &str) -> Result<(), PolicyError> {
        if self.members.contains_key(name) { Ok(()) } else { Err(PolicyError::Name(line)) }
    }

    fn define(&mut self, line: usize, name: &str, member: Member) -> Result<(), PolicyError> {
        if self.members.len() >= MEMBERS_MAX {
            return Err(PolicyError::TooMany);
        }
        let is_new = name != "none" && !self.members.contains_key(name);
        self.members.insert(name.to_owned(), member);
        if is_new { Ok(()) } else { Err(PolicyError::Name(line)) }
    }
}

fn parse_key(line: usize, text: &str, kind: KeyKind) -> Result<VerifierKey, PolicyError> {
    let key = VerifierKey::parse(text).map_err(|source| PolicyError::Key { line, source })?;
    if key.kind() == kind { Ok(key) } else { Err(PolicyError::Kind(line)) }
}
