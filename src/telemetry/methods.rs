//! Methods by name, of a list that has an end: callers may make some up.

use http::Method;

/// The methods of RFC 9110 and RFC 5789.
pub(super) const KNOWN: [&str; 9] = ["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"];

/// Where a method stands among those [`KNOWN`], if it does.
pub(super) fn number(method: &Method) -> Option<usize> {
    KNOWN.iter().position(|known| *known == method.as_str())
}

/// Its name, if everybody knows it.
pub(super) fn name(method: &Method) -> Option<&'static str> {
    number(method).and_then(|at| KNOWN.get(at)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_that_callers_make_up_have_no_name() {
        for (written, expected) in [
            ("GET", Some("GET")),
            ("PATCH", Some("PATCH")),
            ("TRACE", Some("TRACE")),
            ("get", None),
            ("BREW", None),
            ("PROPFIND", None),
        ] {
            assert_eq!(name(&written.parse().unwrap()), expected, "{written}");
        }
    }
}
