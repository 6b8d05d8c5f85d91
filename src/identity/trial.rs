//! One attempt to get a token that tells what came of every credential: for people who want to know, outside of any store.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use tokio::time::{Instant, timeout};

use super::chain::{Attempt, Outcome, patience, walk};
use super::credential::Credentials;
use super::failure::{Cause, CredentialError};
use super::tokens::Token;
use crate::config::Scope;

/// What an attempt to get a token came to.
#[derive(Debug)]
pub struct Trial {
    /// What came of each credential that was asked, in order.
    pub attempts: Vec<Attempt>,
    /// Those that were not asked any more.
    pub untried: Vec<&'static str>,
    /// The token, ready to be sent.
    pub outcome: Result<Token, CredentialError>,
}

impl Credentials {
    /// Asks for a token as the store would, within the same deadline, and keeps nothing.
    pub async fn trial(&self, scope: &Scope) -> Trial {
        let links = self.all();
        let deadline = match &*links {
            [single] => single.source.deadline(),
            links => patience(links),
        };
        let mut attempts = Vec::new();
        let began = Instant::now();
        // A panic in a credential's code is a finding, too.
        let walk = AssertUnwindSafe(walk(links.iter().enumerate(), scope, &mut attempts)).catch_unwind();
        let given = timeout(deadline, walk).await;
        let mut unfinished = |cause: Cause| {
            let asked = links.get(attempts.len()).map_or("auto", |link| link.source.name());
            let error = CredentialError::new(asked, cause);
            let took = began.elapsed().saturating_sub(attempts.iter().map(|attempt| attempt.took).sum());
            attempts.push(Attempt { credential: asked, took, outcome: Outcome::Failed(error.clone()) });
            Err(error)
        };
        let outcome = match given {
            Ok(Ok(Ok((index, token)))) => Token::new(&token, self.clock().now())
                .map_err(|cause| CredentialError::new(links[index].source.name(), cause)),
            Ok(Ok(Err(error))) => Err(error),
            Ok(Err(_)) => unfinished(Cause::Panicked),
            Err(_) => unfinished(Cause::Overdue(deadline)),
        };
        let untried = links.iter().skip(attempts.len()).map(|link| link.source.name()).collect();
        Trial { attempts, untried, outcome }
    }
}
