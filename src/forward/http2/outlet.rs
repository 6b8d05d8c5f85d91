//! A connection as the library sees it: what it writes is gathered, and goes out when all requests have said what they have to
//! say; each head gets what is its own on the way.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frames::{Frames, Own};
use super::open;

/// A payload of at least this size is not gathered but written from where it is.
const LARGE: usize = 8 * 1024;
/// When so much is gathered, it is written before more is taken.
const ENOUGH: usize = 64 * 1024;
/// A connection that has nothing to say keeps no more room than this.
const MOST_KEPT: usize = 16 * 1024;

/// A connection; who has another one like it can say what is a head's own.
pub(super) struct Outlet<I>(Arc<Mutex<Inner<I>>>);

struct Inner<I> {
    /// Nothing once the connection is over, whoever still has an outlet.
    io: Option<I>,
    gathered: BytesMut,
    frames: Frames,
    /// What belongs to heads that were not written yet, by their streams, which mostly are in this order.
    unsent: VecDeque<(u32, Own)>,
    /// Whether anything was read, ever, and since somebody has asked.
    has_heard: bool,
    heard: bool,
    /// Why what was gathered could not be written.
    failed: Option<io::Error>,
}

impl<I> Outlet<I> {
    pub(super) fn new(io: I) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            io: Some(io),
            gathered: BytesMut::new(),
            frames: Frames::new(),
            unsent: VecDeque::new(),
            has_heard: false,
            heard: false,
            failed: None,
        })))
    }

    /// From now on, `own` belongs into the next head on this stream. It is kept until that is written, as the library writes it of
    /// requests that were taken back too, or until the connection is over.
    pub(super) fn add(&self, stream: u32, own: Own) {
        open(&self.0).unsent.push_back((stream, own));
    }

    /// The connection is over, and nothing more is written.
    pub(super) fn close(&self) {
        let mut inner = open(&self.0);
        inner.io = None;
        inner.unsent = VecDeque::new();
        inner.gathered = BytesMut::new();
        inner.frames = Frames::new();
    }

    /// The streams that something is kept for.
    #[cfg(test)]
    pub(super) fn unsent(&self) -> Vec<u32> {
        open(&self.0).unsent.iter().map(|(stream, _)| *stream).collect()
    }

    /// Whether anything was ever read.
    pub(super) fn has_heard(&self) -> bool {
        open(&self.0).has_heard
    }

    /// Whether anything was read since this was asked.
    pub(super) fn take_heard(&self) -> bool {
        std::mem::take(&mut open(&self.0).heard)
    }
}

impl<I: AsyncWrite + Unpin> Outlet<I> {
    /// Writes all that is gathered, as far as the other side takes it. Whether that has failed: the library will be told why when it
    /// reads.
    pub(super) fn drains_in_vain(&self, cx: &mut Context<'_>) -> bool {
        let mut inner = open(&self.0);
        if let Poll::Ready(Err(error)) = inner.poll_flush(cx) {
            inner.failed = Some(error);
        }
        inner.failed.is_some()
    }
}

impl<I> Inner<I> {
    /// What belongs behind the fields of a head.
    fn take(unsent: &mut VecDeque<(u32, Own)>, stream: u32) -> Option<Own> {
        let at = unsent.iter().position(|(of, _)| *of == stream)?;
        unsent.remove(at).map(|(_, own)| own)
    }
}

impl<I: AsyncWrite + Unpin> Inner<I> {
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(io(&mut self.io)?).poll_flush(cx)
    }

    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.gathered.is_empty() {
            let written = ready!(Pin::new(io(&mut self.io)?).poll_write(cx, &self.gathered))?;
            self.wrote(written)?;
        }
        if self.gathered.capacity() > MOST_KEPT {
            self.gathered = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }

    /// Takes what was written from what is gathered, and returns how much more that was.
    fn wrote(&mut self, written: usize) -> io::Result<usize> {
        if written == 0 {
            return Err(ErrorKind::WriteZero.into());
        }
        let gathered = written.min(self.gathered.len());
        self.gathered.advance(gathered);
        Ok(written - gathered)
    }

    fn poll_take(&mut self, cx: &mut Context<'_>, pieces: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if self.gathered.len() >= ENOUGH {
            ready!(self.poll_drain(cx))?;
        }
        let mut taken = 0;
        for piece in pieces {
            let mut rest: &[u8] = piece;
            while !rest.is_empty() {
                let (large, _) = rest.split_at(self.frames.passes(rest));
                if large.len() >= LARGE {
                    // What was gathered goes out before it, and with it.
                    let both = [IoSlice::new(&self.gathered), IoSlice::new(large)];
                    let written = match Pin::new(io(&mut self.io)?).poll_write_vectored(cx, &both) {
                        Poll::Ready(written) => self.wrote(written?)?,
                        Poll::Pending if taken > 0 => return Poll::Ready(Ok(taken)),
                        Poll::Pending => return Poll::Pending,
                    };
                    self.frames.passed(written);
                    taken += written;
                    if taken > 0 {
                        return Poll::Ready(Ok(taken));
                    }
                    continue;
                }
                let Self { frames, gathered, unsent, .. } = self;
                let small = rest.len().min(LARGE);
                frames.write(&rest[..small], gathered, |stream| Self::take(unsent, stream));
                (taken, rest) = (taken + small, &rest[small..]);
            }
        }
        Poll::Ready(Ok(taken))
    }
}

/// The connection, as long as there is one.
fn io<I>(io: &mut Option<I>) -> io::Result<&mut I> {
    io.as_mut().ok_or_else(|| ErrorKind::NotConnected.into())
}

impl<I> Clone for Outlet<I> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Outlet<I> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut inner = open(&self.0);
        if let Some(error) = inner.failed.take() {
            return Poll::Ready(Err(error));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(io(&mut inner.io)?).poll_read(cx, buffer))?;
        if buffer.filled().len() > before {
            (inner.heard, inner.has_heard) = (true, true);
        }
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Outlet<I> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        open(&self.0).poll_take(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        open(&self.0).poll_take(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Does nothing: the library flushes after each frame, and whoever carries the connection does when there are no more.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = open(&self.0);
        ready!(inner.poll_flush(cx))?;
        Pin::new(io(&mut inner.io)?).poll_shutdown(cx)
    }
}

/// Without what goes into heads.
impl<I> fmt::Debug for Outlet<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outlet").finish_non_exhaustive()
    }
}
