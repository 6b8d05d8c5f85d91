//! What the older interface calls differently.

/// Which interface a conversation is held over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// `/openai/v1/realtime`
    V1,
    /// `/openai/realtime`
    Older,
}

impl Dialect {
    /// The events that tell of a new item, in their order.
    pub(super) fn item_is_there(self) -> &'static [&'static str] {
        match self {
            Self::V1 => &["conversation.item.added", "conversation.item.done"],
            Self::Older => &["conversation.item.created"],
        }
    }

    /// The event that brings a piece of a text.
    pub(super) fn text_delta(self) -> &'static str {
        match self {
            Self::V1 => "response.output_text.delta",
            Self::Older => "response.text.delta",
        }
    }

    /// The event that repeats a text at its end.
    pub(super) fn text_done(self) -> &'static str {
        match self {
            Self::V1 => "response.output_text.done",
            Self::Older => "response.text.done",
        }
    }

    /// The type of a text that the model has said.
    pub(super) fn said(self) -> &'static str {
        match self {
            Self::V1 => "output_text",
            Self::Older => "text",
        }
    }

    /// How a conversation's settings call the kinds of answers there may be.
    pub(super) fn modalities(self) -> &'static str {
        match self {
            Self::V1 => "output_modalities",
            Self::Older => "modalities",
        }
    }
}
