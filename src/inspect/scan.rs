//! Where the next byte is that means something. Eight are looked at in one word, which is all that a short text takes; of
//! a long one, as many together as the machine can.

use memchr::{memchr2, memchr3};

/// How many bytes are looked at together: the compiler makes vector instructions of it.
const TOGETHER: usize = 64;
/// How many words are looked at one by one before that pays.
const FIRST: usize = 4;
/// How many bytes are looked at one by one where texts follow each other closely.
const NEAR: usize = 12;

/// How many bytes at the beginning of `bytes` a text goes on with: up to a quote, a backslash or a control byte.
pub(super) fn plain(bytes: &[u8]) -> usize {
    run(bytes, |word| (of_quote_or_control(word) | of(word, b'\\')) & !word & each(0x80))
}

/// The same, or up to a byte that is not ASCII.
#[inline]
pub(super) fn plain_ascii(bytes: &[u8]) -> usize {
    near(bytes, in_ascii).unwrap_or_else(|| far_in_ascii(bytes))
}

/// The text that is written as `json`, if it is one and stands there as it is, without an escape.
pub(super) fn text(json: &[u8]) -> Option<&str> {
    let text = json.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    if plain(text) == text.len() { str::from_utf8(text).ok() } else { None }
}

/// Where the first quote or backslash is.
#[inline]
pub(super) fn quote_or_backslash(bytes: &[u8]) -> Option<usize> {
    let marks = |word| (of(word, b'"') | of(word, b'\\')) & !word & each(0x80);
    let (at, rest) = in_words(bytes, FIRST, marks);
    if at.is_some() { at } else { Some(bytes.len() - rest.len() + memchr2(b'"', b'\\', rest)?) }
}

/// Where the first quote, `a` or `b` is.
#[inline]
pub(super) fn quote_or(bytes: &[u8], a: u8, b: u8) -> Option<usize> {
    let near = bytes.get(..NEAR).unwrap_or(bytes);
    let is = |byte: &u8| *byte == b'"' || *byte == a || *byte == b;
    near.iter().position(is).or_else(|| Some(near.len() + memchr3(b'"', a, b, bytes.get(near.len()..)?)?))
}

#[inline(never)]
fn far_in_ascii(bytes: &[u8]) -> usize {
    run(bytes, in_ascii)
}

/// Where the first mark is, if it is in the first word.
#[inline]
fn near(bytes: &[u8], marks: impl Fn(u64) -> u64) -> Option<usize> {
    let marks = marks(u64::from_le_bytes(*bytes.first_chunk()?));
    (marks != 0).then(|| marks.trailing_zeros() as usize / 8)
}

/// Where the first mark is that tells a quote from what is before it, or the end.
#[inline]
fn run(bytes: &[u8], marks: impl Fn(u64) -> u64) -> usize {
    let (at, mut rest) = in_words(bytes, FIRST, &marks);
    if let Some(at) = at {
        return at;
    }
    let is_clear = |block: &[u8; TOGETHER]| {
        block.as_chunks().0.iter().fold(0, |all, word| all | marks(u64::from_le_bytes(*word))) == 0
    };
    while let Some((block, behind)) = rest.split_first_chunk()
        && is_clear(block)
    {
        rest = behind;
    }
    let (at, last) = in_words(rest, usize::MAX, &marks);
    let behind = bytes.len() - rest.len();
    at.map_or_else(
        || {
            // With a mark behind the end.
            let mut word = [b'"'; 8];
            word.iter_mut().zip(last).for_each(|(place, byte)| *place = *byte);
            bytes.len() - last.len() + marks(u64::from_le_bytes(word)).trailing_zeros() as usize / 8
        },
        |at| behind + at,
    )
}

/// Where the first mark is in the first words, as many as that, or what is behind them.
#[inline]
fn in_words(bytes: &[u8], most: usize, marks: impl Fn(u64) -> u64) -> (Option<usize>, &[u8]) {
    let (mut rest, mut left) = (bytes, most);
    while left > 0
        && let Some((word, behind)) = rest.split_first_chunk()
    {
        let marks = marks(u64::from_le_bytes(*word));
        if marks != 0 {
            return (Some(bytes.len() - rest.len() + marks.trailing_zeros() as usize / 8), rest);
        }
        rest = behind;
        left -= 1;
    }
    (None, rest)
}

fn in_ascii(word: u64) -> u64 {
    (of_quote_or_control(word) | of(word, b'\\') | word) & each(0x80)
}

/// Marks the first byte of ASCII in `word` that is `byte`, and perhaps some behind it, among other bits.
const fn of(word: u64, byte: u8) -> u64 {
    (word ^ each(byte)).wrapping_sub(each(1))
}

/// Marks the first that is a quote or a control byte, alike.
const fn of_quote_or_control(word: u64) -> u64 {
    // With this bit turned, a quote is a blank; control bytes stay what they are.
    (word ^ each(b'"' ^ b' ')).wrapping_sub(each(b' ' + 1))
}

const fn each(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    /// Runs of what means nothing, with something in between.
    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let nothing = vec(select(b"az!#[]\x7f \x80\xff".as_slice()), 0..90);
        vec((nothing, any::<u8>()), 0..4).prop_map(|parts| {
            parts
                .into_iter()
                .flat_map(|(mut nothing, byte)| {
                    nothing.push(byte);
                    nothing
                })
                .collect()
        })
    }

    proptest! {
        #[test]
        fn it_is_where_a_look_at_each_byte_finds_it(bytes in bytes(), a in any::<u8>(), b in any::<u8>()) {
            let means_something = |byte: &u8| *byte < b' ' || matches!(byte, b'"' | b'\\');
            let at = |is: &dyn Fn(&u8) -> bool| bytes.iter().position(is);
            prop_assert_eq!(plain(&bytes), at(&means_something).unwrap_or(bytes.len()));
            prop_assert_eq!(plain_ascii(&bytes), at(&|byte| means_something(byte) || !byte.is_ascii()).unwrap_or(bytes.len()));
            prop_assert_eq!(quote_or_backslash(&bytes), at(&|byte| matches!(byte, b'"' | b'\\')));
            prop_assert_eq!(quote_or(&bytes, a, b), at(&|byte| [b'"', a, b].contains(byte)));
        }
    }

    #[test]
    fn a_run_ends_where_json_begins() {
        for end in [b'"', b'\\', 0, b'\n', 0x1f] {
            for length in 0..100 {
                let bytes = [vec![b'x'; length], vec![end], vec![end; 40]].concat();
                assert_eq!((plain(&bytes), plain_ascii(&bytes)), (length, length), "{end}");
                assert_eq!((plain(&bytes[..length]), plain_ascii(&bytes[..length])), (length, length));
            }
        }
        assert_eq!(plain(" \u{7f}é€𝄞'".repeat(9).as_bytes()), 12 * 9);
        assert_eq!(plain_ascii(" \u{7f}é€𝄞'".repeat(9).as_bytes()), 2);
    }
}
