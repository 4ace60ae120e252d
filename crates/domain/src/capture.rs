//! Whether bodies are kept.

use serde::{Deserialize, Serialize};

/// `CAPTURE_BODIES`, overridable by project and by token.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Capture {
    #[default]
    Off,
    /// Bodies of requests that did not end well.
    Errors,
    All,
}

impl Capture {
    pub const ALL: &[Self] = &[Self::Off, Self::Errors, Self::All];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Errors => "errors",
            Self::All => "all",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|capture| capture.as_str() == text)
    }
}
