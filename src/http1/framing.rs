//! Where the content of a request ends (RFC 9112 §6 and §7.1): pure, and strict. What two readers could read differently is
//! refused.

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;
use memchr::memchr;

use super::fields;
use super::lines::{self, Unclear};

/// The longest line that may begin a chunk, with its extensions.
const LONGEST_LINE: usize = 1024;
/// The most that a content's chunk extensions may add up to: nobody needs them, and somebody could send nothing else.
const MOST_EXTENSIONS: usize = 16 * 1024;
/// The longest trailer section.
const LONGEST_TRAILERS: usize = 16 * 1024;

/// How a request's head says where its content ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// After so many bytes.
    Length(u64),
    /// With a chunk of no size.
    Chunked,
}

/// A part of content.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    Data(Bytes),
    /// Only the last piece is one.
    Trailers(HeaderMap),
}

/// What is known of content whose bytes come one after the other.
#[derive(Debug)]
pub(crate) enum Decoder {
    /// So many are left.
    Length(u64),
    Chunked(Chunks),
}

/// Chunked content.
#[derive(Debug)]
pub(crate) struct Chunks {
    next: Next,
    /// How long the extensions were so far.
    extensions: usize,
}

/// What comes next in chunked content.
#[derive(Debug)]
enum Next {
    Size,
    Data(u64),
    /// The line end behind a chunk's data.
    DataEnd,
    Trailers {
        /// How much of the buffer is known to hold no end.
        scanned: usize,
    },
    Nothing,
}

impl Decoder {
    pub(crate) fn new(framing: Framing) -> Self {
        match framing {
            Framing::Length(length) => Self::Length(length),
            Framing::Chunked => Self::Chunked(Chunks { next: Next::Size, extensions: 0 }),
        }
    }

    pub(crate) fn has_ended(&self) -> bool {
        matches!(self, Self::Length(0) | Self::Chunked(Chunks { next: Next::Nothing, .. }))
    }

    /// How many bytes are still to come, if that is known.
    pub(crate) fn left(&self) -> Option<u64> {
        match self {
            Self::Length(left) => Some(*left),
            Self::Chunked(_) => None,
        }
    }

    /// Takes the next piece from the beginning of `buffer`; [`None`] if more bytes are needed, or none.
    ///
    /// # Errors
    ///
    /// Bytes that are no chunked content.
    pub(crate) fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Piece>, Unclear> {
        match self {
            Self::Length(left) => Ok(take(left, buffer).map(Piece::Data)),
            Self::Chunked(chunks) => chunks.next(buffer),
        }
    }
}

impl Chunks {
    fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Piece>, Unclear> {
        loop {
            match &mut self.next {
                Next::Size => {
                    let Some(line) = lines::first(buffer, LONGEST_LINE)? else { return Ok(None) };
                    let (size, extensions) = chunk_size(&buffer[..line])?;
                    self.extensions += extensions;
                    if self.extensions > MOST_EXTENSIONS {
                        return Err(Unclear("the content's chunk extensions are too long"));
                    }
                    buffer.advance(line + 2);
                    self.next = if size == 0 { Next::Trailers { scanned: 0 } } else { Next::Data(size) };
                }
                Next::Data(left) => {
                    let data = take(left, buffer);
                    if *left == 0 {
                        self.next = Next::DataEnd;
                    }
                    return Ok(data.map(Piece::Data));
                }
                Next::DataEnd => {
                    match buffer.get(..2) {
                        Some(b"\r\n") => buffer.advance(2),
                        None if buffer.is_empty() || **buffer == *b"\r" => return Ok(None),
                        _ => return Err(Unclear("a chunk of the content is longer than it says")),
                    }
                    self.next = Next::Size;
                }
                Next::Trailers { .. } if buffer.starts_with(b"\r\n") => {
                    buffer.advance(2);
                    self.next = Next::Nothing;
                }
                Next::Trailers { scanned } => {
                    let end = lines::end_of_section(buffer, scanned)?;
                    if end.unwrap_or(buffer.len()) > LONGEST_TRAILERS {
                        return Err(Unclear("the content's trailers are too long"));
                    }
                    let Some(end) = end else { return Ok(None) };
                    self.next = Next::Nothing;
                    return fields::parse(&buffer.split_to(end).freeze()).map(Piece::Trailers).map(Some);
                }
                Next::Nothing => return Ok(None),
            }
        }
    }
}

/// Up to `left` bytes, if there are any.
fn take(left: &mut u64, buffer: &mut BytesMut) -> Option<Bytes> {
    if *left == 0 || buffer.is_empty() {
        return None;
    }
    let length = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len());
    *left -= length as u64;
    Some(buffer.split_to(length).freeze())
}

/// A chunk's size, and how long its extensions are.
fn chunk_size(line: &[u8]) -> Result<(u64, usize), Unclear> {
    const WRONG: Unclear = Unclear("a chunk of the content does not begin with its size");
    let end = line.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(line.len());
    let (digits, extensions) = line.split_at(end);
    // Blanks are allowed before a semicolon only (§7.1.1).
    let behind = extensions.trim_ascii_start();
    if !extensions.is_empty() && (memchr(b';', behind) != Some(0) || extensions.iter().copied().any(is_control)) {
        return Err(WRONG);
    }
    let digits = str::from_utf8(digits).map_err(|_| WRONG)?;
    Ok((u64::from_str_radix(digits, 16).map_err(|_| WRONG)?, extensions.len()))
}

fn is_control(byte: u8) -> bool {
    byte.is_ascii_control() && byte != b'\t'
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Data, trailers, and what follows.
    type Decoded = (Vec<u8>, Option<HeaderMap>, Vec<u8>);

    /// All pieces of `content`, which comes in parts of `part` bytes, and what is left behind it.
    fn decode(framing: Framing, content: &[u8], part: usize) -> Result<Decoded, Unclear> {
        let mut decoder = Decoder::new(framing);
        let (mut buffer, mut data, mut trailers) = (BytesMut::new(), Vec::new(), None);
        for bytes in content.chunks(part) {
            buffer.extend_from_slice(bytes);
            while let Some(piece) = decoder.next(&mut buffer)? {
                match piece {
                    Piece::Data(bytes) => data.extend_from_slice(&bytes),
                    Piece::Trailers(fields) => trailers = Some(fields),
                }
            }
        }
        if decoder.has_ended() { Ok((data, trailers, buffer.to_vec())) } else { Err(Unclear("it goes on")) }
    }

    #[test]
    fn chunks_are_the_same_however_they_come() {
        let content = b"4\r\nWiki\r\n6;name=value\r\npedia \r\n00E \t; x=\"y\"\r\nin \r\n\r\nchunks.\r\n0\r\n\r\nGET";
        for part in 1..content.len() {
            let (data, trailers, rest) = decode(Framing::Chunked, content, part).unwrap();
            assert_eq!(data, b"Wikipedia in \r\n\r\nchunks.");
            assert_eq!((trailers, &rest[..]), (None, &b"GET"[..]), "{part}");
        }
    }

    #[test]
    fn trailers_end_content() {
        let content = b"1\r\nx\r\n0\r\nx-one: 1\r\nX-Two:  2 \r\n\r\nGET";
        for part in 1..content.len() {
            let (data, trailers, rest) = decode(Framing::Chunked, content, part).unwrap();
            let trailers = trailers.unwrap();
            assert_eq!((&data[..], &rest[..]), (&b"x"[..], &b"GET"[..]));
            assert_eq!(
                (trailers.len(), &trailers["x-one"], &trailers["x-two"]),
                (2, &"1".parse().unwrap(), &"2".parse().unwrap())
            );
        }
    }

    #[test]
    fn a_length_is_exact() {
        for part in 1..7 {
            let (data, _, rest) = decode(Framing::Length(4), b"abcdGET", part).unwrap();
            assert_eq!((&data[..], &rest[..]), (&b"abcd"[..], &b"GET"[..]));
        }
        assert!(decode(Framing::Length(0), b"GET", 1).unwrap().0.is_empty());
    }

    #[test]
    fn whatever_could_be_read_in_two_ways_is_refused() {
        for content in [
            &b"4 \r\nWiki\r\n0\r\n\r\n"[..],
            b" 4\r\nWiki\r\n0\r\n\r\n",
            b"+4\r\nWiki\r\n0\r\n\r\n",
            b"-4\r\nWiki\r\n0\r\n\r\n",
            b"0x4\r\nWiki\r\n0\r\n\r\n",
            b"4_\r\nWiki\r\n0\r\n\r\n",
            b"\r\nWiki\r\n0\r\n\r\n",
            b";a\r\nWiki\r\n0\r\n\r\n",
            b"4\nWiki\r\n0\r\n\r\n",
            b"4\r\nWiki\n0\r\n\r\n",
            b"4\r\nWiki0\r\n\r\n",
            b"4\r\nWikiX\r\n0\r\n\r\n",
            b"4\rXWiki\r\n0\r\n\r\n",
            b"4;a\nb\r\nWiki\r\n0\r\n\r\n",
            b"4;a\rb\r\nWiki\r\n0\r\n\r\n",
            b"4;a\0\r\nWiki\r\n0\r\n\r\n",
            b"10000000000000004\r\nWiki\r\n0\r\n\r\n",
            b"fffffffffffffffff\r\nWiki\r\n0\r\n\r\n",
            b"0\r\nname : v\r\n\r\n",
            b"0\r\n folded: v\r\n\r\n",
            b"0\r\nname: v\n\r\n",
            b"0\n\r\n",
            b"0\r\nX\r\n\r\n",
        ] {
            for part in [1, content.len()] {
                let decoded = decode(Framing::Chunked, content, part);
                assert!(decoded.is_err(), "{}: {decoded:?}", content.escape_ascii());
                assert_ne!(decoded, Err(Unclear("it goes on")), "{}", content.escape_ascii());
            }
        }
    }

    #[test]
    fn nothing_is_kept_without_bound() {
        let line = [b"1;".to_vec(), vec![b'x'; 2000]].concat();
        assert!(decode(Framing::Chunked, &line, 100).is_err());
        let extensions = [b"1;".to_vec(), vec![b'x'; 1000], b"\r\na\r\n".to_vec()].concat().repeat(20);
        assert_eq!(
            decode(Framing::Chunked, &extensions, 100).unwrap_err(),
            Unclear("the content's chunk extensions are too long")
        );
        let trailers = [b"0\r\nname: ".to_vec(), vec![b'x'; LONGEST_TRAILERS], b"\r\n\r\n".to_vec()].concat();
        for part in [100, trailers.len()] {
            let error = decode(Framing::Chunked, &trailers, part).unwrap_err();
            assert_eq!(error, Unclear("the content's trailers are too long"));
        }
    }
}
