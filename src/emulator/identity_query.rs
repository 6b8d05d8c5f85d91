//! The query of a managed identity request: which resource, and which of the machine's identities.

use std::collections::HashMap;

use super::world::{Principal, SYSTEM_ASSIGNED, USER_ASSIGNED, knows_resource};

/// A request that both kinds of managed identity endpoint understand.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct IdentityQuery {
    pub(super) principal: Principal,
    pub(super) resource: String,
}

/// What is wrong with the query.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum QueryProblem {
    /// A parameter is there twice.
    Duplicate(String),
    /// `api-version` is missing or unknown.
    ApiVersion,
    /// `resource` is missing.
    NoResource,
    /// Entra does not know the resource.
    UnknownResource(String),
    /// More than one parameter says which identity.
    SeveralIdentities,
    /// The machine does not have that identity.
    IdentityNotFound,
}

/// What differs between the endpoints.
#[derive(Debug)]
pub(super) struct Dialect {
    /// The values of `api-version` that are known.
    pub(super) api_versions: &'static [&'static str],
    /// The names of the parameter with an identity's object id.
    pub(super) object_id: &'static [&'static str],
    /// The names of the parameter with an identity's ARM id.
    pub(super) resource_id: &'static [&'static str],
}

impl IdentityQuery {
    /// Reads `query` (without its question mark).
    pub(super) fn parse(query: &str, dialect: &Dialect) -> Result<Self, QueryProblem> {
        let parameters = parameters(query)?;
        if !parameters.get("api-version").is_some_and(|version| dialect.api_versions.contains(&version.as_str())) {
            return Err(QueryProblem::ApiVersion);
        }
        let resource = parameters.get("resource").filter(|resource| !resource.is_empty());
        let resource = resource.ok_or(QueryProblem::NoResource)?.clone();
        let principal = principal(&parameters, dialect)?;
        if knows_resource(&resource) {
            Ok(Self { principal, resource })
        } else {
            Err(QueryProblem::UnknownResource(resource))
        }
    }
}

fn parameters(query: &str) -> Result<HashMap<String, String>, QueryProblem> {
    let mut parameters = HashMap::new();
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        let name = name.to_ascii_lowercase();
        if parameters.insert(name.clone(), value.into_owned()).is_some() {
            return Err(QueryProblem::Duplicate(name));
        }
    }
    Ok(parameters)
}

fn principal(parameters: &HashMap<String, String>, dialect: &Dialect) -> Result<Principal, QueryProblem> {
    let names = ["client_id"].iter().chain(dialect.object_id).chain(dialect.resource_id);
    let mut asked = names.filter_map(|name| parameters.get(*name).map(|id| (*name, id)));
    let Some((name, id)) = asked.next() else { return Ok(SYSTEM_ASSIGNED) };
    if asked.next().is_some() {
        return Err(QueryProblem::SeveralIdentities);
    }
    let is_meant = |principal: &Principal| {
        let own = match name {
            "client_id" => Some(principal.client_id),
            name if dialect.object_id.contains(&name) => Some(principal.object_id),
            _ => principal.resource_id,
        };
        own.is_some_and(|own| own.eq_ignore_ascii_case(id))
    };
    [SYSTEM_ASSIGNED, USER_ASSIGNED].into_iter().find(is_meant).ok_or(QueryProblem::IdentityNotFound)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIALECT: Dialect =
        Dialect { api_versions: &["2018-02-01"], object_id: &["object_id"], resource_id: &["msi_res_id"] };
    const ASKED: &str = "api-version=2018-02-01&resource=https%3A%2F%2Fai.azure.com";

    fn parse(rest: &str) -> Result<IdentityQuery, QueryProblem> {
        IdentityQuery::parse(&format!("{ASKED}{rest}"), &DIALECT)
    }

    #[test]
    fn without_an_id_the_system_assigned_identity_is_meant() {
        let resource = "https://ai.azure.com".to_owned();
        assert_eq!(parse(""), Ok(IdentityQuery { principal: SYSTEM_ASSIGNED, resource }));
    }

    #[test]
    fn each_id_finds_the_user_assigned_identity() {
        for rest in [
            format!("&client_id={}", USER_ASSIGNED.client_id),
            format!("&object_id={}", USER_ASSIGNED.object_id),
            format!("&msi_res_id={}", USER_ASSIGNED.resource_id.unwrap().to_lowercase()),
        ] {
            assert_eq!(parse(&rest).unwrap().principal, USER_ASSIGNED, "{rest}");
        }
    }

    #[test]
    fn problems_are_told_apart() {
        let unknown = "&client_id=00000000-0000-0000-0000-000000000000";
        assert_eq!(parse(unknown), Err(QueryProblem::IdentityNotFound));
        assert_eq!(parse(&format!("{unknown}&object_id=x")), Err(QueryProblem::SeveralIdentities));
        assert_eq!(parse("&resource=again"), Err(QueryProblem::Duplicate("resource".to_owned())));
        let parse = |query| IdentityQuery::parse(query, &DIALECT);
        assert_eq!(parse("resource=x"), Err(QueryProblem::ApiVersion));
        assert_eq!(parse("api-version=1999-01-01&resource=x"), Err(QueryProblem::ApiVersion));
        assert_eq!(parse("api-version=2018-02-01"), Err(QueryProblem::NoResource));
        let scope = "https://ai.azure.com/.default";
        let query = format!("api-version=2018-02-01&resource={scope}");
        assert_eq!(parse(&query), Err(QueryProblem::UnknownResource(scope.to_owned())));
    }
}
