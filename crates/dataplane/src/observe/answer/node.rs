//! The places in an answer, and the keys that lead to them.

/// A place in an answer that matters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::observe) enum Node {
    Nothing,
    Root,
    Type,
    Object,
    Model,
    Status,
    Response,
    Message,
    XGroq,
    Choices,
    Choice,
    FinishReason,
    StopReason,
    Delta,
    /// Generated text: a string, or parts with strings in them.
    Generated,
    /// What a tool is called with, where it is an object.
    ToolInput,
    Incomplete,
    IncompleteReason,
    Error,
    ErrorMessage,
    ErrorType,
    ErrorCode,
    RootCode,
    Detail,
    Usage,
    InputDetails,
    OutputDetails,
    CacheCreation,
    Count(Count),
}

/// The figures that providers report, by what they mean.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::observe) enum Count {
    /// All input, cached included (`prompt_tokens`).
    Prompt,
    /// All input, or what was not cached: Anthropic's cache figures tell.
    Input,
    Output,
    Total,
    Cached,
    CacheRead,
    CacheCreation,
    CacheWrite,
    CacheWrite1h,
    Reasoning,
}

pub(super) fn root_child(key: &[u8]) -> Node {
    match key {
        b"type" => Node::Type,
        b"object" => Node::Object,
        b"model" => Node::Model,
        b"choices" => Node::Choices,
        b"usage" => Node::Usage,
        b"response" => Node::Response,
        b"message" => Node::Message,
        b"delta" => Node::Delta,
        b"content" | b"output" => Node::Generated,
        b"stop_reason" => Node::StopReason,
        b"status" => Node::Status,
        b"incomplete_details" => Node::Incomplete,
        b"error" => Node::Error,
        b"detail" => Node::Detail,
        b"code" => Node::RootCode,
        b"x_groq" => Node::XGroq,
        _ => Node::Nothing,
    }
}

pub(super) fn usage_child(key: &[u8]) -> Node {
    Node::Count(match key {
        b"prompt_tokens" => Count::Prompt,
        b"input_tokens" => Count::Input,
        b"completion_tokens" | b"output_tokens" => Count::Output,
        b"total_tokens" => Count::Total,
        b"prompt_cache_hit_tokens" | b"cached_tokens" => Count::Cached,
        b"cache_read_input_tokens" => Count::CacheRead,
        b"cache_creation_input_tokens" => Count::CacheCreation,
        b"reasoning_tokens" => Count::Reasoning,
        b"prompt_tokens_details" | b"input_tokens_details" => return Node::InputDetails,
        b"completion_tokens_details" | b"output_tokens_details" => return Node::OutputDetails,
        b"cache_creation" => return Node::CacheCreation,
        _ => return Node::Nothing,
    })
}
