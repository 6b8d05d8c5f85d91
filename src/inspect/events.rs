//! The data of server-sent events, as their bytes come.

use std::mem;

use memchr::memchr2;

/// The data of the event that ends a stream of OpenAI's.
const DONE: &[u8] = b"[DONE]";

/// Events of which some are yet to come.
#[derive(Debug, Default)]
pub(super) struct Events {
    line: Line,
    /// The last byte was a carriage return: a line feed belongs to it.
    returned: bool,
    /// The event has a line of data.
    has_data: bool,
    /// How much of `[DONE]` the data is so far; [`None`]: it is something else.
    done: Option<usize>,
}

/// Where in a line the next byte is.
#[derive(Debug, Clone, Copy)]
enum Line {
    /// So many bytes of `data` have been read.
    Name(usize),
    /// Behind the colon, where a blank is left out.
    Blank,
    Data,
    /// A comment, or a field that does not matter.
    Other,
}

impl Default for Line {
    fn default() -> Self {
        Self::Name(0)
    }
}

/// What was read of an event that has data.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part<'a> {
    Data(&'a [u8]),
    End {
        is_done: bool,
    },
    /// An event that has all its data in one line.
    Whole {
        data: &'a [u8],
        is_done: bool,
    },
}

impl Events {
    /// The next part, taken from the beginning of `piece`; [`None`] when there is no more in it.
    pub(super) fn next<'a>(&mut self, piece: &mut &'a [u8]) -> Option<Part<'a>> {
        while let Some((&byte, tail)) = piece.split_first() {
            if let Line::Name(0) = self.line
                && byte == b'd'
                && let Some((data, rest)) = self.whole(piece)
            {
                *piece = rest;
                self.returned = false;
                return Some(Part::Whole { data, is_done: data == DONE });
            }
            if mem::take(&mut self.returned) && byte == b'\n' {
                *piece = tail;
                continue;
            }
            let ends = matches!(byte, b'\n' | b'\r');
            match self.line {
                Line::Blank => {
                    if byte == b' ' {
                        *piece = tail;
                    }
                    self.line = Line::Data;
                    continue;
                }
                Line::Data | Line::Other if !ends => {
                    let (run, rest) = piece.split_at(memchr2(b'\n', b'\r', piece).unwrap_or(piece.len()));
                    *piece = rest;
                    if matches!(self.line, Line::Data) {
                        return Some(self.data(run));
                    }
                    continue;
                }
                _ => {}
            }
            *piece = tail;
            if ends {
                self.returned = byte == b'\r';
                if let Some(part) = self.end_line() {
                    return Some(part);
                }
            } else if let Line::Name(read) = self.line {
                self.line = match b"data".get(read) {
                    Some(letter) if *letter == byte => Line::Name(read + 1),
                    None if byte == b':' => Line::Blank,
                    _ => Line::Other,
                };
                if matches!(self.line, Line::Blank) && self.begin_data() {
                    return Some(self.data(b"\n"));
                }
            }
        }
        None
    }

    /// The data of an event that begins and ends with this line, as nearly every one does, and what is behind it.
    #[inline]
    fn whole<'a>(&self, piece: &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
        let line = piece.strip_prefix(b"data: ").filter(|_| !self.has_data)?;
        let (data, rest) = line.split_at_checked(memchr2(b'\n', b'\r', line)?)?;
        Some((data, rest.strip_prefix(b"\n\n")?))
    }

    fn end_line(&mut self) -> Option<Part<'static>> {
        let line = mem::take(&mut self.line);
        match line {
            Line::Name(0) if mem::take(&mut self.has_data) => {
                Some(Part::End { is_done: self.done == Some(DONE.len()) })
            }
            Line::Name(4) if self.begin_data() => Some(self.data(b"\n")),
            _ => None,
        }
    }

    /// Whether there was data before.
    fn begin_data(&mut self) -> bool {
        if !self.has_data {
            self.done = Some(0);
        }
        mem::replace(&mut self.has_data, true)
    }

    fn data<'a>(&mut self, data: &'a [u8]) -> Part<'a> {
        if let Some(done) = self.done {
            let is_more = DONE.get(done..done + data.len()) == Some(data);
            self.done = is_more.then_some(done + data.len());
        }
        Part::Data(data)
    }
}
