//! One JSON object, read as its bytes come: strict about all of it, and attentive to the values of one key at its top.
//!
//! What is accepted is RFC 8259 to the letter, in UTF-8 without a byte order mark. On top of that, a key at the top must not
//! hold an escaped NUL or half a surrogate pair, because parsers disagree about what such a key is.

mod characters;
mod key;
mod number;
mod sought;
mod text;

use self::characters::Characters;
use self::key::Key;
use self::number::Number;
use self::sought::Sought;
use super::scan::plain_ascii;

/// How deep arrays and objects may be nested.
const DEEPEST: usize = 512;

/// Why content is not read any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Malformed {
    /// No JSON object, or not only one.
    NotJson,
    /// More nested than anything that is meant.
    TooDeep,
}

/// A value that was looked for, as it was written; [`None`] if that is longer than what is kept.
pub(super) type Found<'a> = Option<&'a [u8]>;

/// A JSON object of which some is yet to come.
#[derive(Debug)]
pub(super) struct Document {
    next: Next,
    text: Text,
    /// How many hexadecimal digits are yet to come, after those that make the code.
    digits: (u8, u16),
    /// What is yet to come of a literal.
    word: &'static [u8],
    number: Number,
    characters: Characters,
    depth: usize,
    /// A bit for each level: whether it is an object.
    objects: [u64; DEEPEST / 64],
    /// Whether the innermost of them is.
    in_object: bool,
    /// The key at the top that was read last.
    key: Key,
    sought: Sought,
}

/// What comes next in a document.
#[derive(Debug, Clone, Copy)]
enum Next {
    /// The brace that opens it.
    Document,
    /// Nothing but blanks.
    Nothing,
    KeyOrEnd,
    Key,
    Colon,
    ValueOrEnd,
    Value,
    CommaOrEnd,
    /// More of a text, which is a key or a value.
    Text,
    Escape,
    /// More hexadecimal digits of an escape.
    Digits,
    /// More of a literal.
    Word,
    /// More of a number, perhaps.
    Number,
}

/// What the text is that is being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Text {
    Value,
    Key,
    /// A key at the top.
    KeyAtTop,
}

/// Whether a value has ended.
type Ended = bool;

impl Document {
    /// Looks for values of the key `name`, compared without regard to ASCII case, of which at most so much is kept.
    pub(super) fn new(name: &'static str, most: usize) -> Self {
        Self {
            next: Next::Document,
            text: Text::Value,
            digits: (0, 0),
            word: b"",
            number: Number::Zero,
            characters: Characters::default(),
            depth: 0,
            objects: [0; DEEPEST / 64],
            in_object: false,
            key: Key::new(name),
            sought: Sought::new(most),
        }
    }

    /// Reads on to the end of a value that is looked for, or of `piece`, and takes what it has read from `piece`.
    ///
    /// # Errors
    ///
    /// Whatever follows, it is no JSON object. Nothing more can be read then.
    pub(super) fn next<'a, 'p: 'a>(&'a mut self, piece: &mut &'p [u8]) -> Result<Option<Found<'a>>, Malformed> {
        let (bytes, mut at) = (*piece, 0);
        self.sought.begin = 0;
        while let Some(&byte) = bytes.get(at) {
            let has_ended = self.step(byte, bytes, &mut at)?;
            if has_ended {
                self.next = if self.depth == 0 { Next::Nothing } else { Next::CommaOrEnd };
                if self.sought.is_here && self.depth == 1 {
                    let (read, rest) = bytes.split_at_checked(at).unwrap_or((bytes, &[]));
                    *piece = rest;
                    return Ok(Some(self.sought.end(read)));
                }
                if self.depth > 0 && bytes.get(at) == Some(&b',') {
                    at += 1;
                    self.next = self.behind_comma();
                }
            }
        }
        *piece = &[];
        self.sought.keep(bytes);
        Ok(None)
    }

    /// Whether the object is complete.
    pub(super) fn has_ended(&self) -> bool {
        matches!(self.next, Next::Nothing)
    }

    /// At `byte`.
    #[inline]
    fn step(&mut self, byte: u8, bytes: &[u8], at: &mut usize) -> Result<Ended, Malformed> {
        let begin = *at;
        match self.next {
            Next::Text => return self.read_text(bytes, at),
            Next::Number => return self.read_number(bytes, at),
            _ => *at += 1,
        }
        match self.next {
            Next::KeyOrEnd if byte == b'}' => return Ok(self.close()),
            Next::KeyOrEnd | Next::Key if byte == b'"' => self.begin_key(bytes, at),
            Next::Colon if byte == b':' => self.next = Next::Value,
            Next::ValueOrEnd if byte == b']' => return Ok(self.close()),
            Next::ValueOrEnd | Next::Value => self.begin_value(byte, begin)?,
            Next::CommaOrEnd => match byte {
                b',' => self.next = self.behind_comma(),
                b'}' if self.in_object => return Ok(self.close()),
                b']' if !self.in_object => return Ok(self.close()),
                _ => blank(byte)?,
            },
            Next::Document if byte == b'{' => self.open(true)?,
            Next::Word => return self.read_letter(byte),
            Next::Escape => self.read_escape(byte)?,
            Next::Digits => self.read_digit(byte)?,
            _ => blank(byte)?,
        }
        Ok(false)
    }

    fn behind_comma(&self) -> Next {
        if self.in_object { Next::Key } else { Next::Value }
    }

    /// Behind the quote.
    #[inline]
    fn begin_key(&mut self, bytes: &[u8], at: &mut usize) {
        self.next = Next::Text;
        if self.depth > 1 {
            self.text = Text::Key;
            return;
        }
        let rest = bytes.get(*at..).unwrap_or_default();
        let length = plain_ascii(rest);
        if let Some((key, [b'"', ..])) = rest.split_at_checked(length) {
            self.key.is_all(key);
            *at += length + 1;
            self.end_key(bytes, at);
        } else {
            self.key.restart();
            self.text = Text::KeyAtTop;
        }
    }

    /// At `byte`, which is where it begins unless it is a blank.
    #[inline]
    fn begin_value(&mut self, byte: u8, at: usize) -> Result<(), Malformed> {
        if self.depth == 1 && self.key.is_name() {
            self.sought.begin(at);
        }
        self.next = match byte {
            b'"' => {
                self.text = Text::Value;
                Next::Text
            }
            b'{' => return self.open(true),
            b'[' => return self.open(false),
            b't' | b'f' | b'n' => {
                self.word = match byte {
                    b't' => b"rue",
                    b'f' => b"alse",
                    _ => b"ull",
                };
                Next::Word
            }
            _ => {
                let Some(number) = Number::new(byte) else { return blank(byte) };
                self.number = number;
                Next::Number
            }
        };
        Ok(())
    }

    #[inline]
    fn open(&mut self, is_object: bool) -> Result<(), Malformed> {
        let word = self.objects.get_mut(self.depth / 64).ok_or(Malformed::TooDeep)?;
        let bit = 1 << (self.depth % 64);
        *word = if is_object { *word | bit } else { *word & !bit };
        self.depth += 1;
        self.in_object = is_object;
        self.next = if is_object { Next::KeyOrEnd } else { Next::ValueOrEnd };
        Ok(())
    }

    #[inline]
    fn close(&mut self) -> Ended {
        self.depth = self.depth.saturating_sub(1);
        let above = self.depth.saturating_sub(1);
        self.in_object = self.objects.get(above / 64).is_some_and(|word| word >> (above % 64) & 1 == 1);
        true
    }

    fn read_letter(&mut self, byte: u8) -> Result<Ended, Malformed> {
        match self.word {
            [letter, rest @ ..] if *letter == byte => {
                self.word = rest;
                Ok(rest.is_empty())
            }
            _ => Err(Malformed::NotJson),
        }
    }

    #[inline]
    fn read_number(&mut self, bytes: &[u8], at: &mut usize) -> Result<Ended, Malformed> {
        let mut number = self.number;
        while let Some(byte) = bytes.get(*at) {
            match number.and(*byte) {
                Some(more) => number = more,
                None if number.may_end() => return Ok(true),
                None => return Err(Malformed::NotJson),
            }
            *at += 1;
        }
        self.number = number;
        Ok(false)
    }
}

/// Makes sure that `byte` may stand anywhere between what means something.
fn blank(byte: u8) -> Result<(), Malformed> {
    if matches!(byte, b' ' | b'\t' | b'\r' | b'\n') { Ok(()) } else { Err(Malformed::NotJson) }
}
