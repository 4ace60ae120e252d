//! What goes wrong, and the words in which it is told.

use std::sync::LazyLock;

use domain::record::Outcome;

use crate::dice::{Dice, Weighted};

/// Words that hardly any line has: what somebody searches for who remembers one
/// word of an error.
pub static RARE_WORDS: LazyLock<Vec<&'static str>> =
    LazyLock::new(|| include_str!("rare-words.txt").lines().collect());
/// How many of a million failures name one of them.
const RARE_PER_MILLION: u64 = 5_000;

/// One way to fail.
#[derive(Clone, Copy, Debug)]
pub struct Failing {
    pub outcome: Outcome,
    pub status: Option<u16>,
    pub upstream_status: Option<u16>,
    pub code: &'static str,
    /// `#` stands for a number, `@` for a name of hardware or software.
    pub text: &'static str,
    weight: f64,
    /// The provider was asked before it failed.
    pub attempted: bool,
    pub partial: bool,
}

const fn refused(status: u16, code: &'static str, text: &'static str, weight: f64) -> Failing {
    Failing {
        outcome: Outcome::Denied,
        status: Some(status),
        upstream_status: None,
        code,
        text,
        weight,
        attempted: false,
        partial: false,
    }
}

const fn answered(status: u16, code: &'static str, text: &'static str, weight: f64) -> Failing {
    let outcome = if status >= 500 { Outcome::UpstreamError } else { Outcome::ClientError };
    let upstream_status = Some(status);
    Failing { outcome, upstream_status, attempted: true, ..refused(status, code, text, weight) }
}

const fn broken(status: u16, code: &'static str, text: &'static str, weight: f64) -> Failing {
    let outcome = match status {
        504 => Outcome::Timeout,
        502 => Outcome::UpstreamError,
        _ => Outcome::ProxyError,
    };
    Failing { outcome, attempted: status != 503, ..refused(status, code, text, weight) }
}

const fn cut(outcome: Outcome, text: &'static str, weight: f64) -> Failing {
    Failing {
        outcome,
        upstream_status: Some(200),
        attempted: true,
        partial: true,
        ..refused(200, "", text, weight)
    }
}

pub const FAILINGS: &[Failing] = &[
    answered(
        429,
        "rate_limit_exceeded",
        "Rate limit reached for requests per min (RPM): Limit #, Used #, Requested 1. Please try again in #ms.",
        24.0,
    ),
    answered(
        429,
        "tokens_limit_exceeded",
        "Rate limit reached for tokens per min (TPM): Limit #, Used #. Please try again in #ms.",
        12.0,
    ),
    answered(
        400,
        "context_length_exceeded",
        "This model's maximum context length is 128000 tokens. However, your messages resulted in # tokens. Please reduce the length of the messages.",
        9.0,
    ),
    answered(
        400,
        "invalid_request_error",
        "messages.#: all messages must have non-empty content except for the optional final assistant message",
        6.0,
    ),
    answered(
        400,
        "invalid_value",
        "Invalid value for 'response_format': schema must have a '@' key",
        4.0,
    ),
    answered(
        404,
        "model_not_found",
        "The model does not exist or you do not have access to it.",
        2.0,
    ),
    answered(
        500,
        "server_error",
        "The server had an error while processing your request. Sorry about that! (shard @-#)",
        7.0,
    ),
    answered(
        503,
        "overloaded",
        "The engine is currently overloaded, please try again later (pool @-#)",
        6.0,
    ),
    answered(529, "overloaded_error", "Overloaded", 5.0),
    broken(
        502,
        "upstream_unreachable",
        "connect to the provider: connection refused by #.#.#.# after # ms",
        3.0,
    ),
    broken(
        502,
        "upstream_protocol_error",
        "read the answer's head: connection reset by peer while talking to @",
        2.0,
    ),
    broken(504, "upstream_timeout", "no answer's head within # ms (node @)", 6.0),
    broken(503, "overloaded", "no room for another request: # are at work", 0.6),
    broken(503, "circuit_open", "the provider failed # times in a row, the last time at @", 1.0),
    broken(500, "internal_error", "the handler ended unexpectedly at @", 0.1),
    cut(Outcome::ClientClosed, "the client went away after # events", 10.0),
    cut(
        Outcome::UpstreamError,
        "the provider's stream ended after # events without its end (@)",
        1.5,
    ),
    refused(401, "token_expired", "the token expired # hours ago", 5.0),
    refused(401, "token_not_found", "no such token", 3.0),
    refused(403, "model_not_allowed", "the token does not allow this model", 3.0),
    refused(429, "rate_limited", "more than # requests a minute", 6.0),
    refused(429, "quota_exceeded", "all # requests of the token are used", 3.0),
    refused(404, "endpoint_not_found", "the provider has no such endpoint", 1.0),
];

const NAMES: &[&str] = &[
    "ganymede", "callisto", "europa", "triton", "oberon", "titania", "rhea", "dione", "tethys",
    "mimas", "phobos", "deimos", "charon", "nereid", "proteus", "larissa",
];

/// How failures are drawn.
#[derive(Clone, Debug)]
pub struct Failures(Weighted);

impl Default for Failures {
    fn default() -> Self {
        Self(Weighted::new(FAILINGS.iter().map(|failing| failing.weight)))
    }
}

impl Failures {
    pub fn draw(&self, dice: &Dice) -> &'static Failing {
        &FAILINGS[self.0.draw(dice)]
    }
}

/// Fills in what differs from one failure to the next.
pub fn tell(failing: &Failing, dice: &Dice) -> String {
    let mut text = String::with_capacity(failing.text.len() + 24);
    for character in failing.text.chars() {
        match character {
            '#' => text.push_str(&dice.between(1, 4_000).to_string()),
            '@' => text.push_str(dice.pick(NAMES)),
            other => text.push(other),
        }
    }
    if dice.below(1_000_000) < RARE_PER_MILLION {
        text.push_str("; see incident ");
        text.push_str(dice.pick(&RARE_WORDS));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_filled_in_and_rare_words_are_rare() {
        let dice = Dice::new(1, 0, 0);
        let failures = Failures::default();
        let texts: Vec<String> = (0..50_000).map(|_| tell(failures.draw(&dice), &dice)).collect();
        assert!(texts.iter().all(|text| !text.contains(['#', '@'])));
        for word in RARE_WORDS.iter() {
            let found = texts.iter().filter(|text| text.contains(word)).count();
            assert!(found < 40, "{word}: {found}");
        }
        assert!(texts.iter().any(|text| text.contains("see incident")));
    }
}
