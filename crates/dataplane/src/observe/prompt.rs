//! Which strings of a request body are prompt text.

use super::json::{Scalar, Scanner, Sink};
use super::{
    decode::Take,
    text::{Kept, Text},
};

/// Deep in tool schemas and content parts every string counts, but for those
/// that are names of things or data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Node {
    Nothing,
    Root,
    Messages,
    Message,
    Text,
}

/// The prompt text of a request body, for an estimate of its tokens.
#[derive(Debug)]
pub(super) struct PromptText {
    pub(super) text: Text,
    pub(super) messages: u64,
}

impl PromptText {
    /// Reads `body`, which may be cut at its end.
    pub(super) fn of(body: &Kept) -> Option<Self> {
        let found = Self { text: Text::default(), messages: 0 };
        let reader = Reader { scanner: Scanner::new(Node::Root), found: Some(found) };
        body.feed(reader, |reader| reader.found.take()).flatten()
    }
}

struct Reader {
    scanner: Scanner<Node>,
    found: Option<PromptText>,
}

impl Take for Reader {
    fn take(&mut self, decoded: &[u8]) {
        if let Some(found) = &mut self.found {
            self.scanner.feed(decoded, found);
        }
    }
}

impl Sink for PromptText {
    type Node = Node;

    fn child(&self, parent: Node, key: &[u8]) -> Node {
        match (parent, key) {
            (Node::Root, b"messages") => Node::Messages,
            (Node::Root, b"prompt" | b"input" | b"instructions" | b"system" | b"tools") => {
                Node::Text
            }
            (
                Node::Message | Node::Text,
                b"type" | b"role" | b"id" | b"call_id" | b"tool_call_id" | b"tool_use_id"
                | b"image_url" | b"url" | b"source" | b"input_audio" | b"audio" | b"file"
                | b"file_id" | b"file_data" | b"data" | b"cache_control" | b"signature"
                | b"encrypted_content",
            ) => Node::Nothing,
            (Node::Message | Node::Text, _) => Node::Text,
            _ => Node::Nothing,
        }
    }

    fn element(&self, parent: Node) -> Node {
        match parent {
            Node::Messages => Node::Message,
            Node::Text => Node::Text,
            _ => Node::Nothing,
        }
    }

    fn scalar(&self, node: Node) -> Scalar {
        if node == Node::Text { Scalar::Pieces } else { Scalar::Skip }
    }

    fn inside(&self, node: Node) -> bool {
        node != Node::Nothing
    }

    fn string(&mut self, _node: Node, _value: &[u8]) {}

    fn piece(&mut self, _node: Node, piece: &[u8]) {
        self.text.push(piece);
    }

    fn peeked(&mut self, _node: Node) {}

    fn number(&mut self, _node: Node, _value: u64) {}

    fn boolean(&mut self, _node: Node, _value: bool) {}

    fn entered(&mut self, node: Node) {
        self.messages += u64::from(node == Node::Message);
    }
}
