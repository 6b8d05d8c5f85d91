//! Why Entra gives no token, in its own words and numbers.

use http::StatusCode;
use serde_json::{Value, json};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::emulator::client_certificate::CertificateFlaw;
use crate::emulator::federation::FederatedFlaw;
use crate::emulator::world::{SERVICE_PRINCIPAL, TENANT_ID};

/// What is wrong with a token request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// A parameter is missing.
    Missing(&'static str),
    /// The grant type is not one for programs.
    GrantType(String),
    /// There is no such tenant.
    UnknownTenant(String),
    /// The tenant has no such application.
    UnknownClient(String),
    /// The scope does not end in `/.default`.
    Scope(String),
    /// The tenant does not know the resource.
    UnknownResource(String),
    /// Neither a secret nor an assertion came along.
    NoCredential,
    /// The secret is not the application's.
    WrongSecret(&'static str),
    /// The secret was the application's.
    ExpiredSecret(&'static str),
    /// The assertion is good, and another application's.
    AssertionOfAnother,
    /// The assertion was not signed with the application's certificate.
    Certificate(CertificateFlaw),
    /// The assertion is of an unknown kind.
    AssertionType,
    /// The application trusts no federated tokens at all.
    NoFederatedCredential,
    /// The assertion does not match the federated credential.
    Federated(FederatedFlaw),
}

impl From<CertificateFlaw> for Refusal {
    fn from(flaw: CertificateFlaw) -> Self {
        Self::Certificate(flaw)
    }
}

impl From<FederatedFlaw> for Refusal {
    fn from(flaw: FederatedFlaw) -> Self {
        Self::Federated(flaw)
    }
}

impl Refusal {
    /// The status of the answer.
    pub(super) fn status(&self) -> StatusCode {
        match self.error() {
            "invalid_client" => StatusCode::UNAUTHORIZED,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// The body of the answer. The description really has carriage returns in it; parsers have stumbled over them.
    pub(super) fn body(&self, origin: &str, now: u64) -> Value {
        let (code, trace, correlation) = (self.code(), Uuid::new_v4(), Uuid::new_v4());
        let timestamp = timestamp(now);
        json!({
            "error": self.error(),
            "error_description": format!(
                "AADSTS{code}: {}\r\nTrace ID: {trace}\r\nCorrelation ID: {correlation}\r\nTimestamp: {timestamp}",
                self.message(),
            ),
            "error_codes": [code],
            "timestamp": timestamp,
            "trace_id": trace.to_string(),
            "correlation_id": correlation.to_string(),
            "error_uri": format!("{origin}/error?code={code}"),
        })
    }

    fn error(&self) -> &'static str {
        match self {
            Self::Missing(_) | Self::UnknownTenant(_) => "invalid_request",
            Self::GrantType(_) => "unsupported_grant_type",
            Self::UnknownClient(_) => "unauthorized_client",
            Self::Scope(_) => "invalid_scope",
            Self::UnknownResource(_) => "invalid_resource",
            Self::NoCredential
            | Self::WrongSecret(_)
            | Self::ExpiredSecret(_)
            | Self::AssertionOfAnother
            | Self::Certificate(_)
            | Self::AssertionType
            | Self::NoFederatedCredential
            | Self::Federated(_) => "invalid_client",
        }
    }

    fn code(&self) -> u32 {
        match self {
            Self::Missing(_) => 900_144,
            Self::GrantType(_) => 70_003,
            Self::UnknownTenant(_) => 90_002,
            Self::UnknownClient(_) => 700_016,
            Self::Scope(_) => 1_002_012,
            Self::UnknownResource(_) => 500_011,
            Self::NoCredential => 7_000_216,
            Self::WrongSecret(_) => 7_000_215,
            Self::ExpiredSecret(_) => 7_000_222,
            Self::Certificate(CertificateFlaw::Unregistered(_) | CertificateFlaw::Signature) => 700_027,
            Self::Certificate(CertificateFlaw::Audience) => 700_023,
            Self::AssertionType => 7_000_218,
            Self::NoFederatedCredential => 70_021,
            Self::AssertionOfAnother
            | Self::Certificate(CertificateFlaw::Malformed)
            | Self::Federated(FederatedFlaw::Malformed) => 50_027,
            Self::Federated(FederatedFlaw::Issuer(_)) => 700_211,
            Self::Federated(FederatedFlaw::Subject(_)) => 700_213,
            Self::Federated(FederatedFlaw::Audience(_)) => 700_212,
            Self::Certificate(CertificateFlaw::Expired) | Self::Federated(FederatedFlaw::Expired) => 700_024,
        }
    }

    fn message(&self) -> String {
        let no_match = |what: &str, value: &str| {
            format!(
                "No matching federated identity record found for presented assertion {what} '{value}'. Please note \
                 matching is case-sensitive. https://learn.microsoft.com/entra/workload-id/workload-identity-federation"
            )
        };
        match self {
            Self::Missing(name) => format!("The request body must contain the following parameter: '{name}'."),
            Self::GrantType(kind) => {
                format!("The app requested an unsupported grant type '{kind}'.")
            }
            Self::UnknownTenant(tenant) => format!(
                "Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID and are signing into \
                 the correct cloud. Check with your subscription administrator, this may happen if there are no active \
                 subscriptions for the tenant."
            ),
            Self::UnknownClient(client) => format!(
                "Application with identifier '{client}' was not found in the directory '{TENANT_ID}'. This can happen \
                 if the application has not been installed by the administrator of the tenant or consented to by any \
                 user in the tenant. You may have sent your authentication request to the wrong tenant."
            ),
            Self::Scope(scope) => format!(
                "The provided value for scope {scope} is not valid. Client credential flows must have a scope value \
                 with /.default suffixed to the resource identifier (application ID URI)."
            ),
            Self::UnknownResource(resource) => format!(
                "The resource principal named {resource} was not found in the tenant named {TENANT_ID}. This can \
                 happen if the application has not been installed by the administrator of the tenant or consented to \
                 by any user in the tenant. You might have sent your authentication request to the wrong tenant."
            ),
            Self::NoCredential => "'client_assertion', 'client_secret' or 'request' is required for the \
                                   'client_credentials' grant type."
                .to_owned(),
            Self::WrongSecret(client) => format!(
                "Invalid client secret provided. Ensure the secret being sent in the request is the client secret \
                 value, not the client secret ID, for a secret added to app '{client}'."
            ),
            Self::AssertionType => "The request body must contain 'client_assertion_type' with the value \
                                    'urn:ietf:params:oauth:client-assertion-type:jwt-bearer'."
                .to_owned(),
            Self::NoFederatedCredential => format!(
                "No matching federated identity record found for presented assertion. The application \
                 '{}' has no federated identity credential.",
                SERVICE_PRINCIPAL.client_id
            ),
            Self::ExpiredSecret(client) => format!(
                "The provided client secret keys for app '{client}' are expired. Visit the Azure portal to create new keys \
                 for your app: https://aka.ms/NewClientSecret, or consider using certificate credentials for added security: \
                 https://aka.ms/certCreds."
            ),
            Self::Certificate(CertificateFlaw::Unregistered(name)) => format!(
                "The certificate with identifier used to sign the client assertion is not registered on application. \
                 [Reason - The key was not found., Thumbprint of key used by client: '{name}']"
            ),
            Self::Certificate(CertificateFlaw::Signature) => {
                "Client assertion contains an invalid signature. [Reason - The key was found, but use of the key to verify \
                 the signature failed.]"
                    .to_owned()
            }
            Self::Certificate(CertificateFlaw::Audience) => {
                "Client assertion audience claim does not match Realm issuer. Review the documentation at \
                 https://learn.microsoft.com/entra/identity-platform/certificate-credentials ."
                    .to_owned()
            }
            Self::AssertionOfAnother
            | Self::Certificate(CertificateFlaw::Malformed)
            | Self::Federated(FederatedFlaw::Malformed) => {
                "JWT token is invalid or malformed, or its signature cannot be verified.".to_owned()
            }
            Self::Federated(FederatedFlaw::Issuer(issuer)) => no_match("issuer", issuer),
            Self::Federated(FederatedFlaw::Subject(subject)) => no_match("subject", subject),
            Self::Federated(FederatedFlaw::Audience(audience)) => no_match("audience", audience),
            Self::Certificate(CertificateFlaw::Expired) | Self::Federated(FederatedFlaw::Expired) => {
                "Client assertion is not within its valid time range. Review the documentation at \
                 https://learn.microsoft.com/entra/identity-platform/certificate-credentials ."
                    .to_owned()
            }
        }
    }
}

/// As in `2026-01-31 12:00:00Z`.
fn timestamp(now: u64) -> String {
    let now = i64::try_from(now).ok().and_then(|now| OffsetDateTime::from_unix_timestamp(now).ok());
    let now = now.unwrap_or(OffsetDateTime::UNIX_EPOCH);
    format!("{} {:02}:{:02}:{:02}Z", now.date(), now.hour(), now.minute(), now.second())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_description_has_real_line_ends() {
        let body = Refusal::WrongSecret(SERVICE_PRINCIPAL.client_id).body("https://authority.test", 1_767_225_600);
        let description = body["error_description"].as_str().unwrap();
        assert!(description.starts_with("AADSTS7000215: Invalid client secret"));
        assert!(description.contains("\r\nTrace ID: "));
        assert!(description.ends_with("\r\nTimestamp: 2026-01-01 00:00:00Z"));
        assert_eq!(body["error_codes"], json!([7_000_215]));
    }
}
