//! One JSON object, read as its bytes come: strict about all of it, and attentive to the values of one key at its top.
//!
//! What is accepted is RFC 8259 to the letter, in UTF-8 without a byte order mark. On top of that, a key at the top must not
//! hold an escaped NUL or half a surrogate pair, because parsers disagree about what such a key is.

mod characters;
mod key;
mod number;

use self::characters::Characters;
use self::key::Key;
use self::number::Number;
use super::scan::{plain, plain_ascii};

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

/// The value that is looked for.
#[derive(Debug)]
struct Sought {
    /// It is being read.
    is_here: bool,
    /// Where it begins in the piece that is being read.
    begin: usize,
    /// What was read of it in earlier pieces.
    kept: Vec<u8>,
    /// How much is kept at most.
    most: usize,
    is_too_long: bool,
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
            sought: Sought { is_here: false, begin: 0, kept: Vec::new(), most, is_too_long: false },
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

    #[inline]
    fn read_text(&mut self, bytes: &[u8], at: &mut usize) -> Result<Ended, Malformed> {
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

    #[inline]
    fn end_key(&mut self, bytes: &[u8], at: &mut usize) {
        self.next = Next::Colon;
        if bytes.get(*at) == Some(&b':') {
            *at += 1;
            self.next = Next::Value;
        }
    }

    fn read_escape(&mut self, byte: u8) -> Result<(), Malformed> {
        if byte == b'u' {
            self.digits = (4, 0);
            self.next = Next::Digits;
            return Ok(());
        }
        let meant = meant(byte).ok_or(Malformed::NotJson)?;
        self.next = Next::Text;
        if self.text == Text::KeyAtTop { self.key.push(&[meant]) } else { Ok(()) }
    }

    fn read_digit(&mut self, byte: u8) -> Result<(), Malformed> {
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

/// Makes sure that `byte` may stand anywhere between what means something.
fn blank(byte: u8) -> Result<(), Malformed> {
    if matches!(byte, b' ' | b'\t' | b'\r' | b'\n') { Ok(()) } else { Err(Malformed::NotJson) }
}

impl Sought {
    fn begin(&mut self, begin: usize) {
        self.is_here = true;
        self.begin = begin;
        self.kept.clear();
        self.is_too_long = false;
    }

    /// Keeps what the piece that was read has of it.
    fn keep(&mut self, piece: &[u8]) {
        let value = piece.get(self.begin..).unwrap_or_default();
        if self.is_here && !self.is_too_long {
            self.is_too_long = value.len() > self.most - self.kept.len();
            if !self.is_too_long {
                self.kept.extend_from_slice(value);
            }
        }
    }

    /// It ends with what was `read` of this piece.
    fn end<'a>(&'a mut self, read: &'a [u8]) -> Found<'a> {
        if self.kept.is_empty() && !self.is_too_long {
            self.is_here = false;
            return read.get(self.begin..).filter(|value| value.len() <= self.most);
        }
        self.keep(read);
        self.is_here = false;
        (!self.is_too_long).then_some(&*self.kept)
    }
}
