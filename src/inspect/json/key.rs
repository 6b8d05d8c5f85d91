//! A key beside which the one that is looked for could be, as it is read: its escapes decoded.

use super::Malformed;

/// A key, as far as it has been read.
#[derive(Debug)]
pub(super) struct Key {
    /// What it is compared with, without regard to ASCII case.
    name: &'static str,
    /// How much of the name it is so far; [`None`]: it is another.
    read: Option<usize>,
    /// The first half of a surrogate pair was the last that was read.
    half: bool,
}

impl Key {
    /// One that may be `name`.
    pub(super) fn new(name: &'static str) -> Self {
        Self { name, read: Some(0), half: false }
    }

    /// Another key begins.
    pub(super) fn restart(&mut self) {
        self.read = Some(0);
        self.half = false;
    }

    /// Another key, which is all of this.
    pub(super) fn is_all(&mut self, text: &[u8]) {
        self.read = text.eq_ignore_ascii_case(self.name.as_bytes()).then_some(text.len());
        self.half = false;
    }

    /// Goes on with bytes that stand for themselves.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        self.end()?;
        self.read = self.read.and_then(|read| {
            let end = read + bytes.len();
            let same = self.name.as_bytes().get(read..end)?;
            same.eq_ignore_ascii_case(bytes).then_some(end)
        });
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
            // Which character it is does not matter: no name has it.
            self.read = None;
            return Ok(());
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

    /// Whether it is the name.
    pub(super) fn is_name(&self) -> bool {
        self.read == Some(self.name.len())
    }
}
