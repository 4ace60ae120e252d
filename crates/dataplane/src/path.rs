//! Where a request is going: which provider's mount, and the path below it.

use std::sync::Arc;

use crate::provider::{Provider, Providers};

/// The provider that a path belongs to, and the path as the provider sees it.
#[derive(Debug)]
pub struct Mount<'a> {
    pub provider: &'a Arc<Provider>,
    /// Begins with a slash; what the allow-list is matched against.
    pub path: &'a str,
}

/// Finds the mount of `path`; `None` means that the path is not the data
/// plane's. The default provider keeps `/v1`, the others lose their name.
/// Whatever this returns must still pass [`check`].
pub fn mount<'a>(providers: &'a Providers, path: &'a str) -> Option<Mount<'a>> {
    let rest = path.strip_prefix('/')?;
    let (first, below) = match rest.find('/') {
        Some(at) => (&rest[..at], &rest[at..]),
        None => (rest, "/"),
    };
    if first == "v1" {
        return Some(Mount { provider: providers.default_provider(), path });
    }
    if let Some(provider) = providers.by_name(first) {
        return Some(Mount { provider, path: below });
    }
    // A path that could be read as another's (`//v1/…`, `/./v1/…`) must not
    // slip by as nobody's: it is refused here, on record.
    let ambiguous = check(path).is_err();
    ambiguous.then(|| Mount { provider: providers.default_provider(), path })
}

/// Refuses what two parsers could read differently: dot segments, encoded
/// slashes and dots, backslashes, empty segments.
pub fn check(path: &str) -> Result<(), &'static str> {
    let bytes = path.as_bytes();
    if memchr::memmem::find(bytes, b"//").is_some() {
        return Err("the path contains an empty segment ('//')");
    }
    if memchr::memchr(b'\\', bytes).is_some() {
        return Err("the path contains a backslash");
    }
    if memchr::memchr(b'%', bytes).is_some() {
        check_escapes(bytes)?;
    }
    if memchr::memmem::find(bytes, b"/.").is_some()
        && path.split('/').any(|segment| segment == "." || segment == "..")
    {
        return Err("the path contains a dot segment ('.' or '..')");
    }
    Ok(())
}

fn check_escapes(bytes: &[u8]) -> Result<(), &'static str> {
    for at in memchr::memchr_iter(b'%', bytes) {
        let Some(pair) = bytes.get(at + 1..at + 3) else {
            return Err("the path ends inside a percent escape");
        };
        let lower = [pair[0].to_ascii_lowercase(), pair[1].to_ascii_lowercase()];
        match &lower {
            b"2f" | b"5c" => return Err("the path contains an encoded slash"),
            b"2e" => return Err("the path contains an encoded dot"),
            b"00" => return Err("the path contains an encoded NUL"),
            pair if pair.iter().all(u8::is_ascii_hexdigit) => {}
            _ => return Err("the path contains an invalid percent escape"),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn ambiguous_paths_are_refused() {
        let accepts = |path: &str, expected: bool| {
            assert_eq!(check(path).is_ok(), expected, "{path}");
        };
        accepts("/v1/chat/completions", true);
        accepts("/v1/models/gpt-4.1", true);
        accepts("/v1/models/ft%3Agpt", true);
        accepts("/v1/.well-known", true);
        accepts("/v1/../manage", false);
        accepts("/v1/.", false);
        accepts("/v1/%2e%2e/manage", false);
        accepts("/v1/%2Fmanage", false);
        accepts("/v1//chat", false);
        accepts("/v1\\chat", false);
        accepts("/v1/%zz", false);
        accepts("/v1/%2", false);
        accepts("/v1/%00", false);
    }
}
