//! What only traces tell of a request: which trace it is part of, and its protocol. Taken down only if somebody wants it.

use http::header::HeaderMap;
use http::{HeaderName, HeaderValue, Request, Version};

/// The longest state of a trace that is told: what everybody should be able to pass on.
const LONGEST_STATE: usize = 512;
/// The most members of a state, and the longest key and value of one.
const MOST_MEMBERS: usize = 32;
const LONGEST_PART: usize = 256;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Where a request came from, and as what.
#[derive(Debug, Clone)]
pub struct Origin {
    parent: Option<Parent>,
    state: Option<HeaderValue>,
    version: Version,
}

/// The caller's span, as its `traceparent` names it (<https://www.w3.org/TR/trace-context/>).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parent {
    /// The trace.
    pub trace: [u8; 16],
    /// The span.
    pub span: [u8; 8],
    /// Whether the caller has it told.
    pub is_sampled: bool,
}

impl Origin {
    /// Of `request`. A `traceparent` that is not one, or is there more than once, is as good as none.
    #[must_use]
    pub fn of<B>(request: &Request<B>) -> Self {
        let fields = request.headers();
        let parent = only(fields).and_then(|value| Parent::read(value.as_bytes()));
        // Most callers say nothing.
        let state = parent.and_then(|_| state(fields));
        Self { parent, state, version: request.version() }
    }

    /// The caller's span.
    #[must_use]
    pub fn parent(&self) -> Option<Parent> {
        self.parent
    }

    /// What those on the way have written down beside it.
    #[must_use]
    pub fn state(&self) -> Option<&str> {
        self.state.as_ref().and_then(|value| value.to_str().ok())
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

impl Parent {
    /// What a field's value says, if it is written as the standard wants it. What follows in a version to come is not looked at.
    fn read(text: &[u8]) -> Option<Self> {
        let (version, rest) = part::<1>(text, b"")?;
        let (trace, rest) = part(rest, b"-")?;
        let (span, rest) = part(rest, b"-")?;
        let ([flags], rest) = part(rest, b"-")?;
        let ends = if version == [0] { rest.is_empty() } else { matches!(rest.first(), None | Some(b'-')) };
        let is_one = ends && version != [0xff] && trace != [0; 16] && span != [0; 8];
        is_one.then_some(Self { trace, span, is_sampled: flags & 1 == 1 })
    }
}

/// So many bytes in lower-case hexadecimal digits behind `dash`, and what is behind them.
fn part<'a, const N: usize>(text: &'a [u8], dash: &[u8]) -> Option<([u8; N], &'a [u8])> {
    let digit = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let (digits, rest) = text.strip_prefix(dash)?.split_at_checked(2 * N)?;
    let mut bytes = [0; N];
    for (byte, digits) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let &[high, low] = digits else { return None };
        *byte = digit(high)? << 4 | digit(low)?;
    }
    Some((bytes, rest))
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
    Some(state).filter(|state| state.len() <= LONGEST_STATE && is_state(state.as_bytes()))
}

/// Whether this is written as the standard wants it: one that is not is to be forgotten as a whole.
fn is_state(state: &[u8]) -> bool {
    let members: Vec<_> = state.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|m| !m.is_empty()).collect();
    let is_member = |member: &&[u8]| {
        let Some(at) = member.iter().position(|byte| *byte == b'=') else { return false };
        let (key, value) = (&member[..at], &member[at + 1..]);
        let is_key = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/' | b'@');
        let is_value = |byte: &u8| matches!(byte, b' '..=b'~') && *byte != b'=';
        key.first().is_some_and(u8::is_ascii_alphanumeric)
            && [key, value].iter().all(|part| (1..=LONGEST_PART).contains(&part.len()))
            && key.iter().all(is_key)
            && value.iter().all(is_value)
    };
    members.len() <= MOST_MEMBERS && members.iter().all(is_member)
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
        fn taken(fields: &[(&str, &str)]) -> Option<Parent> {
            origin(fields).parent()
        }
        let good = taken(&[("traceparent", GOOD)]).unwrap();
        assert_eq!(u128::from_be_bytes(good.trace), 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c);
        assert_eq!((u64::from_be_bytes(good.span), good.is_sampled), (0xb7ad_6b71_6920_3331, true));
        let next = format!("cc{}-what-the-future-brings", &GOOD[2..]);
        assert_eq!(taken(&[("TraceParent", &next)]), Some(good));
        let unsampled = |flags: &str| taken(&[("traceparent", &format!("{}{flags}", &GOOD[..53]))]);
        assert_eq!([unsampled("fe"), unsampled("03")], [Some(Parent { is_sampled: false, ..good }), Some(good)]);
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
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        ] {
            assert_eq!(taken(&[("traceparent", bad)]), None, "{bad}");
        }
    }

    #[test]
    fn a_state_is_taken_with_its_parent_and_in_all_its_lines() {
        fn taken(fields: &[(&str, &str)]) -> Option<String> {
            origin(fields).state().map(str::to_owned)
        }
        assert_eq!(taken(&[("tracestate", "a=1")]), None);
        assert_eq!(taken(&[("traceparent", GOOD), ("tracestate", "a=1")]).as_deref(), Some("a=1"));
        let lines = [("traceparent", GOOD), ("tracestate", "a=1"), ("tracestate", "b=2,c=3")];
        assert_eq!(taken(&lines).as_deref(), Some("a=1,b=2,c=3"));
        let long = |length: usize| format!("a={},b={}", "x".repeat(length), "y".repeat(250));
        assert_eq!(taken(&[("traceparent", GOOD), ("tracestate", &long(250))]), Some(long(250)));
        let many = vec!["a=1"; 33].join(",");
        for bad in [&*long(257), "a", "a=", "=1", "A=1", "_a=1", "a=1=2", "a=1,b", &many, &"x".repeat(513)] {
            assert_eq!(taken(&[("traceparent", GOOD), ("tracestate", bad)]), None, "{bad}");
        }
    }
}
