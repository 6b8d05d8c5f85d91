//! Frames on their way out, as the library has written them: where each begins and ends (RFC 9113 §4.1), and what is put behind the
//! fields of a request that has something of its own to say. Pure.

use std::mem;

use bytes::{BufMut as _, BytesMut};
use http::HeaderValue;

use crate::forward::fields::CLIENT_REQUEST_ID;

/// How long a frame's head is.
const HEAD: usize = 9;
/// The longest payload that everybody takes (RFC 9113 §4.2).
const LONGEST: usize = 16 * 1024;
/// What a connection begins with before there are frames (RFC 9113 §3.4).
const PREFACE: usize = 24;

/// Kinds of frames that carry fields, and the flag of the last of them.
const HEADERS: u8 = 0x1;
const CONTINUATION: u8 = 0x9;
const END_HEADERS: u8 = 0x4;

/// Where we are in what is written.
pub(super) struct Frames {
    head: [u8; HEAD],
    /// How much of the head has come.
    seen: usize,
    /// How much of the payload is still to come; of a frame whose head is complete.
    left: usize,
    /// What goes out behind the payload.
    behind: BytesMut,
}

impl Frames {
    pub(super) fn new() -> Self {
        Self { head: [0; HEAD], seen: HEAD, left: PREFACE, behind: BytesMut::new() }
    }

    /// How much of `bytes` can go on as it is: the payload that a frame has left, if nothing is put behind it.
    pub(super) fn passes(&self, bytes: &[u8]) -> usize {
        if self.behind.is_empty() { self.left.min(bytes.len()) } else { 0 }
    }

    /// So much has gone on as it is, which was no more than could.
    pub(super) fn passed(&mut self, length: usize) {
        self.left -= length;
        if length > 0 && self.left == 0 {
            self.seen = 0;
        }
    }

    /// Writes `bytes` to `out`, and what belongs behind the fields of a request: `own_of` knows it by the stream's number,
    /// and is asked once for each head that is complete.
    pub(super) fn write(&mut self, mut bytes: &[u8], out: &mut BytesMut, mut own_of: impl FnMut(u32) -> Option<Own>) {
        while !bytes.is_empty() {
            if self.seen < HEAD {
                let (now, later) = bytes.split_at(bytes.len().min(HEAD - self.seen));
                self.head[self.seen..self.seen + now.len()].copy_from_slice(now);
                (self.seen, bytes) = (self.seen + now.len(), later);
                if self.seen == HEAD {
                    self.begin(out, &mut own_of);
                }
            } else {
                let (now, later) = bytes.split_at(bytes.len().min(self.left));
                out.extend_from_slice(now);
                (self.left, bytes) = (self.left - now.len(), later);
            }
            if self.seen == HEAD && self.left == 0 {
                out.extend_from_slice(&self.behind);
                self.behind.clear();
                if self.behind.capacity() > LONGEST {
                    self.behind = BytesMut::new();
                }
                self.seen = 0;
            }
        }
    }

    /// How much room is kept for what goes out behind a payload.
    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.behind.capacity()
    }

    /// A frame's head is complete.
    fn begin(&mut self, out: &mut BytesMut, own_of: &mut impl FnMut(u32) -> Option<Own>) {
        let [a, b, c, kind, flags, stream @ ..] = self.head;
        self.left = u32::from_be_bytes([0, a, b, c]) as usize;
        let stream = u32::from_be_bytes(stream) & (u32::MAX >> 1);
        let ends_fields = matches!(kind, HEADERS | CONTINUATION) && flags & END_HEADERS != 0;
        let Some(own) = ends_fields.then(|| own_of(stream)).flatten() else {
            out.extend_from_slice(&self.head);
            return;
        };
        own.write(&mut self.behind);
        let length = self.left + self.behind.len();
        if length <= LONGEST {
            write_head(out, length, kind, flags, stream);
            return;
        }
        // There is no room in this one: it is not the last any more.
        write_head(out, self.left, kind, flags & !END_HEADERS, stream);
        let fields = mem::take(&mut self.behind);
        let mut pieces = fields.chunks(LONGEST).peekable();
        while let Some(piece) = pieces.next() {
            let flags = if pieces.peek().is_none() { END_HEADERS } else { 0 };
            write_head(&mut self.behind, piece.len(), CONTINUATION, flags, stream);
            self.behind.extend_from_slice(piece);
        }
    }
}

fn write_head(out: &mut BytesMut, length: usize, kind: u8, flags: u8, stream: u32) {
    out.put_uint(length as u64, 3);
    out.put_u8(kind);
    out.put_u8(flags);
    out.put_u32(stream);
}

/// What a request says that is in no table and in no code: it is written as it is.
pub(super) struct Own {
    pub(super) authorization: HeaderValue,
    /// Another one for each request: in the library's table, it would only push out what is said again.
    pub(super) client_request_id: Option<HeaderValue>,
}

impl Own {
    fn write(&self, out: &mut BytesMut) {
        // Never to be put into a table (RFC 7541 §6.2.3); its name is the 23rd of the static one (appendix A).
        integer(out, 0b0001_0000, 4, 23);
        string(out, self.authorization.as_bytes());
        if let Some(id) = &self.client_request_id {
            // With its name, and not for the table (RFC 7541 §6.2.2).
            out.put_u8(0);
            string(out, CLIENT_REQUEST_ID.as_str().as_bytes());
            string(out, id.as_bytes());
        }
    }
}

/// Writes text in no code (RFC 7541 §5.2).
fn string(out: &mut BytesMut, text: &[u8]) {
    integer(out, 0, 7, text.len());
    out.extend_from_slice(text);
}

/// Writes a number that begins in the last `bits` of a byte (RFC 7541 §5.1).
fn integer(out: &mut BytesMut, first: u8, bits: u32, number: usize) {
    let most = (1_usize << bits) - 1;
    let low = |number: usize| u8::try_from(number & 0x7f).unwrap_or(0x7f);
    if number < most {
        out.put_u8(first | low(number));
        return;
    }
    out.put_u8(first | low(most));
    let mut rest = number - most;
    while rest > 0x7f {
        out.put_u8(0x80 | low(rest));
        rest >>= 7;
    }
    out.put_u8(low(rest));
}
