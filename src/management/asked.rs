//! What a caller of a management route may say besides the configuration, checked before it enters a URL.

use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use serde::Deserialize;

use super::plane::Scope;
use crate::config::{Management, Segment};
use crate::error::ProxyError;

/// The query, as written.
#[derive(Debug, Deserialize)]
pub struct Parameters {
    location: Option<String>,
    subscription_id: Option<String>,
    #[serde(rename = "api-version")]
    api_version: Option<String>,
}

/// The query, checked, and where it says nothing, what is configured.
#[derive(Debug)]
pub(super) struct Asked {
    subscription: Segment,
    location: Option<Segment>,
    api_version: Segment,
}

impl Asked {
    /// What the caller asked for, else what is configured.
    pub(super) fn read(
        query: Result<Query<Parameters>, QueryRejection>,
        configured: &Management,
    ) -> Result<Self, ProxyError> {
        let Query(asked) = query.map_err(|rejection| ProxyError::InvalidRequest(rejection.body_text().into()))?;
        let subscription =
            choose("subscription_id", asked.subscription_id.as_ref(), configured.subscription_id.as_ref())?;
        let location = choose("location", asked.location.as_ref(), configured.location.as_ref())?;
        let api_version = choose("api-version", asked.api_version.as_ref(), None)?;
        let subscription = subscription.ok_or(ProxyError::ManagementNotConfigured(
            "which subscription? Set management.subscription_id (AZURE_SUBSCRIPTION_ID) or ask with ?subscription_id="
                .into(),
        ))?;
        Ok(Self { subscription, location, api_version: api_version.unwrap_or_else(|| configured.api_version.clone()) })
    }

    pub(super) fn scope(&self) -> Scope<'_> {
        Scope { subscription: &self.subscription, api_version: &self.api_version }
    }

    /// The region, which not every list needs.
    pub(super) fn location(&self) -> Result<&Segment, ProxyError> {
        self.location.as_ref().ok_or(ProxyError::ManagementNotConfigured(
            "which region? Set management.location or ask with ?location=swedencentral".into(),
        ))
    }
}

/// What the caller asked for, checked, else what is configured.
fn choose(name: &str, asked: Option<&String>, configured: Option<&Segment>) -> Result<Option<Segment>, ProxyError> {
    let Some(asked) = asked else { return Ok(configured.cloned()) };
    let checked = Segment::parse(asked)
        .map_err(|expected| ProxyError::InvalidRequest(format!("the query's {name} is not one: {expected}").into()))?;
    Ok(Some(checked))
}
