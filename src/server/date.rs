//! The `Date` of responses (RFC 9110 §6.6.1): made once a second.

use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use http::HeaderValue;

use crate::clock::SharedClock;
use crate::workers::PerWorker;

/// Knows the date of this second.
#[derive(Debug)]
pub(super) struct Date {
    clock: SharedClock,
    last: PerWorker<Mutex<(u64, HeaderValue)>>,
}

impl Date {
    pub(super) fn new(clock: SharedClock) -> Self {
        Self { clock, last: PerWorker::new(|| Mutex::new((0, text(UNIX_EPOCH)))) }
    }

    pub(super) fn now(&self) -> HeaderValue {
        let now = self.clock.now();
        let second = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut last = self.last.own().lock().unwrap_or_else(PoisonError::into_inner);
        if last.0 != second {
            *last = (second, text(now));
        }
        last.1.clone()
    }
}

fn text(time: SystemTime) -> HeaderValue {
    #[expect(clippy::expect_used, reason = "a date is letters, digits, blanks and punctuation")]
    HeaderValue::try_from(httpdate::fmt_http_date(time)).expect("a date")
}
