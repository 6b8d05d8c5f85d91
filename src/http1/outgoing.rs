//! Bytes on their way out: small ones are gathered, large ones are written from where they are.

use std::io::{self, IoSlice, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::header::HeaderMap;
use http::{HeaderName, HeaderValue};
use tokio::io::AsyncWrite;

/// Content of at least this size is not copied.
const LARGE: usize = 8 * 1024;
/// When so much is gathered, it is written before more is asked for.
const ENOUGH: usize = 32 * 1024;

/// Somewhere to write to.
pub(crate) trait Write {
    /// Writes the beginning of what `pieces` hold.
    fn poll_write(&mut self, cx: &mut Context<'_>, pieces: &[IoSlice<'_>]) -> Poll<io::Result<usize>>;
}

/// Writes the beginning of what `pieces` hold. Of one piece, by the call for that: the kernel has less to do than for several.
pub(crate) fn poll_write_pieces(
    writer: Pin<&mut impl AsyncWrite>,
    cx: &mut Context<'_>,
    pieces: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    match pieces {
        [one] => writer.poll_write(cx, one),
        several => writer.poll_write_vectored(cx, several),
    }
}

/// What is to be written, in this order.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    gathered: BytesMut,
    large: Bytes,
    behind: BytesMut,
}

impl Outgoing {
    pub(crate) fn is_empty(&self) -> bool {
        self.gathered.is_empty() && self.large.is_empty() && self.behind.is_empty()
    }

    /// How much is to be written.
    pub(crate) fn len(&self) -> usize {
        self.gathered.len() + self.large.len() + self.behind.len()
    }

    /// Whether there is no room for more content.
    pub(crate) fn is_full(&self) -> bool {
        !self.large.is_empty() || self.gathered.len() >= ENOUGH
    }

    /// Adds text of our own.
    pub(crate) fn text(&mut self, text: &[u8]) {
        let end = if self.large.is_empty() { &mut self.gathered } else { &mut self.behind };
        end.extend_from_slice(text);
    }

    /// Adds field lines.
    pub(crate) fn fields(&mut self, fields: &HeaderMap) {
        for (name, value) in fields {
            self.field(name, value);
        }
    }

    pub(crate) fn field(&mut self, name: &HeaderName, value: &HeaderValue) {
        self.text(name.as_str().as_bytes());
        self.text(b": ");
        self.text(value.as_bytes());
        self.text(b"\r\n");
    }

    /// Adds content as it is.
    pub(crate) fn content(&mut self, data: Bytes) {
        if data.len() < LARGE {
            self.gathered.extend_from_slice(&data);
        } else {
            self.large = data;
        }
    }

    /// Adds content as a chunk (RFC 9112 §7.1).
    pub(crate) fn chunk(&mut self, data: Bytes) {
        let size = (&mut self.gathered).writer().write_fmt(format_args!("{:x}\r\n", data.len()));
        debug_assert!(size.is_ok(), "a buffer takes whatever is written");
        self.content(data);
        self.text(b"\r\n");
    }

    /// Writes all of it.
    pub(crate) fn poll_write(&mut self, writer: &mut impl Write, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.is_empty() {
            let pieces = [IoSlice::new(&self.gathered), IoSlice::new(&self.large), IoSlice::new(&self.behind)];
            let pieces = match (self.large.is_empty(), self.behind.is_empty()) {
                (true, true) => &pieces[..1],
                (false, true) => &pieces[..2],
                _ => &pieces[..],
            };
            let written = ready!(writer.poll_write(cx, pieces))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.advance(written);
        }
        if self.gathered.capacity() > ENOUGH {
            // A stream that has had a burst may be silent for long.
            self.gathered = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, mut written: usize) {
        let mut pass = |length: usize| {
            let passed = written.min(length);
            written -= passed;
            passed
        };
        self.gathered.advance(pass(self.gathered.len()));
        self.large.advance(pass(self.large.len()));
        self.behind.advance(pass(self.behind.len()));
        if self.large.is_empty() {
            // Lets go of what may be a piece of something much larger.
            self.large = Bytes::new();
            if self.gathered.is_empty() {
                std::mem::swap(&mut self.gathered, &mut self.behind);
            }
        }
    }
}
