//! A request's head (RFC 9112 §3 and §5): from bytes to a request, or to the reason why it is none. Pure, and strict.

use std::mem::MaybeUninit;

use bytes::{Buf, Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, Method, Request, Uri, Version};
use memchr::{memchr, memrchr};

use crate::error::ProxyError;
use crate::http1::fields::{self, Space};
use crate::http1::framing::Framing;
use crate::http1::lines::{self, Unclear};
use crate::server::list;

/// The longest head that is read.
pub(super) const LONGEST: usize = 64 * 1024;

/// A request, and what its head says of the connection that it came on.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) request: Request<()>,
    pub(super) framing: Framing,
    /// Whether another request may follow.
    pub(super) keeps_alive: bool,
    /// Whether the caller waits for a word before it sends content (RFC 9110 §10.1.1).
    pub(super) expects_continue: bool,
    /// Whether it asks to switch to another protocol, and could.
    pub(super) upgrades: bool,
}

/// Takes a head from the beginning of `buffer`; [`None`] if more bytes are needed. `scanned` is how much was looked at
/// before.
///
/// # Errors
///
/// Whatever is no head, or not a clear one.
pub(super) fn take(buffer: &mut BytesMut, scanned: &mut usize) -> Result<Option<Head>, ProxyError> {
    if *scanned == 0 {
        // Some callers end content with a line too many (RFC 9112 §2.2).
        while buffer.starts_with(b"\r\n") {
            buffer.advance(2);
        }
    }
    let Some(end) = lines::end_of_section(buffer, scanned).map_err(unclear)? else {
        return if buffer.len() > LONGEST { Err(ProxyError::HeadTooLarge) } else { Ok(None) };
    };
    if end > LONGEST {
        return Err(ProxyError::HeadTooLarge);
    }
    *scanned = 0;
    parse(&buffer.split_to(end).freeze()).map(Some)
}

fn parse(head: &Bytes) -> Result<Head, ProxyError> {
    check_target(head)?;
    let mut space: Space = [const { MaybeUninit::uninit() }; fields::MOST];
    let mut line = httparse::Request::new(&mut []);
    match line.parse_with_uninit_headers(head, &mut space) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err(unclear(Unclear("the head is none"))),
        Err(httparse::Error::TooManyHeaders) => return Err(ProxyError::HeadTooLarge),
        Err(error) => return Err(unclear(fields::explain(error))),
    }
    let version = if line.version == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 };
    let mut request = Request::new(());
    *request.version_mut() = version;
    *request.method_mut() = Method::from_bytes(line.method.unwrap_or_default().as_bytes())
        .map_err(|_| unclear(Unclear("the method is not one")))?;
    *request.uri_mut() = target(head, line.path.unwrap_or_default(), request.method())?;
    *request.headers_mut() = fields::map(head, line.headers).map_err(unclear)?;
    let fields = request.headers();
    check_host(fields, version).map_err(unclear)?;
    let framing = framing(fields, version).map_err(unclear)?;
    let keeps_alive = match version {
        Version::HTTP_10 => list::has(fields, &CONNECTION, "keep-alive") && !list::has(fields, &CONNECTION, "close"),
        _ => !list::has(fields, &CONNECTION, "close"),
    };
    Ok(Head {
        framing,
        keeps_alive,
        expects_continue: version == Version::HTTP_11 && expects_continue(fields),
        upgrades: version == Version::HTTP_11 && framing == Framing::Length(0) && fields.contains_key(UPGRADE),
        request,
    })
}

/// Says of a target that is none that it is the target: the parser speaks of the request line.
fn check_target(head: &[u8]) -> Result<(), ProxyError> {
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let (Some(begin), Some(end)) = (memchr(b' ', line), memrchr(b' ', line)) else { return Ok(()) };
    let target = line.get(begin + 1..end).unwrap_or_default();
    if target.iter().any(u8::is_ascii_control) {
        return Err(ProxyError::InvalidPath("holds a control byte"));
    }
    if str::from_utf8(target).is_err() {
        return Err(ProxyError::InvalidPath("is not UTF-8"));
    }
    Ok(())
}

/// The request target, in any of its forms (§3.2).
fn target(head: &Bytes, path: &str, method: &Method) -> Result<Uri, ProxyError> {
    if path.contains('#') {
        // The library would cut it off, and what it is cut off from may be somebody else's path.
        return Err(ProxyError::InvalidPath("holds a `#`"));
    }
    let uri = Uri::from_maybe_shared(head.slice_ref(path.as_bytes()));
    let uri = uri.map_err(|_| ProxyError::InvalidPath("is no request target"))?;
    if uri.scheme().is_none() && uri.authority().is_some() && method != Method::CONNECT {
        return Err(ProxyError::InvalidPath("is a host and no path"));
    }
    Ok(uri)
}

/// Exactly one `Host`; HTTP/1.0 did without (§3.2).
fn check_host(fields: &HeaderMap, version: Version) -> Result<(), Unclear> {
    match (fields.get_all(HOST).iter().count(), version) {
        (1, _) | (0, Version::HTTP_10) => Ok(()),
        (0, _) => Err(Unclear("the request has no Host")),
        _ => Err(Unclear("the request has more than one Host")),
    }
}

/// Where the content ends (§6.3). A request that says it twice, or in a way that an older or more lenient server reads
/// otherwise, is a way to smuggle another request past somebody.
fn framing(fields: &HeaderMap, version: Version) -> Result<Framing, Unclear> {
    let mut codings = fields.get_all(TRANSFER_ENCODING).iter();
    let mut lengths = fields.get_all(CONTENT_LENGTH).iter();
    match (codings.next(), lengths.next()) {
        (None, None) => Ok(Framing::Length(0)),
        (Some(_), Some(_)) => Err(Unclear("the request has both a Content-Length and a Transfer-Encoding")),
        (Some(_), None) if version == Version::HTTP_10 => Err(Unclear("HTTP/1.0 knows no Transfer-Encoding")),
        (Some(coding), None) if codings.next().is_none() && coding.as_bytes().eq_ignore_ascii_case(b"chunked") => {
            Ok(Framing::Chunked)
        }
        (Some(_), None) => Err(Unclear("the Transfer-Encoding is not exactly `chunked`")),
        (None, Some(_)) if lengths.next().is_some() => Err(Unclear("the request has more than one Content-Length")),
        (None, Some(length)) => {
            let digits = length.as_bytes();
            let length = str::from_utf8(digits).ok().filter(|_| digits.iter().all(u8::is_ascii_digit));
            let length = length.and_then(|length| length.parse().ok());
            length.map(Framing::Length).ok_or(Unclear("the Content-Length is not a number"))
        }
    }
}

fn expects_continue(fields: &HeaderMap) -> bool {
    fields.get_all(EXPECT).iter().any(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

fn unclear(Unclear(problem): Unclear) -> ProxyError {
    ProxyError::InvalidRequest(problem.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(head: &[u8]) -> Result<Option<Head>, ProxyError> {
        take(&mut BytesMut::from(head), &mut 0)
    }

    fn whole(fields: &str) -> Result<Head, ProxyError> {
        read(format!("POST /v1/x HTTP/1.1\r\nhost: a\r\n{fields}\r\n").as_bytes())
            .map(|head| head.expect("a whole head"))
    }

    #[test]
    fn a_head_is_the_same_however_it_comes() {
        let bytes = b"\r\nGET /v1/models?a=%2F HTTP/1.1\r\nHost: localhost\r\nX-Two:\t b \xe9 \r\nx-two: c\r\n\r\nrest";
        for part in 1..bytes.len() {
            let (mut buffer, mut scanned, mut found) = (BytesMut::new(), 0, None);
            for bytes in bytes.chunks(part) {
                buffer.extend_from_slice(bytes);
                found = found.or_else(|| take(&mut buffer, &mut scanned).unwrap());
            }
            let head = found.expect("a head");
            assert_eq!(head.request.uri(), "/v1/models?a=%2F");
            let values: Vec<_> =
                head.request.headers().get_all("x-two").iter().map(http::HeaderValue::as_bytes).collect();
            assert_eq!(values, [&b"b \xe9"[..], b"c"]);
            assert_eq!(buffer, "rest", "{part}");
            assert!(head.keeps_alive && head.framing == Framing::Length(0));
        }
    }

    #[test]
    fn content_has_one_length_or_one_coding() {
        assert_eq!(whole("Content-Length: 5\r\n").unwrap().framing, Framing::Length(5));
        assert_eq!(whole("Content-Length:05 \r\n").unwrap().framing, Framing::Length(5));
        assert_eq!(whole("Transfer-Encoding: Chunked\r\n").unwrap().framing, Framing::Chunked);
        for fields in [
            "Content-Length: 5\r\nContent-Length: 5\r\n",
            "Content-Length: 5\r\nContent-Length: 6\r\n",
            "Content-Length: 5, 5\r\n",
            "Content-Length: +5\r\n",
            "Content-Length: -5\r\n",
            "Content-Length: 0x5\r\n",
            "Content-Length: 5 5\r\n",
            "Content-Length:\r\n",
            "Content-Length: 18446744073709551616\r\n",
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked, chunked\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: identity\r\n",
            "Transfer-Encoding: xchunked\r\n",
            "Transfer-Encoding: \x0bchunked\r\n",
            "Transfer-Encoding:\r\n",
            "Transfer-Encoding : chunked\r\n",
            "Transfer-Encoding\r\n",
            "x: y\r\n Transfer-Encoding: chunked\r\n",
            "host: b\r\n",
            ": v\r\n",
            "x y: v\r\n",
            "x: y\n",
            "x: \ry\r\n",
            "x: \0y\r\n",
        ] {
            assert!(whole(fields).is_err(), "{}", fields.escape_debug());
        }
    }

    #[test]
    fn what_is_no_request_line_is_refused() {
        for line in [
            "GET /v1/x",
            "GET /v1/x HTTP/0.9",
            "GET /v1/x HTTP/1.2",
            "GET /v1/x HTTP/2.0",
            "GET /v1/x http/1.1",
            "GET  /v1/x HTTP/1.1",
            "GET /v1/x  HTTP/1.1",
            "GET\t/v1/x HTTP/1.1",
            " GET /v1/x HTTP/1.1",
            "GET /v1/x y HTTP/1.1",
            "GET /v1/x#y HTTP/1.1",
            "GET v1/x HTTP/1.1",
            "G\"T /v1/x HTTP/1.1",
            "GET /v1/\x7f HTTP/1.1",
            "",
        ] {
            assert!(read(format!("{line}\r\nhost: a\r\n\r\n").as_bytes()).is_err(), "{line:?}");
        }
        assert!(read(b"GET /v1/x HTTP/1.1\r\n\r\n").is_err(), "no host");
        assert!(read(b"GET /v1/x HTTP/1.0\r\n\r\n").is_ok());
        assert!(read(b"POST /v1/x HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n").is_err());
        assert!(read(b"GET /v1/x HTTP/1.1\n").is_err(), "at once, not when a deadline has passed");
    }

    #[test]
    fn nothing_is_kept_without_bound() {
        let long = [b"GET / HTTP/1.1\r\nhost: a\r\nx: ".to_vec(), vec![b'x'; LONGEST], b"\r\n\r\n".to_vec()].concat();
        assert!(matches!(read(&long), Err(ProxyError::HeadTooLarge)));
        assert!(matches!(read(&long[..=LONGEST]), Err(ProxyError::HeadTooLarge)));
        assert!(matches!(whole(&"x: y\r\n".repeat(fields::MOST)), Err(ProxyError::HeadTooLarge)));
        assert!(whole(&"x: y\r\n".repeat(fields::MOST - 1)).is_ok());
    }

    #[test]
    fn the_connection_is_kept_as_the_head_says() {
        assert!(!whole("connection: x, Close\r\n").unwrap().keeps_alive);
        assert!(!read(b"GET / HTTP/1.0\r\n\r\n").unwrap().unwrap().keeps_alive);
        assert!(read(b"GET / HTTP/1.0\r\nconnection: Keep-Alive\r\n\r\n").unwrap().unwrap().keeps_alive);
        assert!(whole("expect: 100-Continue\r\ncontent-length: 1\r\n").unwrap().expects_continue);
        assert!(whole("connection: upgrade\r\nupgrade: websocket\r\n").unwrap().upgrades);
        assert!(!whole("content-length: 1\r\nconnection: upgrade\r\nupgrade: websocket\r\n").unwrap().upgrades);
    }
}
