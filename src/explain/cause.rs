//! From what a refusal says to what it means.

use http::StatusCode;

use super::account;
use super::words::Words;
use crate::config::Endpoint;

/// Why the resource refused, as far as it lies in what the proxy added or was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The token is good, and its principal has no role that allows this.
    RoleMissing,
    /// The token is not taken, and no more is said than that: expired, for another audience, or anything else.
    StaleToken,
    /// A policy asks for claims that the token lacks: conditional access, or continuous access evaluation.
    ClaimsChallenge,
    /// The token is of another tenant than the resource.
    TenantMismatch,
    /// The endpoint is a region's: tokens are taken at an account's own subdomain only.
    CustomSubdomain,
    /// An API key is asked for, as if there were no token.
    KeysOnly,
    /// The proxy's network is not among those allowed.
    NetworkRules,
    /// The resource is in a virtual network, and this endpoint does not lead there.
    VirtualNetworkEndpoint,
    /// The resource answers at its private endpoint only.
    PublicAccessDisabled,
    /// The account has no deployment of the name asked for.
    DeploymentNotFound,
}

impl Cause {
    /// What a response with this status means that says `words` and comes from `endpoint`. [`None`]: nothing that the proxy
    /// added or was told is to blame, or nobody can tell.
    #[must_use]
    pub fn of(status: StatusCode, words: &Words, endpoint: &Endpoint) -> Option<Self> {
        match status {
            StatusCode::BAD_REQUEST => misdirected(words),
            StatusCode::UNAUTHORIZED => Some(unauthorized(words, endpoint)),
            StatusCode::FORBIDDEN => forbidden(words),
            StatusCode::NOT_FOUND => {
                let said =
                    words.code_is("deploymentnotfound") || words.say(&["api deployment for this resource does not"]);
                said.then_some(Self::DeploymentNotFound)
            }
            _ => None,
        }
    }

    /// A short name for logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::RoleMissing => "role_missing",
            Self::StaleToken => "stale_token",
            Self::ClaimsChallenge => "claims_challenge",
            Self::TenantMismatch => "tenant_mismatch",
            Self::CustomSubdomain => "custom_subdomain",
            Self::KeysOnly => "keys_only",
            Self::NetworkRules => "network_rules",
            Self::VirtualNetworkEndpoint => "virtual_network_endpoint",
            Self::PublicAccessDisabled => "public_access_disabled",
            Self::DeploymentNotFound => "deployment_not_found",
        }
    }
}

/// The order matters: the more is said, the earlier it counts.
fn unauthorized(words: &Words, endpoint: &Endpoint) -> Cause {
    if words.ask_for_claims() {
        return Cause::ClaimsChallenge;
    }
    if let Some(cause) = misdirected(words).or_else(|| role_missing(words)) {
        return cause;
    }
    if account::is_regional(endpoint) {
        // Whatever the words: a region's endpoint takes no token.
        Cause::CustomSubdomain
    } else if words.say(&["subscription key", "subscription-key", "api key", "api-key"]) {
        Cause::KeysOnly
    } else {
        Cause::StaleToken
    }
}

/// A good token in the wrong place. Some of Azure's services answer 400 to that, some 401.
fn misdirected(words: &Words) -> Option<Cause> {
    if words.say(&["custom subdomain for token authentication"]) {
        return Some(Cause::CustomSubdomain);
    }
    let tenant = words.code_is("tenant provided in token does not match resource token")
        || words.code_is("invalidauthenticationtokentenant")
        || words.say(&["does not match resource tenant", "does not match resource token"]);
    tenant.then_some(Cause::TenantMismatch)
}

fn role_missing(words: &Words) -> Option<Cause> {
    let said = words.code_is("permissiondenied")
        || words.say(&["lacks the required data action", "principal does not have access to api/operation"]);
    said.then_some(Cause::RoleMissing)
}

fn forbidden(words: &Words) -> Option<Cause> {
    if let Some(cause) = role_missing(words) {
        Some(cause)
    } else if words.say(&["public access is disabled"]) {
        Some(Cause::PublicAccessDisabled)
    } else if words.say(&["a virtual network is configured for this resource"]) {
        Some(Cause::VirtualNetworkEndpoint)
    } else if words.say(&["virtual network/firewall rules"]) || words.deny_traffic() {
        Some(Cause::NetworkRules)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderMap, HeaderValue};

    const RESOURCE: &str = "https://name.openai.azure.com";

    fn cause_at(endpoint: &str, status: u16, content: &str) -> Option<Cause> {
        let status = StatusCode::from_u16(status).expect("a status");
        let words = Words::read(&HeaderMap::new(), content.as_bytes());
        Cause::of(status, &words, &Endpoint::parse(endpoint).expect(endpoint))
    }

    fn cause(status: u16, content: &str) -> Option<Cause> {
        cause_at(RESOURCE, status, content)
    }

    fn refusal(code: &str, message: &str) -> String {
        serde_json::json!({ "error": { "code": code, "message": message } }).to_string()
    }

    #[test]
    fn a_missing_role_is_told_from_a_token_that_is_not_taken() {
        let action = "Microsoft.CognitiveServices/accounts/OpenAI/deployments/chat/completions/action";
        let message = format!(
            "The principal `0b1f6471-1bf0-4dda-aec3-cb9272f09590` lacks the required data action `{action}` to perform `POST \
             /openai/deployments/{{deployment-id}}/chat/completions` operation."
        );
        for content in [
            refusal("PermissionDenied", &message),
            refusal("PermissionDenied", &format!("{message} For instructions, see https://aka.ms/FoundryPermissions.")),
            refusal("PermissionDenied", "Principal does not have access to API/Operation."),
            refusal("401", "Principal does not have access to API/Operation."),
            refusal("401", &message),
            r#"{"code":"permissiondenied","message":"x"}"#.to_owned(),
            refusal("PermissionDenied", "Access token is missing, invalid, audience is incorrect, or have expired."),
        ] {
            assert_eq!(cause(401, &content), Some(Cause::RoleMissing), "{content}");
            assert_eq!(cause(403, &content), Some(Cause::RoleMissing), "{content}");
        }
    }

    #[test]
    fn any_other_401_is_about_the_token() {
        let message = "Unauthorized. Access token is missing, invalid, audience is incorrect \
                       (https://cognitiveservices.azure.com), or have expired.";
        for content in [
            serde_json::json!({ "statusCode": 401, "message": message }).to_string(),
            refusal("401", message),
            refusal("Unauthorized", "whatever"),
            String::new(),
            "<html>401</html>".to_owned(),
        ] {
            assert_eq!(cause(401, &content), Some(Cause::StaleToken), "{content}");
            assert_eq!(cause(500, &content), None);
        }
    }

    #[test]
    fn a_challenge_for_claims_counts_before_the_content() {
        let mut fields = HeaderMap::new();
        let challenge = "Bearer realm=\"\", authorization_uri=\"https://login.microsoftonline.com/common/oauth2/authorize\", \
                         error=\"insufficient_claims\", claims=\"eyJ9\"";
        fields.append("www-authenticate", HeaderValue::from_static("Basic"));
        fields.append("www-authenticate", challenge.parse().expect("a value"));
        let words = Words::read(&fields, refusal("PermissionDenied", "x").as_bytes());
        let endpoint = Endpoint::parse(RESOURCE).expect("an endpoint");
        assert_eq!(Cause::of(StatusCode::UNAUTHORIZED, &words, &endpoint), Some(Cause::ClaimsChallenge));
        assert_eq!(Cause::of(StatusCode::OK, &words, &endpoint), None);
    }

    #[test]
    fn another_tenants_token_is_refused_with_400_or_401() {
        let code = "Tenant provided in token does not match resource token";
        let message = "Token tenant 0b1f6471-1bf0-4dda-aec3-cb9272f09590 does not match resource tenant.";
        for content in [
            refusal(code, message),
            refusal("401", message),
            refusal(code, "x"),
            refusal("InvalidAuthenticationTokenTenant", "The access token is from the wrong issuer"),
        ] {
            assert_eq!(cause(400, &content), Some(Cause::TenantMismatch), "{content}");
            assert_eq!(cause(401, &content), Some(Cause::TenantMismatch), "{content}");
        }
    }

    #[test]
    fn tokens_are_taken_at_subdomains_only() {
        let message = "Please provide a custom subdomain for token authentication, otherwise API key is required.";
        for content in [refusal("BadRequest", message), serde_json::json!({ "message": message }).to_string()] {
            assert_eq!(cause(400, &content), Some(Cause::CustomSubdomain));
            assert_eq!(cause(401, &content), Some(Cause::CustomSubdomain));
        }
        let region = "https://swedencentral.api.cognitive.microsoft.com";
        for message in ["Access token is missing, invalid", "Access denied due to invalid subscription key"] {
            assert_eq!(cause_at(region, 401, &refusal("401", message)), Some(Cause::CustomSubdomain));
        }
        assert_eq!(cause_at(region, 401, &refusal("PermissionDenied", "x")), Some(Cause::RoleMissing));
        assert_eq!(cause_at(region, 400, &refusal("BadRequest", "x")), None);
    }

    #[test]
    fn a_key_asked_for_in_spite_of_a_token_is_another_matter() {
        for message in [
            "Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a valid key for an \
             active subscription and use a correct regional API endpoint for your resource.",
            "Access denied due to missing subscription key. Make sure to include subscription key when making requests to \
             an API.",
            "Access denied due to a missing application credentials or subscription key. Make sure to include an \
             application token or a subscription key when making requests to the API.",
            "Ocp-Apim-Subscription-Key is missing",
            "API key is required",
        ] {
            assert_eq!(cause(401, &refusal("401", message)), Some(Cause::KeysOnly), "{message}");
        }
    }

    #[test]
    fn networks_are_told_apart() {
        for (message, expected) in [
            ("Access denied due to Virtual Network/Firewall rules.", Cause::NetworkRules),
            (
                "A Virtual Network is configured for this resource. Please use the correct endpoint for making requests. \
                 Check https://aka.ms/cogsvc-vnet for more details.",
                Cause::VirtualNetworkEndpoint,
            ),
            ("Public access is disabled. Please configure private endpoint.", Cause::PublicAccessDisabled),
        ] {
            assert_eq!(cause(403, &refusal("403", message)), Some(expected));
            assert_eq!(cause(400, &refusal("403", message)), None);
        }
        let mut fields = HeaderMap::new();
        fields.append("policy-id", HeaderValue::from_static("ThrowExceptionDueToTrafficDenied"));
        let endpoint = Endpoint::parse(RESOURCE).expect("an endpoint");
        let words = Words::read(&fields, b"");
        assert_eq!(Cause::of(StatusCode::FORBIDDEN, &words, &endpoint), Some(Cause::NetworkRules));
    }

    #[test]
    fn a_deployment_is_not_just_anything() {
        let message = "The API deployment for this resource does not exist. If you created the deployment within the last 5 \
                       minutes, please wait a moment and try again.";
        assert_eq!(cause(404, &refusal("DeploymentNotFound", message)), Some(Cause::DeploymentNotFound));
        assert_eq!(cause(404, &refusal("404", message)), Some(Cause::DeploymentNotFound));
        assert_eq!(cause(404, &refusal("404", "Resource not found")), None);
        assert_eq!(cause(404, r#"{"error":{"message":"File with id 'f' not found.","code":null}}"#), None);
    }

    #[test]
    fn what_is_not_about_us_is_left_alone() {
        for (status, code, message) in [
            (400, "content_filter", "The response was filtered due to the prompt triggering Azure OpenAI's policy"),
            (400, "BadRequest", "API version not supported"),
            (400, "invalid_request_error", "Missing required parameter: 'model'."),
            (403, "content_policy_violation", "Your request was rejected as a result of our safety system."),
            (403, "403", "Your resource has been temporarily blocked"),
            (403, "AuthenticationTypeDisabled", "Key based authentication is disabled for this resource."),
            (409, "PermissionDenied", "x"),
            (429, "429", "Requests have exceeded token rate limit of your current OpenAI S0 pricing tier."),
            (200, "DeploymentNotFound", "x"),
        ] {
            assert_eq!(cause(status, &refusal(code, message)), None, "{status} {code}");
        }
    }
}
