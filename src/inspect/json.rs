//! One JSON object, read as its bytes come: strict about all of it, and attentive to the values of a few named places near
//! its top.
//!
//! What is accepted is RFC 8259 to the letter, in UTF-8 without a byte order mark. On top of that, a key beside which a place
//! could be must not hold an escaped NUL or half a surrogate pair, because parsers disagree about what such a key is.

mod key;
mod number;
mod text;

use self::key::Key;
use self::number::Number;
use self::text::{Characters, plain};

/// How deep arrays and objects may be nested.
const DEEPEST: usize = 512;
/// How far down a place may be.
const LOWEST: usize = 2;

/// A value that is watched for.
#[derive(Debug)]
pub(super) struct Place {
    /// The keys that lead to it from the top, compared without regard to ASCII case: one or two, each of at most 16 bytes.
    pub(super) path: &'static [&'static str],
    /// How many bytes of its JSON are kept at most.
    pub(super) most: usize,
}

/// The value of a place.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found<'a> {
    /// Which place, by its index.
    pub(super) place: usize,
    /// The value as it was written; [`None`] if that is longer than what is kept.
    pub(super) json: Option<&'a [u8]>,
}

/// Why content is not read any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Malformed {
    /// No JSON object, or not only one.
    NotJson,
    /// More nested than anything that is meant.
    TooDeep,
}

/// A JSON object of which some is yet to come.
#[derive(Debug)]
pub(super) struct Document {
    places: &'static [Place],
    next: Next,
    characters: Characters,
    depth: usize,
    /// A bit for each level: whether it is an object.
    objects: [u64; DEEPEST / 64],
    /// For the levels near the top, which places their current key leads to or towards: a bit for each.
    towards: [u8; LOWEST + 1],
    text: Text,
    capture: Option<Capture>,
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
    /// So many hexadecimal digits of an escape, after those that make the code.
    Digits(u8, u16),
    /// More of a literal.
    Word(&'static [u8]),
    /// More of a number, perhaps.
    Number(Number),
}

/// What the text is that is being read.
#[derive(Debug)]
enum Text {
    Value,
    Key,
    /// A key that may lead to a place.
    Watched(Key),
}

/// The value of a place, while it is read and until it is handed out.
#[derive(Debug)]
struct Capture {
    place: usize,
    /// The depth that it is at.
    depth: usize,
    most: usize,
    kept: Vec<u8>,
    too_long: bool,
    ended: bool,
}

impl Document {
    /// Watches at most eight places, of which none is inside another.
    pub(super) fn new(places: &'static [Place]) -> Self {
        Self {
            places,
            next: Next::Document,
            characters: Characters::default(),
            depth: 0,
            objects: [0; DEEPEST / 64],
            towards: [u8::MAX, 0, 0],
            text: Text::Value,
            capture: None,
        }
    }

    /// Reads on to the end of a place's value, or of `piece`, and takes what it has read from `piece`.
    ///
    /// # Errors
    ///
    /// Whatever follows, it is no JSON object. Nothing more can be read then.
    pub(super) fn next(&mut self, piece: &mut &[u8]) -> Result<Option<Found<'_>>, Malformed> {
        self.capture.take_if(|capture| capture.ended);
        let mut rest = *piece;
        let mut taken = Ok(0);
        while let (Ok(_), false, false) = (taken, rest.is_empty(), self.has_found()) {
            taken = self.take(rest);
            rest = rest.get(taken.unwrap_or(1)..).unwrap_or_default();
        }
        let read = piece.get(..piece.len() - rest.len()).unwrap_or_default();
        *piece = rest;
        self.characters.read(read)?;
        taken?;
        Ok(self.capture.as_ref().filter(|capture| capture.ended).map(Capture::found))
    }

    /// Whether the object is complete.
    pub(super) fn has_ended(&self) -> bool {
        matches!(self.next, Next::Nothing)
    }

    fn has_found(&self) -> bool {
        self.capture.as_ref().is_some_and(|capture| capture.ended)
    }

    /// Takes something from the beginning of `rest`, and says how much: nothing where a number turns out to have ended.
    fn take(&mut self, rest: &[u8]) -> Result<usize, Malformed> {
        let Some(&byte) = rest.first() else { return Ok(0) };
        match self.next {
            Next::Text => return self.take_text(rest, byte),
            Next::Escape => self.take_escape(byte)?,
            Next::Digits(left, code) => self.take_digit(left, code, byte)?,
            Next::Word(word) => self.take_letter(word, byte)?,
            Next::Number(number) => match number.and(byte) {
                Some(number) => self.go_on(byte, Next::Number(number)),
                None if number.may_end() => {
                    self.end_value();
                    return Ok(0);
                }
                None => return Err(Malformed::NotJson),
            },
            next if matches!(byte, b' ' | b'\t' | b'\r' | b'\n') => self.go_on(byte, next),
            next => self.take_mark(next, byte)?,
        }
        Ok(1)
    }

    /// What stands between texts, literals and numbers, or begins one.
    fn take_mark(&mut self, next: Next, byte: u8) -> Result<(), Malformed> {
        match (next, byte) {
            (Next::Document, b'{') => self.open(byte)?,
            (Next::KeyOrEnd | Next::Key, b'"') => {
                self.text = if self.is_watched() { Text::Watched(Key::default()) } else { Text::Key };
                self.go_on(byte, Next::Text);
            }
            (Next::Colon, b':') => self.go_on(byte, Next::Value),
            (Next::KeyOrEnd, b'}') | (Next::ValueOrEnd, b']') => self.close(byte),
            (Next::CommaOrEnd, b'}') if self.in_object() => self.close(byte),
            (Next::CommaOrEnd, b']') if !self.in_object() => self.close(byte),
            (Next::CommaOrEnd, b',') => self.go_on(byte, if self.in_object() { Next::Key } else { Next::Value }),
            (Next::ValueOrEnd | Next::Value, _) => self.begin_value(byte)?,
            _ => return Err(Malformed::NotJson),
        }
        Ok(())
    }

    fn begin_value(&mut self, byte: u8) -> Result<(), Malformed> {
        if self.capture.is_none() {
            self.capture = self.place_here().map(|(place, most)| Capture::new(place, most, self.depth));
        }
        match byte {
            b'{' | b'[' => return self.open(byte),
            b'"' => {
                self.text = Text::Value;
                self.go_on(byte, Next::Text);
            }
            b't' => self.go_on(byte, Next::Word(b"rue")),
            b'f' => self.go_on(byte, Next::Word(b"alse")),
            b'n' => self.go_on(byte, Next::Word(b"ull")),
            _ => {
                let number = Number::new(byte).ok_or(Malformed::NotJson)?;
                self.go_on(byte, Next::Number(number));
            }
        }
        Ok(())
    }

    fn end_value(&mut self) {
        self.next = if self.depth == 0 { Next::Nothing } else { Next::CommaOrEnd };
        if let Some(capture) = self.capture.as_mut().filter(|capture| capture.depth == self.depth) {
            capture.ended = true;
        }
    }

    fn open(&mut self, byte: u8) -> Result<(), Malformed> {
        let is_object = byte == b'{';
        let word = self.objects.get_mut(self.depth / 64).ok_or(Malformed::TooDeep)?;
        let bit = 1 << (self.depth % 64);
        *word = if is_object { *word | bit } else { *word & !bit };
        self.depth += 1;
        if let Some(towards) = self.towards.get_mut(self.depth) {
            *towards = 0;
        }
        self.go_on(byte, if is_object { Next::KeyOrEnd } else { Next::ValueOrEnd });
        Ok(())
    }

    fn close(&mut self, byte: u8) {
        self.keep(&[byte]);
        self.depth = self.depth.saturating_sub(1);
        self.end_value();
    }

    fn in_object(&self) -> bool {
        let level = self.depth.saturating_sub(1);
        self.objects.get(level / 64).is_some_and(|word| word >> (level % 64) & 1 == 1)
    }

    fn take_text(&mut self, rest: &[u8], byte: u8) -> Result<usize, Malformed> {
        let run = rest.get(..plain(rest)).unwrap_or_default();
        if !run.is_empty() {
            if let Text::Watched(key) = &mut self.text {
                key.push(run)?;
            }
            self.keep(run);
            return Ok(run.len());
        }
        match byte {
            b'"' => self.end_text()?,
            b'\\' => self.go_on(byte, Next::Escape),
            _ => return Err(Malformed::NotJson),
        }
        Ok(1)
    }

    fn end_text(&mut self) -> Result<(), Malformed> {
        self.keep(b"\"");
        match &self.text {
            Text::Value => self.end_value(),
            Text::Key => self.next = Next::Colon,
            Text::Watched(key) => {
                key.end()?;
                let towards = self.towards_with(key);
                if let Some(here) = self.towards.get_mut(self.depth) {
                    *here = towards;
                }
                self.next = Next::Colon;
            }
        }
        Ok(())
    }

    fn take_escape(&mut self, byte: u8) -> Result<(), Malformed> {
        let meant = match byte {
            b'"' | b'\\' | b'/' => byte,
            b'b' => 0x08,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                self.go_on(byte, Next::Digits(4, 0));
                return Ok(());
            }
            _ => return Err(Malformed::NotJson),
        };
        if let Text::Watched(key) = &mut self.text {
            key.push(&[meant])?;
        }
        self.go_on(byte, Next::Text);
        Ok(())
    }

    fn take_digit(&mut self, left: u8, code: u16, byte: u8) -> Result<(), Malformed> {
        let digit = char::from(byte).to_digit(16).and_then(|digit| u16::try_from(digit).ok());
        let code = code << 4 | digit.ok_or(Malformed::NotJson)?;
        if left > 1 {
            self.go_on(byte, Next::Digits(left - 1, code));
            return Ok(());
        }
        if let Text::Watched(key) = &mut self.text {
            key.push_code(code)?;
        }
        self.go_on(byte, Next::Text);
        Ok(())
    }

    fn take_letter(&mut self, word: &'static [u8], byte: u8) -> Result<(), Malformed> {
        match word.split_first() {
            Some((&letter, rest)) if letter == byte => self.go_on(byte, Next::Word(rest)),
            _ => return Err(Malformed::NotJson),
        }
        if word.len() == 1 {
            self.end_value();
        }
        Ok(())
    }

    /// Whether a key of the object that is being read may lead to a place.
    fn is_watched(&self) -> bool {
        let above = self.depth.checked_sub(1).and_then(|above| self.towards.get(above));
        self.depth <= LOWEST && self.capture.is_none() && above.is_some_and(|towards| *towards != 0)
    }

    /// Which places lie at or below `key` of the object that is being read.
    fn towards_with(&self, key: &Key) -> u8 {
        let Some(level) = self.depth.checked_sub(1) else { return 0 };
        let above = self.towards.get(level).copied().unwrap_or_default();
        let is_on = |(index, place): &(usize, &Place)| {
            above >> index & 1 == 1 && place.path.get(level).is_some_and(|name| key.is(name))
        };
        self.places.iter().enumerate().filter(is_on).fold(0, |towards, (index, _)| towards | 1 << index)
    }

    /// The place whose value begins here, and how much of it is kept.
    fn place_here(&self) -> Option<(usize, usize)> {
        let towards = *self.towards.get(self.depth)?;
        let is_here = |(index, place): &(usize, &Place)| towards >> index & 1 == 1 && place.path.len() == self.depth;
        self.places.iter().enumerate().find(is_here).map(|(index, place)| (index, place.most))
    }

    fn go_on(&mut self, byte: u8, next: Next) {
        self.keep(&[byte]);
        self.next = next;
    }

    fn keep(&mut self, bytes: &[u8]) {
        if let Some(capture) = &mut self.capture {
            capture.keep(bytes);
        }
    }
}

impl Capture {
    fn new(place: usize, most: usize, depth: usize) -> Self {
        Self { place, depth, most, kept: Vec::new(), too_long: false, ended: false }
    }

    fn keep(&mut self, bytes: &[u8]) {
        self.too_long |= bytes.len() > self.most - self.kept.len();
        if !self.too_long {
            self.kept.extend_from_slice(bytes);
        }
    }

    fn found(&self) -> Found<'_> {
        Found { place: self.place, json: (!self.too_long).then_some(&self.kept) }
    }
}
