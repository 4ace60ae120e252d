//! Which models are asked, how often, and how long they take.

use domain::provider::Operation;

/// One model of a provider.
#[derive(Clone, Copy, Debug)]
pub struct Model {
    pub provider: &'static str,
    pub name: &'static str,
    pub answered: &'static str,
    pub operation: Operation,
    pub path: &'static str,
    /// Share of the traffic, in no unit.
    pub weight: f64,
    /// Tokens in the middle of all requests.
    pub input_tokens: f64,
    /// 0: the operation gives none.
    pub output_tokens: f64,
    /// Milliseconds in the middle of all requests, and how far they spread.
    pub latency_ms: f64,
    pub spread: f64,
    /// Share of streamed answers.
    pub streamed: f64,
    /// Whether some of the output is reasoning.
    pub reasons: bool,
}

const CHAT: Model = Model {
    provider: "openai",
    name: "gpt-4o-mini",
    answered: "gpt-4o-mini-2024-07-18",
    operation: Operation::Chat,
    path: "/v1/chat/completions",
    weight: 18.0,
    input_tokens: 900.0,
    output_tokens: 180.0,
    latency_ms: 1_400.0,
    spread: 0.55,
    streamed: 0.6,
    reasons: false,
};
const RESPONSES: Model = Model {
    name: "gpt-5-mini",
    answered: "gpt-5-mini-2025-08-07",
    operation: Operation::Responses,
    path: "/v1/responses",
    input_tokens: 1_900.0,
    output_tokens: 520.0,
    latency_ms: 4_200.0,
    spread: 0.7,
    reasons: true,
    ..CHAT
};
const MESSAGES: Model = Model {
    provider: "anthropic",
    name: "claude-sonnet-4-5",
    answered: "claude-sonnet-4-5-20250929",
    operation: Operation::Messages,
    path: "/anthropic/v1/messages",
    input_tokens: 3_800.0,
    output_tokens: 420.0,
    latency_ms: 5_200.0,
    spread: 0.6,
    streamed: 0.75,
    ..CHAT
};
const EMBEDDINGS: Model = Model {
    name: "text-embedding-3-small",
    answered: "text-embedding-3-small",
    operation: Operation::Embeddings,
    path: "/v1/embeddings",
    weight: 8.0,
    input_tokens: 350.0,
    output_tokens: 0.0,
    latency_ms: 120.0,
    spread: 0.4,
    streamed: 0.0,
    ..CHAT
};

pub const MODELS: &[Model] = &[
    CHAT,
    Model {
        name: "gpt-4o",
        answered: "gpt-4o-2024-08-06",
        weight: 12.0,
        latency_ms: 2_300.0,
        ..CHAT
    },
    Model {
        name: "gpt-4.1",
        answered: "gpt-4.1-2025-04-14",
        weight: 5.0,
        latency_ms: 2_600.0,
        ..CHAT
    },
    Model {
        name: "gpt-4.1-mini",
        answered: "gpt-4.1-mini-2025-04-14",
        weight: 6.0,
        latency_ms: 1_500.0,
        ..CHAT
    },
    Model { weight: 10.0, ..RESPONSES },
    Model {
        name: "gpt-5",
        answered: "gpt-5-2025-08-07",
        weight: 6.0,
        latency_ms: 9_500.0,
        ..RESPONSES
    },
    Model {
        name: "gpt-5.1",
        answered: "gpt-5.1-2025-11-13",
        weight: 3.0,
        latency_ms: 8_200.0,
        ..RESPONSES
    },
    Model {
        name: "o4-mini",
        answered: "o4-mini-2025-04-16",
        weight: 2.0,
        latency_ms: 7_400.0,
        ..RESPONSES
    },
    Model { weight: 12.0, ..MESSAGES },
    Model {
        name: "claude-haiku-4-5",
        answered: "claude-haiku-4-5-20251001",
        weight: 6.0,
        latency_ms: 1_900.0,
        ..MESSAGES
    },
    Model {
        name: "claude-opus-4-5",
        answered: "claude-opus-4-5-20251101",
        weight: 2.0,
        latency_ms: 9_800.0,
        ..MESSAGES
    },
    Model {
        name: "claude-3-5-haiku",
        answered: "claude-3-5-haiku-20241022",
        weight: 1.5,
        latency_ms: 2_100.0,
        ..MESSAGES
    },
    EMBEDDINGS,
    Model {
        name: "text-embedding-3-large",
        answered: "text-embedding-3-large",
        weight: 2.0,
        latency_ms: 190.0,
        ..EMBEDDINGS
    },
    Model {
        provider: "groq",
        name: "llama-3.3-70b-versatile",
        answered: "llama-3.3-70b-versatile",
        path: "/groq/openai/v1/chat/completions",
        weight: 4.0,
        latency_ms: 620.0,
        spread: 0.45,
        ..CHAT
    },
    Model {
        name: "omni-moderation-latest",
        answered: "omni-moderation-2024-09-26",
        operation: Operation::Moderations,
        path: "/v1/moderations",
        weight: 2.0,
        input_tokens: 0.0,
        latency_ms: 210.0,
        ..EMBEDDINGS
    },
    Model {
        name: "gpt-image-1",
        answered: "gpt-image-1",
        operation: Operation::Images,
        path: "/v1/images/generations",
        weight: 0.4,
        input_tokens: 60.0,
        output_tokens: 4_160.0,
        latency_ms: 31_000.0,
        ..EMBEDDINGS
    },
    Model {
        name: "whisper-1",
        answered: "whisper-1",
        operation: Operation::Audio,
        path: "/v1/audio/transcriptions",
        weight: 0.5,
        input_tokens: 0.0,
        latency_ms: 2_900.0,
        ..EMBEDDINGS
    },
];

#[cfg(test)]
mod tests {
    use domain::price::{PriceTable, Priced};
    use domain::usage::Usage;

    use super::*;

    #[test]
    fn paths_name_their_operation_and_most_models_have_a_price() {
        let prices = PriceTable::shipped();
        let usage = Usage { input_tokens: Some(1), ..Usage::default() };
        let mut priced_weight = 0.0;
        for model in MODELS {
            assert_eq!(Operation::of_path(model.path), model.operation, "{}", model.name);
            let priced =
                Priced { usage, response_model: Some(model.answered), ..Priced::default() };
            let is_priced = prices.cost(&priced).is_some();
            priced_weight += if is_priced { model.weight } else { 0.0 };
        }
        let weight: f64 = MODELS.iter().map(|model| model.weight).sum();
        assert!(priced_weight > 0.85 * weight, "{priced_weight} of {weight}");
    }
}
