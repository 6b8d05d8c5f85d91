//! One JSON object, read as its bytes come for the values of a few places in it, and for nothing else.
//!
//! This is for what the resource says. Nothing is decided by it, so it is not judged either: a value that nobody asked for is
//! passed over by its quotes and brackets alone, as fast as these are found, and keys are compared as they are written.
//! Malformed content tells nothing, or what is well-formed in its place. Wherever content is cut, it tells the same.

mod passing;
#[cfg(test)]
mod tests;

use self::passing::Passing;

/// How far down a place may be.
const LOWEST: usize = 5;

/// A value that is looked for.
#[derive(Debug)]
pub(super) struct Place<T> {
    pub(super) what: T,
    /// The keys that lead to it from the top, at most five.
    pub(super) path: &'static [&'static str],
    /// How many bytes of its JSON are kept at most.
    pub(super) most: usize,
}

/// The value of a place.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found<'a, T> {
    pub(super) what: T,
    /// The value as it was written; [`None`] if that is longer than what is kept.
    pub(super) json: Option<&'a [u8]>,
}

/// A JSON object of which some is yet to come.
#[derive(Debug)]
pub(super) struct Skim<T: 'static> {
    places: &'static [Place<T>],
    next: Next,
    /// How many objects are open that are on the way to a place.
    depth: usize,
    /// For each of these, which places its current key leads to or towards: a bit for each.
    towards: [u8; LOWEST],
    /// The value of a place, as far as it has come.
    kept: Vec<u8>,
}

/// What comes next.
#[derive(Debug, Clone, Copy)]
enum Next {
    /// The brace that opens the object.
    Document,
    /// A key, or the end of the object.
    Key,
    /// More of a key, of which so much has been read and which may still lead to these places.
    Name {
        read: usize,
        towards: u8,
        is_escaped: bool,
    },
    Colon,
    Value,
    /// More of a value that nobody asked for.
    Other(Passing),
    /// More of the value of a place.
    Asked {
        place: usize,
        passing: Passing,
        is_too_long: bool,
    },
    /// Nothing but blanks.
    Nothing,
    /// This is no JSON object.
    Lost,
}

impl<T: Copy> Skim<T> {
    /// Looks for at most eight places, of which none is inside another.
    pub(super) fn new(places: &'static [Place<T>]) -> Self {
        Self { places, next: Next::Document, depth: 0, towards: [0; LOWEST], kept: Vec::new() }
    }

    /// Begins with another object.
    pub(super) fn restart(&mut self) {
        self.next = Next::Document;
        self.depth = 0;
    }

    /// Whether nothing but blanks has been read.
    pub(super) fn is_at_start(&self) -> bool {
        matches!(self.next, Next::Document)
    }

    /// Whether the object is complete.
    pub(super) fn has_ended(&self) -> bool {
        matches!(self.next, Next::Nothing)
    }

    /// Whether it turned out that this is no JSON object.
    pub(super) fn is_lost(&self) -> bool {
        matches!(self.next, Next::Lost)
    }

    /// Reads on to the end of a place's value, or of `piece`, and takes what it has read from `piece`.
    pub(super) fn next(&mut self, piece: &mut &[u8]) -> Option<Found<'_, T>> {
        while !piece.is_empty() {
            match self.next {
                Next::Name { read, towards, is_escaped } => self.read_name(read, towards, is_escaped, piece),
                Next::Other(mut passing) => {
                    let (_, has_ended) = passing.pass(piece);
                    self.next = if has_ended { Next::Key } else { Next::Other(passing) };
                }
                Next::Asked { place, mut passing, is_too_long } => {
                    let (value, has_ended) = passing.pass(piece);
                    let is_too_long = is_too_long || !self.keep(value, place);
                    if has_ended {
                        self.next = Next::Key;
                        let what = self.places.get(place)?.what;
                        return Some(Found { what, json: (!is_too_long).then_some(&self.kept) });
                    }
                    self.next = Next::Asked { place, passing, is_too_long };
                }
                Next::Lost => *piece = &[],
                next => {
                    *piece = piece.trim_ascii_start();
                    if let Some((&byte, rest)) = piece.split_first() {
                        *piece = rest;
                        self.next = self.after_mark(next, byte);
                    }
                }
            }
        }
        None
    }

    /// What comes after `byte`, which stands between keys and values or begins one.
    fn after_mark(&mut self, next: Next, byte: u8) -> Next {
        match (next, byte) {
            (Next::Document, b'{') => self.open(),
            (Next::Value, b'{') if self.those(self.towards_here(), |path| path.len() > self.depth) != 0 => self.open(),
            (Next::Value, _) => self.begin_value(byte),
            (Next::Key, b',') => Next::Key,
            (Next::Key, b'"') => Next::Name { read: 0, towards: self.towards_above(), is_escaped: false },
            (Next::Key, b'}') => self.close(),
            (Next::Colon, b':') => Next::Value,
            _ => Next::Lost,
        }
    }

    fn open(&mut self) -> Next {
        self.depth += 1;
        Next::Key
    }

    fn close(&mut self) -> Next {
        self.depth = self.depth.saturating_sub(1);
        if self.depth == 0 { Next::Nothing } else { Next::Key }
    }

    fn begin_value(&mut self, byte: u8) -> Next {
        let Some(passing) = Passing::over(byte) else { return Next::Lost };
        let here = self.those(self.towards_here(), |path| path.len() == self.depth);
        if here == 0 {
            return Next::Other(passing);
        }
        self.kept.clear();
        self.kept.push(byte);
        Next::Asked { place: here.trailing_zeros() as usize, passing, is_too_long: false }
    }

    fn read_name(&mut self, read: usize, towards: u8, mut is_escaped: bool, piece: &mut &[u8]) {
        let (name, has_ended) = passing::text(piece, &mut is_escaped);
        let level = self.depth.saturating_sub(1);
        let towards = self.those(towards, |path| {
            let rest = path.get(level).and_then(|key| key.as_bytes().get(read..));
            rest.is_some_and(|rest| if has_ended { rest == name } else { rest.starts_with(name) })
        });
        self.next = if has_ended {
            if let Some(here) = self.towards.get_mut(level) {
                *here = towards;
            }
            Next::Colon
        } else {
            Next::Name { read: read + name.len(), towards, is_escaped }
        };
    }

    /// Which places the object that is being read leads towards.
    fn towards_above(&self) -> u8 {
        self.depth.checked_sub(2).and_then(|above| self.towards.get(above)).copied().unwrap_or(u8::MAX)
    }

    /// Which places the current key leads to or towards.
    fn towards_here(&self) -> u8 {
        let level = self.depth.checked_sub(1);
        level.and_then(|level| self.towards.get(level)).copied().unwrap_or_default()
    }

    /// Which of the places `among` have such a path.
    fn those(&self, among: u8, path_is: impl Fn(&[&str]) -> bool) -> u8 {
        let places = self.places.iter().enumerate();
        let those = places.filter(|(index, place)| among >> index & 1 == 1 && path_is(place.path));
        those.fold(0, |those, (index, _)| those | 1 << index)
    }

    #[cfg(test)]
    pub(super) fn retained(&self) -> usize {
        self.kept.capacity()
    }

    /// Keeps more of the value of `place`, unless it becomes too long.
    fn keep(&mut self, value: &[u8], place: usize) -> bool {
        let most = self.places.get(place).map_or(0, |place| place.most);
        let fits = value.len() <= most.saturating_sub(self.kept.len());
        if fits {
            self.kept.extend_from_slice(value);
        }
        fits
    }
}
