//! What to look for in a request: the model, the end user, and whether the
//! provider will report usage.

use super::json::{Scalar, Sink};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Node {
    Nothing,
    Root,
    Model,
    User,
    SafetyIdentifier,
    Metadata,
    MetadataUser,
    Stream,
    StreamOptions,
    IncludeUsage,
}

/// The values found so far. The last of equal keys wins, as in most parsers.
#[derive(Debug, Default)]
pub(super) struct Question {
    pub(super) model: Option<Box<str>>,
    pub(super) user: Option<Box<str>>,
    pub(super) safety_identifier: Option<Box<str>>,
    pub(super) metadata_user: Option<Box<str>>,
    pub(super) stream: bool,
    pub(super) include_usage: bool,
}

impl Question {
    /// A form field, as in audio and image requests.
    pub(super) fn field(&mut self, name: &str, value: &[u8]) {
        match name {
            "model" => self.string(Node::Model, value),
            "user" => self.string(Node::User, value),
            "stream" => self.stream = value.eq_ignore_ascii_case(b"true"),
            _ => {}
        }
    }
}

impl Sink for Question {
    type Node = Node;

    fn child(&self, parent: Node, key: &[u8]) -> Node {
        match (parent, key) {
            (Node::Root, b"model") => Node::Model,
            (Node::Root, b"stream") => Node::Stream,
            (Node::Root, b"user") => Node::User,
            (Node::Root, b"safety_identifier") => Node::SafetyIdentifier,
            (Node::Root, b"metadata") => Node::Metadata,
            (Node::Root, b"stream_options") => Node::StreamOptions,
            (Node::Metadata, b"user_id") => Node::MetadataUser,
            (Node::StreamOptions, b"include_usage") => Node::IncludeUsage,
            _ => Node::Nothing,
        }
    }

    fn element(&self, _parent: Node) -> Node {
        Node::Nothing
    }

    fn scalar(&self, node: Node) -> Scalar {
        match node {
            Node::Nothing | Node::Root | Node::Metadata | Node::StreamOptions => Scalar::Skip,
            _ => Scalar::Whole,
        }
    }

    fn inside(&self, node: Node) -> bool {
        matches!(node, Node::Root | Node::Metadata | Node::StreamOptions)
    }

    fn string(&mut self, node: Node, value: &[u8]) {
        let slot = match node {
            Node::Model => &mut self.model,
            Node::User => &mut self.user,
            Node::SafetyIdentifier => &mut self.safety_identifier,
            Node::MetadataUser => &mut self.metadata_user,
            _ => return,
        };
        if !value.is_empty() {
            *slot = Some(super::answer::text(value, super::json::VALUE_BYTES_MAX));
        }
    }

    fn piece(&mut self, _node: Node, _piece: &[u8]) {}

    fn peeked(&mut self, _node: Node) {}

    fn number(&mut self, _node: Node, _value: u64) {}

    fn boolean(&mut self, node: Node, value: bool) {
        match node {
            Node::Stream => self.stream = value,
            Node::IncludeUsage => self.include_usage = value,
            _ => {}
        }
    }

    fn entered(&mut self, _node: Node) {}
}
