//! The management plane: whether the subscription can be read, and which of its accounts is the resource.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use serde_json::json;
use tokio::sync::OnceCell;
use tokio::time::timeout;

use super::report::{Finding, Mend, word};
use super::setup::Setup;
use crate::config::Segment;
use crate::error::ProxyError;
use crate::explain::assignee;
use crate::identity::tokens::TokenSlot;
use crate::management::{Account, Deployment, Deployments, Failure, Plane, Said, Scope};

/// How long one list may take, all its pages together.
const PATIENCE: Duration = Duration::from_secs(30);

/// What there is to know, asked for once.
pub(super) struct Management<'a> {
    setup: &'a Setup,
    tokens: Arc<TokenSlot>,
    deployments: Result<Deployments, reqwest::Error>,
    located: OnceCell<Result<Account, Problem>>,
}

/// Why nothing is known.
#[derive(Debug)]
enum Problem {
    /// No subscription is configured.
    Unconfigured,
    /// There can be no client.
    Client(String),
    Overdue,
    Failure(Failure),
}

/// Whether a deployment can be called, and takes chats: ARM writes even `true` as a text.
fn chats(deployment: &Deployment) -> bool {
    let can = deployment.properties.capabilities.get("chatCompletion");
    deployment.can_be_called() && can.is_some_and(|can| can == "true" || can == true)
}

impl<'a> Management<'a> {
    pub(super) fn new(setup: &'a Setup) -> Self {
        let config = &setup.config;
        let source = setup.credentials.source();
        let tokens = Arc::new(TokenSlot::new(config.management.scope.clone(), source, Arc::new(setup.clock)));
        let plane = Plane::new(config, setup.tls.clone(), tokens.clone());
        let deployments = plane.map(|plane| Deployments::new(config, Arc::new(plane)));
        Self { setup, tokens, deployments, located: OnceCell::new() }
    }

    /// The step.
    pub(super) async fn check(&self) -> (Finding, Option<()>) {
        match self.located().await {
            Ok(account) => {
                let Account { name, location } = account;
                let location = location.as_ref().map(Segment::as_str);
                let message = format!(
                    "subscription {} can be read; the endpoint is the account {} in {}",
                    self.subscription(),
                    name.account,
                    location.unwrap_or("an unknown region"),
                );
                let id = self.id(account);
                let account = json!({ "id": id, "name": name.account.to_string(), "location": location });
                (Finding::ok(message).detail(json!({ "account": account })), Some(()))
            }
            Err(problem) => (self.problem(problem), None),
        }
    }

    /// The account's id, if the management plane tells it.
    pub(super) async fn account(&self) -> Option<String> {
        self.located().await.as_ref().ok().map(|account| self.id(account))
    }

    /// The name of a deployment that chats; or why none is known.
    pub(super) async fn chat_deployment(&self) -> Result<String, String> {
        let account = self.located().await.as_ref().map_err(|problem| match problem {
            Problem::Unconfigured => "no subscription is configured",
            _ => "the management plane does not tell",
        })?;
        let name = &account.name.account;
        let entries = self.ask(async |deployments, scope| deployments.entries::<Deployment>(scope).await).await;
        let entries = entries.map_err(|_| format!("the deployments of {name} cannot be listed"))?;
        let found = entries.iter().find(|deployment| chats(deployment)).map(|deployment| deployment.name.clone());
        found.ok_or_else(|| format!("{name} has no deployment that chats"))
    }

    async fn located(&self) -> &Result<Account, Problem> {
        self.located.get_or_init(|| self.ask(async |deployments, scope| deployments.locate(scope).await)).await
    }

    async fn ask<T>(
        &self,
        question: impl AsyncFnOnce(&Deployments, Scope<'_>) -> Result<T, Failure>,
    ) -> Result<T, Problem> {
        let settings = &self.setup.config.management;
        let subscription = settings.subscription_id.as_ref().ok_or(Problem::Unconfigured)?;
        let deployments = self.deployments.as_ref().map_err(|error| Problem::Client(error.to_string()))?;
        let scope = Scope { subscription, api_version: &settings.api_version };
        let answer = timeout(PATIENCE, question(deployments, scope)).await;
        answer.map_err(|_| Problem::Overdue)?.map_err(Problem::Failure)
    }

    fn id(&self, Account { name, .. }: &Account) -> String {
        format!(
            "/subscriptions/{}/resourceGroups/{}/providers/Microsoft.CognitiveServices/accounts/{}",
            self.subscription(),
            name.resource_group,
            name.account
        )
    }

    fn subscription(&self) -> &str {
        self.setup.config.management.subscription_id.as_ref().map_or("", Segment::as_str)
    }

    fn problem(&self, problem: &Problem) -> Finding {
        let endpoint = &self.setup.config.management.endpoint;
        let by_hand = || [format!("curl -v {}", word(&endpoint))];
        match problem {
            Problem::Unconfigured => {
                let advice = "calls to models do not need it; to check it too, say which subscription";
                let command = "export AZURE_SUBSCRIPTION_ID=\"$(az account show --query id --output tsv)\"";
                Finding::skipped("because no subscription is configured (management.subscription_id)")
                    .mend(Mend::new(advice, [command.to_owned()]))
            }
            Problem::Client(error) => Finding::failed(error, Mend::new("please report this", None)),
            Problem::Overdue => {
                let message = format!("{endpoint} has not answered within {} s", PATIENCE.as_secs());
                Finding::failed(message, Mend::new("this may pass by itself", by_hand()))
            }
            Problem::Failure(failure @ Failure::Refusal(refusal)) => self.refused(refusal.status(), &failure.said()),
            Problem::Failure(Failure::Error(error)) => match error {
                // Its message says what to set.
                ProxyError::ManagementNotConfigured(_) => {
                    let command =
                        "az cognitiveservices account list --query '[].[id, properties.endpoint]' --output table";
                    let mend = Mend::new("to find the account among those that you may see", [command.to_owned()]);
                    Finding::warning(error.to_string()).mend(mend)
                }
                ProxyError::CredentialUnavailable { problem, remedy, .. } => {
                    let advice = remedy.as_deref().unwrap_or("this may pass by itself");
                    Finding::failed(problem, Mend::quoting(advice))
                }
                ProxyError::UpstreamTls { certificate: true, .. } => {
                    let command = "export AOAI_PROXY__UPSTREAM__CA_FILE=/path/to/company-ca.pem";
                    let advice =
                        "as with the resource's: if it is your company's own authority, trust it by upstream.ca_file";
                    Finding::failed(error.to_string(), Mend::new(advice, [command.to_owned()]))
                }
                _ => {
                    let advice = "is the management plane reachable from here (a firewall, HTTPS_PROXY)?";
                    Finding::failed(error.to_string(), Mend::new(advice, by_hand()))
                }
            },
        }
    }

    fn refused(&self, status: StatusCode, Said { code, message }: &Said) -> Finding {
        let subscription = self.subscription();
        let assignee = assignee(self.tokens.held().as_deref().map(|token| &*token.claims));
        let mend = match status {
            StatusCode::FORBIDDEN => Mend::new(
                "the identity needs 'Reader' on the subscription. Calls to models do not need it. A new assignment takes a few \
                 minutes to work",
                [format!("az role assignment create {assignee} --role Reader --scope /subscriptions/{subscription}")],
            ),
            StatusCode::NOT_FOUND => Mend::new(
                "the identity's tenant has no such subscription: check management.subscription_id (AZURE_SUBSCRIPTION_ID)",
                ["az account list --output table".to_owned()],
            ),
            StatusCode::UNAUTHORIZED => Mend::new(
                "the management plane does not take the token: is azure.cloud right, and is the subscription in the \
                 credential's tenant?",
                [format!("az account show --subscription {subscription}")],
            ),
            _ => Mend::new("this may pass by itself", None),
        };
        let status = status.as_u16();
        Finding::failed(format!("{status} {code}: {message}"), mend).detail(json!({ "status": status, "code": code }))
    }
}
