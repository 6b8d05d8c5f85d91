//! Lines, which end in CR LF and nothing else: a lone CR or LF is an end to some readers and none to others
//! (RFC 9112 §2.2).

use memchr::memchr2;

/// What is not said in a way that everybody reads alike, and so cannot be passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Unclear(pub(crate) &'static str);

const LONE: Unclear = Unclear("a line ends in a lone CR or LF");

/// Where the first line of `bytes` ends, without its end; [`None`] if that has not come yet.
///
/// # Errors
///
/// A line that ends otherwise, or is longer than `longest`.
pub(crate) fn first(bytes: &[u8], longest: usize) -> Result<Option<usize>, Unclear> {
    let Some(end) = memchr2(b'\r', b'\n', bytes) else {
        return if bytes.len() > longest { Err(Unclear("a line is too long")) } else { Ok(None) };
    };
    match bytes.get(end..end + 2) {
        Some(b"\r\n") if end > longest => Err(Unclear("a line is too long")),
        Some(b"\r\n") => Ok(Some(end)),
        None if bytes[end] == b'\r' => Ok(None),
        _ => Err(LONE),
    }
}

/// Where the section that begins `bytes` ends, with the empty line that ends it; [`None`] if that has not come yet.
/// `scanned` is how much was looked at before.
///
/// # Errors
///
/// A line that ends otherwise.
pub(crate) fn end_of_section(bytes: &[u8], scanned: &mut usize) -> Result<Option<usize>, Unclear> {
    while let Some(found) = memchr2(b'\r', b'\n', &bytes[*scanned..]) {
        let end = *scanned + found;
        match bytes.get(end..end + 2) {
            Some(b"\r\n") => *scanned = end + 2,
            None if bytes[end] == b'\r' => {
                *scanned = end;
                return Ok(None);
            }
            _ => return Err(LONE),
        }
        if bytes[..end].ends_with(b"\r\n") {
            return Ok(Some(*scanned));
        }
    }
    *scanned = bytes.len();
    Ok(None)
}
