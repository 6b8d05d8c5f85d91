//! `auto`: the first credential that is there and gives a token, in a fixed order; then that one until it fails for good.
//!
//! A credential that is not there is passed over. One that is there and ill is waited for: whoever it speaks for must not
//! become somebody else because the identity service was slow.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use http::StatusCode;
use tokio::time::{Instant, timeout};
use url::Url;

use super::failure::{Cause, CredentialError};
use super::remedy::{is_transient, remedy};
use super::transport::innermost;
use super::{AccessToken, TokenSource};
use crate::config::{CredentialSource, Scope};

/// How long the metadata service may take to answer a question before the chain goes on.
const PROBE: Duration = Duration::from_secs(1);

/// How long all credentials together may take while none is chosen: about as long as people wait.
const UNDECIDED: Duration = Duration::from_secs(45);

/// What something answers that stands where the metadata service would be.
const STAND_INS: [StatusCode; 3] = [StatusCode::FORBIDDEN, StatusCode::BAD_GATEWAY, StatusCode::GATEWAY_TIMEOUT];

/// The links, in order.
#[derive(Debug)]
pub struct Chain {
    links: Vec<Link>,
    choice: Mutex<Choice>,
}

#[derive(Debug, Default)]
struct Choice {
    chosen: Option<usize>,
    passed_over: Vec<CredentialError>,
    /// Whether a token has come from something other than a tool: whoever runs as a deployed identity never becomes the
    /// person who happens to be signed in.
    deployed: bool,
}

/// One credential of a chain.
#[derive(Debug)]
pub struct Link {
    /// The credential.
    pub source: Arc<dyn TokenSource>,
    /// What its failures say about its being there.
    pub presence: Presence,
}

/// How it is known whether a credential is there at all.
#[derive(Debug)]
pub enum Presence {
    /// Somebody configured it.
    Given,
    /// The platform says so.
    Platform,
    /// The metadata service answers a question.
    Answers(Probe),
    /// By whether it gives a token: a tool that people sign in with.
    Tool,
}

/// A question to the metadata service that is not for a token.
#[derive(Debug)]
pub struct Probe {
    /// A client that uses no forward proxy.
    pub client: reqwest::Client,
    /// The metadata service.
    pub service: Url,
}

impl Chain {
    pub(super) fn new(links: Vec<Link>) -> Self {
        Self { links, choice: Mutex::default() }
    }

    fn chosen(&self) -> Option<&Link> {
        self.links.get(self.choice().chosen?)
    }

    /// A panic elsewhere leaves nothing half done in here.
    fn choice(&self) -> MutexGuard<'_, Choice> {
        self.choice.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn choose(&self, scope: &Scope) -> Result<AccessToken, CredentialError> {
        let deployed = self.choice().deployed;
        let may_speak = |link: &Link| !deployed || !matches!(link.presence, Presence::Tool);
        let links = self.links.iter().enumerate().filter(|(_, link)| may_speak(link));
        let mut attempts = Vec::new();
        let outcome = walk(links, scope, &mut attempts).await;
        let passed_over = attempts.into_iter().filter_map(Attempt::passed_over).collect();
        match outcome {
            Ok((index, token)) => {
                let link = &self.links[index];
                tracing::info!(%scope, credential = link.source.name(), "auto: this credential gave a token");
                let deployed = deployed || !matches!(link.presence, Presence::Tool);
                *self.choice() = Choice { chosen: Some(index), passed_over, deployed };
                Ok(token)
            }
            Err(error) => {
                self.choice().passed_over = passed_over;
                Err(error)
            }
        }
    }
}

/// What came of one link.
#[derive(Debug)]
pub struct Attempt {
    /// The credential.
    pub credential: &'static str,
    /// How long it took.
    pub took: Duration,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of asking a credential.
#[derive(Debug)]
pub enum Outcome {
    /// A token.
    Gave,
    /// It is not there, or not for us: the next one is asked.
    PassedOver(CredentialError),
    /// It is there and ill: no other one is asked.
    Failed(CredentialError),
}

impl Attempt {
    fn passed_over(self) -> Option<CredentialError> {
        match self.outcome {
            Outcome::PassedOver(error) => Some(error),
            Outcome::Gave | Outcome::Failed(_) => None,
        }
    }
}

/// Asks one link after the other, until one gives a token or is ill. What came of each is in `attempts`, also if nobody
/// waits for the end.
pub(super) async fn walk<'a>(
    links: impl Iterator<Item = (usize, &'a Link)> + Send,
    scope: &Scope,
    attempts: &mut Vec<Attempt>,
) -> Result<(usize, AccessToken), CredentialError> {
    for (index, link) in links {
        let began = Instant::now();
        let attempted = link.attempt(scope).await;
        let mut told = |outcome| {
            attempts.push(Attempt { credential: link.source.name(), took: began.elapsed(), outcome });
        };
        match attempted {
            Ok(token) => {
                told(Outcome::Gave);
                return Ok((index, token));
            }
            Err(error) if link.presence.is_denied_by(&error) => {
                tracing::debug!(%scope, %error, "auto: passed over");
                told(Outcome::PassedOver(error));
            }
            Err(error) => {
                told(Outcome::Failed(error.clone()));
                return Err(error);
            }
        }
    }
    let passed_over = attempts.iter().filter_map(|attempt| match &attempt.outcome {
        Outcome::PassedOver(error) => Some(error.clone()),
        Outcome::Gave | Outcome::Failed(_) => None,
    });
    let cause = Cause::NoneWorked(passed_over.collect());
    let remedy = remedy(&CredentialSource::Auto(Vec::new()), scope, &cause);
    Err(CredentialError { credential: "auto", cause, remedy })
}

/// How long it may take to find the link that gives tokens.
pub(super) fn patience(links: &[Link]) -> Duration {
    (links.iter().map(|link| link.source.deadline()).sum::<Duration>() + PROBE).min(UNDECIDED)
}

impl Link {
    async fn attempt(&self, scope: &Scope) -> Result<AccessToken, CredentialError> {
        if let Presence::Answers(probe) = &self.presence {
            probe.ask().await.map_err(|cause| CredentialError::new(self.source.name(), cause))?;
        }
        self.source.fetch(scope).await
    }
}

impl Presence {
    /// Whether a failure means that the credential is not there, or not for us.
    fn is_denied_by(&self, error: &CredentialError) -> bool {
        match self {
            Self::Given => false,
            Self::Tool => error.needs_a_person() || matches!(error.cause, Cause::Missing(_)),
            // Other clouds have metadata services at the same address, which know no such path.
            Self::Platform | Self::Answers(_) => match &error.cause {
                Cause::Refused { status, words, .. } => !matches!(status, 410 | 429 | 500..) && !is_transient(words),
                Cause::Unreachable { .. } | Cause::Unsupported(_) | Cause::Misfit(_) => true,
                _ => false,
            },
        }
    }
}

impl Probe {
    /// Without the field that makes it a request, Azure's metadata service answers 400; Docker Desktop says in its place
    /// that it is unreachable, by a 403, and forward proxies that nobody configured answer with 502 or 504.
    async fn ask(&self) -> Result<(), Cause> {
        let service = self.service.origin().ascii_serialization();
        let mut url = self.service.clone();
        url.set_path(&format!("{}/metadata/versions", self.service.path().trim_end_matches('/')));
        let unreachable = |words: String| Cause::Unreachable { service, words };
        match timeout(PROBE, self.client.get(url).send()).await {
            Ok(Ok(answer)) if STAND_INS.contains(&answer.status()) => {
                Err(unreachable(format!("asked whether it is there, it answered {}", answer.status().as_u16())))
            }
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(unreachable(innermost(&error))),
            Err(_) => Err(unreachable(format!("nothing within {} s", PROBE.as_secs()))),
        }
    }
}

#[async_trait]
impl TokenSource for Chain {
    async fn fetch(&self, scope: &Scope) -> Result<AccessToken, CredentialError> {
        let Some(link) = self.chosen() else { return self.choose(scope).await };
        let fetched = link.source.fetch(scope).await;
        if fetched.as_ref().is_err_and(CredentialError::needs_a_person) {
            // Whoever mends it may do so by giving another credential: from now on all are looked at again.
            self.choice().chosen = None;
        }
        fetched
    }

    fn deadline(&self) -> Duration {
        match self.chosen() {
            Some(link) => link.source.deadline(),
            None => patience(&self.links),
        }
    }

    fn name(&self) -> &'static str {
        self.chosen().map_or("auto", |link| link.source.name())
    }

    fn passed_over(&self) -> Vec<CredentialError> {
        self.choice().passed_over.clone()
    }

    fn touched(&self) -> Option<SystemTime> {
        self.links.iter().filter_map(|link| link.source.touched()).max()
    }
}
