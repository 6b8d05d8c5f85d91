//! How content is written, so that the other side knows where it ends (RFC 9112 §6).

use bytes::Bytes;
use http::HeaderMap;

use super::outgoing::Outgoing;

/// How content is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coding {
    /// It is not: there is none, or none that is to be sent.
    Nothing,
    /// As it is, and so many bytes of it are left.
    Length(u64),
    /// In chunks.
    Chunked,
    /// As it is, until the connection ends.
    UntilClose,
}

/// Content that is not as long as its head has promised: nobody could tell the rest from what follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("content is not as long as its head has said")]
pub(crate) struct WrongLength;

/// Content on its way to a buffer.
#[derive(Debug)]
pub(crate) struct Encoder {
    coding: Coding,
    has_ended: bool,
}

impl Encoder {
    pub(crate) fn new(coding: Coding) -> Self {
        Self { coding, has_ended: coding == Coding::Nothing }
    }

    /// Whether nothing more is to be written.
    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Writes a piece of content.
    ///
    /// # Errors
    ///
    /// More of it than was promised.
    pub(crate) fn data(&mut self, data: Bytes, outgoing: &mut Outgoing) -> Result<(), WrongLength> {
        if data.is_empty() {
            return Ok(());
        }
        match &mut self.coding {
            Coding::Chunked => outgoing.chunk(data),
            Coding::Length(left) => {
                *left = left.checked_sub(data.len() as u64).ok_or(WrongLength)?;
                outgoing.content(data);
            }
            Coding::UntilClose => outgoing.content(data),
            Coding::Nothing => {}
        }
        Ok(())
    }

    /// Writes the end of content.
    ///
    /// # Errors
    ///
    /// Less of it than was promised.
    pub(crate) fn end(&mut self, trailers: &HeaderMap, outgoing: &mut Outgoing) -> Result<(), WrongLength> {
        match self.coding {
            Coding::Chunked => {
                outgoing.text(b"0\r\n");
                outgoing.fields(trailers);
                outgoing.text(b"\r\n");
            }
            Coding::Length(left) if left > 0 => return Err(WrongLength),
            Coding::Length(_) | Coding::Nothing | Coding::UntilClose => {}
        }
        self.has_ended = true;
        Ok(())
    }
}
