//! What a person can do about a credential's failure: a pure function of the failure and of who was asked for what.

use super::failure::{Cause, CredentialError, Remedy};
use crate::config::{CredentialSource, IdentityName, ManagedIdentity, Place, Scope};

/// The remedy for `cause`, which came about when `source` was asked for a token for `scope`.
pub(super) fn remedy(source: &CredentialSource, scope: &Scope, cause: &Cause) -> Option<Remedy> {
    match (source, cause) {
        (_, Cause::NoneWorked(tried)) => among(tried),
        (_, Cause::Refused { words, .. } | Cause::Tool(words)) if is_transient(words) => None,
        (_, Cause::Unsupported(_)) => also(
            "use credential.kind = client-certificate or client-secret, or azure-cli; managed identity is supported on virtual \
             machines, AKS, App Service, Functions and Container Apps",
        ),
        (_, Cause::Unreachable { words, .. }) if words.contains("certificate") => also(
            "if a company's own authority signed that certificate, name the authority's certificate in upstream.ca_file",
        ),
        (CredentialSource::ManagedIdentity(_), Cause::Overdue(_)) => {
            also("is something between this machine and the metadata service (a firewall, a network policy)?")
        }
        (CredentialSource::ManagedIdentity(managed), cause) => managed_identity(managed, cause),
        (CredentialSource::AzureCli { tenant_id, .. }, cause) => azure_cli(tenant_id.as_deref(), scope, cause),
        (CredentialSource::AzureDeveloperCli { tenant_id, .. }, cause) => developer_cli(tenant_id.as_deref(), cause),
        (CredentialSource::WorkloadIdentity { .. }, Cause::File(_)) => also(
            "AKS mounts it into pods labelled azure.workload.identity/use: \"true\" whose service account names the identity",
        ),
        (CredentialSource::ClientCertificate { client_id, .. }, Cause::ExpiredCertificate(_)) => {
            only(format!("make a new one: `az ad app credential reset --id {client_id} --create-cert --append`"))
        }
        (CredentialSource::ClientCertificate { .. }, Cause::File(_)) => only("put a usable certificate there"),
        (_, Cause::Refused { words, .. }) => entra(source, scope, words),
        _ => None,
    }
}

/// Nothing else can help.
#[expect(clippy::unnecessary_wraps, reason = "as the arms want it")]
fn only(advice: impl Into<String>) -> Option<Remedy> {
    Some(Remedy { advice: advice.into(), only: true })
}

/// It may also pass by itself.
#[expect(clippy::unnecessary_wraps, reason = "as the arms want it")]
fn also(advice: impl Into<String>) -> Option<Remedy> {
    Some(Remedy { advice: advice.into(), only: false })
}

/// What helps one of the credentials that `auto` tried helps `auto`. Only a person can help if one of them says so: the
/// others are not there.
fn among(tried: &[CredentialError]) -> Option<Remedy> {
    let remedies = || tried.iter().filter_map(|error| error.remedy.as_ref());
    remedies().find(|remedy| remedy.only).cloned().or_else(|| {
        also(
            "sign in with `az login`, or give an application's credentials (AZURE_TENANT_ID, AZURE_CLIENT_ID and \
             AZURE_CLIENT_SECRET or AZURE_CLIENT_CERTIFICATE_PATH), or run where a managed identity is assigned",
        )
    })
}

fn managed_identity(managed: &ManagedIdentity, cause: &Cause) -> Option<Remedy> {
    match cause {
        Cause::Unreachable { .. } if managed.place == Place::Imds => also(
            "this looks like no Azure virtual machine; choose another credential (`--credential azure-cli`), or set \
             credential.imds_endpoint",
        ),
        Cause::Refused { status: 400 | 401 | 403, words, .. }
            if words.contains("AADSTS") || words.contains("invalid_resource") =>
        {
            only("is upstream.scope (or azure.cloud) right for this tenant?")
        }
        Cause::Refused { status: 400 | 401 | 403, words, .. } => only(match (&managed.identity, managed.place) {
            _ if words.to_ascii_lowercase().contains("multiple user assigned") => {
                "this place has several identities: say which with credential.client_id (AZURE_CLIENT_ID)".to_owned()
            }
            (IdentityName::SystemAssigned, place) => format!(
                "assign an identity to this place: {}; if a user-assigned one is meant, name it in credential.client_id \
                 (AZURE_CLIENT_ID)",
                match place {
                    Place::AppService => {
                        "`az containerapp identity assign --resource-group GROUP --name APP --system-assigned`, or `az webapp \
                         identity assign --resource-group GROUP --name APP`"
                    }
                    Place::Imds | Place::Unsupported(_) => {
                        "`az vm identity assign --resource-group GROUP --name MACHINE` (in a scale set, as of AKS: `az vmss \
                         identity assign`)"
                    }
                }
            ),
            (IdentityName::ClientId(id) | IdentityName::ObjectId(id) | IdentityName::ResourceId(id), place) => format!(
                "assign the identity {id} to this place: {}; if another one is meant, change credential.client_id \
                 (AZURE_CLIENT_ID)",
                match place {
                    Place::AppService => {
                        "`az containerapp identity assign --resource-group GROUP --name APP --user-assigned RESOURCE_ID`, or `az \
                         webapp identity assign --resource-group GROUP --name APP --identities RESOURCE_ID`"
                    }
                    Place::Imds | Place::Unsupported(_) => {
                        "`az vm identity assign --resource-group GROUP --name MACHINE --identities RESOURCE_ID` (in a scale set, as \
                         of AKS: `az vmss identity assign`)"
                    }
                }
            ),
        }),
        _ => None,
    }
}

fn azure_cli(tenant: Option<&str>, scope: &Scope, cause: &Cause) -> Option<Remedy> {
    let tenant_option = tenant.map_or_else(String::new, |tenant| format!(" --tenant {tenant}"));
    let by_hand = format!("`az account get-access-token{tenant_option} --scope {scope}`");
    let words = match cause {
        Cause::Tool(words) => words,
        Cause::Overdue(_) => return also(format!("see what it waits for: {by_hand}")),
        Cause::Missing(_) => {
            return also("install the Azure CLI (https://aka.ms/azure-cli), or choose another credential.kind");
        }
        _ => return None,
    };
    if words.contains("expires_on field not found") {
        return only("`az upgrade`: version 2.54 or newer is needed");
    }
    let sign_in = format!("`az login{tenant_option}`");
    match code(words) {
        Some(code) if wants_more_than_a_password(code) => only(format!("`az login{tenant_option} --scope {scope}`")),
        Some(500_011 | 500_014 | 650_057) => only(format!("{sign_in}, or set azure.cloud or upstream.scope")),
        Some(_) => only(sign_in),
        None if words.contains("az login") || words.contains("az account set") => only(sign_in),
        None => also(format!("see what it says: {by_hand}")),
    }
}

fn developer_cli(tenant: Option<&str>, cause: &Cause) -> Option<Remedy> {
    let words = match cause {
        Cause::Tool(words) => words,
        Cause::Missing(_) => {
            return also("install the Azure Developer CLI (https://aka.ms/azd), or choose another credential.kind");
        }
        _ => return None,
    };
    let sign_in =
        tenant.map_or("`azd auth login`".to_owned(), |tenant| format!("`azd auth login --tenant-id {tenant}`"));
    if words.contains("auth login") || words.contains("AADSTS") { only(sign_in) } else { also(sign_in) }
}

/// Entra's refusals by their numbers (<https://learn.microsoft.com/entra/identity-platform/reference-error-codes>).
fn entra(source: &CredentialSource, scope: &Scope, words: &str) -> Option<Remedy> {
    let (tenant, client) = names(source)?;
    match code(words)? {
        7_000_215 => only(format!(
            "credential.client_secret (AZURE_CLIENT_SECRET) must be the value of a secret of application {client}, not its id; \
             a new one: `az ad app credential reset --id {client} --append`"
        )),
        7_000_222 => only(format!(
            "the secret has expired; make a new one and set it as credential.client_secret (AZURE_CLIENT_SECRET): \
             `az ad app credential reset --id {client} --append`"
        )),
        7_000_112 => {
            only(format!("application {client} is disabled: `az ad sp update --id {client} --set accountEnabled=true`"))
        }
        700_016 => only(format!(
            "tenant {tenant} knows no application {client}: check credential.client_id (AZURE_CLIENT_ID) and \
             credential.tenant_id (AZURE_TENANT_ID)"
        )),
        90_002 | 900_021 | 900_023 => only(format!(
            "check credential.tenant_id (AZURE_TENANT_ID), now {tenant}; `az account show --query tenantId` tells yours"
        )),
        50_105 => only(format!(
            "assign application {client} to the resource's application: an administrator of tenant {tenant} can"
        )),
        700_027 if !matches!(source, CredentialSource::ClientCertificate { .. }) => None,
        700_027 => only(format!(
            "register the certificate with application {client}: `az ad app credential reset --id {client} --cert @CERT.pem --append`"
        )),
        70_021 | 700_211 | 700_212 | 700_213 | 700_223 => only(
            "the identity's federated credential must name exactly this issuer, subject and audience: `az identity \
             federated-credential list --identity-name NAME --resource-group GROUP`; a new one takes a few minutes",
        ),
        700_023 => only("are azure.cloud and credential.authority_host the ones of this tenant?"),
        700_024 => also("is this machine's clock right, and is the token file being refreshed?"),
        50_027 => also("is credential.federated_token_file (AZURE_FEDERATED_TOKEN_FILE) the platform's token?"),
        500_011 | 500_014 | 1_002_012 => {
            only(format!("is {scope} what the resource's tokens are for? Set upstream.scope or azure.cloud"))
        }
        65_001 | 65_004 | 90_094 | 650_056 => only(format!(
            "an administrator of tenant {tenant} must consent: `az ad app permission admin-consent --id {client}`"
        )),
        code if wants_more_than_a_password(code) => only(format!(
            "tenant {tenant} does not let application {client} in from here (conditional access); ask its administrator"
        )),
        _ => None,
    }
}

/// Multi-factor authentication, a managed device, a network: what conditional access can ask for.
fn wants_more_than_a_password(code: u32) -> bool {
    matches!(code, 50_072 | 50_074 | 50_076 | 50_079 | 50_097 | 50_158 | 53_000..=53_011 | 530_001..=530_099)
}

/// Whether Entra says of itself that it is ill.
pub(super) fn is_transient(words: &str) -> bool {
    matches!(code(words), Some(50_033 | 50_087 | 90_006 | 90_012 | 90_024 | 90_033 | 90_055 | 90_090))
}

/// The number in `AADSTS…`.
fn code(words: &str) -> Option<u32> {
    let digits = words.split_once("AADSTS")?.1;
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse().ok()
}

/// Tenant and application of a credential that speaks with Entra itself.
fn names(source: &CredentialSource) -> Option<(&str, &str)> {
    match source {
        CredentialSource::WorkloadIdentity { tenant_id, client_id, .. }
        | CredentialSource::ClientSecret { tenant_id, client_id, .. }
        | CredentialSource::ClientCertificate { tenant_id, client_id, .. } => Some((tenant_id, client_id)),
        CredentialSource::Auto(_)
        | CredentialSource::ManagedIdentity(_)
        | CredentialSource::AzureCli { .. }
        | CredentialSource::AzureDeveloperCli { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCOPE: &str = "https://cognitiveservices.azure.com/.default";

    fn of(source: &CredentialSource, cause: &Cause) -> Option<Remedy> {
        remedy(source, &Scope::parse(SCOPE).expect("a scope"), cause)
    }

    fn secret() -> CredentialSource {
        CredentialSource::ClientSecret {
            tenant_id: "the-tenant".to_owned(),
            client_id: "the-app".to_owned(),
            secret: "hunter2".to_owned().into(),
        }
    }

    fn cli(tenant: Option<&str>) -> CredentialSource {
        CredentialSource::AzureCli { tenant_id: tenant.map(str::to_owned), home: None }
    }

    fn vm(identity: IdentityName) -> CredentialSource {
        CredentialSource::ManagedIdentity(ManagedIdentity { identity, place: Place::Imds })
    }

    fn refused(status: u16, words: &str) -> Cause {
        Cause::Refused { service: "https://login".to_owned(), status, words: words.to_owned(), retry_after: None }
    }

    #[test]
    fn what_only_a_person_can_mend_names_what_to_type() {
        let tool = |words: &str| Cause::Tool(words.to_owned());
        let unassigned = refused(400, "invalid_request: Identity not found");
        let cases = [
            (secret(), refused(401, "AADSTS7000215: Invalid client secret"), "az ad app credential reset --id the-app"),
            (secret(), refused(401, "AADSTS7000222: keys are expired"), "az ad app credential reset --id the-app"),
            (secret(), refused(400, "AADSTS700016: not found"), "AZURE_CLIENT_ID"),
            (secret(), refused(400, "AADSTS90002: Tenant not found"), "AZURE_TENANT_ID"),
            (secret(), refused(400, "AADSTS65001: consent"), "admin-consent"),
            (secret(), refused(400, "AADSTS53003: blocked"), "conditional access"),
            (secret(), refused(400, "AADSTS500011: resource principal"), "upstream.scope"),
            (cli(None), tool("ERROR: Please run 'az login' to setup account."), "`az login`"),
            (cli(Some("t")), tool("ERROR: AADSTS70043: The refresh token has expired"), "`az login --tenant t`"),
            (cli(Some("t")), tool("AADSTS50076: must use MFA"), "`az login --tenant t --scope https://cognitive"),
            (cli(None), tool("expires_on field not found. Please use Azure CLI 2.54.0 or newer."), "az upgrade"),
            (vm(IdentityName::SystemAssigned), unassigned.clone(), "az vm identity assign"),
            (vm(IdentityName::ClientId("an-id".to_owned())), unassigned, "assign the identity an-id"),
            (
                vm(IdentityName::SystemAssigned),
                refused(400, "invalid_request: Multiple user assigned identities exist"),
                "AZURE_CLIENT_ID",
            ),
        ];
        for (source, cause, words) in cases {
            let remedy = of(&source, &cause).expect("a remedy");
            assert!(remedy.only && remedy.advice.contains(words), "{cause}: {}", remedy.advice);
        }
    }

    #[test]
    fn what_may_pass_is_not_left_to_a_person() {
        let tool = |words: &str| Cause::Tool(words.to_owned());
        let unreachable = Cause::Unreachable { service: "http://imds".to_owned(), words: "refused".to_owned() };
        for (source, cause) in [
            (vm(IdentityName::SystemAssigned), unreachable),
            (vm(IdentityName::SystemAssigned), refused(404, "")),
            (vm(IdentityName::SystemAssigned), refused(429, "too_many_requests")),
            (vm(IdentityName::SystemAssigned), refused(500, "unknown")),
            (secret(), refused(503, "AADSTS90033: A transient error has occurred")),
            (secret(), refused(401, "AADSTS700024: not within its valid time range")),
            (cli(None), Cause::Overdue(std::time::Duration::from_secs(1))),
            (cli(None), Cause::Missing("az")),
            (cli(None), tool("AADSTS90033: A transient error has occurred")),
            (vm(IdentityName::SystemAssigned), refused(400, "invalid_request: AADSTS90033: A transient error")),
            (vm(IdentityName::SystemAssigned), refused(503, "AADSTS500011: x")),
            (cli(None), tool("ERROR: connection aborted")),
        ] {
            assert!(of(&source, &cause).is_none_or(|remedy| !remedy.only), "{cause}");
        }
    }

    #[test]
    fn what_helps_one_helps_auto() {
        let failed = |source: &CredentialSource, cause: Cause| CredentialError {
            credential: "x",
            remedy: of(source, &cause),
            cause,
        };
        let missing = || failed(&cli(None), Cause::Missing("az"));
        let signed_out = failed(&cli(None), Cause::Tool("Please run 'az login'".to_owned()));
        let auto = CredentialSource::Auto(Vec::new());
        let remedy = of(&auto, &Cause::NoneWorked(vec![missing(), signed_out])).expect("a remedy");
        assert_eq!((remedy.advice.as_str(), remedy.only), ("`az login`", true));
        let remedy = of(&auto, &Cause::NoneWorked(vec![missing()])).expect("a remedy");
        assert!(!remedy.only, "a network that comes up a little later mends it");
    }

    #[test]
    fn the_number_is_found_in_the_words() {
        assert_eq!(code("x AADSTS7000215: y"), Some(7_000_215));
        assert_eq!(code("AADSTS50076"), Some(50_076));
        assert_eq!((code("AADSTS"), code("none"), code("AADSTS99999999999")), (None, None, None));
    }
}
