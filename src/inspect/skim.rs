//! One JSON object, read as its bytes come for the values of a few places in it, and for nothing else.
//!
//! This is for what the resource says. Nothing is decided by it, so it is not judged either: a value that nobody asked for is
//! passed over by its quotes and brackets alone, as fast as these are found, and keys are compared as they are written.
//! Malformed content tells nothing, or what is well-formed in its place. Wherever content is cut, it tells the same.

mod passing;
#[cfg(test)]
mod tests;

use std::mem;

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

    /// Reads on to the end of a place's value, or of `piece`, and takes what it has read from `piece`. Where the value is an
    /// object, `take` is asked first whether it knows it: how long it is, if all of it is there.
    pub(super) fn next<'a, 'p: 'a>(
        &'a mut self,
        piece: &mut &'p [u8],
        mut take: impl FnMut(T, &[u8]) -> Option<usize>,
    ) -> Option<Found<'a, T>> {
        while let Some((&byte, rest)) = piece.split_first() {
            match self.next {
                Next::Name { read, towards, is_escaped } => self.read_name(read, towards, is_escaped, piece),
                Next::Other(passing) => self.pass_other(passing, piece),
                Next::Asked { place, mut passing, is_too_long } => {
                    let (value, has_ended) = passing.pass(piece);
                    let is_too_long = is_too_long || !self.keep(value, place);
                    if has_ended {
                        self.end_value(piece);
                        let what = self.places.get(place)?.what;
                        return Some(Found { what, json: (!is_too_long).then_some(&self.kept) });
                    }
                    self.next = Next::Asked { place, passing, is_too_long };
                }
                Next::Lost => *piece = &[],
                Next::Value if !byte.is_ascii_whitespace() => {
                    let from = mem::replace(piece, rest);
                    if let Some((place, value)) = self.begin_value(byte, from, piece, &mut take) {
                        let place = self.places.get(place)?;
                        return Some(Found {
                            what: place.what,
                            json: Some(value).filter(|value| value.len() <= place.most),
                        });
                    }
                }
                next => {
                    *piece = rest;
                    if !byte.is_ascii_whitespace() {
                        self.after_mark(next, byte, piece);
                    }
                }
            }
        }
        None
    }

    /// What comes after `byte`, which stands between keys and values.
    #[inline]
    fn after_mark(&mut self, next: Next, byte: u8, piece: &mut &[u8]) {
        match (next, byte) {
            (Next::Key, b'"') => self.read_name(0, self.towards_above(), false, piece),
            (Next::Key, b',') => {}
            (Next::Key, b'}') => self.close(),
            (Next::Colon, b':') => self.next = Next::Value,
            (Next::Document, b'{') => self.open(),
            _ => self.next = Next::Lost,
        }
    }

    /// Passes on over a value that begins with `byte`, the first of `from` and before `piece`. If all of it is there and was
    /// asked for, that is it, and its place.
    #[inline]
    fn begin_value<'p>(
        &mut self,
        byte: u8,
        from: &'p [u8],
        piece: &mut &'p [u8],
        take: &mut impl FnMut(T, &[u8]) -> Option<usize>,
    ) -> Option<(usize, &'p [u8])> {
        let towards = self.towards_here();
        let mut place = None;
        if towards != 0 {
            if byte == b'{' && self.those(towards, |path| path.len() > self.depth) != 0 {
                self.open();
                return None;
            }
            let here = self.those(towards, |path| path.len() == self.depth);
            place = (here != 0).then(|| here.trailing_zeros() as usize);
        }
        let Some(mut passing) = Passing::over(byte) else {
            self.next = Next::Lost;
            return None;
        };
        let Some(place) = place else {
            self.pass_other(passing, piece);
            return None;
        };
        if byte == b'{'
            && let Some(asked) = self.places.get(place)
            && let Some(length) = take(asked.what, from.get(..asked.most).unwrap_or(from))
        {
            *piece = from.get(length..).unwrap_or_default();
            self.end_value(piece);
            return None;
        }
        let (rest, has_ended) = passing.pass(piece);
        let value = from.get(..=rest.len()).unwrap_or_default();
        if has_ended {
            self.end_value(piece);
            return Some((place, value));
        }
        self.kept.clear();
        let is_too_long = !self.keep(value, place);
        self.next = Next::Asked { place, passing, is_too_long };
        None
    }

    #[inline]
    fn pass_other(&mut self, mut passing: Passing, piece: &mut &[u8]) {
        let (_, has_ended) = passing.pass(piece);
        if has_ended {
            self.end_value(piece);
        } else {
            self.next = Next::Other(passing);
        }
    }

    /// What comes next is a key, behind a comma.
    #[inline]
    fn end_value(&mut self, piece: &mut &[u8]) {
        self.next = Next::Key;
        if let Some((b',', rest)) = piece.split_first() {
            *piece = rest;
        }
    }

    fn open(&mut self) {
        self.depth += 1;
        self.next = Next::Key;
    }

    fn close(&mut self) {
        self.depth = self.depth.saturating_sub(1);
        self.next = if self.depth == 0 { Next::Nothing } else { Next::Key };
    }

    fn read_name(&mut self, read: usize, towards: u8, mut is_escaped: bool, piece: &mut &[u8]) {
        let (name, has_ended) = passing::text(piece, &mut is_escaped);
        let level = self.depth.saturating_sub(1);
        let towards = if has_ended && read == 0 {
            self.those(towards, |path| path.get(level).is_some_and(|key| key.as_bytes() == name))
        } else {
            self.those(towards, |path| {
                let rest = path.get(level).and_then(|key| key.as_bytes().get(read..));
                rest.is_some_and(|rest| if has_ended { rest == name } else { rest.starts_with(name) })
            })
        };
        if !has_ended {
            self.next = Next::Name { read: read + name.len(), towards, is_escaped };
            return;
        }
        if let Some(here) = self.towards.get_mut(level) {
            *here = towards;
        }
        self.next = Next::Colon;
        if let Some((b':', rest)) = piece.split_first() {
            *piece = rest;
            self.next = Next::Value;
        }
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
