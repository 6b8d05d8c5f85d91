//! A caller's socket: the half that is read, and the half that is written.

use std::future::Future;
use std::io::{self, IoSlice};
use std::net::{self, SocketAddr};
use std::os;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};

use bytes::BytesMut;
#[cfg(target_os = "linux")]
use rustix::net::{SocketFlags, accept_with, acceptfrom_with};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream, tcp, unix};

use super::Remote;
use crate::http1::outgoing::{Write, poll_write_pieces};

/// As sockets are wanted: in one call.
#[cfg(target_os = "linux")]
const FLAGS: SocketFlags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);
/// A buffer with less room than this gets more before it is read into.
const LEAST_ROOM: usize = 1024;

/// A connection that was accepted, and belongs to no runtime yet.
#[derive(Debug)]
pub(super) enum Accepted {
    Tcp { stream: net::TcpStream, peer: SocketAddr },
    Unix(os::unix::net::UnixStream),
}

impl Accepted {
    /// The next connection to `listener`, which does not wait for one.
    #[cfg(target_os = "linux")]
    pub(super) fn tcp(listener: &net::TcpListener) -> io::Result<Self> {
        let (stream, peer) = acceptfrom_with(listener, FLAGS)?;
        let peer = peer.ok_or(io::ErrorKind::NotConnected)?.try_into()?;
        Self::at_once(stream.into(), peer)
    }

    /// The next connection to `listener`, which does not wait for one.
    #[cfg(target_os = "linux")]
    pub(super) fn unix(listener: &os::unix::net::UnixListener) -> io::Result<Self> {
        Ok(Self::Unix(accept_with(listener, FLAGS)?.into()))
    }

    /// The next connection to `listener`, which does not wait for one.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn tcp(listener: &net::TcpListener) -> io::Result<Self> {
        let (stream, peer) = listener.accept()?;
        stream.set_nonblocking(true)?;
        Self::at_once(stream, peer)
    }

    /// The next connection to `listener`, which does not wait for one.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn unix(listener: &os::unix::net::UnixListener) -> io::Result<Self> {
        let (stream, _) = listener.accept()?;
        stream.set_nonblocking(true)?;
        Ok(Self::Unix(stream))
    }

    /// Lets what is written leave at once, as a small event of a stream must. That a connection takes it over from its
    /// listener is not enough: one that waited when the listener was handed over, or before it was told, does not.
    fn at_once(stream: net::TcpStream, peer: SocketAddr) -> io::Result<Self> {
        // It cannot be set everywhere on what the caller has left already.
        stream.set_nodelay(true).map_err(|_| io::ErrorKind::ConnectionAborted)?;
        Ok(Self::Tcp { stream, peer })
    }

    /// Takes it over into the runtime.
    pub(super) fn into_stream(self) -> io::Result<Stream> {
        match self {
            Self::Tcp { stream, peer } => TcpStream::from_std(stream).map(|stream| Stream::Tcp { stream, peer }),
            Self::Unix(stream) => UnixStream::from_std(stream).map(Stream::Unix),
        }
    }
}

/// A caller's connection.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp { stream: TcpStream, peer: SocketAddr },
    Unix(UnixStream),
}

/// What comes from a caller.
#[derive(Debug)]
pub(super) enum Reader {
    Tcp(tcp::OwnedReadHalf),
    Unix(unix::OwnedReadHalf),
}

/// What goes to a caller. Dropped, it says that nothing more will be written.
#[derive(Debug)]
pub(super) enum Writer {
    Tcp(tcp::OwnedWriteHalf),
    Unix(unix::OwnedWriteHalf),
}

/// Does the same with whichever half it is.
macro_rules! either {
    ($kind:ident, $half:expr, $name:ident => $what:expr) => {
        match $half {
            $kind::Tcp($name) => $what,
            $kind::Unix($name) => $what,
        }
    };
}

impl Stream {
    /// That it comes from another machine, if it does.
    pub(super) fn remote(&self) -> Option<Remote> {
        match self {
            Self::Tcp { peer, .. } if !peer.ip().to_canonical().is_loopback() => Some(Remote),
            Self::Tcp { .. } | Self::Unix(_) => None,
        }
    }

    /// Both halves.
    pub(super) fn split(self) -> (Reader, Writer) {
        match self {
            Self::Tcp { stream, .. } => {
                let (reader, writer) = stream.into_split();
                (Reader::Tcp(reader), Writer::Tcp(writer))
            }
            Self::Unix(stream) => {
                let (reader, writer) = stream.into_split();
                (Reader::Unix(reader), Writer::Unix(writer))
            }
        }
    }
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
        ready!(either!(Self, self, half => half.as_ref().poll_read_ready(cx)))?;
        if buffer.capacity() - buffer.len() < LEAST_ROOM {
            // More often, and content in small pieces would take a buffer for each.
            buffer.reserve(room);
        }
        either!(Self, self, half => pin!(half.read_buf(buffer)).poll(cx))
    }

    /// Whether the other side has said that it will write no more, also if there is something left to read before that.
    pub(super) fn has_been_ended(&self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        let now = either!(Self, self, half => pin!(half.ready(Interest::READABLE)).poll(&mut cx));
        matches!(now, Poll::Ready(Ok(ready)) if ready.is_read_closed())
    }
}

impl Write for Writer {
    fn poll_write(&mut self, cx: &mut Context<'_>, pieces: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        either!(Self, self, half => poll_write_pieces(Pin::new(half), cx, pieces))
    }
}

impl Accepted {
    /// A connection that is given up by this runtime, so that another one can take it over. Nothing must be left to write.
    pub(super) fn again(reader: Reader, writer: Writer) -> io::Result<Self> {
        match (reader, writer) {
            (Reader::Tcp(reader), Writer::Tcp(writer)) => {
                let stream = reader.reunite(writer).map_err(io::Error::other)?.into_std()?;
                Ok(Self::Tcp { peer: stream.peer_addr()?, stream })
            }
            (Reader::Unix(reader), Writer::Unix(writer)) => {
                reader.reunite(writer).map_err(io::Error::other)?.into_std().map(Self::Unix)
            }
            _ => Err(io::Error::other("halves of different connections")),
        }
    }
}

impl Writer {
    /// Says that nothing more will be written.
    pub(super) fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(Self, self, half => Pin::new(half).poll_shutdown(cx))
    }

    /// Ends with `reader`, the other half: what is closed need not say before that it will be.
    pub(super) fn close(self, reader: Reader) {
        match self {
            Self::Tcp(half) => half.forget(),
            Self::Unix(half) => half.forget(),
        }
        drop(reader);
    }

    /// Ends with a reset, for what must not look as if it had ended. A Unix socket has none: it ends as it is, without
    /// saying that all was written.
    pub(super) fn reset(self) {
        match self {
            Self::Tcp(half) => {
                if let Err(error) = half.as_ref().set_zero_linger() {
                    tracing::debug!(%error, "a connection could not be reset");
                }
                half.forget();
            }
            Self::Unix(half) => half.forget(),
        }
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
            return either!(Reader, &mut self.reader, half => Pin::new(half).poll_read(cx, buffer));
        }
        let length = self.ahead.len().min(buffer.remaining());
        buffer.put_slice(&self.ahead.split_to(length));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Rewound {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        either!(Writer, &mut self.writer, half => Pin::new(half).poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(Writer, &mut self.writer, half => poll_write_pieces(Pin::new(half), cx, pieces))
    }

    fn is_write_vectored(&self) -> bool {
        either!(Writer, &self.writer, half => half.is_write_vectored())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(Writer, &mut self.writer, half => Pin::new(half).poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(Writer, &mut self.writer, half => Pin::new(half).poll_shutdown(cx))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn a_connection_that_was_given_up_can_be_taken_over() {
        let (mut caller, stream) = UnixStream::pair().expect("a connection");
        let (reader, writer) = Stream::Unix(stream).split();
        let stream = Accepted::again(reader, writer).expect("halves of one").into_stream().expect("a stream");
        assert!(stream.remote().is_none());
        let (mut reader, _writer) = stream.split();
        caller.write_all(b"still there").await.expect("writing");
        let mut read = BytesMut::new();
        std::future::poll_fn(|cx| reader.poll_read(cx, &mut read, LEAST_ROOM)).await.expect("reading");
        assert_eq!(read, b"still there"[..]);

        let [(reader, _), (_, writer)] =
            [(); 2].map(|()| Stream::Unix(UnixStream::pair().expect("a connection").0).split());
        assert!(Accepted::again(reader, writer).is_err(), "they belong to different connections");
    }
}
