//! Tables: aligned, as wide as the terminal, coloured where somebody looks.

use std::io::{IsTerminal, Write};

use anstream::AutoStream;
use anstyle::Style;

use super::{Failure, written};
use crate::config::obeyed;

/// What stands between columns.
const GAP: usize = 2;
/// What lists of words are shortened to at most.
const NARROWEST: usize = 16;

/// What stands in a column: words that may be put below each other.
#[derive(Debug, Default)]
pub(super) struct Cell {
    pub(super) words: Vec<String>,
    pub(super) style: Style,
    pub(super) side: Side,
}

/// To which side of its column a cell is put.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    #[default]
    Left,
    Right,
}

impl Cell {
    pub(super) fn heading(text: &str) -> Self {
        Self::plain(text).bold()
    }

    /// What others have named must not speak to the terminal.
    pub(super) fn plain(text: &str) -> Self {
        Self { words: vec![text.replace(obeyed, " ")], ..Self::default() }
    }

    /// Nothing, where [`Cell::plain`] would say that there is nothing.
    pub(super) fn blank() -> Self {
        Self { words: vec![" ".to_owned()], ..Self::default() }
    }

    pub(super) fn bold(self) -> Self {
        Self { style: Style::new().bold(), ..self }
    }

    /// As numbers stand.
    pub(super) fn on_the_right(self) -> Self {
        Self { side: Side::Right, ..self }
    }

    /// Its words in lines of at most `width`, or of one word; at least one line.
    fn lines(&self, width: usize) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        for word in &self.words {
            match lines.last_mut().filter(|line| length(line) + 1 + length(word) <= width) {
                Some(line) => line.extend([" ", word]),
                None => lines.push(word.clone()),
            }
        }
        if self.words.iter().all(String::is_empty) { vec!["-".to_owned()] } else { lines }
    }

    fn width(&self) -> usize {
        self.lines(usize::MAX).iter().map(|line| length(line)).max().unwrap_or_default()
    }
}

/// How many columns of text the terminal has, if standard output is one.
pub(super) fn terminal_width() -> Option<usize> {
    let is_terminal = std::io::stdout().is_terminal();
    terminal_size::terminal_size().filter(|_| is_terminal).map(|(width, _)| usize::from(width.0))
}

/// On standard output, without colours where nobody sees them.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    let mut output = AutoStream::auto(std::io::stdout().lock());
    written(write!(output, "{text}").and_then(|()| output.flush()))
}

/// The rows below each other, in so many columns of text; as wide as it gets if nobody says how many. The columns that are
/// `lists` may be broken into lines, the first of them before the others.
pub(super) fn text<R: AsRef<[Cell]>>(table: &[R], lists: &[usize], width: Option<usize>) -> String {
    let widths = widths(table, lists, width);
    table.iter().map(|cells| lines(cells.as_ref(), &widths)).collect()
}

/// How wide each column is: as its widest cell, unless the terminal is too narrow and it can be broken into lines.
fn widths<R: AsRef<[Cell]>>(table: &[R], lists: &[usize], width: Option<usize>) -> Vec<usize> {
    let columns = table.first().map_or(0, |cells| cells.as_ref().len());
    let widest = |column: usize| table.iter().map(|cells| cells.as_ref()[column].width()).max().unwrap_or_default();
    let mut widths: Vec<_> = (0..columns).map(widest).collect();
    let Some(width) = width else { return widths };
    for &column in lists {
        let total = widths.iter().sum::<usize>() + GAP * columns.saturating_sub(1);
        let spare = widths[column].saturating_sub(NARROWEST);
        widths[column] -= spare.min(total.saturating_sub(width));
        // A word that is longer than that sticks out all the same.
        let lines = |cells: &R| cells.as_ref()[column].lines(widths[column]).iter().map(|line| length(line)).max();
        widths[column] = table.iter().filter_map(lines).max().unwrap_or_default();
    }
    widths
}

fn lines(cells: &[Cell], widths: &[usize]) -> String {
    let columns: Vec<_> = cells.iter().zip(widths).map(|(cell, width)| (cell.lines(*width), cell, *width)).collect();
    let height = columns.iter().map(|(lines, ..)| lines.len()).max().unwrap_or_default();
    let mut text = String::new();
    for at in 0..height {
        let mut pending = 0;
        for (lines, Cell { style, side, .. }, width) in &columns {
            let piece = lines.get(at).map_or("", String::as_str);
            let room = width - length(piece);
            let before = if *side == Side::Right { room } else { 0 };
            if !piece.is_empty() {
                text.extend([" ".repeat(pending + before), format!("{style}{piece}{style:#}")]);
                pending = 0;
            }
            // Written only if something follows: lines have no end of spaces.
            pending += if piece.is_empty() { width + GAP } else { room - before + GAP };
        }
        text.push('\n');
    }
    text
}

/// Names of models and deployments have no wide characters.
fn length(text: &str) -> usize {
    text.chars().count()
}
