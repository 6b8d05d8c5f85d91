//! Connections of users that may not connect: told in the log, and kept for `/status`.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

use super::tally::{Counted, Tally};
use crate::clock::SharedClock;

/// How many users are told apart.
const MOST_USERS: usize = 64;

/// The denied connections of one process, by user.
#[derive(Debug)]
pub struct PeerDenials(Tally<Who, ()>);

/// Who may not connect, and has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// A user, by number.
    User(u32),
    /// Somebody whom the system does not name.
    Unknown,
    /// More users than are told apart.
    Others,
}

impl PeerDenials {
    /// Nobody has been denied yet.
    #[must_use]
    pub fn new(clock: SharedClock) -> Self {
        Self(Tally::new(clock))
    }

    /// Counts a connection, and tells it unless its like was told a moment ago.
    pub fn record(&self, uid: Option<u32>) {
        let who = uid.map_or(Who::Unknown, Who::User);
        let is_news =
            self.0.count(|seen| if seen.contains_key(&who) || seen.len() < MOST_USERS { who } else { Who::Others }, ());
        match uid {
            _ if !is_news => {}
            Some(uid) => tracing::warn!(uid, "a user that may not connect does (access.peer_users)"),
            None => tracing::warn!(
                "somebody whom the system does not name connects, and may not (access.peer_users); it may have gone at once"
            ),
        }
    }

    /// Who was denied so far.
    #[must_use]
    pub fn seen(&self) -> BTreeMap<Who, Counted<()>> {
        self.0.seen()
    }
}

impl Serialize for Who {
    /// A number, nothing, or a word.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::User(uid) => serializer.serialize_u32(*uid),
            Self::Unknown => serializer.serialize_none(),
            Self::Others => serializer.serialize_str("others"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::ManualClock;

    #[test]
    fn users_are_counted_and_however_many_come_there_is_room() {
        let denials = PeerDenials::new(Arc::new(ManualClock::stopped()));
        for uid in (0..1000).chain(0..10) {
            denials.record(Some(uid));
        }
        denials.record(None);
        let seen = denials.seen();
        assert_eq!(seen.len(), MOST_USERS + 1);
        assert_eq!((seen[&Who::User(3)].count, seen[&Who::User(63)].count), (2, 1));
        assert_eq!(seen[&Who::Others].count, 1000 - 64 + 1);
    }
}
