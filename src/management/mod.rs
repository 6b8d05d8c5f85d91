//! The management plane's read-only side route: which models a region offers.

mod pages;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use rustls::ClientConfig;
use serde::Deserialize;
use url::Url;

use crate::config::{Config, Management, Segment};
use crate::error::ProxyError;
use crate::identity::tokens::TokenSlot;

/// How long one page may take, from the request to its last byte.
const PAGE_TIMEOUT: Duration = Duration::from_secs(60);

/// Asks the management plane with its own token.
#[derive(Debug)]
pub struct Models {
    settings: Management,
    client: reqwest::Client,
    tokens: Arc<TokenSlot>,
}

/// What a caller may say besides the configuration.
#[derive(Debug, Deserialize)]
pub struct Parameters {
    location: Option<String>,
    subscription_id: Option<String>,
    #[serde(rename = "api-version")]
    api_version: Option<String>,
}

impl Models {
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

    /// All pages from `first`, asked for with another token if the first one has gone stale.
    async fn ask(&self, first: Url) -> Result<pages::Answer, ProxyError> {
        let token = self.tokens.token_to_send().await?;
        let answer = pages::joined(&self.client, first.clone(), &token.authorization).await?;
        if !answer.is_unauthorized() {
            token.accept();
            return Ok(answer);
        }
        let Some(fresh) = self.tokens.instead_of(&token).await else { return Ok(answer) };
        let answer = pages::joined(&self.client, first, &fresh.authorization).await?;
        if !answer.is_unauthorized() {
            fresh.accept();
        }
        Ok(answer)
    }

    /// The URL of the first page. Only checked segments enter it.
    fn first_page(&self, parameters: &Parameters) -> Result<Url, ProxyError> {
        let subscription = choose(
            "subscription_id",
            parameters.subscription_id.as_ref(),
            self.settings.subscription_id.as_ref(),
        )?
        .ok_or(ProxyError::ManagementNotConfigured(
            "which subscription? Set management.subscription_id (AZURE_SUBSCRIPTION_ID) or ask with ?subscription_id=",
        ))?;
        let location = choose("location", parameters.location.as_ref(), self.settings.location.as_ref())?.ok_or(
            ProxyError::ManagementNotConfigured(
                "which region? Set management.location or ask with ?location=swedencentral",
            ),
        )?;
        let api_version = choose("api-version", parameters.api_version.as_ref(), Some(&self.settings.api_version))?;
        let mut url = self.settings.endpoint.clone();
        url.set_path(&format!(
            "/subscriptions/{subscription}/providers/Microsoft.CognitiveServices/locations/{location}/models"
        ));
        if let Some(api_version) = api_version {
            url.query_pairs_mut().append_pair("api-version", api_version.as_str());
        }
        Ok(url)
    }
}

/// `GET /management/models`: all pages of the list, joined.
///
/// # Errors
///
/// If a parameter could leave its place in the URL, if nobody said which subscription or region, or if the management
/// plane cannot be asked.
pub async fn models(
    State(models): State<Arc<Models>>,
    parameters: Result<Query<Parameters>, QueryRejection>,
) -> Result<Response, ProxyError> {
    let Query(parameters) = parameters.map_err(|rejection| ProxyError::InvalidRequest(rejection.body_text().into()))?;
    let url = models.first_page(&parameters)?;
    match models.ask(url).await? {
        pages::Answer::List(content) => {
            Ok(([(CONTENT_TYPE, "application/json; charset=utf-8")], content).into_response())
        }
        pages::Answer::Refusal(refusal) => Ok(refusal.into_response()),
    }
}

/// What the caller asked for, checked, else what is configured.
fn choose(name: &str, asked: Option<&String>, configured: Option<&Segment>) -> Result<Option<Segment>, ProxyError> {
    let Some(asked) = asked else { return Ok(configured.cloned()) };
    let checked = Segment::parse(asked)
        .map_err(|expected| ProxyError::InvalidRequest(format!("the query's {name} is not one: {expected}").into()))?;
    Ok(Some(checked))
}
