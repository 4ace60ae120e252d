//! A command of the operator's.

use super::{Value, must_be};

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
