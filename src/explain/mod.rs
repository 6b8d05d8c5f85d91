//! Why the resource refused a request, and what a person can do about it, where the cause lies in what the proxy added or
//! was told: its token, its endpoint, the name of a deployment. Pure functions; nothing is asked or changed.
//!
//! [`Words::read`] takes from a response what it says, [`Cause::of`] finds what that means, [`hint()`] puts it into words for
//! whoever sees the error, and [`insert()`] adds these to the content. A request that went out with a credential of the
//! caller's own is none of this module's business.

mod account;
mod assignee;
mod audience;
mod cause;
mod facts;
mod hint;
mod insert;
mod plain;
mod words;

pub use account::{is_regional, subdomain};
pub use assignee::assignee;
pub use cause::Cause;
pub use facts::Facts;
pub use hint::{command, hint};
pub use insert::insert;
pub use words::Words;
