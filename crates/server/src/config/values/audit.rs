//! Settings of the audit log.

use std::time::Duration;

use super::{Value, duration, must_be, show_duration};

/// How long audit entries are kept: never less than half a year.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditRetention(pub Duration);

impl Value for AuditRetention {
    const FORM: &'static str = "a length of time, at least 183d (400d)";

    fn parse(text: &str) -> Result<Self, String> {
        let floor = Duration::from_secs(183 * 86_400);
        let length = duration(text).filter(|length| *length >= floor);
        length.map(Self).ok_or_else(must_be::<Self>)
    }

    fn show(&self) -> String {
        show_duration(self.0)
    }
}

/// What a shell runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShellCommand(pub String);

impl Value for ShellCommand {
    const FORM: &'static str = "a command for sh";

    fn parse(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() || text.contains('\0') {
            return Err(must_be::<Self>());
        }
        Ok(Self(text.to_owned()))
    }

    fn show(&self) -> String {
        self.0.clone()
    }
}
