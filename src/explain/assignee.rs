//! Our principal, as whoever assigns it a role names it.

use super::plain;
use crate::identity::claims::{Claims, PrincipalType};

/// The arguments of `az role assignment create` that say who gets the role, or a word that stands for the principal.
#[must_use]
pub fn assignee(claims: Option<&Claims>) -> String {
    let object_id = claims.and_then(|claims| claims.object_id.as_deref()).and_then(plain::id).unwrap_or("OBJECT_ID");
    match claims.and_then(Claims::principal_type) {
        Some(PrincipalType::ServicePrincipal) => {
            format!("--assignee-object-id {object_id} --assignee-principal-type ServicePrincipal")
        }
        Some(PrincipalType::User) => format!("--assignee-object-id {object_id} --assignee-principal-type User"),
        // Then az asks the directory what the principal is.
        None => format!("--assignee {object_id}"),
    }
}
