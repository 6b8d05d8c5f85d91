//! A caller's socket, which different parts of the program read and write at once.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::BytesMut;
use rustix::net::Shutdown;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

/// A handle; its clones are the same socket, which closes with the last of them. At any time at most one of them reads, and
/// at most one writes.
#[derive(Debug, Clone)]
pub(super) struct Socket(Arc<TcpStream>);

impl Socket {
    /// Small events of a stream will leave at once.
    pub(super) fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self(Arc::new(stream)))
    }

    /// Appends up to `most` bytes to `buffer`, which gets its memory once there is something to read. Nothing was appended:
    /// the other side has ended.
    pub(super) fn poll_read(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut BytesMut,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_read_ready(cx))?;
            buffer.reserve(most);
            match self.0.try_read_buf(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return Poll::Ready(read),
            }
        }
    }

    /// Writes the beginning of what `pieces` hold.
    pub(super) fn poll_write(&self, cx: &mut Context<'_>, pieces: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(cx))?;
            match self.0.try_write_vectored(pieces) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }

    /// Whether the other side has said that it will write no more, also if there is something left to read before that.
    pub(super) fn has_been_ended(&self) -> bool {
        let now = pin!(self.0.ready(Interest::READABLE)).poll(&mut Context::from_waker(Waker::noop()));
        matches!(now, Poll::Ready(Ok(ready)) if ready.is_read_closed())
    }

    /// Says that nothing more will be written.
    pub(super) fn end_writing(&self) -> io::Result<()> {
        Ok(rustix::net::shutdown(&*self.0, Shutdown::Write)?)
    }

    /// From now on closing is a reset: for what must not look as if it had ended.
    pub(super) fn reset_when_closed(&self) -> io::Result<()> {
        self.0.set_zero_linger()
    }
}

/// A socket from which some bytes were read before their turn.
#[derive(Debug)]
pub struct Rewound {
    ahead: BytesMut,
    socket: Socket,
}

impl Rewound {
    pub(super) fn new(ahead: BytesMut, socket: Socket) -> Self {
        Self { ahead, socket }
    }
}

impl AsyncRead for Rewound {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.ahead.is_empty() {
            let length = this.ahead.len().min(buffer.remaining());
            buffer.put_slice(&this.ahead.split_to(length));
            return Poll::Ready(Ok(()));
        }
        loop {
            ready!(this.socket.0.poll_read_ready(cx))?;
            match this.socket.0.try_read(buffer.initialize_unfilled()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return Poll::Ready(read.map(|length| buffer.advance(length))),
            }
        }
    }
}

impl AsyncWrite for Rewound {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.socket.poll_write(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.socket.poll_write(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.socket.end_writing())
    }
}
