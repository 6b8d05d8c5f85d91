//! The texts of a server's WebSocket messages, as their bytes come (RFC 6455 §5).

/// A frame's head has at most so many bytes: a server's has no mask (§5.1).
const LONGEST_HEAD: usize = 10;

/// Messages of which some are yet to come.
#[derive(Debug, Default)]
pub(super) struct Frames {
    head: [u8; LONGEST_HEAD],
    /// How much of the head has come.
    known: usize,
    /// How much of the frame's content is yet to come.
    left: u64,
    /// Whether the frame is of a text.
    is_text: bool,
    /// Whether a text has begun, which other frames may go on with.
    in_text: bool,
    unread: Unread,
}

/// How much cannot be read.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Unread {
    #[default]
    Nothing,
    /// A message that was compressed, or more.
    Some,
    /// Everything from here on: it is no WebSocket, or for no one without a key.
    Rest,
}

/// What was read of a text.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part<'a> {
    Text(&'a [u8]),
    End,
}

impl Frames {
    /// The next part, taken from the beginning of `piece`; [`None`] when there is no more in it.
    pub(super) fn next<'a>(&mut self, piece: &mut &'a [u8]) -> Option<Part<'a>> {
        loop {
            if self.unread == Unread::Rest {
                *piece = &[];
                return None;
            }
            if self.left > 0 {
                let length = usize::try_from(self.left).unwrap_or(usize::MAX).min(piece.len());
                if length == 0 {
                    return None;
                }
                let (content, rest) = piece.split_at(length);
                *piece = rest;
                self.left -= length as u64;
                if self.is_text {
                    return Some(Part::Text(content));
                }
            } else if self.known > 0 && self.known == self.head_length() {
                // The frame has ended.
                let (is_last, was_text) = (self.head[0] & 0x80 != 0, self.is_text);
                self.known = 0;
                if was_text && is_last {
                    self.in_text = false;
                    return Some(Part::End);
                }
            } else {
                let (&byte, rest) = piece.split_first()?;
                *piece = rest;
                self.head[self.known] = byte;
                self.known += 1;
                if self.known == self.head_length() {
                    self.begin();
                }
            }
        }
    }

    /// Whether the text that was read last has ended with it.
    pub(super) fn have_ended_text(&self) -> bool {
        self.left == 0 && self.head[0] & 0x80 != 0
    }

    /// Whether every text so far could be read.
    pub(super) fn are_readable(&self) -> bool {
        self.unread == Unread::Nothing
    }

    /// As far as what has come of it tells.
    fn head_length(&self) -> usize {
        match (self.known, self.head[1] & 0x7f) {
            (0 | 1, _) => 2,
            (_, 126) => 4,
            (_, 127) => LONGEST_HEAD,
            (_, _) => 2,
        }
    }

    /// The head of a frame is there.
    fn begin(&mut self) {
        let [first, second, extended @ ..] = self.head;
        self.left = match second & 0x7f {
            126 => u64::from(u16::from_be_bytes([extended[0], extended[1]])),
            127 => u64::from_be_bytes(extended),
            length => length.into(),
        };
        // The first frame of a message that is compressed says so (RFC 7692 §6); no other bit means anything to us, nor can
        // be read what a mask hides.
        let is_compressed = first & 0x70 == 0x40 && matches!(first & 0x0f, 1 | 2);
        if is_compressed {
            self.unread = Unread::Some;
        }
        if first & 0x70 != 0 && !is_compressed || second & 0x80 != 0 {
            self.unread = Unread::Rest;
        }
        self.is_text = match first & 0x0f {
            0 => self.in_text,
            1 if !is_compressed => true,
            // Frames that control the connection come between those of a message.
            8.. => false,
            _ => {
                self.in_text = false;
                false
            }
        };
        self.in_text |= self.is_text;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(first: u8, content: &[u8]) -> Vec<u8> {
        let head = match content.len() {
            short @ 0..126 => vec![first, u8::try_from(short).unwrap()],
            longer @ 126..65_536 => [&[first, 126], &u16::try_from(longer).unwrap().to_be_bytes()[..]].concat(),
            longest => [&[first, 127], &(longest as u64).to_be_bytes()[..]].concat(),
        };
        [&head, content].concat()
    }

    /// The whole texts in `bytes`, however these are cut.
    fn texts(bytes: &[u8]) -> Vec<String> {
        let read = |length: usize| {
            let (mut frames, mut texts, mut text) = (Frames::default(), Vec::new(), Vec::new());
            for mut piece in bytes.chunks(length) {
                while let Some(part) = frames.next(&mut piece) {
                    match part {
                        Part::Text(part) => text.extend_from_slice(part),
                        Part::End => texts.push(String::from_utf8(std::mem::take(&mut text)).unwrap()),
                    }
                }
            }
            texts
        };
        let whole = read(bytes.len());
        for length in [1, 2, 3, 7, 1000] {
            assert_eq!(read(length), whole, "{length}");
        }
        whole
    }

    #[test]
    fn texts_are_put_together_and_everything_else_is_passed_over() {
        let long = "x".repeat(70_000);
        let bytes = [
            frame(0x81, b"one"),
            frame(0x81, b""),
            frame(0x82, b"bytes"),
            frame(0x01, b"in "),
            frame(0x89, b"ping"),
            frame(0x00, b"three "),
            frame(0x00, b""),
            frame(0x8a, b""),
            frame(0x80, b"parts"),
            frame(0x02, b"more"),
            frame(0x80, b"bytes"),
            frame(0x81, &[b'y'; 200]),
            frame(0x81, long.as_bytes()),
            frame(0x88, b""),
        ]
        .concat();
        assert_eq!(texts(&bytes), ["one", "", "in three parts", &"y".repeat(200), &long]);
    }

    #[test]
    fn what_is_compressed_is_passed_over() {
        let compressed =
            [frame(0x41, b"com"), frame(0x89, b"ping"), frame(0x00, b"pres"), frame(0x80, b"sed")].concat();
        let bytes = [frame(0x81, b"one"), compressed, frame(0xc1, b"too"), frame(0x81, b"two")].concat();
        assert_eq!(texts(&bytes), ["one", "two"]);
    }

    #[test]
    fn what_is_masked_or_means_something_unknown_ends_it() {
        let masked = frame(0x81, b"").into_iter().map(|byte| byte | 0x80).collect();
        for broken in [masked, frame(0xa1, b"x"), frame(0x91, b"x"), frame(0xc0, b"x"), frame(0xc9, b"x")] {
            assert_eq!(texts(&[frame(0x81, b"one"), broken, frame(0x81, b"two")].concat()), ["one"]);
        }
    }
}
