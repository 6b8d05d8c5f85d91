//! Where one request ends and the next begins, nobody on the way may see differently: whatever could be read in two ways is
//! refused, and what is passed on is framed anew, once.

use std::time::Duration;

use tokio::time::timeout;

use crate::support::within;
use crate::wire::{Framing, Front, Message, Resource};

/// How long an answer to one of many requests may take, so that all that are wrong are told at once.
const PATIENCE: Duration = Duration::from_secs(20);

/// What follows every request that must be refused: it may be read as one by nobody.
const SMUGGLED: &[u8] = b"GET /v1/smuggled HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";

/// What becomes of bytes that a caller sends.
enum Outcome {
    /// Answered so, and not a byte reaches the resource.
    Refused(u16, &'static str),
    /// Refused once the content turns out to be none: the resource gets no whole request.
    Broken,
    /// Each request reaches the resource with this content, and is answered in its turn.
    Passed(&'static [&'static [u8]]),
    /// Either, but the resource sees one reading of it only.
    RefusedOrPassed(&'static [u8]),
}

use Outcome::{Broken, Passed, Refused, RefusedOrPassed};

struct Case {
    name: &'static str,
    bytes: Vec<u8>,
    outcome: Outcome,
}

const INVALID: Outcome = Refused(400, "invalid_request");
const BAD_TARGET: Outcome = Refused(400, "invalid_path");
const HELLO: Outcome = Passed(&[b"hello"]);
const EMPTY: Outcome = Passed(&[b""]);

/// These bytes.
fn raw(name: &'static str, bytes: impl AsRef<[u8]>, outcome: Outcome) -> Case {
    Case { name, bytes: bytes.as_ref().to_vec(), outcome }
}

/// A request without content and with these lines, each of which ends as it says.
fn lines(name: &'static str, lines: impl AsRef<[u8]>, outcome: Outcome) -> Case {
    let head = b"GET /v1/x HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n";
    raw(name, [head, lines.as_ref(), b"\r\n"].concat(), outcome)
}

/// A request with these lines about its content, which is five bytes long if it is read by length.
fn length(name: &'static str, lines: impl AsRef<[u8]>, outcome: Outcome) -> Case {
    let head = b"POST /v1/x HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n";
    raw(name, [head, lines.as_ref(), b"\r\nhello"].concat(), outcome)
}

/// A request with these lines about its content, which is five bytes long if it is read by chunks.
fn coding(name: &'static str, lines: impl AsRef<[u8]>, outcome: Outcome) -> Case {
    let head = b"POST /v1/x HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n";
    raw(name, [head, lines.as_ref(), b"\r\n5\r\nhello\r\n0\r\n\r\n"].concat(), outcome)
}

/// A request whose content is these chunks.
fn chunks(name: &'static str, chunks: impl AsRef<[u8]>, outcome: Outcome) -> Case {
    let head = b"POST /v1/x HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n";
    raw(name, [head, chunks.as_ref()].concat(), outcome)
}

/// A request with this line at its beginning.
fn line(name: &'static str, line: impl AsRef<[u8]>, outcome: Outcome) -> Case {
    raw(name, [line.as_ref(), b"\r\nhost: localhost\r\nconnection: close\r\n\r\n"].concat(), outcome)
}

fn content_lengths() -> Vec<Case> {
    vec![
        length("length", "content-length: 5\r\n", HELLO),
        length("length with space around it", "content-length:\t 5 \t\r\n", HELLO),
        length("length twice, equal", "content-length: 5\r\ncontent-length: 5\r\n", INVALID),
        length("length twice, different", "content-length: 5\r\ncontent-length: 6\r\n", INVALID),
        length("length twice, the first zero", "content-length: 0\r\nContent-Length: 5\r\n", INVALID),
        length("list of equal lengths", "content-length: 5, 5\r\n", INVALID),
        length("list of different lengths", "content-length: 5, 0\r\n", INVALID),
        length("length and a comma", "content-length: 5,\r\n", INVALID),
        length("length with a plus", "content-length: +5\r\n", INVALID),
        length("length with a minus", "content-length: -5\r\n", INVALID),
        length("length minus zero", "content-length: -0\r\n", INVALID),
        length("length in hexadecimal", "content-length: 0x5\r\n", INVALID),
        length("length with a hexadecimal digit", "content-length: a\r\n", INVALID),
        length("length with an exponent", "content-length: 5e0\r\n", INVALID),
        length("length with a fraction", "content-length: 5.0\r\n", INVALID),
        length("length with an underscore", "content-length: 0_5\r\n", INVALID),
        length("length with a space inside", "content-length: 5 5\r\n", INVALID),
        length("length in quotes", "content-length: \"5\"\r\n", INVALID),
        length("length with a parameter", "content-length: 5;x=1\r\n", INVALID),
        length("length of 2^64", "content-length: 18446744073709551616\r\n", INVALID),
        length("length of 2^64 + 5", "content-length: 18446744073709551621\r\n", INVALID),
        length("length of many digits", format!("content-length: {}\r\n", "9".repeat(400)), INVALID),
        length("empty length", "content-length:\r\n", INVALID),
        length("empty length and a length", "content-length:\r\ncontent-length: 5\r\n", INVALID),
        length("length in other digits", "content-length: \u{0665}\r\n", INVALID),
        length("length behind a vertical tab", b"content-length: \x0b5\r\n", INVALID),
        length("length with an underscored name", "content_length: 0\r\ncontent-length: 5\r\n", HELLO),
        length("length of an old request", "content-length: 5\r\n", HELLO).over_1_0(),
        lines("length of a GET", "content-length: 0\r\n", EMPTY),
    ]
}

fn transfer_encodings() -> Vec<Case> {
    vec![
        coding("chunked", "transfer-encoding: chunked\r\n", HELLO),
        coding("chunked in capitals", "TRANSFER-ENCODING: Chunked\r\n", HELLO),
        coding("chunked with space around it", "transfer-encoding:\t chunked \t\r\n", HELLO),
        coding("chunked, and a length", "content-length: 5\r\ntransfer-encoding: chunked\r\n", INVALID),
        coding("chunked, and a length behind it", "transfer-encoding: chunked\r\ncontent-length: 5\r\n", INVALID),
        coding("chunked, and a length of zero", "content-length: 0\r\ntransfer-encoding: chunked\r\n", INVALID),
        length("another coding, and a length", "content-length: 5\r\ntransfer-encoding: identity\r\n", INVALID),
        coding("xchunked", "transfer-encoding: xchunked\r\n", INVALID),
        coding("chunkedx", "transfer-encoding: chunkedx\r\n", INVALID),
        coding("chunk", "transfer-encoding: chunk\r\n", INVALID),
        coding("chunked twice", "transfer-encoding: chunked, chunked\r\n", INVALID),
        coding("chunked and a comma", "transfer-encoding: chunked,\r\n", INVALID),
        coding("a comma and chunked", "transfer-encoding: ,chunked\r\n", INVALID),
        coding("gzip below chunked", "transfer-encoding: gzip, chunked\r\n", INVALID),
        coding("chunked below gzip", "transfer-encoding: chunked, gzip\r\n", INVALID),
        coding("identity", "transfer-encoding: identity\r\n", INVALID),
        coding("identity below chunked", "transfer-encoding: identity, chunked\r\n", INVALID),
        coding("chunked below identity", "transfer-encoding: chunked, identity\r\n", INVALID),
        coding("chunked on two lines", "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n", INVALID),
        coding("two codings on two lines", "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n", INVALID),
        coding("and the other way round", "transfer-encoding: identity\r\ntransfer-encoding: chunked\r\n", INVALID),
        coding("chunked, and an empty line of it", "transfer-encoding:\r\ntransfer-encoding: chunked\r\n", INVALID),
        coding("empty coding", "transfer-encoding:\r\n", INVALID),
        coding("chunked in quotes", "transfer-encoding: \"chunked\"\r\n", INVALID),
        coding("chunked with a parameter", "transfer-encoding: chunked;q=1\r\n", INVALID),
        coding("chunked behind a vertical tab", b"transfer-encoding: \x0bchunked\r\n", INVALID),
        coding("chunked before a vertical tab", b"transfer-encoding: chunked\x0b\r\n", INVALID),
        coding("chunked behind a form feed", b"transfer-encoding:\x0cchunked\r\n", INVALID),
        coding("chunked before a NUL", b"transfer-encoding: chunked\0\r\n", INVALID),
        coding("chunked behind a no-break space", b"transfer-encoding:\xa0chunked\r\n", INVALID),
        coding("chunked with a Kelvin sign", "transfer-encoding: chun\u{212a}ed\r\n", INVALID),
        coding("space before the colon", "transfer-encoding : chunked\r\n", INVALID),
        coding("tab before the colon", "transfer-encoding\t: chunked\r\n", INVALID),
        coding("on a folded line", "transfer-encoding:\r\n chunked\r\n", INVALID),
        coding("behind another line's fold", "x: y\r\n transfer-encoding: chunked\r\n", INVALID),
        coding("behind a bare LF", "x: y\ntransfer-encoding: chunked\r\n", INVALID),
        coding("behind a bare CR", "x: y\rtransfer-encoding: chunked\r\n", INVALID),
        coding("chunked in an old request", "transfer-encoding: chunked\r\n", INVALID).over_1_0(),
        length("a look-alike, and a length", "transfer_encoding: chunked\r\ncontent-length: 5\r\n", HELLO),
        length("named to be dropped", "connection: transfer-encoding\r\ncontent-length: 5\r\n", HELLO),
    ]
}

fn connections() -> Vec<Case> {
    let hello = || RefusedOrPassed(b"hello");
    vec![
        lines("names the credential", "connection: authorization\r\nauthorization: Bearer theirs\r\n", EMPTY),
        lines("names our id", "connection: x-ms-client-request-id, x-request-id\r\n", EMPTY),
        lines("names the host", "connection: close, host\r\n", EMPTY),
        length("names the length", "connection: content-length\r\ncontent-length: 5\r\n", hello()),
        coding("names the coding", "connection: transfer-encoding\r\ntransfer-encoding: chunked\r\n", hello()),
        length("names itself", "connection: connection\r\ncontent-length: 5\r\n", HELLO),
        length("names what is no name", "connection: \x22, a b, @, ,\r\ncontent-length: 5\r\n", HELLO),
    ]
}

fn chunked_bodies() -> Vec<Case> {
    vec![
        chunks("two chunks", "2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", HELLO),
        chunks("no chunk", "0\r\n\r\n", EMPTY),
        chunks("capital digits", "A\r\n0123456789\r\n0\r\n\r\n", Passed(&[b"0123456789"])),
        chunks("small digits", "a\r\n0123456789\r\n0\r\n\r\n", Passed(&[b"0123456789"])),
        chunks("zeros in front", "0005\r\nhello\r\n000\r\n\r\n", HELLO),
        chunks("extension", "5;a=b\r\nhello\r\n0;c=\"d\"\r\n\r\n", HELLO),
        chunks("extension with a bare LF", "5;a\nhello\r\n0\r\n\r\n", Broken),
        chunks("extension with a bare LF in it", "5;a\nb\r\nhello\r\n0\r\n\r\n", Broken),
        chunks("extension with a bare CR in it", "5;a\rb\r\nhello\r\n0\r\n\r\n", Broken),
        chunks("extension with a NUL in it", "5;a\0b\r\nhello\r\n0\r\n\r\n", Broken),
        chunks("last extension with a bare LF", "5\r\nhello\r\n0;a\n\r\n", Broken),
        chunks("endless extension", format!("5;{}\r\nhello\r\n0\r\n\r\n", "a".repeat(200_000)), Broken),
        chunks("size with a plus", "+5\r\nhello\r\n0\r\n\r\n", Broken),
        chunks("size with a minus", "-5\r\nhello\r\n0\r\n\r\n", Broken),
        chunks("size with 0x", "0x5\r\nhello\r\n0\r\n\r\n", Broken),
        chunks("size with an underscore", "0_5\r\nhello\r\n0\r\n\r\n", Broken),
        chunks("size with a space behind it", "5 \r\nhello\r\n0\r\n\r\n", Broken),
        chunks("size with a space before it", " 5\r\nhello\r\n0\r\n\r\n", Broken),
        chunks("size with a tab behind it", "5\t\r\nhello\r\n0\r\n\r\n", Broken),
        chunks("size with a space inside", "0 5\r\nhello\r\n0\r\n\r\n", Broken),
        chunks("size of 2^64", "10000000000000000\r\nhello\r\n0\r\n\r\n", Broken),
        chunks("size of 2^64 + 5", "10000000000000005\r\nhello\r\n0\r\n\r\n", Broken),
        chunks("size of many zeros", format!("{}5\r\nhello\r\n0\r\n\r\n", "0".repeat(100_000)), Broken),
        chunks("no size", "\r\nhello\r\n0\r\n\r\n", Broken),
        chunks("no size but an extension", ";a\r\nhello\r\n0\r\n\r\n", Broken),
        chunks("size that is none", "x\r\nhello\r\n0\r\n\r\n", Broken),
        chunks("size in quotes", "\"5\"\r\nhello\r\n0\r\n\r\n", Broken),
        chunks("nothing behind a chunk", "5\r\nhello0\r\n\r\n", Broken),
        chunks("more behind a chunk", "5\r\nhello!\r\n0\r\n\r\n", Broken),
        chunks("LF behind a size", "5\nhello\r\n0\r\n\r\n", Broken),
        chunks("CR behind a size", "5\rhello\r\n0\r\n\r\n", Broken),
        chunks("LF behind a chunk", "5\r\nhello\n0\r\n\r\n", Broken),
        chunks("CR and another byte behind a chunk", "5\r\nhello\rx0\r\n\r\n", Broken),
        chunks("LF behind the last size", "5\r\nhello\r\n0\n\r\n", Broken),
        chunks("LF at the end", "5\r\nhello\r\n0\r\n\n", Broken),
        chunks("CR at the end", "5\r\nhello\r\n0\r\n\rx", Broken),
        chunks("CR before CRLF behind a size", "5\r\r\nhello\r\n0\r\n\r\n", Broken),
        chunks("trailer", "5\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n", HELLO),
        chunks("trailer with a length", "5\r\nhello\r\n0\r\ncontent-length: 9\r\n\r\n", RefusedOrPassed(b"hello")),
        chunks(
            "trailer with a credential",
            "5\r\nhello\r\n0\r\nauthorization: theirs\r\n\r\n",
            RefusedOrPassed(b"hello"),
        ),
        chunks("trailer with a key", "5\r\nhello\r\n0\r\napi-key: theirs\r\n\r\n", RefusedOrPassed(b"hello")),
        chunks("trailer with a host", "5\r\nhello\r\n0\r\nhost: evil.example\r\n\r\n", RefusedOrPassed(b"hello")),
        chunks(
            "trailer with a coding",
            "5\r\nhello\r\n0\r\ntransfer-encoding: chunked\r\n\r\n",
            RefusedOrPassed(b"hello"),
        ),
        chunks("trailer with a bare LF", "5\r\nhello\r\n0\r\nx: y\n\r\n", Broken),
        chunks("trailer with a bare LF in it", "5\r\nhello\r\n0\r\nx: y\nz: a\r\n\r\n", Broken),
        chunks("trailer on a folded line", "5\r\nhello\r\n0\r\nx: y\r\n z\r\n\r\n", Broken),
        chunks("trailer with a NUL", "5\r\nhello\r\n0\r\nx: \0\r\n\r\n", Broken),
        chunks("trailer that is none", "5\r\nhello\r\n0\r\nnonsense\r\n\r\n", Broken),
        chunks("trailer with space before the colon", "5\r\nhello\r\n0\r\nx : y\r\n\r\n", Broken),
        chunks("endless trailers", format!("5\r\nhello\r\n0\r\n{}\r\n", "x: y\r\n".repeat(40_000)), Broken),
    ]
}

fn fields() -> Vec<Case> {
    vec![
        lines("odd but allowed", b"x: \xe9\xff\t\"'()\r\nx!#$%&'*+-.^_`|~9:\r\nx:y\r\n", EMPTY),
        lines("folded line", "x: y\r\n z\r\n", INVALID),
        lines("line folded with a tab", "x: y\r\n\tz\r\n", INVALID),
        lines("folded into nothing", "x: y\r\n \r\n", INVALID),
        raw("first line folded", "GET /v1/x HTTP/1.1\r\n host: localhost\r\nhost: localhost\r\n\r\n", INVALID),
        lines("line that ends in LF", "x: y\n", INVALID),
        lines("LF in a value", "x: y\nz\r\n", INVALID),
        lines("LF in a name", "x\ny: z\r\n", INVALID),
        lines("CR in a value", "x: y\rz\r\n", INVALID),
        lines("CR in a name", "x\ry: z\r\n", INVALID),
        lines("CR before CRLF", "x: y\r\r\n", INVALID),
        lines("LF CR", "x: y\n\r\n", INVALID),
        raw("LF at the end of the head", "GET /v1/x HTTP/1.1\r\nhost: localhost\r\n\n", INVALID),
        raw("all LF", "GET /v1/x HTTP/1.1\nhost: localhost\n\n", INVALID),
        lines("NUL in a value", "x: y\0z\r\n", INVALID),
        lines("NUL in a name", "x\0: y\r\n", INVALID),
        lines("control byte in a value", b"x: \x01\r\n", INVALID),
        lines("DEL in a value", b"x: \x7f\r\n", INVALID),
        lines("space before the colon", "x : y\r\n", INVALID),
        lines("space in a name", "x y: z\r\n", INVALID),
        lines("empty name", ": y\r\n", INVALID),
        lines("no colon", "nonsense\r\n", INVALID),
        lines("bracket in a name", "x(y): z\r\n", INVALID),
        lines("at sign in a name", "x@y: z\r\n", INVALID),
        lines("obs-text in a name", b"x\xff: z\r\n", INVALID),
        lines("letter in a name that is none of ASCII's", "\u{212a}eep-alive: z\r\n", INVALID),
        lines("another Host", "host: localhost\r\n", INVALID),
        lines("another Host, of evil", "Host: evil.example\r\n", INVALID),
        raw("no Host", "GET /v1/x HTTP/1.1\r\nconnection: close\r\n\r\n", INVALID),
        raw("no Host in an old request", "GET /v1/x HTTP/1.0\r\n\r\n", INVALID),
        raw("list of Hosts", "GET /v1/x HTTP/1.1\r\nhost: localhost, evil.example\r\nconnection: close\r\n\r\n", {
            Refused(421, "host_denied")
        }),
        raw("Host with a path", "GET /v1/x HTTP/1.1\r\nhost: localhost/@evil\r\nconnection: close\r\n\r\n", {
            Refused(421, "host_denied")
        }),
        raw("Host behind an address", "GET /v1/x HTTP/1.1\r\nhost: [::1].evil.example\r\nconnection: close\r\n\r\n", {
            Refused(421, "host_denied")
        }),
        lines("head of 60 KiB", format!("x: {}\r\n", "y".repeat(60 << 10)), EMPTY),
        lines("head of 70 KiB", format!("x: {}\r\n", "y".repeat(70 << 10)), Refused(431, "invalid_request")),
        lines("many small lines", "x: y\r\n".repeat(12 << 10), Refused(431, "invalid_request")),
        lines("128 lines", "x: y\r\n".repeat(126), EMPTY),
        lines("129 lines", "x: y\r\n".repeat(127), Refused(431, "invalid_request")),
        line("endless target", format!("GET /v1/{} HTTP/1.1", "x".repeat(70 << 10)), Refused(431, "invalid_request")),
    ]
}

fn request_lines() -> Vec<Case> {
    vec![
        raw("an empty line before", "\r\nGET /v1/x HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n", EMPTY),
        raw("an LF before", "\nGET /v1/x HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n", INVALID),
        raw("a CR before", "\rGET /v1/x HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n", INVALID),
        line("absolute", "GET http://localhost/v1/x HTTP/1.1", EMPTY),
        line("any method", "PURGE!#$%&'*+-.^_`|~ /v1/x HTTP/1.1", EMPTY),
        line("two spaces behind the method", "GET  /v1/x HTTP/1.1", INVALID),
        line("two spaces behind the target", "GET /v1/x  HTTP/1.1", INVALID),
        line("space before", " GET /v1/x HTTP/1.1", INVALID),
        line("space behind", "GET /v1/x HTTP/1.1 ", INVALID),
        line("tab behind the method", "GET\t/v1/x HTTP/1.1", INVALID),
        line("tab behind the target", "GET /v1/x\tHTTP/1.1", INVALID),
        line("space in the target", "GET /v1/x y HTTP/1.1", INVALID),
        line("form feed behind the method", "GET\x0c/v1/x HTTP/1.1", INVALID),
        line("no method", "/v1/x HTTP/1.1", INVALID),
        line("no target", "GET HTTP/1.1", INVALID),
        line("empty target", "GET  HTTP/1.1", INVALID),
        line("bracket in the method", "GE(T /v1/x HTTP/1.1", INVALID),
        line("obs-text in the method", b"GE\xffT /v1/x HTTP/1.1", INVALID),
        line("NUL in the method", "GE\0T /v1/x HTTP/1.1", INVALID),
        line("colon in the method", "host: /v1/x HTTP/1.1", INVALID),
        raw("HTTP/0.9", "GET /v1/x\r\n", INVALID),
        line("HTTP/0.9 with fields", "GET /v1/x", INVALID),
        line("HTTP/0.9 by name", "GET /v1/x HTTP/0.9", INVALID),
        line("HTTP/1.2", "GET /v1/x HTTP/1.2", INVALID),
        line("HTTP/2.0", "GET /v1/x HTTP/2.0", INVALID),
        line("HTTP/2", "GET /v1/x HTTP/2", INVALID),
        line("HTTP/3.0", "GET /v1/x HTTP/3.0", INVALID),
        line("HTTP/1", "GET /v1/x HTTP/1", INVALID),
        line("HTTP/1.", "GET /v1/x HTTP/1.", INVALID),
        line("HTTP/1.10", "GET /v1/x HTTP/1.10", INVALID),
        line("HTTP/01.1", "GET /v1/x HTTP/01.1", INVALID),
        line("HTTP/1.1x", "GET /v1/x HTTP/1.1x", INVALID),
        line("HTTP/1,1", "GET /v1/x HTTP/1,1", INVALID),
        line("HTTP 1.1", "GET /v1/x HTTP 1.1", INVALID),
        line("http/1.1", "GET /v1/x http/1.1", INVALID),
        line("HTTPS/1.1", "GET /v1/x HTTPS/1.1", INVALID),
        line("RTSP/1.1", "GET /v1/x RTSP/1.1", INVALID),
        raw("LF behind the line", "GET /v1/x HTTP/1.1\nhost: localhost\r\nconnection: close\r\n\r\n", INVALID),
        raw("CR behind the line", "GET /v1/x HTTP/1.1\rhost: localhost\r\nconnection: close\r\n\r\n", INVALID),
        line("CR in the line", "GET /v1/x\rHTTP/1.1", INVALID),
        line("LF in the line", "GET /v1/x\nHTTP/1.1", INVALID),
        line("a TLS hello", b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03", INVALID),
    ]
}

fn targets() -> Vec<Case> {
    vec![
        line("NUL", "GET /v1/\0 HTTP/1.1", BAD_TARGET),
        line("control byte", "GET /v1/\x01 HTTP/1.1", BAD_TARGET),
        line("DEL", "GET /v1/\x7f HTTP/1.1", BAD_TARGET),
        line("not UTF-8", b"GET /v1/\xff HTTP/1.1", BAD_TARGET),
        line("not UTF-8 in the query", b"GET /v1/x?\xff HTTP/1.1", BAD_TARGET),
        line("fragment", "GET /v1/x#y HTTP/1.1", BAD_TARGET),
        line("fragment in the query", "GET /v1/x?y#z HTTP/1.1", BAD_TARGET),
        line("backslash", "GET /v1\\x HTTP/1.1", BAD_TARGET),
        line("neither path nor URL", "GET v1/x HTTP/1.1", BAD_TARGET),
        line("authority", "GET localhost:80 HTTP/1.1", BAD_TARGET),
        line("evil authority", "GET evil.example:80 HTTP/1.1", BAD_TARGET),
        line("of another host", "GET http://evil.example/v1/x HTTP/1.1", BAD_TARGET),
        line("of another user", "GET http://localhost@evil.example/v1/x HTTP/1.1", BAD_TARGET),
        line("of another host behind an address", "GET http://[::1]evil.example/v1/x HTTP/1.1", BAD_TARGET),
        line("of nobody", "GET http:///v1/x HTTP/1.1", BAD_TARGET),
        line("two slashes", "GET //localhost/v1/x HTTP/1.1", BAD_TARGET),
        line("tunnel", "CONNECT localhost:80 HTTP/1.1", BAD_TARGET),
        raw(
            "of ours, with a Host of theirs",
            "GET http://localhost/v1/x HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n",
            BAD_TARGET,
        ),
    ]
}

const GET: &str = "GET /v1/x HTTP/1.1\r\nhost: localhost\r\n\r\n";
const LOOK_ALIKE: &[u8] = GET.as_bytes();

fn pipelines() -> Vec<Case> {
    let last = "GET /v1/x HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let post = |content: &str| {
        format!("POST /v1/x HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n{content}", content.len())
    };
    let pieces = |content: &str| {
        let length = content.len();
        format!(
            "POST /v1/x HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n{length:x}\r\n{content}\r\n0\r\n\r\n"
        )
    };
    vec![
        raw("three", [GET, GET, last].concat(), Passed(&[b"", b"", b""])),
        raw(
            "with content",
            [&post("one"), &pieces("two"), &*post("three"), last].concat(),
            Passed(&[b"one", b"two", b"three", b""]),
        ),
        raw("with an empty line between", [GET, "\r\n", last].concat(), Passed(&[b"", b""])),
        raw("content that looks like a request", [&*post(GET), last].concat(), Passed(&[LOOK_ALIKE, b""])),
        raw("nothing behind the last", [GET, last, GET, GET].concat(), Passed(&[b"", b""])),
        raw("nothing behind an old one", ["GET /v1/x HTTP/1.0\r\nhost: localhost\r\n\r\n", GET].concat(), EMPTY),
    ]
}

impl Case {
    fn over_1_0(mut self) -> Self {
        let at = self.bytes.windows(8).position(|window| window == b"HTTP/1.1").expect("a version");
        self.bytes[at + 7] = b'0';
        self
    }

    fn must_fail(&self) -> bool {
        matches!(self.outcome, Refused(..) | Broken)
    }
}

/// Holds what became of each of `cases` against what should have.
async fn hold(cases: Vec<Case>) {
    let resource = Resource::new(|request| {
        let content = request.text();
        format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{content}", content.len()).into_bytes()
    })
    .await;
    let front = Front::of(&resource.origin, &[]).await;
    let host = resource.origin.trim_start_matches("http://");
    let all = cases.len();
    let mut wrong = Vec::new();
    for case in cases {
        let mut caller = front.call().await;
        caller.say(&case.bytes).await;
        if case.must_fail() {
            caller.say(SMUGGLED).await;
        }
        let heard = timeout(PATIENCE, caller.hear_all()).await.unwrap_or(Err("was kept waiting".to_owned()));
        if let Err(problem) = judge(&case.outcome, heard, resource.take(), host) {
            wrong.push(format!("{}: {problem}", case.name));
        }
    }
    assert!(wrong.is_empty(), "{} of {all} are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

type Answers = Result<Vec<Message>, String>;
type Arrived = (Result<Vec<Message>, String>, usize);

fn judge(outcome: &Outcome, answers: Answers, (arrived, bytes): Arrived, host: &str) -> Result<(), String> {
    let answers = answers.map_err(|problem| format!("the caller {problem}"))?;
    let arrived = arrived.map_err(|problem| format!("the resource was sent something that {problem}"))?;
    match outcome {
        Refused(status, code) => {
            refusal(&answers, *status, code)?;
            if bytes == 0 { Ok(()) } else { Err(format!("{bytes} bytes reached the resource")) }
        }
        Broken => {
            refusal(&answers, 400, "invalid_request")?;
            if arrived.is_empty() { Ok(()) } else { Err("a whole request reached the resource".to_owned()) }
        }
        Passed(contents) => passage(&answers, &arrived, contents, host),
        RefusedOrPassed(content) => {
            if answers.first().is_some_and(|answer| answer.status() == 400) {
                return judge(&Broken, Ok(answers), (Ok(arrived), bytes), host);
            }
            passage(&answers, &arrived, &[content], host)
        }
    }
}

/// One answer of the proxy's own, and the connection closed behind it.
fn refusal(answers: &[Message], status: u16, code: &str) -> Result<(), String> {
    let [answer] = answers else {
        let told: Vec<String> = answers.iter().map(Message::start).collect();
        return Err(format!("was answered {told:?}"));
    };
    if answer.status() != status {
        return Err(format!("was answered {} {}", answer.start(), answer.text()));
    }
    if answer.code() != code {
        return Err(format!("was answered {status} with the code {:?}", answer.code()));
    }
    let expected = if status == 421 { "http_request_denied" } else { "http_request_error" };
    let proxy_status = answer.values("proxy-status");
    if proxy_status != [format!("aoai-auth-proxy; error={expected}")] {
        return Err(format!("was answered with the Proxy-Status {proxy_status:?}"));
    }
    Ok(())
}

/// Each request once, with one of each field that matters, and its answers in order.
fn passage(answers: &[Message], arrived: &[Message], contents: &[&[u8]], host: &str) -> Result<(), String> {
    let got: Vec<&[u8]> = arrived.iter().map(|request| &*request.content).collect();
    if got != contents {
        let got: Vec<_> = got.into_iter().map(String::from_utf8_lossy).collect();
        let told: Vec<String> = answers.iter().map(|answer| format!("{} {}", answer.start(), answer.text())).collect();
        return Err(format!("reached the resource as {got:?} and was answered {told:?}"));
    }
    arrived.iter().try_for_each(|request| sound(request, host))?;
    let said: Vec<(u16, &[u8])> = answers.iter().map(|answer| (answer.status(), &*answer.content)).collect();
    let expected: Vec<(u16, &[u8])> = contents.iter().map(|content| (200, *content)).collect();
    if said == expected { Ok(()) } else { Err("was answered otherwise than it was sent".to_owned()) }
}

/// Sent to the resource alone, with our token alone, and framed.
pub(crate) fn sound(request: &Message, host: &str) -> Result<(), String> {
    let (hosts, keys) = (request.values("host"), request.values("authorization"));
    if hosts != [host] {
        return Err(format!("was sent to the hosts {hosts:?}"));
    }
    if keys.len() != 1 || !keys[0].starts_with("Bearer ey") {
        return Err(format!("was sent with the keys {keys:?}"));
    }
    if !request.start().contains(" /openai/") {
        return Err(format!("was sent as {}", request.start()));
    }
    if !request.content.is_empty() && request.framing == Framing::None {
        return Err("was sent without framing".to_owned());
    }
    if let Some((name, _)) = request.trailers.iter().find(|(name, _)| name != "x-sum") {
        return Err(format!("was sent with {name} in its trailers"));
    }
    Ok(())
}

#[tokio::test]
async fn lengths() {
    hold(content_lengths()).await;
}

#[tokio::test]
async fn codings() {
    hold(transfer_encodings()).await;
}

#[tokio::test]
async fn connection_names_no_field_that_frames_or_authorizes() {
    hold(connections()).await;
}

#[tokio::test]
async fn chunks_are_read_to_the_letter() {
    hold(chunked_bodies()).await;
}

#[tokio::test]
async fn lines_of_a_head_are_read_to_the_letter() {
    hold(fields()).await;
}

#[tokio::test]
async fn first_lines_are_read_to_the_letter() {
    hold(request_lines()).await;
}

#[tokio::test]
async fn targets_that_are_none_are_refused() {
    hold(targets()).await;
}

#[tokio::test]
async fn requests_behind_one_another_are_answered_in_order() {
    hold(pipelines()).await;
}

#[tokio::test]
async fn a_head_that_does_not_end_is_answered_in_time() {
    let resource = Resource::new(|_| b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec()).await;
    let front = Front::of(&resource.origin, &["limits.header_timeout=200ms"]).await;
    for beginning in
        ["G", "GET /v1/x HTTP/1.1\r\n", "GET /v1/x HTTP/1.1\r\nhost: localhost\r\n", "GET /v1/x HTTP/1.1\r\nhost"]
    {
        let mut caller = front.call().await;
        caller.say(beginning.as_bytes()).await;
        let answers = within(caller.hear_all()).await.unwrap();
        assert_eq!(refusal(&answers, 408, "request_timeout"), Ok(()), "{beginning:?}");
    }
    // A second head on a connection that has carried one has no more time than the first.
    let mut caller = front.call().await;
    caller.say(b"GET /v1/x HTTP/1.1\r\nhost: localhost\r\n\r\nGET /v1/x HTTP/1.1\r\n").await;
    assert_eq!(within(caller.hear(false)).await.unwrap().status(), 200);
    let answers = within(caller.hear_all()).await.unwrap();
    assert_eq!(refusal(&answers, 408, "request_timeout"), Ok(()));
}

/// However the bytes of a request are cut into packets, it is the same request.
#[tokio::test]
async fn a_request_may_come_byte_by_byte() {
    let resource = Resource::new(|_| b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_vec()).await;
    let front = Front::of(&resource.origin, &[]).await;
    let request =
        b"\r\nPOST /v1/x HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n\
        5;a=b\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n";
    let mut caller = front.call().await;
    for byte in request {
        caller.say(&[*byte]).await;
        tokio::task::yield_now().await;
    }
    let answers = within(caller.hear_all()).await.unwrap();
    assert_eq!(answers.iter().map(Message::status).collect::<Vec<_>>(), [200]);
    let arrived = resource.take().0.unwrap();
    assert_eq!(arrived.iter().map(Message::text).collect::<Vec<_>>(), ["hello"]);
}
