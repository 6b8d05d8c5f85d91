//! What a person can do about a refusal.

mod place;
mod token;

#[cfg(test)]
mod tests;

use super::cause::Cause;
use super::facts::Facts;

/// What a person can do about a refusal, on one line; a command to paste, if there is one, is its end.
///
/// A hint is seen as a program prints it, mostly quoted. With single quotes only, and no backslash or line break, JSON and
/// the languages' own notations leave all of it as it is, so that the command can be copied from there.
#[must_use]
pub fn hint(cause: Cause, facts: &Facts<'_>) -> String {
    match cause {
        Cause::RoleMissing => token::role_missing(facts),
        Cause::StaleToken => token::stale_token(facts),
        Cause::ClaimsChallenge => token::claims_challenge(facts),
        Cause::TenantMismatch => token::tenant_mismatch(facts),
        Cause::CustomSubdomain => place::custom_subdomain(facts),
        Cause::KeysOnly => place::keys_only(facts),
        Cause::NetworkRules => place::network_rules(facts),
        Cause::VirtualNetworkEndpoint => place::virtual_network_endpoint(facts),
        Cause::PublicAccessDisabled => place::public_access_disabled(facts),
        Cause::DeploymentNotFound => place::deployment_not_found(facts),
    }
}

/// Programs that hints let people run.
const PROGRAMS: [&str; 2] = ["az", "nslookup"];

/// How variables begin that hints let people set.
const VARIABLES: &str = "AOAI_PROXY__";

/// What a hint says, and what stands at its end to be pasted, if anything does: a command, or a variable with its value.
#[must_use]
pub fn command(hint: &str) -> (&str, Option<&str>) {
    let begins = |at: usize| {
        let word = hint[at..].split(' ').next();
        word.is_some_and(|word| PROGRAMS.contains(&word) || word.starts_with(VARIABLES))
    };
    let found = hint.rmatch_indices(": ").map(|(colon, separator)| (colon, colon + separator.len()));
    match found.into_iter().find(|(_, at)| begins(*at)) {
        Some((colon, at)) => (&hint[..colon], Some(&hint[at..])),
        None => (hint, None),
    }
}
