//! `--by`: what is told apart, each by its word.

use std::ffi::OsStr;

use clap::builder::{EnumValueParser, PossibleValue, TypedValueParser};
use clap::{Arg, Command, Error, ValueEnum};

/// What can be told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum By {
    App,
    Model,
    Day,
}

/// Reads a word, and lets blanks stand around it, as in `app, model`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Word;

impl TypedValueParser for Word {
    type Value = By;

    fn parse_ref(&self, command: &Command, argument: Option<&Arg>, value: &OsStr) -> Result<By, Error> {
        let word = value.to_str().map_or(value, |text| OsStr::new(text.trim()));
        EnumValueParser::new().parse_ref(command, argument, word)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(By::value_variants().iter().filter_map(ValueEnum::to_possible_value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_may_stand_around_a_word() {
        let read = |text: &str| Word.parse_ref(&Command::new("usage"), None, OsStr::new(text)).ok();
        assert_eq!([read("app"), read(" model"), read("day\t")], [Some(By::App), Some(By::Model), Some(By::Day)]);
        assert_eq!([read(""), read("app model")], [None, None]);
    }
}
