//! Answers prepared once: what a benchmark measures is then not this module.

use std::sync::Arc;

use bytes::Bytes;

use super::{content::Ask, directives::Directives, openai, reply::Reply};

/// Words of the prepared stream; with its opening, finish, usage and end
/// markers it has 53 chunks.
const STREAM_WORDS: usize = 49;
/// Makes the plain answer about 1 KB.
const PLAIN_WORDS: usize = 90;

/// One plain answer and one stream for every chat completion.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) plain: Bytes,
    pub(super) stream: Arc<[Bytes]>,
}

impl Prepared {
    pub(super) fn build() -> Self {
        let plain = reply(PLAIN_WORDS, r#"{"model":"gpt-4o-mini","messages":[]}"#);
        let stream = reply(
            STREAM_WORDS,
            r#"{"model":"gpt-4o-mini","messages":[],"stream":true,
                "stream_options":{"include_usage":true}}"#,
        );
        Self { plain: plain.chunks.concat().into(), stream: stream.chunks.into() }
    }
}

fn reply(words: usize, request: &str) -> Reply {
    let directives = Directives { chunks: u64::try_from(words).ok(), ..Directives::default() };
    let (ask, request) =
        Ask::read(request.as_bytes(), &directives).expect("the request is a constant");
    openai::chat(&ask, &request, &directives)
}

/// Whether a request body asks for a stream, without parsing it.
pub(super) fn asks_for_stream(body: &[u8]) -> bool {
    const KEY: &[u8] = b"\"stream\"";
    let Some(at) = body.windows(KEY.len()).position(|window| window == KEY) else {
        return false;
    };
    let value =
        body[at + KEY.len()..].iter().find(|byte| !byte.is_ascii_whitespace() && **byte != b':');
    value == Some(&b't')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prepared_answers_have_their_size() {
        let prepared = Prepared::build();
        assert_eq!(prepared.stream.len(), 53);
        assert!((900..1300).contains(&prepared.plain.len()), "{}", prepared.plain.len());
    }

    #[test]
    fn streams_are_told_apart() {
        assert!(asks_for_stream(br#"{"stream" : true}"#));
        assert!(!asks_for_stream(br#"{"stream":false}"#));
        assert!(!asks_for_stream(b"{}"));
    }
}
