//! Checkpoints: whose signature the newest carries, and whether those that are
//! remembered are earlier states of the same tree.

use std::collections::BTreeMap;

use domain::audit::{
    tree::{CheckpointError, Keyring, NoteError, SignedCheckpoint, VerifierKey},
    verify::{Class, Report},
};

use super::{
    causes,
    keys::{KEYRING, Keys, name},
    walk::Roots,
};

/// A checkpoint that is known from somewhere else than the tree.
#[derive(Clone, Debug)]
pub struct Remembered {
    /// Where it was found.
    pub place: String,
    pub note: SignedCheckpoint,
    /// Whether it was kept elsewhere; what lies in the data directory could have
    /// been put back together with the tree.
    pub outside: bool,
}

/// Signatures and what is remembered, against the tree.
pub(super) struct Trust<'a> {
    pub keys: &'a Keys,
    pub remembered: &'a [Remembered],
}

/// What a signature is worth.
enum Signed<'k> {
    /// By a key that came from outside.
    Outside(&'k VerifierKey),
    /// By a key that lies beside the tree.
    Local(&'k VerifierKey),
    Unknown,
    Wrong(CheckpointError),
}

impl<'a> Trust<'a> {
    /// Checks the newest checkpoint; false if its signature is wrong.
    pub fn check_head(&self, head: &SignedCheckpoint, report: &mut Report) -> bool {
        let key = match self.signed(head) {
            Signed::Outside(key) => key,
            Signed::Wrong(error) => {
                report.find(Class::Signature, None, "checkpoint", causes(&error));
                return false;
            }
            Signed::Local(key) if self.keys.trusted.is_empty() => {
                let text = format!("whose the key {} is: it lies beside the tree", name(key));
                report.unchecked.push(text);
                return true;
            }
            Signed::Unknown if self.keys.trusted.is_empty() => {
                report.unchecked.push("the checkpoint's signature: no key was given".to_owned());
                return true;
            }
            Signed::Local(_) | Signed::Unknown => {
                report.find(Class::Signature, None, "checkpoint", self.other_key(head));
                return false;
            }
        };
        let in_use = |ring: &Keyring| ring.at(head.size()).any(|other| other == key);
        if self.keys.keyring.as_ref().is_some_and(|ring| !in_use(ring)) {
            let text = format!("{} does not sign at size {}", name(key), head.size());
            report.find(Class::Signature, None, KEYRING, text);
        }
        report.key = Some(name(key));
        report.checked.push(format!("the checkpoint's signature by {}", name(key)));
        true
    }

    /// Holds all that is remembered against the tree.
    pub fn check_remembered(
        &self,
        head: &SignedCheckpoint,
        roots: &BTreeMap<u64, Roots>,
        report: &mut Report,
    ) {
        let (mut held, mut outside, mut agreed, mut forks) = (0, 0, 0, Vec::new());
        for known in self.remembered {
            let Remembered { place, note, .. } = known;
            if note.checkpoint().origin != head.checkpoint().origin {
                let other = &note.checkpoint().origin;
                let text = format_args!("the checkpoint is of another chain, {other}");
                report.find(Class::Signature, None, place, text);
                continue;
            }
            match self.signed(note) {
                Signed::Wrong(error) => {
                    report.find(Class::Signature, None, place, causes(&error));
                    continue;
                }
                Signed::Unknown if !self.keys.trusted.is_empty() => {
                    report.find(Class::Signature, None, place, self.other_key(note));
                    continue;
                }
                Signed::Outside(_) | Signed::Local(_) | Signed::Unknown => {}
            }
            held += 1;
            outside += u64::from(known.outside);
            let size = note.size();
            if size > head.size() {
                let text = format_args!(
                    "{size} entries were under this checkpoint, there are {} now",
                    head.size()
                );
                report.find(Class::Rollback, head.size(), place, text);
            } else if roots.get(&size).is_some_and(|roots| roots.has(note.root())) {
                agreed = agreed.max(size);
                if known.outside {
                    report.anchored_to = report.anchored_to.max(size);
                }
            } else {
                forks.push((place, size));
            }
        }
        for (place, size) in forks {
            let first = if agreed < size { agreed } else { 0 };
            let text = format_args!(
                "the first {size} entries are not those that were under this checkpoint"
            );
            report.find(Class::Fork, first, place, text);
        }
        report.anchors = outside;
        if held > 0 {
            report.checked.push(format!("{held} remembered checkpoints, {outside} from outside"));
        }
        tail(head, report);
    }

    fn signed(&self, note: &SignedCheckpoint) -> Signed<'a> {
        let origin = &note.checkpoint().origin;
        for (keys, is_outside) in [(&self.keys.trusted, true), (&self.keys.local, false)] {
            for key in keys.iter().filter(|key| key.name() == origin) {
                match note.verify([key], &[]) {
                    Ok(_) if is_outside => return Signed::Outside(key),
                    Ok(_) => return Signed::Local(key),
                    Err(CheckpointError::Note(NoteError::NoKnownSignature)) => {}
                    Err(error) => return Signed::Wrong(error),
                }
            }
        }
        Signed::Unknown
    }

    fn other_key(&self, note: &SignedCheckpoint) -> String {
        let origin = &note.checkpoint().origin;
        let given: Vec<String> = self.keys.trusted.iter().map(name).collect();
        format!("the checkpoint of {origin} is not signed by {}", given.join(" or "))
    }
}

/// The sizes at which roots are wanted, ascending.
pub(super) fn marks<'r>(
    remembered: impl IntoIterator<Item = &'r Remembered>,
    size: u64,
) -> Vec<u64> {
    let sizes = remembered.into_iter().map(|known| known.note.size());
    let mut marks: Vec<u64> = sizes.filter(|mark| *mark <= size).chain([size]).collect();
    marks.sort_unstable();
    marks.dedup();
    marks
}

/// Without a checkpoint everything that was ever signed is gone.
pub(super) fn without_head(remembered: &[Remembered], report: &mut Report) {
    for Remembered { place, note, .. } in remembered.iter().filter(|it| it.note.size() > 0) {
        let size = note.size();
        let text = format_args!("{size} entries were under this checkpoint, now there is none");
        report.find(Class::Rollback, 0, place, text);
    }
}

fn tail(head: &SignedCheckpoint, report: &mut Report) {
    let (size, anchored) = (head.size(), report.anchored_to);
    if report.anchors == 0 {
        let text = "no checkpoint that somebody kept elsewhere was given: whoever holds the \
                    signing key could have written this history anew";
        report.find(Class::UnanchoredTail, 0, "", text);
    } else if anchored < size {
        let text = format_args!(
            "{} entries are younger than the newest checkpoint that was kept elsewhere",
            size - anchored
        );
        report.find(Class::UnanchoredTail, anchored, "", text);
    }
}
