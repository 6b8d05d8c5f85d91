//! The key of an object that a place is in, as it is read: its escapes decoded, and cut off when it is too long to matter.

use super::Malformed;

/// No key on the way to a place is longer.
const LONGEST: usize = 16;

/// A key, or what has been read of it.
#[derive(Debug, Default)]
pub(super) struct Key {
    text: Vec<u8>,
    /// The first half of a surrogate pair was the last that was read.
    half: bool,
}

impl Key {
    /// Goes on with bytes that stand for themselves.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        self.end()?;
        // One byte more than the longest shows that it is longer.
        let room = (LONGEST + 1).saturating_sub(self.text.len());
        self.text.extend(bytes.iter().take(room));
        Ok(())
    }

    /// Goes on with the code of a `\u` escape.
    ///
    /// # Errors
    ///
    /// A key that parsers disagree about: some end it at a NUL, some leave out half a surrogate pair.
    pub(super) fn push_code(&mut self, code: u16) -> Result<(), Malformed> {
        if self.half && (0xdc00..0xe000).contains(&code) {
            self.half = false;
            // Which character it is does not matter: no place has it.
            return self.push(&[0xff]);
        }
        self.end()?;
        if (0xd800..0xdc00).contains(&code) {
            self.half = true;
            return Ok(());
        }
        let character = char::from_u32(code.into()).filter(|character| *character != '\0').ok_or(Malformed::NotJson)?;
        self.push(character.encode_utf8(&mut [0; 4]).as_bytes())
    }

    /// Whether it may end here.
    pub(super) fn end(&self) -> Result<(), Malformed> {
        if self.half { Err(Malformed::NotJson) } else { Ok(()) }
    }

    pub(super) fn is(&self, name: &str) -> bool {
        self.text.eq_ignore_ascii_case(name.as_bytes())
    }
}
