//! The deployments of the account behind the endpoint, and how that account is found.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::StatusCode;
use serde::de::DeserializeOwned;

use super::accounts::{self, Account, Entry};
use super::failure::Failure;
use super::plane::{List, Plane, Scope};
use crate::config::{AccountName, Config, Endpoint, Segment};
use crate::error::ProxyError;

/// What to set, should nobody find the account.
const HOW_TO_NAME_IT: &str = "set management.resource_group and management.account";

/// Lists the deployments of the account that is configured, or else found by the endpoint.
#[derive(Debug)]
pub struct Deployments {
    plane: Arc<Plane>,
    endpoint: Endpoint,
    /// The account that was found last, and in which subscription.
    found: Mutex<Option<(Segment, AccountName)>>,
}

impl Deployments {
    /// Nothing has been looked up yet.
    #[must_use]
    pub fn new(config: &Config, plane: Arc<Plane>) -> Self {
        Self { plane, endpoint: config.upstream.endpoint.clone(), found: Mutex::new(None) }
    }

    /// All pages of the list, joined.
    ///
    /// # Errors
    ///
    /// If the account is not found, or the management plane cannot be asked or refuses.
    pub async fn list(&self, scope: Scope<'_>) -> Result<Vec<u8>, Failure> {
        let list = async |account: AccountName| self.plane.list(List::Deployments { account: &account }, scope).await;
        if let Some(configured) = self.plane.settings.account.clone() {
            return list(configured).await;
        }
        if let Some(known) = self.known(scope.subscription) {
            let answer = list(known).await;
            // It may have been moved to another group, or made anew there.
            if !answer.as_ref().is_err_and(|failure| failure.refused_with() == Some(StatusCode::NOT_FOUND)) {
                return answer;
            }
        }
        list(self.locate(scope).await?.name).await
    }

    /// The entries of the list, read.
    ///
    /// # Errors
    ///
    /// As [`Deployments::list`].
    pub async fn entries<T: DeserializeOwned>(&self, scope: Scope<'_>) -> Result<Vec<T>, Failure> {
        self.plane.read(&self.list(scope).await?)
    }

    /// What a person can do about a refusal.
    pub(super) fn remedy(&self, failure: &Failure, subscription: &Segment) -> Option<String> {
        self.plane.remedy(failure, subscription)
    }

    /// The account, as the management plane knows it now.
    ///
    /// # Errors
    ///
    /// As [`Deployments::list`].
    pub async fn locate(&self, scope: Scope<'_>) -> Result<Account, Failure> {
        let entries: Vec<Entry> = self.plane.entries(List::Accounts, scope).await?;
        let account = match &self.plane.settings.account {
            Some(configured) => accounts::named(&entries, configured).ok_or_else(|| {
                let AccountName { resource_group, account } = configured;
                unknown(format!(
                    "there is no account {account} in the resource group {resource_group} (management.account, \
                     management.resource_group): {seen}. Correct them, or leave both out to have the account found by the \
                     endpoint",
                    seen = seen(entries.len(), scope.subscription)
                ))
            })?,
            None => self.only(accounts::at(&entries, &self.endpoint), entries.len(), scope.subscription)?,
        };
        *self.found() = Some((scope.subscription.clone(), account.name.clone()));
        Ok(account)
    }

    /// The one account among those that fit, of so many.
    fn only(&self, mut fitting: Vec<Account>, of: usize, subscription: &Segment) -> Result<Account, Failure> {
        let host = self.endpoint.authority();
        match (fitting.pop(), fitting.len()) {
            (Some(account), 0) => Ok(account),
            (Some(_), others) => Err(unknown(format!(
                "which account is meant? {} of subscription {subscription} have the endpoint {host}; {HOW_TO_NAME_IT}",
                others + 1
            ))),
            (None, _) => Err(unknown(format!(
                "no account has the endpoint {host} (upstream.endpoint): {seen}. If the account is in another subscription, \
                 set management.subscription_id (AZURE_SUBSCRIPTION_ID); if the identity cannot see it, give it the role \
                 Reader; if the endpoint is a gateway, {HOW_TO_NAME_IT} to the account behind it",
                seen = seen(of, subscription)
            ))),
        }
    }

    fn known(&self, subscription: &Segment) -> Option<AccountName> {
        let found = self.found();
        found.as_ref().filter(|(of, _)| of == subscription).map(|(_, account)| account.clone())
    }

    /// A panic elsewhere leaves nothing half done in here.
    fn found(&self) -> MutexGuard<'_, Option<(Segment, AccountName)>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where was looked.
fn seen(accounts: usize, subscription: &Segment) -> String {
    let seen = match accounts {
        0 => "no account".to_owned(),
        1 => "1 account".to_owned(),
        many => format!("{many} accounts"),
    };
    format!("the identity sees {seen} in subscription {subscription}")
}

fn unknown(message: String) -> Failure {
    ProxyError::ManagementNotConfigured(message.into()).into()
}
