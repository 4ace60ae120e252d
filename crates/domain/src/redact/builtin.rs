//! What credentials, e-mail addresses, card numbers and telephone numbers look
//! like in any text.
//!
//! Promises time linear in the text. NUL ends every match, so that texts may be
//! searched behind one another, and word boundaries are those of ASCII: Unicode's
//! would be searched for without the automata that make it fast. Errs towards
//! replacing where a credential may stand, and towards leaving numbers alone: ids
//! and counts are not telephones.

use std::sync::LazyLock;

use regex::Regex;

/// A place in a text.
pub(super) type Span = (usize, usize);

fn compiled(pattern: &str) -> Regex {
    Regex::new(pattern).expect("the built-in patterns are valid")
}

/// Prefixes by which issuers make their keys known. The run behind the first
/// group of them must look random, because people also write such words.
static PREFIXED: LazyLock<Regex> = LazyLock::new(|| {
    compiled(concat!(
        r"(?-u:\b)(?:sk|mk|pk|rk)[-_][A-Za-z0-9_-]{8,}",
        r"|(?-u:\b)(?:gsk_|hf_|r8_|npm_|xai-|pplx-|nvapi-|glpat-|gldt-|pypi-|whsec_|GOCSPX-",
        r"|dop_v1_)[A-Za-z0-9_-]{8,}",
        r"|(?-u:\b)(?:ya29\.|SG\.)[A-Za-z0-9_.-]{8,}",
        r"|(?-u:\b)dapi[0-9a-f]{16,}",
    ))
});

/// Shapes that nothing else has.
static SHAPED: LazyLock<Regex> = LazyLock::new(|| {
    compiled(concat!(
        r"gh[pousr]_[A-Za-z0-9]{12,}|github_pat_[A-Za-z0-9_]{12,}",
        r"|xox[a-z]-[A-Za-z0-9-]{8,}|xapp-[A-Za-z0-9-]{8,}",
        r"|hooks\.slack\.com/services/[A-Za-z0-9/_-]{8,}",
        r"|(?-u:\b)(?:AKIA|ASIA|ABIA|ACCA|AGPA|AIDA|AROA)[A-Z0-9]{12,}",
        r"|AIza[A-Za-z0-9_-]{20,}",
        r"|(?-u:\b)eyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*){0,4}",
        r"|(?-u:\b)(?:SK|AC)[0-9a-f]{32}(?-u:\b)",
        r"|(?-u:\b)[0-9]{8,10}:[A-Za-z0-9_-]{30,}",
        // From BEGIN to END, or as far as it came.
        r"|-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----",
        r"[^\x00]*?(?:-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----|\x00|\z)",
    ))
});

static SCHEMED: LazyLock<Regex> = LazyLock::new(|| {
    compiled(r"(?i)(?-u:\b)(?:bearer|basic|digest)[ \t]+([A-Za-z0-9_\-./+~]{8,}=*)")
});

/// `password=…`, `"api_key": "…"`, however deeply the quotes are escaped.
static ASSIGNED: LazyLock<Regex> = LazyLock::new(|| {
    compiled(concat!(
        r"(?i)(?:api[_-]?key|api[_-]?secret|client[_-]?secret|secret[_-]?key|access[_-]?key",
        r"|private[_-]?key|account[_-]?key|secret[_-]?access[_-]?key",
        r"|(?:access|refresh|auth|bearer|session|id)[_-]?token",
        r"|passwd|password|passphrase|(?-u:\b)pwd|(?-u:\b)authorization|(?-u:\b)secret)",
        r#"\\*["']?[ \t]{0,8}[:=][ \t]{0,8}(?:(?:bearer|basic|digest|token)[ \t]+)?"#,
        r#"(?:\\*["']([^"'\\\x00\r\n]+)|([^\s"'\\,;&<>{}\[\]()\x00]{6,}))"#,
    ))
});

/// `scheme://user:password@host`.
static IN_ADDRESS: LazyLock<Regex> = LazyLock::new(|| {
    compiled(r#"[a-zA-Z][a-zA-Z0-9+.-]*://[^\s/:@"'\\\x00]*:([^\s/@"'\\\x00]{3,})@"#)
});

static EMAIL: LazyLock<Regex> =
    LazyLock::new(|| compiled(r"[\w.%+'-]*[\w%+-]@[\w-]+(?:\.[\w-]+)*\.[^\W\d_][\w-]+"));

/// International with `+` or `00`, North American, French, and other national
/// forms that begin with 0 and have a separator.
static PHONE: LazyLock<Regex> = LazyLock::new(|| {
    compiled(concat!(
        r"\+[0-9](?:[ \x{a0}().\-/]{0,3}[0-9]){7,14}",
        r"|00[1-9][0-9]{0,2}[ \x{a0}()\-/]{1,3}[0-9]{1,4}(?:[ \x{a0}()\-/]{0,2}[0-9]){4,10}",
        r"|(?:1[ .\-])?\(?[2-9][0-9]{2}\)?[ \x{a0}.\-]{1,2}[2-9][0-9]{2}[ .\-][0-9]{4}",
        r"|0[1-9](?:[ \x{a0}.\-][0-9]{2}){4}",
        r"|\(?0[1-9][0-9]{0,4}\)?[ \x{a0}/\-]{1,3}[0-9]{3,8}(?:[ \-][0-9]{2,5}){0,3}",
    ))
});

/// Runs of digits with single blanks or dashes between them.
static DIGITS: LazyLock<Regex> = LazyLock::new(|| compiled(r"[0-9]+(?:[ -][0-9]+)*"));

/// What replaced something once is not replaced again.
pub(super) const MARK: &str = "[redacted:";

pub(super) fn credentials(text: &str, found: &mut Vec<Span>) {
    for at in PREFIXED.find_iter(text) {
        let run = at.as_str().get(3..).unwrap_or_default();
        if looks_random(run) {
            found.push((at.start(), at.end()));
        }
    }
    for at in SHAPED.find_iter(text) {
        let end = if at.as_str().ends_with('\0') { at.end() - 1 } else { at.end() };
        found.push((at.start(), end));
    }
    for at in SCHEMED.captures_iter(text) {
        if let Some(run) = at.get(1).filter(|run| looks_random(run.as_str())) {
            found.push((run.start(), run.end()));
        }
    }
    for at in ASSIGNED.captures_iter(text).chain(IN_ADDRESS.captures_iter(text)) {
        let value = at.get(1).or_else(|| at.get(2));
        if let Some(value) = value.filter(|value| !value.as_str().starts_with(MARK)) {
            found.push((value.start(), value.end()));
        }
    }
}

/// Digits among letters, or letters that change their case as no word does.
fn looks_random(run: &str) -> bool {
    let digits = run.bytes().any(|byte| byte.is_ascii_digit());
    let letters = run.bytes().any(|byte| byte.is_ascii_alphabetic());
    let bytes = run.as_bytes();
    let rises = bytes.windows(2).filter(|w| w[0].is_ascii_lowercase() && w[1].is_ascii_uppercase());
    (digits && letters) || rises.count() >= 2
}

pub(super) fn emails(text: &str, found: &mut Vec<Span>) {
    found.extend(EMAIL.find_iter(text).map(|at| (at.start(), at.end())));
}

pub(super) fn phones(text: &str, found: &mut Vec<Span>) {
    const DIGITS_MIN: usize = 8;
    const DIGITS_MAX: usize = 15;
    let mut from = 0;
    while let Some(at) = PHONE.find_at(text, from) {
        let digits = at.as_str().bytes().filter(u8::is_ascii_digit).count();
        let fits = (DIGITS_MIN..=DIGITS_MAX).contains(&digits);
        if fits && stands_alone(text, at.start(), at.end()) {
            found.push((at.start(), at.end()));
            from = at.end();
        } else {
            // The next may begin inside what was none.
            from = at.start() + first_run(at.as_str());
        }
    }
}

/// Length of what a new search skips: the sign or digits that began the last.
fn first_run(text: &str) -> usize {
    let digits = text.bytes().skip(1).take_while(u8::is_ascii_digit).count();
    1 + digits
}

/// Not part of a longer number, word, version, address or id.
fn stands_alone(text: &str, from: usize, to: usize) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    let mut before = text[..from].chars().rev();
    let mut after = text[to..].chars();
    let joins = |c: char| matches!(c, '-' | '.' | '/' | ':' | '+' | '@' | '#');
    let ends_before = match before.next() {
        None => true,
        Some(c) if part(c) => false,
        Some(c) if joins(c) => !before.next().is_some_and(part),
        Some(_) => true,
    };
    let ends_after = match after.next() {
        None => true,
        Some(c) if part(c) => false,
        Some(c) if joins(c) => !after.next().is_some_and(part),
        Some(_) => true,
    };
    ends_before && ends_after
}

/// How issuers print their numbers: in one piece or in these groups.
const GROUPS: &[&[usize]] = &[&[4, 4, 4, 4], &[4, 6, 5], &[4, 6, 4], &[4, 4, 4, 4, 3]];

pub(super) fn cards(text: &str, found: &mut Vec<Span>) {
    for run in DIGITS.find_iter(text) {
        let mut groups: Vec<Span> = Vec::new();
        let mut from = run.start();
        for group in run.as_str().split([' ', '-']) {
            groups.push((from, from + group.len()));
            from += group.len() + 1;
        }
        let mut at = 0;
        while at < groups.len() {
            let length = card_at(text, &groups[at..]);
            if length > 0 {
                found.push((groups[at].0, groups[at + length - 1].1));
            }
            at += length.max(1);
        }
    }
}

/// How many of the groups are a card's number; 0: they begin none.
fn card_at(text: &str, groups: &[Span]) -> usize {
    let length = |span: &Span| span.1 - span.0;
    let fits = |count: usize| {
        let (from, to) = (groups[0].0, groups[count - 1].1);
        let digits: Vec<u8> =
            text[from..to].bytes().filter(u8::is_ascii_digit).map(|byte| byte - b'0').collect();
        let of_issuer = has_issuer(&digits);
        of_issuer && luhn(&digits) && stands_alone(text, from, to)
    };
    for shape in GROUPS {
        let same = groups.len() >= shape.len()
            && groups.iter().zip(*shape).all(|(group, length_of)| length(group) == *length_of);
        if same && fits(shape.len()) {
            return shape.len();
        }
    }
    usize::from((13..=19).contains(&length(&groups[0])) && fits(1))
}

/// Whether a known network issues numbers that begin so and are so long.
fn has_issuer(digits: &[u8]) -> bool {
    if !(13..=19).contains(&digits.len()) {
        return false;
    }
    let first = |count: usize| digits[..count].iter().fold(0u32, |n, d| n * 10 + u32::from(*d));
    match digits.len() {
        13 => first(1) == 4,
        14 => matches!(first(3), 300..=305) || matches!(first(2), 36 | 38 | 39),
        15 => matches!(first(2), 34 | 37) || matches!(first(4), 2131 | 1800),
        16 => {
            first(1) == 4
                || matches!(first(2), 51..=55 | 35 | 60 | 62 | 64 | 65 | 81)
                || matches!(first(4), 2221..=2720)
        }
        17 | 18 => matches!(first(2), 62 | 50 | 56..=58 | 63 | 67),
        _ => first(1) == 4 || matches!(first(2), 62 | 50 | 56..=58 | 63 | 67),
    }
}

fn luhn(digits: &[u8]) -> bool {
    let doubled = |digit: u8| if digit > 4 { digit * 2 - 9 } else { digit * 2 };
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(at, digit)| u32::from(if at % 2 == 1 { doubled(*digit) } else { *digit }))
        .sum();
    sum.is_multiple_of(10)
}

/// How much of a text that was cut is sure to hold no beginning of something
/// that the rules would have known whole: up to its last word, and to what may
/// be the first groups of a number.
pub(super) fn whole_words(text: &str) -> usize {
    const WORD_BYTES_MAX: usize = 256;
    const NUMBER_BYTES_MAX: usize = 24;
    let ends_word = |c: char| c.is_whitespace() || c.is_control() || "\"'<>(){}[],;|\\".contains(c);
    let in_number = |c: char| c.is_ascii_digit() || " \u{a0}()+.-/".contains(c);
    let back = |text: &str, bytes_max: usize, goes_on: &dyn Fn(char) -> bool| {
        let chars = text.char_indices().rev();
        let kept = chars.take_while(|(at, c)| goes_on(*c) && text.len() - at <= bytes_max);
        kept.last().map_or(text.len(), |(at, _)| at)
    };
    let word = back(text, WORD_BYTES_MAX, &|c| !ends_word(c));
    back(&text[..word], NUMBER_BYTES_MAX, &in_number)
}
