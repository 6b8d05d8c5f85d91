//! Requests that were good until something was done to them: whatever the proxy makes of them, the resource gets none that a
//! strict reader would not have found at the same place.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{RngAlgorithm, TestError, TestRng, TestRunner};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use crate::framing::sound;
use crate::wire::{Front, Kind, Message, Resource, read};

const CASES: u32 = 300;

/// How long a connection may stay open on which everything has been said.
const PATIENCE: Duration = Duration::from_secs(20);

/// Stands in targets for the number of the case, so that the requests of one are not taken for another's.
const NUMBER: &[u8] = b"0000000";

/// Good requests, which may stand behind one another.
const GOOD: &[&str] = &[
    "GET /v1/0000000a HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "DELETE /v1/0000000b HTTP/1.1\r\nhost: localhost\r\nx-custom: a, b\r\n\r\n",
    "POST /v1/0000000c HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\n\r\nhello",
    "POST /v1/0000000d HTTP/1.1\r\nhost: localhost\r\nContent-Length: 52\r\n\r\nGET /v1/0000000e HTTP/1.1\r\nhost: localhost\r\nx: y\r\n\r\n",
    "POST /v1/0000000f HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "PUT /v1/0000000g HTTP/1.1\r\nhost: localhost\r\nTransfer-Encoding: chunked\r\ntrailer: x-sum\r\n\r\n\
        3;a=b\r\nhel\r\n2\r\nlo\r\n0\r\nx-sum: 1\r\n\r\n",
    "POST /v1/0000000h HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n\
        35\r\nGET /v1/0000000i HTTP/1.1\r\nhost: localhost\r\nx: yz\r\n\r\n\r\n0\r\n\r\n",
    "POST /v1/0000000j HTTP/1.0\r\nhost: localhost\r\ncontent-length: 2\r\n\r\nok",
    "GET /v1/0000000k HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
];

/// What is put between.
const PIECES: &[&str] = &[
    "\r\n",
    "\n",
    "\r",
    "\r\n\r\n",
    "\n\n",
    "\0",
    " ",
    "\t",
    "\x0b",
    ":",
    ",",
    ";",
    "0",
    "5",
    "a",
    "+",
    "-",
    "0x",
    "\r\n ",
    "\r\n\t",
    "content-length: 3\r\n",
    "content-length: 5\r\n",
    "Content-Length : 0\r\n",
    "transfer-encoding: chunked\r\n",
    "transfer-encoding: identity\r\n",
    "Transfer-Encoding:\x0bchunked\r\n",
    ", chunked",
    "xchunked",
    "host: localhost\r\n",
    "host: evil.example\r\n",
    "authorization: Bearer theirs\r\n",
    "connection: close\r\n",
    "connection: content-length\r\n",
    "connection: transfer-encoding, host, authorization\r\n",
    "expect: 100-continue\r\n",
    "upgrade: h2c\r\n",
    "0\r\n\r\n",
    "5\r\n",
    "0\r\nhost: x\r\n\r\n",
    ";a=\n",
    "HTTP/1.0",
    "HTTP/1.1\r\n",
    "GET /v1/0000000z HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "%0d%0a",
    "\u{e9}",
];

/// What is done to the bytes of a request.
#[derive(Debug, Clone)]
enum Change {
    Insert(Index, &'static str),
    Overwrite(Index, &'static str),
    Remove(Index, usize),
    Repeat(Index, usize),
    Set(Index, u8),
    /// The lines of a head are changed oftener than what they hold.
    AtLine(Index, &'static str),
    EndLine(Index, &'static str),
}

fn change() -> impl Strategy<Value = Change> {
    let (at, piece) = (any::<Index>, || select(PIECES));
    prop_oneof![
        3 => (at(), piece()).prop_map(|(at, piece)| Change::Insert(at, piece)),
        1 => (at(), piece()).prop_map(|(at, piece)| Change::Overwrite(at, piece)),
        2 => (at(), 1..4_usize).prop_map(|(at, length)| Change::Remove(at, length)),
        1 => (at(), 1..40_usize).prop_map(|(at, length)| Change::Repeat(at, length)),
        1 => (at(), any::<u8>()).prop_map(|(at, byte)| Change::Set(at, byte)),
        6 => (at(), piece()).prop_map(|(at, piece)| Change::AtLine(at, piece)),
        2 => (at(), select(vec!["\n", "\r", "\r\r\n", " \r\n", "\0\r\n", "\r\n ", ""]))
            .prop_map(|(at, end)| Change::EndLine(at, end)),
    ]
}

impl Change {
    fn make(&self, bytes: &mut Vec<u8>) {
        let ends = |bytes: &[u8]| -> Vec<usize> {
            bytes.windows(2).enumerate().filter(|(_, two)| two == b"\r\n").map(|(at, _)| at).collect()
        };
        let within = |at: usize, length: usize, bytes: &[u8]| at..bytes.len().min(at + length);
        match self {
            Self::Insert(at, piece) => {
                let at = at.index(bytes.len() + 1);
                bytes.splice(at..at, piece.bytes());
            }
            Self::Overwrite(at, piece) => {
                let range = within(at.index(bytes.len() + 1), piece.len(), bytes);
                bytes.splice(range, piece.bytes());
            }
            Self::Remove(at, length) => {
                let range = within(at.index(bytes.len() + 1), *length, bytes);
                bytes.drain(range);
            }
            Self::Repeat(at, length) => {
                let range = within(at.index(bytes.len() + 1), *length, bytes);
                let again = bytes[range.clone()].to_vec();
                bytes.splice(range.end..range.end, again);
            }
            Self::Set(at, byte) if !bytes.is_empty() => {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            Self::AtLine(at, piece) if !ends(bytes).is_empty() => {
                let at = *at.get(&ends(bytes)) + 2;
                bytes.splice(at..at, piece.bytes());
            }
            Self::EndLine(at, end) if !ends(bytes).is_empty() => {
                let at = *at.get(&ends(bytes));
                bytes.splice(at..at + 2, end.bytes());
            }
            Self::Set(..) | Self::AtLine(..) | Self::EndLine(..) => {}
        }
    }
}

fn mangled() -> impl Strategy<Value = Vec<u8>> {
    (vec(select(GOOD), 1..4), vec(change(), 0..4)).prop_map(|(good, changes)| {
        let mut bytes = good.concat().into_bytes();
        for change in &changes {
            change.make(&mut bytes);
        }
        bytes
    })
}

fn numbered(bytes: &[u8], case: usize) -> Vec<u8> {
    let number = format!("{case:07}");
    let mut bytes = bytes.to_vec();
    while let Some(at) = bytes.windows(NUMBER.len()).position(|window| window == NUMBER) {
        bytes[at..at + NUMBER.len()].copy_from_slice(number.as_bytes());
    }
    bytes
}

/// What tells one request from another: what it asks for, and its content.
type Seen = (String, Vec<u8>);

/// The requests that a strict reader finds, up to where it gives up.
fn strictly(mut bytes: &[u8]) -> Vec<Seen> {
    let mut seen = Vec::new();
    loop {
        while let Some(rest) = bytes.strip_prefix(b"\r\n") {
            bytes = rest;
        }
        let Ok(Some((request, length))) = read(bytes, Kind::Request, false) else { return seen };
        let start = request.start();
        let target = start.split(' ').nth(1).unwrap_or_default();
        let target = target.split_once("/v1/").map(|(_, rest)| format!("/openai/v1/{rest}")).unwrap_or_default();
        seen.push((format!("{} {target}", start.split(' ').next().unwrap_or_default()), request.content));
        bytes = &bytes[length..];
    }
}

fn as_seen(request: &Message) -> Seen {
    let start = request.start();
    (start.rsplit_once(' ').map(|(start, _)| start.to_owned()).unwrap_or_default(), request.content.clone())
}

#[test]
fn nothing_reaches_the_resource_that_was_not_plainly_said() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (resource, front) = runtime.block_on(async {
        let resource = Resource::new(|_| b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_vec()).await;
        let front = Front::of(&resource.origin, &[]).await;
        (resource, front)
    });
    let host = resource.origin.trim_start_matches("http://");

    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(CASES) };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    // Counted over all cases: what a caller no longer waits for may arrive after it has gone.
    let said = RefCell::new(BTreeMap::<Seen, usize>::new());
    let cases = Cell::new(1);
    let ran = runner.run(&mangled(), |bytes| {
        let bytes = numbered(&bytes, cases.replace(cases.get() + 1));
        let plain = strictly(&bytes);
        for seen in &plain {
            *said.borrow_mut().entry(seen.clone()).or_default() += 1;
        }
        let heard = runtime.block_on(async {
            timeout(PATIENCE, async {
                let mut caller = front.call().await;
                caller.say(&bytes).await;
                for _ in &plain {
                    if caller.hear(false).await.is_err() {
                        break;
                    }
                }
                let _ = caller.stream.shutdown().await;
                caller.hear_all().await
            })
            .await
        });
        prop_assert!(heard.is_ok(), "was kept waiting");
        let arrived = resource.take().0.map_err(TestCaseError::fail)?;
        for request in arrived {
            sound(&request, host).map_err(TestCaseError::fail)?;
            let seen = as_seen(&request);
            let left = said.borrow().get(&seen).copied().unwrap_or_default();
            prop_assert!(left > 0, "{} arrived and was not plainly said", request.start());
            said.borrow_mut().insert(seen, left - 1);
        }
        Ok(())
    });
    if let Err(TestError::Fail(problem, bytes)) = &ran {
        panic!("{problem}\n\n{:?}", String::from_utf8_lossy(bytes));
    }
    assert!(ran.is_ok(), "{ran:?}");
}
