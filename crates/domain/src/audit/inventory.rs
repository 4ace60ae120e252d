//! The inventory of entries: when each action is entered and what its details
//! mean, as the page docs/audit-events.md shows them.

use std::fmt::Write as _;

use super::{Action, DetailKey, DetailKind, Field};

/// Where an entry of this action is born.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Born {
    /// In the database, in one transaction with its change.
    Change,
    /// In the journal, on the disk before anything is shown.
    First,
    /// In the journal.
    Event,
    /// No build writes it yet.
    Later,
}

impl Born {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Change => "with the change",
            Self::First => "before anything is shown",
            Self::Event => "when it happens",
            Self::Later => "later",
        }
    }
}

impl Action {
    /// When it is entered.
    pub const fn meaning(self) -> (Born, &'static str) {
        use Born::{Change, Event, First, Later};
        match self {
            Self::ProjectCreate => (Change, "a project is created"),
            Self::ProjectRead => (Event, "a project is shown; once in ten minutes for each caller"),
            Self::ProjectUpdate => (Change, "a project is changed, switched off or on"),
            Self::ProjectList => (Event, "projects are listed; once in ten minutes for each query"),
            Self::TokenCreate => (Change, "a token is created"),
            Self::TokenRead => (Event, "a token is shown; once in ten minutes for each caller"),
            Self::TokenList => (Event, "tokens are listed; once in ten minutes for each query"),
            Self::TokenUpdate => (Change, "a token is changed"),
            Self::TokenRevoke => (Change, "a token is revoked"),
            Self::TokenRevokeBatch => (Change, "all tokens of a project are revoked"),
            Self::TokenFirstUse => (
                Change,
                "a token is used for the first time (`first_use`), or from a network for the \
                 first time (`new_network`)",
            ),
            Self::KeyCreate => (Change, "a management key is created"),
            Self::KeyUpdate => (Change, "a management key is changed"),
            Self::KeyRevoke => (Change, "a management key is revoked"),
            Self::KeyList => (Event, "management keys are listed; once in ten minutes"),
            Self::AuthFailed => (
                Event,
                "a management login fails (`key_missing`, `key_unknown`, `key_revoked`, \
                 `key_expired`, `key_limited`, `metrics_token`); with `count` for so many",
            ),
            Self::Login => (Later, "somebody logs in to the admin pages"),
            Self::Logout => (Later, "somebody logs out"),
            Self::AccessDenied => (
                Event,
                "a request is refused; the reason is the error code of the answer, `forbidden` \
                 where a management key's role may not",
            ),
            Self::AccessDeniedAggregate => {
                (Event, "more than five refusals alike in ten seconds: how many more there were")
            }
            Self::LogsSearch => (Event, "lines are searched; once in ten minutes for each query"),
            Self::LogsReadBodies => (First, "captured bodies are shown"),
            Self::LogsExport => (First, "lines are exported"),
            other => other.meaning_of_service(),
        }
    }

    /// As [`Self::meaning`], for what concerns more than a project or a token.
    const fn meaning_of_service(self) -> (Born, &'static str) {
        use Born::{Change, Event, First, Later};
        match self {
            Self::LogsErase => (Change, "lines of a project or an end user are erased"),
            Self::AuditList => (Event, "entries are listed; once in ten minutes for each query"),
            Self::AuditRead => (Event, "an entry is shown; once in ten minutes for each caller"),
            Self::AuditExport => (First, "entries are exported"),
            Self::AuditVerify => (Event, "the log is verified"),
            Self::AuditHeartbeat => {
                (Event, "every ten minutes: totals of refusals, positions, what waits")
            }
            Self::AuditKeyRotate => (Change, "the key that signs checkpoints is replaced"),
            Self::ConfigChange => (
                Change,
                "a start finds another configuration than the last (a digest, no values), keys \
                 are rotated, or the schema is migrated",
            ),
            Self::LogLevelChange => (Change, "a trace level is changed"),
            Self::SegmentSealed => (Change, "lines are sealed into a file, or adopted"),
            Self::SegmentCompacted => (Change, "files are merged"),
            Self::SegmentPruned => (Change, "a file is dropped by retention"),
            Self::LegalHoldPlace => (Change, "a legal hold is placed"),
            Self::LegalHoldRelease => (Change, "a legal hold is released"),
            Self::CachePurge => (Later, "cached answers are dropped"),
            Self::SystemStart => {
                (Event, "the process starts: how the last one ended, and what that left uncounted")
            }
            Self::SystemStop => (Event, "the process stops, and which signal asked for it"),
            Self::SystemRecovered => (Event, "a start repaired what a crash had left"),
            Self::SystemDegraded => (Event, "the journal cannot be written; from its reserve"),
            Self::SystemJournalTampered => {
                (Event, "the journal's file was unlinked, replaced, truncated or appended to")
            }
            Self::SystemClockStep => (Event, "the machine's clock was set by a second or more"),
            Self::SinkCreate => (Later, "a sink is added"),
            Self::SinkUpdate => (Later, "a sink is changed"),
            Self::SinkDelete => (Later, "a sink is removed"),
            Self::SinkPause => (Later, "a sink is paused"),
            Self::SinkResume => (Later, "a sink goes on"),
            Self::SinkPark => (Later, "a sink put an item aside"),
            Self::SinkReplay => (Later, "items put aside are sent again"),
            _ => (Later, ""),
        }
    }
}

const HEAD: &str = "\
# What is entered in the audit log

<!-- Generated from crates/domain/src/audit by `cargo xtask docs`; a test keeps it current. -->

An entry says what was done (`action`), how it ended (`success`, `denied`, `error`, with a \
`reason_code`), who did it as authentication found it, to what, in which request, and why if the \
caller said so. Changes are entered in the transaction that makes them; what changes nothing is \
entered through the journal. While no entry can be written nothing is changed and nothing of what \
is kept is shown.

Names that `AUDIT_REQUIRE_REASON` takes are those of this page.

## Actions

| action | entered | when | details |
|---|---|---|---|
";

/// The whole page.
pub fn page() -> String {
    let mut page = HEAD.to_owned();
    for action in Action::ALL {
        let (born, when) = action.meaning();
        let details: Vec<String> =
            action.details().iter().map(|detail| format!("`{detail}`")).collect();
        let (born, details) = (born.as_str(), details.join(" "));
        line(&mut page, format_args!("| `{action}` | {born} | {when} | {details} |"));
    }
    line(&mut page, format_args!("\n## Details\n"));
    line(
        &mut page,
        format_args!(
            "A *sealed* detail stands in the entry as a salted commitment; its value lies apart \
             and can be erased without breaking a proof.\n"
        ),
    );
    line(&mut page, format_args!("| detail | form |\n|---|---|"));
    for detail in DetailKey::ALL {
        let form = match detail.kind() {
            DetailKind::Number | DetailKind::Signed => "number",
            DetailKind::Flag => "true or false",
            DetailKind::Word => "word",
            DetailKind::Words => "words",
            DetailKind::Time => "time",
            DetailKind::Counts => "numbers by name",
            DetailKind::Sealed => "sealed",
        };
        line(&mut page, format_args!("| `{detail}` | {form} |"));
    }
    line(&mut page, format_args!("\n## Fields of a change\n"));
    let fields: Vec<String> = Field::ALL.iter().map(|field| format!("`{field}`")).collect();
    line(
        &mut page,
        format_args!(
            "A change names the fields that differ; what they were and are is sealed. A secret \
             shows as `{{\"changed\":true}}`. Named can be {}.",
            fields.join(", ")
        ),
    );
    page
}

fn line(page: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(page, "{text}").expect("a string takes every write");
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn every_action_says_when_it_is_entered() {
        for action in Action::ALL {
            assert!(!action.meaning().1.is_empty(), "{action}");
        }
    }

    #[test]
    fn the_page_of_the_events_is_current() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/audit-events.md");
        let page = page();
        if asked_to_update() {
            std::fs::write(&path, &page).expect("written");
        }
        let current = std::fs::read_to_string(&path).expect("docs/audit-events.md");
        assert_eq!(current, page, "run `cargo xtask docs`");
    }

    #[expect(clippy::disallowed_methods, reason = "a person asks this test to rewrite the page")]
    fn asked_to_update() -> bool {
        std::env::var_os("UPDATE").is_some()
    }
}
