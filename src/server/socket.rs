//! A caller's socket: the half that is read, and the half that is written.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// A buffer with less room than this gets more before it is read into.
const LEAST_ROOM: usize = 1024;

/// What comes from a caller.
#[derive(Debug)]
pub(super) struct Reader(OwnedReadHalf);

/// What goes to a caller. Dropped, it says that nothing more will be written.
#[derive(Debug)]
pub(super) struct Writer(OwnedWriteHalf);

/// Both halves. Small events of a stream will leave at once.
pub(super) fn split(stream: TcpStream) -> io::Result<(Reader, Writer)> {
    stream.set_nodelay(true)?;
    let (reader, writer) = stream.into_split();
    Ok((Reader(reader), Writer(writer)))
}

impl Reader {
    /// Appends bytes to `buffer`, which gets room for `room` of them if it has hardly any, and not before there is something
    /// to read. Nothing was appended: the other side has ended.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut BytesMut,
        room: usize,
    ) -> Poll<io::Result<usize>> {
        ready!(self.0.as_ref().poll_read_ready(cx))?;
        if buffer.capacity() - buffer.len() < LEAST_ROOM {
            // More often, and content in small pieces would take a buffer for each.
            buffer.reserve(room);
        }
        pin!(self.0.read_buf(buffer)).poll(cx)
    }

    /// Whether the other side has said that it will write no more, also if there is something left to read before that.
    pub(super) fn has_been_ended(&self) -> bool {
        let now = pin!(self.0.ready(Interest::READABLE)).poll(&mut Context::from_waker(Waker::noop()));
        matches!(now, Poll::Ready(Ok(ready)) if ready.is_read_closed())
    }
}

impl Writer {
    /// Writes the beginning of what `pieces` hold.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>, pieces: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, pieces)
    }

    /// Says that nothing more will be written.
    pub(super) fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }

    /// Ends with a reset: for what must not look as if it had ended.
    pub(super) fn reset(self) {
        if let Err(error) = self.0.as_ref().set_zero_linger() {
            tracing::debug!(%error, "a connection could not be reset");
        }
        self.0.forget();
    }
}

/// A socket from which some bytes were read before their turn.
#[derive(Debug)]
pub struct Rewound {
    ahead: BytesMut,
    reader: Reader,
    writer: Writer,
}

impl Rewound {
    pub(super) fn new(ahead: BytesMut, reader: Reader, writer: Writer) -> Self {
        Self { ahead, reader, writer }
    }
}

impl AsyncRead for Rewound {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() {
            return Pin::new(&mut self.reader.0).poll_read(cx, buffer);
        }
        let length = self.ahead.len().min(buffer.remaining());
        buffer.put_slice(&self.ahead.split_to(length));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Rewound {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.writer.0).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.writer.0).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.writer.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer.0).poll_shutdown(cx)
    }
}
