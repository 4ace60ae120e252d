//! The forms that a setting may have. A refusal describes the form and never
//! repeats what was written.

mod audit;
mod lists;

use std::{
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    path::PathBuf,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use domain::{capture::Capture, ids::InstanceId, secret::Secret};
use zeroize::Zeroizing;

pub use self::{
    audit::{AuditRetention, ShellCommand},
    lists::HostRule,
};

/// What the settings of later issues answer until then.
pub const NOT_IN_THIS_BUILD: &str = "not in this build";

/// A value of a setting, read from text.
pub trait Value: Sized {
    /// The form, for the documentation and for refusals.
    const FORM: &'static str;

    fn parse(text: &str) -> Result<Self, String>;

    /// The value as `config show` prints it; secrets never come here.
    fn show(&self) -> String;
}

fn must_be<V: Value>() -> String {
    format!("must be {}", V::FORM)
}

/// Empty text is `None`.
impl<V: Value> Value for Option<V> {
    const FORM: &'static str = V::FORM;

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() { Ok(None) } else { V::parse(text).map(Some) }
    }

    fn show(&self) -> String {
        self.as_ref().map_or_else(String::new, V::show)
    }
}

/// Where to listen. `:8080` means every interface, as in the Go project.
impl Value for SocketAddr {
    const FORM: &'static str = "an address and a port (127.0.0.1:8080, [::]:8080, :8080)";

    fn parse(text: &str) -> Result<Self, String> {
        if let Some(port) = text.strip_prefix(':') {
            let port = port.parse().map_err(|_| must_be::<Self>())?;
            return Ok(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port).into());
        }
        let text = text.replacen("localhost:", "127.0.0.1:", 1);
        text.parse().map_err(|_| must_be::<Self>())
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for PathBuf {
    const FORM: &'static str = "a path";

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.contains('\0') {
            Err(must_be::<Self>())
        } else {
            Ok(text.into())
        }
    }

    fn show(&self) -> String {
        self.display().to_string()
    }
}

impl Value for bool {
    const FORM: &'static str = "true or false";

    fn parse(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Ok(true),
            "false" | "0" | "no" | "off" => Ok(false),
            _ => Err(must_be::<Self>()),
        }
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

/// A number of things, at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count(pub u32);

impl Value for Count {
    const FORM: &'static str = "a whole number from 1 to 1000000";

    fn parse(text: &str) -> Result<Self, String> {
        let number = text.parse().ok().filter(|number| (1..=1_000_000).contains(number));
        number.map(Self).ok_or_else(must_be::<Self>)
    }

    fn show(&self) -> String {
        self.0.to_string()
    }
}

/// A length of time above zero.
impl Value for Duration {
    const FORM: &'static str = "a length of time (100ms, 30s, 10m, 2h, 90d)";

    fn parse(text: &str) -> Result<Self, String> {
        duration(text).filter(|length| !length.is_zero()).ok_or_else(must_be::<Self>)
    }

    fn show(&self) -> String {
        show_duration(*self)
    }
}

/// Parses `1h30m`, `100ms`, `90d`. Bare numbers are refused: nobody can tell
/// seconds from milliseconds.
pub fn duration(text: &str) -> Option<Duration> {
    const UNITS: &[(&str, u64)] =
        &[("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
    let mut rest = text;
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let (_, millis) = UNITS.iter().find(|(unit, _)| *unit == &rest[..letters])?;
        total = total.checked_add(number.checked_mul(*millis)?)?;
        rest = &rest[letters..];
    }
    // A century: anything longer is a slip, and would overflow sums of times.
    (!text.is_empty() && total <= 100 * 366 * 86_400_000).then(|| Duration::from_millis(total))
}

pub fn show_duration(length: Duration) -> String {
    let millis = length.as_millis();
    for (unit, size) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)] {
        if millis >= size && millis.is_multiple_of(size) {
            return format!("{}{unit}", millis / size);
        }
    }
    format!("{millis}ms")
}

/// A number of bytes above zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bytes(pub u64);

impl Value for Bytes {
    const FORM: &'static str = "a size (1048576, 64KiB, 512MiB, 2GB)";

    fn parse(text: &str) -> Result<Self, String> {
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let unit: u64 = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "k" | "kib" => 1 << 10,
            "m" | "mib" => 1 << 20,
            "g" | "gib" => 1 << 30,
            "t" | "tib" => 1 << 40,
            "kb" => 1000,
            "mb" => 1_000_000,
            "gb" => 1_000_000_000,
            "tb" => 1_000_000_000_000,
            _ => return Err(must_be::<Self>()),
        };
        let bytes = number.parse().ok().and_then(|number: u64| number.checked_mul(unit));
        bytes.filter(|bytes| *bytes > 0).map(Self).ok_or_else(must_be::<Self>)
    }

    fn show(&self) -> String {
        for (unit, size) in [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)]
        {
            if self.0 >= size && self.0.is_multiple_of(size) {
                return format!("{}{unit}", self.0 / size);
            }
        }
        self.0.to_string()
    }
}

impl Value for Secret {
    const FORM: &'static str = "text without spaces, at least 16 characters";

    fn parse(text: &str) -> Result<Self, String> {
        let fits = text.len() >= 16 && text.bytes().all(|byte| byte.is_ascii_graphic());
        if fits { Ok(Self::new(text)) } else { Err(must_be::<Self>()) }
    }

    fn show(&self) -> String {
        "***".to_owned()
    }
}

/// 32 bytes in base64.
#[derive(Debug, Clone)]
pub struct EncryptionKey(pub Secret);

impl Value for EncryptionKey {
    const FORM: &'static str = "base64 of exactly 32 bytes";

    fn parse(text: &str) -> Result<Self, String> {
        match BASE64.decode(text).map(Zeroizing::new) {
            Ok(bytes) if bytes.len() == 32 => Ok(Self(Secret::new(text))),
            _ => Err(must_be::<Self>()),
        }
    }

    fn show(&self) -> String {
        "***".to_owned()
    }
}

/// Which requests leave their bodies.
impl Value for Capture {
    const FORM: &'static str = "off, errors or all";

    fn parse(text: &str) -> Result<Self, String> {
        Self::parse(&text.to_ascii_lowercase()).ok_or_else(must_be::<Self>)
    }

    fn show(&self) -> String {
        self.as_str().to_owned()
    }
}

/// A name that stands in file names.
impl Value for InstanceId {
    const FORM: &'static str = "1 to 64 characters of [A-Za-z0-9._-]";

    fn parse(text: &str) -> Result<Self, String> {
        Self::parse(text).ok_or_else(must_be::<Self>)
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

/// A forward proxy. Its address may hold a password, so it is a secret.
#[derive(Clone)]
pub struct ForwardProxy(pub url::Url);

impl std::fmt::Debug for ForwardProxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ForwardProxy(***)")
    }
}

impl Value for ForwardProxy {
    const FORM: &'static str = "an http:// address";

    fn parse(text: &str) -> Result<Self, String> {
        let url = url::Url::parse(text).map_err(|_| must_be::<Self>())?;
        let fits = url.scheme() == "http" && url.has_host();
        if fits { Ok(Self(url)) } else { Err(must_be::<Self>()) }
    }

    fn show(&self) -> String {
        "***".to_owned()
    }
}

/// An absolute path with one word or more: `/metrics`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoutePath(pub String);

impl Value for RoutePath {
    const FORM: &'static str = "a path such as /metrics of [A-Za-z0-9/_-]";

    fn parse(text: &str) -> Result<Self, String> {
        let words = text.strip_prefix('/').unwrap_or_default();
        let fits = !words.is_empty()
            && words.split('/').all(|word| {
                let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
                !word.is_empty() && word.bytes().all(plain)
            });
        if fits { Ok(Self(text.to_owned())) } else { Err(must_be::<Self>()) }
    }

    fn show(&self) -> String {
        self.0.clone()
    }
}

/// When what was appended to the journal is synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JournalSync {
    Each,
    Every(Duration),
    Os,
}

impl Value for JournalSync {
    const FORM: &'static str = "each, os, or an interval (1ms to 60s)";

    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "each" => Ok(Self::Each),
            "os" => Ok(Self::Os),
            interval => duration(interval)
                .filter(|every| !every.is_zero() && *every <= Duration::from_secs(60))
                .map(Self::Every)
                .ok_or_else(must_be::<Self>),
        }
    }

    fn show(&self) -> String {
        match self {
            Self::Each => "each".to_owned(),
            Self::Os => "os".to_owned(),
            Self::Every(every) => show_duration(*every),
        }
    }
}

/// Where records go at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordsTo {
    pub stdout: bool,
}

impl Value for RecordsTo {
    const FORM: &'static str = "journal or stdout,journal (the journal is always written)";

    fn parse(text: &str) -> Result<Self, String> {
        let mut places: Vec<&str> = text.split(',').map(str::trim).collect();
        places.sort_unstable();
        match places.as_slice() {
            ["journal"] => Ok(Self { stdout: false }),
            ["journal", "stdout"] => Ok(Self { stdout: true }),
            _ => Err(must_be::<Self>()),
        }
    }

    fn show(&self) -> String {
        if self.stdout { "stdout,journal" } else { "journal" }.to_owned()
    }
}

/// A closed choice whose later values are named as such.
macro_rules! choices {
    ($($(#[$doc:meta])* $name:ident: $form:literal { $($variant:ident = $text:literal),+ }
        later $later:tt;)+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($variant,)+ }

        impl Value for $name {
            const FORM: &'static str = $form;

            fn parse(text: &str) -> Result<Self, String> {
                let later: &[&str] = &$later;
                match text.to_ascii_lowercase().as_str() {
                    $($text => Ok(Self::$variant),)+
                    text if later.contains(&text) => Err(NOT_IN_THIS_BUILD.to_owned()),
                    _ => Err(must_be::<Self>()),
                }
            }

            fn show(&self) -> String {
                match self { $(Self::$variant => $text,)+ }.to_owned()
            }
        }
    )+};
}

choices! {
    /// Which database holds the state.
    DatabaseDriver: "sqlite (postgres, mysql: not in this build)"
        { Sqlite = "sqlite" } later ["postgres", "postgresql", "mysql", "mariadb"];
    /// What happens to requests when the journal cannot be written.
    AuditPolicy: "strict or available"
        { Strict = "strict", Available = "available" } later [];
    /// How lines look on stdout or in `LOG_FILE`.
    LineFormat: "json or pretty" { Json = "json", Pretty = "pretty" } later [];
    /// The least severe trace that is written.
    TraceLevel: "error, warn, info, debug or trace" {
        Error = "error", Warn = "warn", Info = "info", Debug = "debug", Trace = "trace"
    } later [];
}

/// A setting whose feature comes with a later issue: only silence and `default`
/// are legal, so that nothing documented is without effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Later;

impl Value for Later {
    const FORM: &'static str = NOT_IN_THIS_BUILD;

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() { Ok(Self) } else { Err(NOT_IN_THIS_BUILD.to_owned()) }
    }

    fn show(&self) -> String {
        String::new()
    }
}
