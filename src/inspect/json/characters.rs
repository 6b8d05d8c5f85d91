//! The characters of a text: UTF-8, wherever it is cut.

use super::Malformed;

/// Makes sure that bytes are UTF-8, wherever they are cut: a careless decoder takes an overlong form for the quote that ends
/// a text.
#[derive(Debug, Default)]
pub(super) struct Characters {
    /// The beginning of a character that is not complete.
    begun: [u8; 4],
    length: usize,
}

impl Characters {
    /// Whether a character has begun that is not complete.
    pub(super) fn have_begun(&self) -> bool {
        self.length > 0
    }

    pub(super) fn read(&mut self, piece: &[u8]) -> Result<(), Malformed> {
        let mut rest = piece;
        while self.length > 0 {
            let Some((&byte, tail)) = rest.split_first() else { return Ok(()) };
            rest = tail;
            *self.begun.get_mut(self.length).ok_or(Malformed::NotJson)? = byte;
            self.length = incomplete(self.begun.get(..=self.length).unwrap_or_default())?.len();
        }
        let begun = incomplete(rest)?;
        self.length = begun.len();
        for (place, byte) in self.begun.iter_mut().zip(begun) {
            *place = *byte;
        }
        Ok(())
    }
}

/// The beginning of a character at the end of `bytes`.
fn incomplete(bytes: &[u8]) -> Result<&[u8], Malformed> {
    match str::from_utf8(bytes) {
        Ok(_) => Ok(&[]),
        Err(error) if error.error_len().is_none() => Ok(bytes.get(error.valid_up_to()..).unwrap_or_default()),
        Err(_) => Err(Malformed::NotJson),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_may_be_cut_anywhere() {
        let text = "aé€𝄞z\u{10ffff}é".as_bytes();
        for first in 0..text.len() {
            for second in first..text.len() {
                let mut characters = Characters::default();
                for piece in [&text[..first], &text[first..second], &text[second..]] {
                    assert_eq!(characters.read(piece), Ok(()), "{first} {second}");
                }
                assert_eq!(characters.length, 0);
            }
        }
    }

    #[test]
    fn what_only_careless_decoders_take_is_refused() {
        for bytes in [
            &b"\xc0\xa2"[..],
            b"\xe0\x80\xa2",
            b"\xf0\x80\x80\xa2",
            b"\xed\xa0\x80",
            b"\xf4\x90\x80\x80",
            b"\xff",
            b"\x80",
            b"\xe2\x82\"",
            b"\xc3\"",
        ] {
            for cut in 0..bytes.len() {
                let mut characters = Characters::default();
                let read = characters.read(&bytes[..cut]).and_then(|()| characters.read(&bytes[cut..]));
                assert_eq!(read, Err(Malformed::NotJson), "{} {cut}", bytes.escape_ascii());
            }
        }
    }
}
