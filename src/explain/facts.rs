//! What is known about a refusal, in the form in which it may be repeated.

use super::account;
use super::plain;
use super::words::Words;
use crate::config::{Endpoint, Scope};
use crate::identity::claims::Claims;

/// What a hint can say about us and about the refusal.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// What the refused token says about its principal.
    pub claims: Option<&'a Claims>,
    /// Where the resource is.
    pub endpoint: &'a Endpoint,
    /// What the token was asked for.
    pub scope: &'a Scope,
    /// The deployment that the request named, if anyone looked.
    pub deployment: Option<&'a str>,
    /// What the refusal says.
    pub words: &'a Words,
}

impl<'a> Facts<'a> {
    pub(super) fn object_id(&self) -> Option<&'a str> {
        self.claims.and_then(|claims| claims.object_id.as_deref()).and_then(plain::id)
    }

    pub(super) fn tenant(&self) -> Option<&'a str> {
        self.claims.and_then(|claims| claims.tenant.as_deref()).and_then(plain::id)
    }

    /// The resource's tenant, if the refusal names one that is not ours.
    pub(super) fn other_tenant(&self) -> Option<&'a str> {
        self.words.tenant().filter(|other| self.tenant().is_none_or(|own| !own.eq_ignore_ascii_case(other)))
    }

    /// What the token is for, as it says, else as it was asked for. Some tokens name their audience by an id, which tells
    /// nobody anything.
    pub(super) fn audience(&self) -> &'a str {
        let said = self.claims.and_then(|claims| claims.audience.as_deref()).filter(|said| said.contains("://"));
        let asked = || self.scope.as_str().strip_suffix("/.default").unwrap_or(self.scope.as_str());
        said.and_then(plain::uri).unwrap_or_else(asked).trim_end_matches('/')
    }

    /// Who we are, behind a space, or nothing.
    pub(super) fn principal(&self) -> String {
        let application = self.claims.and_then(Claims::application).and_then(plain::id);
        let ids = [("object id", self.object_id()), ("application id", application), ("tenant", self.tenant())];
        let known: Vec<_> = ids.iter().filter_map(|(what, id)| id.map(|id| format!("{what} {id}"))).collect();
        if known.is_empty() {
            return String::new();
        }
        format!(" ({}; as the token says, not verified)", known.join(", "))
    }

    /// The account's name, which mostly is its subdomain, or a word that stands for it.
    pub(super) fn account(&self) -> &'a str {
        account::subdomain(self.endpoint).unwrap_or("NAME")
    }

    pub(super) fn host(&self) -> &'a str {
        account::host(self.endpoint)
    }

    /// What an endpoint at a resource's own subdomain looks like.
    pub(super) fn own_endpoint(&self) -> String {
        format!("https://NAME.openai.azure.{}", account::cloud(self.endpoint))
    }
}
