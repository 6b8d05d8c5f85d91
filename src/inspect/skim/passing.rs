//! Passing over a value of JSON without a look at what it is made of.

use std::mem;

use crate::inspect::scan::{quote_or, quote_or_backslash};

/// A value of which some is yet to come.
#[derive(Debug, Clone, Copy)]
pub(super) enum Passing {
    Text {
        is_escaped: bool,
    },
    /// An array or an object. Brackets of the other kind come in pairs and need not be counted.
    Nest {
        brackets: (u8, u8),
        depth: u64,
        /// Within a text, whether its next byte is escaped.
        text: Option<bool>,
    },
    /// A number or a literal.
    Word,
}

impl Passing {
    /// Over a value that begins with `byte`, if one may.
    pub(super) fn over(byte: u8) -> Option<Self> {
        match byte {
            b'"' => Some(Self::Text { is_escaped: false }),
            b'{' => Some(Self::Nest { brackets: (b'{', b'}'), depth: 1, text: None }),
            b'[' => Some(Self::Nest { brackets: (b'[', b']'), depth: 1, text: None }),
            b'-' | b'0'..=b'9' | b'a'..=b'z' => Some(Self::Word),
            _ => None,
        }
    }

    /// Takes more of the value from the beginning of `piece`, and says whether it ends there.
    pub(super) fn pass<'a>(&mut self, piece: &mut &'a [u8]) -> (&'a [u8], bool) {
        let end = match self {
            Self::Text { is_escaped } => end_of_text(piece, is_escaped),
            Self::Nest { brackets, depth, text } => end_of_nest(piece, *brackets, depth, text),
            Self::Word => {
                piece.iter().position(|byte| !matches!(byte, b'-' | b'+' | b'.' | b'0'..=b'9' | b'a'..=b'z' | b'E'))
            }
        };
        let (value, rest) = piece.split_at_checked(end.unwrap_or(piece.len())).unwrap_or((piece, &[]));
        *piece = rest;
        (value, end.is_some())
    }
}

/// Takes more of a text from the beginning of `piece`, without the quote that ends it, and says whether it ends there.
pub(super) fn text<'a>(piece: &mut &'a [u8], is_escaped: &mut bool) -> (&'a [u8], bool) {
    match end_of_text(piece, is_escaped) {
        Some(end) => {
            let text = piece.get(..end - 1).unwrap_or_default();
            *piece = piece.get(end..).unwrap_or_default();
            (text, true)
        }
        None => (mem::take(piece), false),
    }
}

/// Where a text ends, behind its quote.
#[inline]
fn end_of_text(bytes: &[u8], is_escaped: &mut bool) -> Option<usize> {
    let begin = usize::from(*is_escaped && !bytes.is_empty());
    if begin == 0 && *is_escaped {
        return None;
    }
    let end = quote_from(bytes, begin);
    *is_escaped = end == Err(Cut { is_escaped: true });
    end.ok()
}

/// A text goes on behind what there is.
#[derive(Debug, PartialEq, Eq)]
struct Cut {
    is_escaped: bool,
}

/// Where a text ends that goes on at `at`.
#[inline]
fn quote_from(bytes: &[u8], mut at: usize) -> Result<usize, Cut> {
    while let Some(rest) = bytes.get(at..) {
        let mark = quote_or_backslash(rest).ok_or(Cut { is_escaped: false })?;
        at += mark + 1;
        if rest.get(mark) == Some(&b'"') {
            return Ok(at);
        }
        at += 1;
    }
    Err(Cut { is_escaped: true })
}

/// Where an array or an object ends, behind its bracket.
fn end_of_nest(bytes: &[u8], (open, close): (u8, u8), depth: &mut u64, text: &mut Option<bool>) -> Option<usize> {
    let mut at = 0;
    if let Some(is_escaped) = text {
        at = end_of_text(bytes, is_escaped)?;
        *text = None;
    }
    let mut opened = *depth;
    while let Some(mark) = bytes.get(at..).and_then(|rest| quote_or(rest, open, close)) {
        at += mark + 1;
        let byte = bytes.get(at - 1).copied().unwrap_or_default();
        if byte == b'"' {
            match quote_from(bytes, at) {
                Ok(end) => at = end,
                Err(cut) => {
                    *text = Some(cut.is_escaped);
                    break;
                }
            }
        } else if byte == open {
            opened += 1;
        } else {
            opened -= 1;
            if opened == 0 {
                return Some(at);
            }
        }
    }
    *depth = opened;
    None
}
