//! OTLP's messages as bytes: as much of Protocol Buffers as it takes to write them into a buffer, without making them before
//! (<https://protobuf.dev/programming-guides/encoding/>).
//!
//! Fields are known by the numbers that OpenTelemetry gives them; our tests read them with the messages that it publishes.

/// How a field is written.
pub(super) const VARINT: u32 = 0;
pub(super) const EIGHT_BYTES: u32 = 1;
pub(super) const LENGTH: u32 = 2;
const FOUR_BYTES: u32 = 5;

/// The most bytes of a number of any size.
pub(super) const LONGEST_VARINT: usize = 10;

/// A number of any size.
pub(super) fn number(out: &mut Vec<u8>, field: u32, number: u64) {
    begin(out, field, VARINT);
    varint(out, number);
}

/// A number of four bytes.
pub(super) fn four_bytes(out: &mut Vec<u8>, field: u32, number: u32) {
    begin(out, field, FOUR_BYTES);
    out.extend_from_slice(&number.to_le_bytes());
}

/// A number of eight bytes.
pub(super) fn eight_bytes(out: &mut Vec<u8>, field: u32, number: u64) {
    begin(out, field, EIGHT_BYTES);
    out.extend_from_slice(&number.to_le_bytes());
}

/// A floating-point number.
pub(super) fn float(out: &mut Vec<u8>, field: u32, number: f64) {
    eight_bytes(out, field, number.to_bits());
}

/// Numbers of eight bytes, one behind the other.
pub(super) fn packed(out: &mut Vec<u8>, field: u32, numbers: impl ExactSizeIterator<Item = u64>) {
    length(out, field, numbers.len() * size_of::<u64>());
    numbers.for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
}

/// Bytes.
pub(super) fn bytes(out: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    length(out, field, bytes.len());
    out.extend_from_slice(bytes);
}

/// A text, of parts.
pub(super) fn text(out: &mut Vec<u8>, field: u32, parts: &[&str]) {
    length(out, field, parts.iter().map(|part| part.len()).sum());
    for part in parts {
        out.extend_from_slice(part.as_bytes());
    }
}

/// A message within, of less than 128 bytes as nearly all are.
pub(super) fn message(out: &mut Vec<u8>, field: u32, write: impl FnOnce(&mut Vec<u8>)) {
    message_of(out, field, 1, write);
}

/// A message within, whose length most likely takes so many bytes.
pub(super) fn message_of(out: &mut Vec<u8>, field: u32, bytes: usize, write: impl FnOnce(&mut Vec<u8>)) {
    begin(out, field, LENGTH);
    let at = out.len();
    out.resize(at + bytes, 0);
    write(out);
    let mut prefix = [0; LONGEST_VARINT];
    let length = digits((out.len() - at - bytes) as u64, &mut prefix);
    let prefix = prefix.get(..length).unwrap_or_default();
    match out.get_mut(at..at + bytes) {
        Some(place) if length == bytes => place.copy_from_slice(prefix),
        _ => drop(out.splice(at..at + bytes, prefix.iter().copied())),
    }
}

/// What comes before so many bytes that are a field.
pub(super) fn length(out: &mut Vec<u8>, field: u32, length: usize) {
    begin(out, field, LENGTH);
    varint(out, length as u64);
}

/// What a field begins with whose number is less than 16.
pub(super) const fn key(field: u32, kind: u32) -> u8 {
    debug_assert!(field < 16);
    let [key, ..] = (field << 3 | kind).to_le_bytes();
    key
}

fn begin(out: &mut Vec<u8>, field: u32, kind: u32) {
    varint(out, u64::from(field << 3 | kind));
}

fn varint(out: &mut Vec<u8>, number: u64) {
    // Nearly all of them are short.
    if let Ok(byte @ ..0x80) = u8::try_from(number) {
        return out.push(byte);
    }
    let mut all = [0; LONGEST_VARINT];
    let length = digits(number, &mut all);
    out.extend_from_slice(all.get(..length).unwrap_or_default());
}

/// Writes a number with seven bits a byte, the last ones first. How many bytes it takes.
pub(super) fn digits(mut number: u64, out: &mut [u8; LONGEST_VARINT]) -> usize {
    if let (..0x100_0000_0000_0000, Some(place)) = (number, out.first_chunk_mut()) {
        // Put together before it is written: who reads in one piece what was just written in several waits until all that was
        // written before has found its place in the cache, and behind a batch of spans that is long.
        let (mut word, mut shift) = (0, 0);
        while number >= 0x80 {
            word |= (number & 0x7f | 0x80) << shift;
            number >>= 7;
            shift += 8;
        }
        *place = (word | number << shift).to_le_bytes();
        return shift / 8 + 1;
    }
    let mut length = 0;
    for place in out {
        let [last, ..] = number.to_le_bytes();
        number >>= 7;
        length += 1;
        if number == 0 {
            *place = last;
            break;
        }
        *place = last | 0x80;
    }
    length
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_any_size_are_written_as_others_read_them() {
        let edges = (0..64).map(|bits| 1_u64 << bits).flat_map(|edge| [edge - 1, edge, edge | edge >> 1]);
        for number in edges.chain([u64::MAX]) {
            let (mut ours, mut theirs) = ([0; LONGEST_VARINT], Vec::new());
            let length = digits(number, &mut ours);
            prost::encoding::encode_varint(number, &mut theirs);
            assert_eq!(ours[..length], theirs, "{number}");
        }
    }
}
