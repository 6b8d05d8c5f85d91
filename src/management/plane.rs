//! The management plane, asked for its lists with its own token.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use rustls::ClientConfig;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use url::Url;

use super::failure::Failure;
use super::pages;
use super::remedy::remedy;
use crate::config::{AccountName, Config, Management, Segment};
use crate::identity::tokens::TokenSlot;
use crate::identity::transport::line;

/// How long one page may take, from the request to its last byte.
pub(super) const PAGE_TIMEOUT: Duration = Duration::from_secs(60);

/// Asks the management plane with its own token.
#[derive(Debug)]
pub struct Plane {
    pub(super) settings: Management,
    client: reqwest::Client,
    tokens: Arc<TokenSlot>,
}

/// A list that the management plane has, named by nothing but checked names.
#[derive(Debug, Clone, Copy)]
pub enum List<'a> {
    /// The models that a region offers.
    Models {
        /// The region.
        location: &'a Segment,
    },
    /// The accounts of the subscription.
    Accounts,
    /// The deployments of an account.
    Deployments {
        /// The account.
        account: &'a AccountName,
    },
}

/// Where a list is asked for, and in which version.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    /// The subscription.
    pub subscription: &'a Segment,
    /// The version of the interface.
    pub api_version: &'a Segment,
}

impl Plane {
    /// Asks with the tokens of the management plane's scope.
    ///
    /// # Errors
    ///
    /// If no HTTP client can be built.
    pub fn new(config: &Config, tls: ClientConfig, tokens: Arc<TokenSlot>) -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(config.upstream.connect_timeout)
            .timeout(PAGE_TIMEOUT);
        let client = config.proxies.apply(client)?.build()?;
        Ok(Self { settings: config.management.clone(), client, tokens })
    }

    /// All pages of `list`, joined, asked for with another token if the first one has gone stale.
    ///
    /// # Errors
    ///
    /// If there is no token, or no list comes back.
    pub async fn list(&self, list: List<'_>, scope: Scope<'_>) -> Result<Vec<u8>, Failure> {
        let first = self.url(list, scope);
        let token = self.tokens.token_to_send().await?;
        let answer = pages::joined(&self.client, first.clone(), &token.authorization).await;
        if !is_unauthorized(&answer) {
            if !matches!(answer, Err(Failure::Error(_))) {
                token.accept();
            }
            return answer;
        }
        let Some(fresh) = self.tokens.instead_of(&token).await else { return answer };
        let answer = pages::joined(&self.client, first, &fresh.authorization).await;
        if !is_unauthorized(&answer) && !matches!(answer, Err(Failure::Error(_))) {
            fresh.accept();
        }
        answer
    }

    /// The entries of `list`, read.
    ///
    /// # Errors
    ///
    /// As [`Plane::list`].
    pub async fn entries<T: DeserializeOwned>(&self, list: List<'_>, scope: Scope<'_>) -> Result<Vec<T>, Failure> {
        self.read(&self.list(list, scope).await?)
    }

    /// The entries of a list that has come, but for those that are not what they should be.
    pub(super) fn read<T: DeserializeOwned>(&self, content: &[u8]) -> Result<Vec<T>, Failure> {
        #[derive(Deserialize)]
        struct Joined<'a> {
            #[serde(borrow)]
            value: Vec<&'a RawValue>,
        }
        let joined: Joined<'_> = serde_json::from_slice(content)
            .map_err(|error| pages::malformed(&self.settings.endpoint, &format!("it is not a list: {error}")))?;
        let read = |entry: &&RawValue| serde_json::from_str(entry.get()).map_err(|error| pass_over(&error)).ok();
        Ok(joined.value.iter().filter_map(read).collect())
    }

    /// What a person can do about a refusal.
    pub(super) fn remedy(&self, failure: &Failure, subscription: &Segment) -> Option<String> {
        remedy(failure, self.tokens.held().as_deref(), subscription)
    }

    /// Host and port, for messages.
    #[must_use]
    pub fn host(&self) -> String {
        self.settings.endpoint.authority().to_owned()
    }

    /// The URL of the first page. Only checked names enter it.
    fn url(&self, list: List<'_>, Scope { subscription, api_version }: Scope<'_>) -> Url {
        const PROVIDER: &str = "providers/Microsoft.CognitiveServices";
        let path = match list {
            List::Models { location } => format!("{PROVIDER}/locations/{location}/models"),
            List::Accounts => format!("{PROVIDER}/accounts"),
            List::Deployments { account: AccountName { resource_group, account } } => {
                format!("resourceGroups/{resource_group}/{PROVIDER}/accounts/{account}/deployments")
            }
        };
        let mut url = self.settings.endpoint.clone();
        url.set_path(&format!("/subscriptions/{subscription}/{path}"));
        url.query_pairs_mut().append_pair("api-version", api_version.as_str());
        url
    }
}

fn pass_over(error: &serde_json::Error) {
    tracing::debug!(error = line(&error.to_string()), "an entry of the management plane's list is not read");
}

/// ARM says that nobody is signed in, and never that somebody may not: that is a 403.
fn is_unauthorized(answer: &Result<Vec<u8>, Failure>) -> bool {
    answer.as_ref().is_err_and(|failure| failure.refused_with() == Some(StatusCode::UNAUTHORIZED))
}
