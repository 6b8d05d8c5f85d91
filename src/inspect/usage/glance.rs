//! Whether an event or a message of which all is there may tell anything. Nearly none does: what can be told from its bytes need
//! not be read.

use std::sync::LazyLock;

use memchr::memmem::Finder;

/// Whether it may tell a cost.
pub(super) fn usage(data: &[u8]) -> bool {
    static USAGE: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new(br#""usage""#));
    let mut rest = data;
    while let Some(at) = USAGE.find(rest) {
        rest = rest.get(at + USAGE.needle().len()..).unwrap_or_default();
        if !rest.starts_with(b":null,") && !rest.starts_with(b":null}") {
            return true;
        }
    }
    false
}

/// Whether it may name a model.
pub(super) fn model(data: &[u8]) -> bool {
    static MODEL: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new(br#""model""#));
    MODEL.find(data).is_some()
}

/// Whether it may say something of its session.
pub(super) fn session(data: &[u8]) -> bool {
    static SESSION: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new(br#""session""#));
    SESSION.find(data).is_some()
}
