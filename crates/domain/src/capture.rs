//! Whether bodies are kept, and what a record says of its own.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::record::Outcome;

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

    /// Whether the bodies of a request that ended so are kept.
    pub fn keeps(self, outcome: Outcome) -> bool {
        match self {
            Self::Off => false,
            Self::Errors => outcome != Outcome::Ok,
            Self::All => true,
        }
    }
}

/// Which of the two bodies of an exchange.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Side {
    Request,
    Response,
}

impl Side {
    pub const ALL: [Self; 2] = [Self::Request, Self::Response];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Response => "response",
        }
    }
}

/// Why a body that was to be kept is not.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Omission {
    /// No text: images, sound, archives.
    Binary,
    /// Its coding is unknown or broken, so no rule could read it.
    Encoded,
    /// It says that it is text and is not, so no rule could read it.
    Unreadable,
    /// The memory for captured bodies was taken.
    Memory,
    /// The redactor had too much to do, or no time left.
    Queue,
    /// The journal had no room or no disk for it.
    Disk,
}

impl Omission {
    pub const ALL: [Self; 6] =
        [Self::Binary, Self::Encoded, Self::Unreadable, Self::Memory, Self::Queue, Self::Disk];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Binary => "binary",
            Self::Encoded => "encoded",
            Self::Unreadable => "unreadable",
            Self::Memory => "memory",
            Self::Queue => "queue",
            Self::Disk => "disk",
        }
    }
}

/// What became of one body.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Fate {
    /// Not to be kept, or there was none.
    #[default]
    None,
    Kept {
        /// There was more of it than is kept.
        truncated: bool,
        /// Something in it was replaced.
        redacted: bool,
    },
    Omitted(Omission),
}

/// What became of the bodies of an exchange: the `captured` field of a record.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Captured {
    pub request: Fate,
    pub response: Fate,
}

impl Captured {
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }

    pub fn of(&mut self, side: Side) -> &mut Fate {
        match side {
            Side::Request => &mut self.request,
            Side::Response => &mut self.response,
        }
    }

    /// What was kept could not be written after all.
    pub fn lose(&mut self, why: Omission) {
        for side in Side::ALL {
            let fate = self.of(side);
            if matches!(fate, Fate::Kept { .. }) {
                *fate = Fate::Omitted(why);
            }
        }
    }
}

/// Words joined by commas: first the sides that are kept, then what is to be
/// said of either.
impl fmt::Display for Captured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sides = [(Side::Request, self.request), (Side::Response, self.response)];
        let mut comma = "";
        let mut word = |f: &mut fmt::Formatter<'_>, side: Side, rest: [&str; 2]| {
            let result = write!(f, "{comma}{}{}{}", side.as_str(), rest[0], rest[1]);
            comma = ",";
            result
        };
        for (side, fate) in sides {
            if matches!(fate, Fate::Kept { .. }) {
                word(f, side, ["", ""])?;
            }
        }
        for (side, fate) in sides {
            match fate {
                Fate::None => {}
                Fate::Kept { truncated, redacted } => {
                    if truncated {
                        word(f, side, ["_truncated", ""])?;
                    }
                    if redacted {
                        word(f, side, ["_redacted", ""])?;
                    }
                }
                Fate::Omitted(why) => word(f, side, ["_omitted_", why.as_str()])?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_come_first_and_flags_after_them() {
        let check = |request, response, expected: &str| {
            assert_eq!(Captured { request, response }.to_string(), expected);
        };
        let kept = |truncated, redacted| Fate::Kept { truncated, redacted };
        check(Fate::None, Fate::None, "");
        check(kept(false, false), kept(false, false), "request,response");
        check(
            kept(false, true),
            kept(true, true),
            "request,response,request_redacted,response_truncated,response_redacted",
        );
        check(
            Fate::Omitted(Omission::Binary),
            kept(true, false),
            "response,request_omitted_binary,response_truncated",
        );
    }

    #[test]
    fn errors_are_whatever_did_not_end_well() {
        for outcome in Outcome::ALL {
            assert!(Capture::All.keeps(*outcome));
            assert!(!Capture::Off.keeps(*outcome));
            assert_eq!(Capture::Errors.keeps(*outcome), *outcome != Outcome::Ok);
        }
    }
}
