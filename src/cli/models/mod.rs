//! `models`: the models that a region offers, and which of them the account has deployed.

mod capability;
mod row;
mod table;

use std::sync::Arc;

use clap::Args;
use tokio::join;

use self::capability::Capability;
use self::row::Row;
use super::table::terminal_width;
use super::{Failure, block_on, print};
use crate::app::BuildError;
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, ConfigError, Environment, Overrides, Segment};
use crate::confine;
use crate::error::ToMendIt;
use crate::identity::credential::Credentials;
use crate::identity::tokens::TokenSlot;
use crate::management::{self, Deployment, Deployments, List, Model, Plane, Scope};
use crate::tls;

/// What is to be listed.
#[derive(Debug, Args)]
pub(super) struct Models {
    /// Only models, or deployments, with this in their name.
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
    /// Only models that can do this; may be repeated.
    #[arg(long, value_name = "WORD", value_enum)]
    capability: Vec<Capability>,
    /// Only models that the account has deployed.
    #[arg(long)]
    deployed: bool,
    /// The region, instead of management.location or the account's own.
    #[arg(long, value_name = "REGION", value_parser = Segment::parse)]
    location: Option<Segment>,
    /// Print JSON.
    ///
    /// An array of objects, one a model and version, in the order of their names, with these members: `name`, `version`;
    /// `format`, whose model it is, such as `OpenAI`; `kinds`, the kinds of account that can have it; `default_version`,
    /// whether a deployment has this version if it names none; `lifecycle`, such as `GenerallyAvailable`; `capabilities`, the
    /// words that --capability takes; `deprecation`, the day on which it is no longer served, as 2026-03-31; `skus`, the ways
    /// to deploy it, such as `GlobalStandard`; `deployments`, the account's, each with `name`, `sku`, `capacity` and `state`.
    /// What nobody says is null; so are the deployments where they are not known.
    #[arg(long)]
    json: bool,
}

/// The management plane did not give what was asked for.
#[derive(Debug, thiserror::Error)]
#[error("cannot list the {what}: {why}")]
pub(super) struct Unlisted {
    what: &'static str,
    /// With what a person can do about it.
    why: String,
}

pub(super) fn run(environment: &Environment, overrides: &Overrides, asked: &Models) -> Result<(), Failure> {
    let config = Config::load(environment, overrides)?;
    confine::hide_memory();
    block_on(show(&config, asked))
}

async fn show(config: &Config, asked: &Models) -> Result<(), Failure> {
    let (models, deployments) = fetch(config, asked).await?;
    let deployments = match deployments {
        Ok(deployments) => Some(deployments),
        Err(unlisted) if asked.deployed => return Err(unlisted.into()),
        Err(unlisted) => {
            eprintln!("aoai-auth-proxy: {unlisted}");
            None
        }
    };
    let mut rows = row::joined(models, deployments);
    rows.retain(|row| asked.wants(row));
    if asked.json {
        // Rows are texts and lists of texts.
        return print(&serde_json::to_string_pretty(&rows).unwrap_or_default());
    }
    if rows.is_empty() {
        eprintln!("aoai-auth-proxy: there is no such model");
        return Ok(());
    }
    table::print(&rows, SystemClock.now(), terminal_width())
}

impl Models {
    fn wants(&self, row: &Row) -> bool {
        self.name.as_ref().is_none_or(|name| row.is_called(name))
            && self.capability.iter().all(|capability| row.capabilities.contains(capability))
            && (!self.deployed || row.is_deployed())
    }
}

type Fetched = (Vec<Model>, Result<Vec<Deployment>, Unlisted>);

/// Asks for both lists at once, as far as it is known where they are.
async fn fetch(config: &Config, asked: &Models) -> Result<Fetched, Failure> {
    let settings = &config.management;
    let subscription = settings.subscription_id.as_ref().ok_or(ConfigError::Missing {
        key: "management.subscription_id",
        problem: "which subscription? Set AZURE_SUBSCRIPTION_ID, or management.subscription_id in a file; `az account show \
                  --query id -o tsv` tells it",
    })?;
    let scope = Scope { subscription, api_version: &settings.api_version };
    let (plane, tokens) = plane(config)?;
    let deployments = Deployments::new(config, plane.clone());
    let unlisted = |what, failure: management::Failure| {
        let remedy = management::remedy(&failure, tokens.held().as_deref(), subscription);
        Unlisted { what, why: format!("{failure}{}", ToMendIt(remedy.as_deref())) }
    };
    let location = match asked.location.clone().or(settings.location.clone()) {
        Some(location) => location,
        None => region(&deployments, scope, |failure| unlisted("models of the account's region", failure)).await?,
    };
    let list = List::Models { location: &location };
    let (models, deployments) = join!(plane.entries(list, scope), deployments.entries(scope));
    let models = models.map_err(|failure| unlisted("models", failure))?;
    Ok((models, deployments.map_err(|failure| unlisted("deployments", failure))))
}

/// The management plane, and the tokens for it.
fn plane(config: &Config) -> Result<(Arc<Plane>, Arc<TokenSlot>), Failure> {
    let (tls, clock) = (tls::client(&config.upstream.authorities)?, Arc::new(SystemClock));
    let credentials = Credentials::new(config, tls.clone(), clock.clone())?;
    let tokens = Arc::new(TokenSlot::new(config.management.scope.clone(), credentials.source(), clock));
    let plane = Plane::new(config, tls, tokens.clone()).map_err(BuildError::from)?;
    Ok((Arc::new(plane), tokens))
}

/// The account's own region.
async fn region(
    deployments: &Deployments,
    scope: Scope<'_>,
    unlisted: impl FnOnce(management::Failure) -> Unlisted,
) -> Result<Segment, Failure> {
    let account = deployments.locate(scope).await.map_err(unlisted)?;
    Ok(account.location.ok_or_else(|| Unlisted {
        what: "models",
        why: "which region? The account does not say; name it with --location, or in management.location".to_owned(),
    })?)
}
