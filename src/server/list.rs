//! Fields that are lists (RFC 9110 §5.6.1).

use http::{HeaderMap, HeaderName};

/// The elements of the list that the lines of `name` make, without blanks around them. Read as bytes: an element that is no
/// text hides no other.
pub fn elements<'fields>(fields: &'fields HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'fields [u8]> {
    let lines = fields.get_all(name).iter();
    lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii)
}

/// Whether the list that the lines of `name` make has `element`, in any case.
#[must_use]
pub fn has(fields: &HeaderMap, name: &HeaderName, element: &str) -> bool {
    elements(fields, name).any(|found| found.eq_ignore_ascii_case(element.as_bytes()))
}
