//! An open connection to the upstream, with TLS or without.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use tokio::io::{AsyncBufRead, AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::tcp::Tcp;
use crate::http1::outgoing::{Write, poll_write_pieces};

/// How much is read at once where there is no TLS, whose records have a size of their own.
const READ: usize = 32 * 1024;
/// A buffer with less room than this gets more before it is read into.
const LEAST_ROOM: usize = 1024;

/// What a connection came to.
#[derive(Debug)]
pub(super) enum Link {
    /// Without TLS, to a loopback host.
    Plain(TcpStream),
    /// With TLS.
    Tls(Box<TlsStream<Tcp>>),
}

impl Link {
    /// Whether both sides agreed on HTTP/2 (RFC 7301).
    pub(super) fn speaks_http2(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(stream) => stream.get_ref().1.alpn_protocol() == Some(b"h2"),
        }
    }

    /// Appends what has come to `buffer`, which gets room once there is something. Nothing was appended: the other side has
    /// ended.
    pub(super) fn poll_append(&mut self, cx: &mut Context<'_>, buffer: &mut BytesMut) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream) => {
                ready!(stream.poll_read_ready(cx))?;
                if buffer.capacity() - buffer.len() < LEAST_ROOM {
                    buffer.reserve(READ);
                }
                pin!(stream.read_buf(buffer)).poll(cx)
            }
            Self::Tls(stream) => {
                let stream = Pin::new(&mut **stream);
                let come = ready!(stream.poll_fill_buf(cx))?;
                let length = come.len();
                buffer.extend_from_slice(come);
                self.consume(length);
                Poll::Ready(Ok(length))
            }
        }
    }

    fn consume(&mut self, length: usize) {
        if let Self::Tls(stream) = self {
            Pin::new(&mut **stream).consume(length);
        }
    }
}

impl Write for Link {
    fn poll_write(&mut self, cx: &mut Context<'_>, pieces: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(self).poll_write_vectored(cx, pieces)
    }
}

/// Does the same with whichever it is.
macro_rules! either {
    ($link:expr, $stream:ident => $what:expr) => {
        match $link.get_mut() {
            Link::Plain(plain) => {
                let $stream = Pin::new(plain);
                $what
            }
            Link::Tls(tls) => {
                let $stream = Pin::new(&mut **tls);
                $what
            }
        }
    };
}

impl AsyncRead for Link {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_read(cx, buffer))
    }
}

impl AsyncWrite for Link {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        either!(self, stream => stream.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self, stream => poll_write_pieces(stream, cx, pieces))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_shutdown(cx))
    }
}
