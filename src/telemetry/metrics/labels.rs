//! Words for what callers and the resource write, of which there is no end: each of a list that has one.

use http::{Method, StatusCode};

use crate::telemetry::methods;

/// There was none.
pub(super) const NONE: &str = "-";
/// What is on no list.
const OTHER: &str = "other";

/// A request's method.
pub(super) fn method(method: &Method) -> &'static str {
    methods::name(method).unwrap_or(OTHER)
}

/// A response's status; [`NONE`] where the caller left before there was a response.
pub(super) fn status(status: Option<&StatusCode>) -> &str {
    match status {
        Some(status) if status.canonical_reason().is_some() => status.as_str(),
        Some(_) => OTHER,
        None => NONE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_no_list_is_other() {
        for (written, expected) in [("GET", "GET"), ("PROPFIND", OTHER)] {
            assert_eq!(method(&written.parse().unwrap()), expected);
        }
        let statuses = (100..1000).map(|status| StatusCode::from_u16(status).unwrap());
        let known: Vec<_> = statuses.filter(|known| status(Some(known)) != OTHER).collect();
        assert!((50..70).contains(&known.len()), "{known:?}");
        assert_eq!([status(Some(&StatusCode::OK)), status(None)], ["200", NONE]);
    }
}
