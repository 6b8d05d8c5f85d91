//! What IMDS allows all programs of a machine together: 20 token requests a second, 5 at once.
//!
//! <https://learn.microsoft.com/azure/virtual-machines/instance-metadata-service#rate-limiting>

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::lock::Lock;

const MOST_AT_ONCE: usize = 5;
const MOST_A_SECOND: usize = 20;
const SECOND: Duration = Duration::from_secs(1);

/// The requests of a machine.
#[derive(Debug, Default)]
pub(super) struct Limits(Arc<Lock<Load>>);

#[derive(Debug, Default)]
struct Load {
    at_once: usize,
    recent: VecDeque<Instant>,
}

/// A request that is under way; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct UnderWay {
    load: Arc<Lock<Load>>,
    at_once: usize,
}

impl Limits {
    /// Lets a request in, unless there are too many.
    pub(super) fn enter(&self) -> Option<UnderWay> {
        let mut load = self.0.open();
        load.admit(Instant::now()).then(|| UnderWay { load: self.0.clone(), at_once: load.at_once })
    }

    /// How many requests are under way.
    pub(super) fn at_once(&self) -> usize {
        self.0.open().at_once
    }
}

impl Load {
    fn admit(&mut self, now: Instant) -> bool {
        while self.recent.front().is_some_and(|first| now.duration_since(*first) >= SECOND) {
            self.recent.pop_front();
        }
        // Refused requests do not count: whoever asks too often is not kept out for ever.
        if self.at_once == MOST_AT_ONCE || self.recent.len() == MOST_A_SECOND {
            return false;
        }
        self.recent.push_back(now);
        self.at_once += 1;
        true
    }
}

impl UnderWay {
    /// How many requests were under way when this one was let in, with it.
    pub(super) fn at_once(&self) -> usize {
        self.at_once
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.load.open().at_once -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_at_once_and_no_more() {
        let limits = Limits::default();
        let under_way: Vec<_> = (0..7).map_while(|_| limits.enter()).collect();
        assert!(under_way.iter().map(UnderWay::at_once).eq(1..=MOST_AT_ONCE));
        drop(under_way);
        assert_eq!(limits.at_once(), 0);
        assert!(limits.enter().is_some());
    }

    #[test]
    fn twenty_a_second_and_no_more() {
        let mut load = Load::default();
        let began = Instant::now();
        let mut ask = |after: Duration| {
            let admitted = load.admit(began + after);
            load.at_once = 0;
            admitted
        };
        assert!((0..20).all(|n| ask(Duration::from_millis(n * 10))));
        assert!(!ask(Duration::from_millis(999)));
        assert!(ask(SECOND), "the first one is a second ago");
        assert!(!ask(SECOND));
    }
}
