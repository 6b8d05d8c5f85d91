//! What only traces tell of a request: which trace it is part of, and its protocol. Taken down only if somebody wants it.

use http::header::HeaderMap;
use http::{HeaderValue, Request, Version};

/// The longest state of a trace that is told: what everybody should be able to pass on.
const LONGEST_STATE: usize = 512;

const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";

/// Where a request came from, and as what. Cheap to make: the caller's bytes are held by reference.
#[derive(Debug, Clone)]
pub struct Origin {
    traceparent: Option<HeaderValue>,
    tracestate: Option<HeaderValue>,
    version: Version,
}

impl Origin {
    /// Of `request`. A `traceparent` that is not one, or is there more than once, is as good as none.
    #[must_use]
    pub fn of<B>(request: &Request<B>) -> Self {
        let fields = request.headers();
        let traceparent = only(fields).filter(|value| is_traceparent(value.as_bytes())).cloned();
        let tracestate = traceparent.as_ref().and_then(|_| state(fields));
        Self { traceparent, tracestate, version: request.version() }
    }

    /// The caller's span (<https://www.w3.org/TR/trace-context/>).
    #[must_use]
    pub fn traceparent(&self) -> Option<&str> {
        self.traceparent.as_ref().and_then(|value| value.to_str().ok())
    }

    /// What those on the way have written down beside it.
    #[must_use]
    pub fn tracestate(&self) -> Option<&str> {
        self.tracestate.as_ref().and_then(|value| value.to_str().ok())
    }

    /// The version of HTTP, as the conventions write it.
    #[must_use]
    pub fn version(&self) -> &'static str {
        match self.version {
            Version::HTTP_10 => "1.0",
            Version::HTTP_2 => "2",
            _ => "1.1",
        }
    }
}

fn only(fields: &HeaderMap) -> Option<&HeaderValue> {
    let mut all = fields.get_all(TRACEPARENT).iter();
    all.next().filter(|_| all.next().is_none())
}

/// All lines of it, as one (RFC 9110 §5.3).
fn state(fields: &HeaderMap) -> Option<HeaderValue> {
    let mut lines = fields.get_all(TRACESTATE).iter();
    let (first, second) = (lines.next()?, lines.next());
    let state = if second.is_none() {
        first.clone()
    } else {
        let all: Vec<_> = fields.get_all(TRACESTATE).iter().map(HeaderValue::as_bytes).collect();
        HeaderValue::from_bytes(&all.join(&b',')).ok()?
    };
    Some(state).filter(|state| state.len() <= LONGEST_STATE)
}

/// Whether this is written as the standard wants it; the library is not so strict. What follows in a version to come is not
/// looked at.
fn is_traceparent(text: &[u8]) -> bool {
    const LENGTH: usize = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".len();
    const DASHES: [usize; 3] = [2, 35, 52];
    let Some((known, rest)) = text.split_at_checked(LENGTH) else { return false };
    let is_digit = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f');
    let fits = |(at, byte): (usize, &u8)| if DASHES.contains(&at) { *byte == b'-' } else { is_digit(byte) };
    let ends = if text.starts_with(b"00") { rest.is_empty() } else { matches!(rest.first(), None | Some(b'-')) };
    ends && !text.starts_with(b"ff") && known.iter().enumerate().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn origin(fields: &[(&str, &str)]) -> Origin {
        let request = fields.iter().fold(Request::get("/"), |request, (name, value)| request.header(*name, *value));
        Origin::of(&request.body(()).unwrap())
    }

    #[test]
    fn one_traceparent_that_is_one_is_taken() {
        let taken = |fields: &[_]| origin(fields).traceparent().map(str::to_owned);
        assert_eq!(taken(&[("traceparent", GOOD)]).as_deref(), Some(GOOD));
        let next = format!("cc{}-what-the-future-brings", &GOOD[2..]);
        assert_eq!(taken(&[("TraceParent", &next)]), Some(next.clone()));
        assert_eq!(taken(&[("traceparent", GOOD), ("traceparent", GOOD)]), None);
        for bad in [
            "",
            "00",
            &GOOD[..54],
            &format!("{GOOD}-00"),
            &format!("{GOOD}0"),
            &GOOD.to_uppercase(),
            &GOOD.replace("00-0a", "00-+a"),
            &GOOD.replace("00-0a", "ff-0a"),
            &GOOD.replace('-', "_"),
            &format!("cc{}.x", &GOOD[2..]),
        ] {
            assert_eq!(taken(&[("traceparent", bad)]), None, "{bad}");
        }
    }

    #[test]
    fn a_state_is_taken_with_its_parent_and_in_all_its_lines() {
        let taken = |fields: &[_]| origin(fields).tracestate().map(str::to_owned);
        assert_eq!(taken(&[("tracestate", "a=1")]), None);
        assert_eq!(taken(&[("traceparent", GOOD), ("tracestate", "a=1")]).as_deref(), Some("a=1"));
        let lines = [("traceparent", GOOD), ("tracestate", "a=1"), ("tracestate", "b=2,c=3")];
        assert_eq!(taken(&lines).as_deref(), Some("a=1,b=2,c=3"));
        assert_eq!(taken(&[("traceparent", GOOD), ("tracestate", &format!("a={}", "x".repeat(511)))]), None);
    }
}
