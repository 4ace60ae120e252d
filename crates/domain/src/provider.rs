//! Which dialect a provider speaks, and what a path asks of it.

use serde::{Deserialize, Serialize};

/// The wire dialect of a provider: how it authenticates, reports errors and
/// usage.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum ProviderKind {
    Openai,
    Anthropic,
    #[default]
    Other,
}

macro_rules! operations {
    ($($name:ident = $text:literal),+ $(,)?) => {
        /// What a request asks for.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum Operation { $($name,)+ }

        impl Operation {
            pub const ALL: &[Self] = &[$(Self::$name,)+];
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }
        }
    };
}

operations! {
    Chat = "chat", Responses = "responses", Completions = "completions",
    Embeddings = "embeddings", Models = "models", Images = "images", Audio = "audio",
    Moderations = "moderations", Messages = "messages", Files = "files", Other = "other",
}

impl Operation {
    /// Reads the operation off a request path. Anything may precede it
    /// (`/v1/…`, `/openai/deployments/x/…`), so the last known word decides.
    pub fn of_path(path: &str) -> Self {
        let mut words = path.split('/').filter(|word| !word.is_empty()).rev();
        words
            .find_map(|word| match word {
                "completions" if path.contains("/chat/") => Some(Self::Chat),
                "completions" => Some(Self::Completions),
                "responses" => Some(Self::Responses),
                "embeddings" => Some(Self::Embeddings),
                "models" => Some(Self::Models),
                "images" => Some(Self::Images),
                "audio" => Some(Self::Audio),
                "moderations" => Some(Self::Moderations),
                "messages" => Some(Self::Messages),
                "files" => Some(Self::Files),
                _ => None,
            })
            .unwrap_or(Self::Other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_operations() {
        let check = |path: &str, expected: Operation| {
            assert_eq!(Operation::of_path(path), expected, "{path}");
        };
        check("/v1/chat/completions", Operation::Chat);
        check("/v1/completions", Operation::Completions);
        check("/v1/responses/resp_1", Operation::Responses);
        check("/v1/messages", Operation::Messages);
        check("/v1/messages/count_tokens", Operation::Messages);
        check("/v1/images/generations", Operation::Images);
        check("/v1/audio/transcriptions", Operation::Audio);
        check("/v1/files/file-1/content", Operation::Files);
        check("/v1/models/gpt-4o", Operation::Models);
        check("/", Operation::Other);
    }
}
