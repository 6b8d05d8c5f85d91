//! Bytes on their way out: small ones are gathered, large ones are written from where they are.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
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
        let (digits, first) = hexadecimal(data.len() as u64);
        self.gathered.extend_from_slice(&digits[first..]);
        self.gathered.extend_from_slice(b"\r\n");
        self.content(data);
        self.text(b"\r\n");
    }

    /// Writes all of it.
    pub(crate) fn poll_write(&mut self, writer: &mut impl Write, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.is_empty() {
            let pieces = [IoSlice::new(&self.gathered), IoSlice::new(&self.large), IoSlice::new(&self.behind)];
            let first = usize::from(self.gathered.is_empty());
            let pieces = match (self.large.is_empty(), self.behind.is_empty()) {
                (true, true) => &pieces[..1],
                (false, true) => &pieces[first..2],
                _ => &pieces[first..],
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

/// How long a number can be in hexadecimal digits.
const MOST_DIGITS: usize = 16;

/// A number's digits, and where among them it begins. To have a library write it costs a fiftieth of all that is done for a small
/// chunk.
fn hexadecimal(mut number: u64) -> ([u8; MOST_DIGITS], usize) {
    // Put together before it is written: it is read in one piece at once.
    let (mut digits, mut shift) = (0, 0);
    loop {
        let [last, ..] = number.to_le_bytes();
        digits |= u128::from(b"0123456789abcdef"[usize::from(last & 0xf)]) << shift;
        shift += 8;
        number >>= 4;
        if number == 0 {
            return (digits.to_be_bytes(), MOST_DIGITS - shift / 8);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// Takes at most so many bytes at once, and remembers how long the pieces were.
    struct Taker {
        most: usize,
        seen: Vec<Vec<usize>>,
        taken: Vec<u8>,
    }

    impl Write for Taker {
        fn poll_write(&mut self, _: &mut Context<'_>, pieces: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
            self.seen.push(pieces.iter().map(|piece| piece.len()).collect());
            let all: Vec<u8> = pieces.iter().flat_map(|piece| piece.iter().copied()).collect();
            let taken = all.len().min(self.most);
            self.taken.extend_from_slice(&all[..taken]);
            Poll::Ready(Ok(taken))
        }
    }

    /// The lengths of the pieces of each write, of everything in `outgoing`.
    fn written(mut outgoing: Outgoing, most: usize, expected: &[u8]) -> Vec<Vec<usize>> {
        let mut taker = Taker { most, seen: Vec::new(), taken: Vec::new() };
        let done = outgoing.poll_write(&mut taker, &mut Context::from_waker(Waker::noop()));
        assert!(matches!(done, Poll::Ready(Ok(()))));
        assert_eq!(taker.taken, expected);
        taker.seen
    }

    #[test]
    fn numbers_are_written_as_the_library_writes_them() {
        let edges = (0..64).flat_map(|bit| [(1 << bit) - 1, 1 << bit, (1 << bit) + 1]);
        for number in edges.chain([0x1234_5678_9abc_def0, u64::MAX]) {
            let (digits, first) = hexadecimal(number);
            assert_eq!(str::from_utf8(&digits[first..]), Ok(&*format!("{number:x}")));
        }
    }

    #[test]
    fn only_what_there_is_is_a_piece() {
        let large = Bytes::from(vec![b'x'; LARGE]);
        let mut outgoing = Outgoing::default();
        outgoing.content(large.clone());
        assert_eq!(written(outgoing, LARGE, &large), [[LARGE]]);
        let mut outgoing = Outgoing::default();
        outgoing.text(b"head");
        assert_eq!(written(outgoing, 3, b"head"), [[4], [1]]);
        let mut outgoing = Outgoing::default();
        outgoing.chunk(large.clone());
        let expected = [b"2000\r\n", &*large, b"\r\n"].concat();
        assert_eq!(written(outgoing, LARGE, &expected), [vec![6, LARGE, 2], vec![6, 2]]);
        let mut outgoing = Outgoing::default();
        outgoing.chunk(large.clone());
        assert_eq!(written(outgoing, LARGE + 6, &expected), [vec![6, LARGE, 2], vec![2]]);
    }
}
