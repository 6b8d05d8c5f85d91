//! Parts of what messages say.

use std::fmt;

/// How many of the requests under way are whose.
pub(super) struct OfThese(pub(super) Option<usize>);

impl fmt::Display for OfThese {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(share) => write!(f, "; this app has {share}, and the rest is kept for others that compete"),
            None => f.write_str(", and so many are"),
        }
    }
}

/// The deployments that there are, as a message names them.
pub(super) struct Deployed<'a>(pub(super) &'a [String]);

impl fmt::Display for Deployed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// More would be a list, and that is what `/v1/models` is for.
        const MOST: usize = 20;
        match self.0 {
            [] => f.write_str("there are none that this caller may see"),
            few if few.len() <= MOST => write!(f, "there are {}", few.join(", ")),
            many => write!(f, "there are {} others: see /v1/models", many.len()),
        }
    }
}

/// A user of this machine, as a message names it.
pub(super) struct Peer(pub(super) Option<u32>);

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(uid) => write!(f, "the user {uid} of this machine"),
            None => f.write_str("a process that the system does not name a user of"),
        }
    }
}

/// The end of a sentence that tells a failure.
pub(crate) struct ToMendIt<'a>(pub(crate) Option<&'a str>);

impl fmt::Display for ToMendIt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |advice| write!(f, ". To mend it: {advice}"))
    }
}
