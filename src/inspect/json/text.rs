//! The texts of a document: keys and values.

use super::{Document, Ended, Malformed, Next, Text};
use crate::inspect::scan::{plain, plain_ascii};

impl Document {
    /// Reads on in a text, which is a key or a value.
    #[inline]
    pub(super) fn read_text(&mut self, bytes: &[u8], at: &mut usize) -> Result<Ended, Malformed> {
        if self.text == Text::KeyAtTop || self.characters.have_begun() {
            return self.read_any_text(bytes, at);
        }
        loop {
            *at += plain_ascii(bytes.get(*at..).unwrap_or_default());
            match bytes.get(*at) {
                Some(b'"') => {
                    *at += 1;
                    return self.end_text(bytes, at);
                }
                Some(b'\\') if bytes.get(*at + 1).is_some_and(|byte| meant(*byte).is_some()) => *at += 2,
                Some(_) => return self.read_any_text(bytes, at),
                None => return Ok(false),
            }
        }
    }

    /// Up to an escape at most, wherever the text is cut and whatever it is made of.
    #[inline(never)]
    fn read_any_text(&mut self, bytes: &[u8], at: &mut usize) -> Result<Ended, Malformed> {
        let rest = bytes.get(*at..).unwrap_or_default();
        let length = plain(rest);
        let run = rest.get(..length).unwrap_or_default();
        self.characters.read(run)?;
        if self.text == Text::KeyAtTop && !run.is_empty() {
            self.key.push(run)?;
        }
        *at += length;
        let Some(end) = rest.get(length) else { return Ok(false) };
        *at += 1;
        match end {
            _ if self.characters.have_begun() => Err(Malformed::NotJson),
            b'"' => self.end_text(bytes, at),
            b'\\' => {
                self.next = Next::Escape;
                Ok(false)
            }
            _ => Err(Malformed::NotJson),
        }
    }

    #[inline]
    fn end_text(&mut self, bytes: &[u8], at: &mut usize) -> Result<Ended, Malformed> {
        match self.text {
            Text::Value => return Ok(true),
            Text::Key => {}
            Text::KeyAtTop => self.key.end()?,
        }
        self.end_key(bytes, at);
        Ok(false)
    }

    /// Behind a key.
    #[inline]
    pub(super) fn end_key(&mut self, bytes: &[u8], at: &mut usize) {
        self.next = Next::Colon;
        if bytes.get(*at) == Some(&b':') {
            *at += 1;
            self.next = Next::Value;
        }
    }

    pub(super) fn read_escape(&mut self, byte: u8) -> Result<(), Malformed> {
        if byte == b'u' {
            self.digits = (4, 0);
            self.next = Next::Digits;
            return Ok(());
        }
        let meant = meant(byte).ok_or(Malformed::NotJson)?;
        self.next = Next::Text;
        if self.text == Text::KeyAtTop { self.key.push(&[meant]) } else { Ok(()) }
    }

    pub(super) fn read_digit(&mut self, byte: u8) -> Result<(), Malformed> {
        let (left, code) = self.digits;
        let digit = char::from(byte).to_digit(16).and_then(|digit| u16::try_from(digit).ok());
        let code = code << 4 | digit.ok_or(Malformed::NotJson)?;
        self.digits = (left - 1, code);
        if left > 1 {
            return Ok(());
        }
        self.next = Next::Text;
        if self.text == Text::KeyAtTop { self.key.push_code(code) } else { Ok(()) }
    }
}

/// What an escape of a single `byte` means.
fn meant(byte: u8) -> Option<u8> {
    match byte {
        b'"' | b'\\' | b'/' => Some(byte),
        b'b' => Some(0x08),
        b'f' => Some(0x0c),
        b'n' => Some(b'\n'),
        b'r' => Some(b'\r'),
        b't' => Some(b'\t'),
        _ => None,
    }
}
