//! The heads of HTTP/1.1: a request's as it is written, a response's as it is read (RFC 9112 §3 to §6). Pure, and strict.

use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};
use http::header::{AUTHORIZATION, CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TRANSFER_ENCODING};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Version};
use http_body::SizeHint;
use hyper::ext::ReasonPhrase;

use crate::http1::encoding::Coding;
use crate::http1::fields::{self, Space};
use crate::http1::framing::Framing;
use crate::http1::lines::{self, Unclear};
use crate::http1::outgoing::Outgoing;
use crate::server::list;

/// The longest head that is read.
const LONGEST: usize = 256 * 1024;

/// What a request's head says.
#[derive(Debug, Clone, Copy)]
pub(in crate::forward) struct RequestHead<'request> {
    pub(in crate::forward) method: &'request Method,
    pub(in crate::forward) target: &'request PathAndQuery,
    pub(in crate::forward) host: &'request HeaderValue,
    pub(in crate::forward) authorization: &'request HeaderValue,
    /// All others.
    pub(in crate::forward) fields: &'request HeaderMap,
    /// Whether the content is held back until the resource wants it (RFC 9110 §10.1.1).
    pub(in crate::forward) expects_continue: bool,
}

/// How a response's head says where its content ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    Framed(Framing),
    /// With the connection.
    UntilClose,
}

/// A response's head.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) response: Response<()>,
    pub(super) extent: Extent,
    /// Whether another request may follow.
    pub(super) keeps_alive: bool,
}

/// How content of this size is written with a request.
pub(super) fn coding(size: &SizeHint) -> Coding {
    match size.exact() {
        Some(0) => Coding::Nothing,
        Some(length) => Coding::Length(length),
        None => Coding::Chunked,
    }
}

/// Writes a request's head. The fields that say where its content ends are of `coding`, and what is missing is added.
pub(super) fn write(outgoing: &mut Outgoing, head: RequestHead<'_>, coding: Coding) {
    outgoing.text(head.method.as_str().as_bytes());
    outgoing.text(b" ");
    outgoing.text(head.target.as_str().as_bytes());
    outgoing.text(b" HTTP/1.1\r\n");
    outgoing.field(&HOST, head.host);
    outgoing.field(&AUTHORIZATION, head.authorization);
    let mut has_length = false;
    for (name, value) in head.fields {
        match *name {
            HOST | TRANSFER_ENCODING => continue,
            CONTENT_LENGTH if coding == Coding::Chunked => continue,
            CONTENT_LENGTH => has_length = true,
            _ => {}
        }
        outgoing.field(name, value);
    }
    match coding {
        Coding::Chunked => outgoing.field(&TRANSFER_ENCODING, &HeaderValue::from_static("chunked")),
        Coding::Length(length) if !has_length => outgoing.field(&CONTENT_LENGTH, &HeaderValue::from(length)),
        Coding::Length(_) | Coding::Nothing | Coding::UntilClose => {}
    }
    if head.expects_continue {
        outgoing.field(&EXPECT, &HeaderValue::from_static("100-continue"));
    }
    outgoing.text(b"\r\n");
}

/// Takes a response's head from the beginning of `buffer`; [`None`] if more bytes are needed. `scanned` is how much was
/// looked at before, `method` what was asked with.
///
/// # Errors
///
/// Whatever is no head, or not a clear one.
pub(super) fn take(buffer: &mut BytesMut, scanned: &mut usize, method: &Method) -> Result<Option<Head>, Unclear> {
    let end = lines::end_of_section(buffer, scanned)?;
    if end.unwrap_or(buffer.len()) > LONGEST {
        return Err(Unclear("the head of the response is too long"));
    }
    let Some(end) = end else { return Ok(None) };
    *scanned = 0;
    parse(&buffer.split_to(end).freeze(), method).map(Some)
}

fn parse(head: &Bytes, method: &Method) -> Result<Head, Unclear> {
    let mut space: Space = [const { MaybeUninit::uninit() }; fields::MOST];
    let mut line = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut line, head, &mut space);
    match parsed {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err(Unclear("the head of the response is none")),
        Err(httparse::Error::Status | httparse::Error::Token) => {
            return Err(Unclear("the response does not begin with a status line"));
        }
        Err(error) => return Err(fields::explain(error)),
    }
    let status = StatusCode::from_u16(line.code.unwrap_or_default())
        .map_err(|_| Unclear("the response does not begin with a status line"))?;
    let version = if line.version == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 };
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.version_mut() = version;
    *response.headers_mut() = fields::map(head, line.headers)?;
    let reason = line.reason.unwrap_or_default();
    if status.canonical_reason() != Some(reason)
        && let Ok(reason) = ReasonPhrase::try_from(Bytes::copy_from_slice(reason.as_bytes()))
    {
        response.extensions_mut().insert(reason);
    }
    let fields = response.headers();
    let extent = extent(fields, method, status, version)?;
    let says = |word| list::has(fields, &CONNECTION, word);
    let keeps_alive = match version {
        Version::HTTP_10 => says("keep-alive") && !says("close"),
        _ => !says("close"),
    };
    // Content whose end is said twice may be read otherwise by somebody else: nothing follows it (§6.3).
    let is_clear = !(fields.contains_key(TRANSFER_ENCODING) && fields.contains_key(CONTENT_LENGTH));
    Ok(Head { extent, keeps_alive: keeps_alive && is_clear && extent != Extent::UntilClose, response })
}

/// Where the content ends (§6.3).
fn extent(fields: &HeaderMap, method: &Method, status: StatusCode, version: Version) -> Result<Extent, Unclear> {
    if method == Method::HEAD
        || status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
    {
        return Ok(Extent::Framed(Framing::Length(0)));
    }
    let mut codings = fields.get_all(TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next() {
        let is_chunked = coding.as_bytes().eq_ignore_ascii_case(b"chunked") && codings.next().is_none();
        return match version {
            Version::HTTP_10 => Err(Unclear("HTTP/1.0 knows no Transfer-Encoding")),
            _ if is_chunked => Ok(Extent::Framed(Framing::Chunked)),
            _ => Err(Unclear("the response's Transfer-Encoding is not exactly `chunked`")),
        };
    }
    let mut lengths = list::elements(fields, &CONTENT_LENGTH);
    let Some(first) = lengths.next() else { return Ok(Extent::UntilClose) };
    if lengths.any(|length| length != first) {
        return Err(Unclear("the response has more than one Content-Length"));
    }
    let digits = str::from_utf8(first).ok().filter(|_| first.iter().all(u8::is_ascii_digit));
    let length = digits.and_then(|digits| digits.parse().ok()).ok_or(Unclear("the Content-Length is not a number"))?;
    Ok(Extent::Framed(Framing::Length(length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(head: &str) -> Result<Head, Unclear> {
        read_for(head, &Method::POST)
    }

    fn read_for(head: &str, method: &Method) -> Result<Head, Unclear> {
        take(&mut BytesMut::from(head), &mut 0, method).map(|head| head.expect("a whole head"))
    }

    #[test]
    fn content_ends_where_the_head_says() {
        for (fields, extent, keeps_alive) in [
            ("content-length: 5\r\n", Extent::Framed(Framing::Length(5)), true),
            ("content-length: 5\r\ncontent-length: 5\r\n", Extent::Framed(Framing::Length(5)), true),
            ("content-length: 5, 5\r\n", Extent::Framed(Framing::Length(5)), true),
            ("content-length: 5\r\nconnection: x, close\r\n", Extent::Framed(Framing::Length(5)), false),
            ("transfer-encoding: Chunked\r\n", Extent::Framed(Framing::Chunked), true),
            ("transfer-encoding: chunked\r\ncontent-length: 5\r\n", Extent::Framed(Framing::Chunked), false),
            ("", Extent::UntilClose, false),
        ] {
            let head = read(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n")).unwrap();
            assert_eq!((head.extent, head.keeps_alive), (extent, keeps_alive), "{fields}");
        }
    }

    #[test]
    fn some_responses_have_no_content_whatever_they_say() {
        let none = Extent::Framed(Framing::Length(0));
        for status in ["103 Early Hints", "204 No Content", "304 Not Modified"] {
            assert_eq!(read(&format!("HTTP/1.1 {status}\r\ncontent-length: 5\r\n\r\n")).unwrap().extent, none);
        }
        let head = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n";
        assert_eq!(read_for(head, &Method::HEAD).unwrap().extent, none);
    }

    #[test]
    fn what_is_no_clear_head_is_refused() {
        for head in [
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 5, 6\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: +5\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length:\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: identity\r\n\r\n",
            "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nx: y\nz: w\r\n\r\n",
            "HTTP/1.1 200 OK\r\nx : y\r\n\r\n",
            "HTTP/1.1 99 OK\r\n\r\n",
            "HTTP/3.0 200 OK\r\n\r\n",
            "ICY 200 OK\r\n\r\n",
        ] {
            assert!(read(head).is_err(), "{head:?}");
        }
    }

    #[test]
    fn an_older_version_keeps_nothing_by_itself() {
        assert!(!read("HTTP/1.0 200 OK\r\ncontent-length: 1\r\n\r\n").unwrap().keeps_alive);
        assert!(read("HTTP/1.0 200 OK\r\ncontent-length: 1\r\nconnection: Keep-Alive\r\n\r\n").unwrap().keeps_alive);
    }

    #[test]
    fn the_reason_passes_if_it_is_not_the_usual_one() {
        assert!(read("HTTP/1.1 200 OK\r\n\r\n").unwrap().response.extensions().is_empty());
        let head = read("HTTP/1.1 200 Fine\r\n\r\n").unwrap();
        assert_eq!(head.response.extensions().get::<ReasonPhrase>().unwrap().as_bytes(), b"Fine");
    }
}
