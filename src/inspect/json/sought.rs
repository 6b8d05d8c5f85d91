//! The value that is looked for, which is handed out from where it stands in a piece: only what earlier pieces had of it is
//! kept.

use super::Found;

/// The value that is looked for.
#[derive(Debug)]
pub(super) struct Sought {
    /// It is being read.
    pub(super) is_here: bool,
    /// Where it begins in the piece that is being read.
    pub(super) begin: usize,
    /// What was read of it in earlier pieces.
    kept: Vec<u8>,
    /// How much is kept at most.
    most: usize,
    is_too_long: bool,
}

impl Sought {
    /// One of which so much is kept at most.
    pub(super) fn new(most: usize) -> Self {
        Self { is_here: false, begin: 0, kept: Vec::new(), most, is_too_long: false }
    }

    /// It begins here in the piece that is being read.
    pub(super) fn begin(&mut self, begin: usize) {
        self.is_here = true;
        self.begin = begin;
        self.kept.clear();
        self.is_too_long = false;
    }

    /// Keeps what the piece that was read has of it.
    pub(super) fn keep(&mut self, piece: &[u8]) {
        let value = piece.get(self.begin..).unwrap_or_default();
        if self.is_here && !self.is_too_long {
            self.is_too_long = value.len() > self.most - self.kept.len();
            if !self.is_too_long {
                self.kept.extend_from_slice(value);
            }
        }
    }

    /// It ends with what was `read` of this piece.
    pub(super) fn end<'a>(&'a mut self, read: &'a [u8]) -> Found<'a> {
        if self.kept.is_empty() && !self.is_too_long {
            self.is_here = false;
            return read.get(self.begin..).filter(|value| value.len() <= self.most);
        }
        self.keep(read);
        self.is_here = false;
        (!self.is_too_long).then_some(&*self.kept)
    }
}
