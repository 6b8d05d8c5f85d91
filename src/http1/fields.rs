//! Field lines (RFC 9112 §5): from text to a map.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use httparse::{EMPTY_HEADER, Header};

use super::lines::Unclear;

/// The most fields that a head may have, and that its trailers may have.
pub(crate) const MOST: usize = 128;

/// Memory for [`MOST`] fields.
pub(crate) type Space<'bytes> = [MaybeUninit<Header<'bytes>>; MOST];

/// The fields of a trailer section with the empty line that ends it.
///
/// # Errors
///
/// What makes it none.
pub(crate) fn parse(section: &Bytes) -> Result<HeaderMap, Unclear> {
    let mut space = [EMPTY_HEADER; MOST];
    match httparse::parse_headers(section, &mut space) {
        Ok(httparse::Status::Complete((_, lines))) => map(section, lines),
        Ok(httparse::Status::Partial) => Err(Unclear("the trailers are not fields")),
        Err(error) => Err(explain(error)),
    }
}

/// A map that shares the memory of `section`, in which `lines` were found.
///
/// # Errors
///
/// A value that is none.
pub(crate) fn map(section: &Bytes, lines: &[Header<'_>]) -> Result<HeaderMap, Unclear> {
    let mut fields = HeaderMap::with_capacity(lines.len());
    for line in lines {
        let name = HeaderName::from_bytes(line.name.as_bytes()).map_err(|_| explain(httparse::Error::HeaderName))?;
        let value = HeaderValue::from_maybe_shared(section.slice_ref(line.value))
            .map_err(|_| explain(httparse::Error::HeaderValue))?;
        fields.append(name, value);
    }
    Ok(fields)
}

/// What the parser's words mean.
pub(crate) fn explain(error: httparse::Error) -> Unclear {
    Unclear(match error {
        httparse::Error::HeaderName => {
            "the name of a field holds what no name may hold, or a blank stands before its colon"
        }
        httparse::Error::HeaderValue => "the value of a field holds a control byte, or goes on in another line",
        httparse::Error::NewLine => "a line ends in a lone CR or LF",
        httparse::Error::Status | httparse::Error::Token => "the request line is none",
        httparse::Error::TooManyHeaders => "there are more than 128 fields",
        httparse::Error::Version => "the version is not HTTP/1.0 or HTTP/1.1",
    })
}
