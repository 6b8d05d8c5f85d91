//! Workload identity: tokens of a made-up cluster, and the federated credential that trusts them.

use serde::{Deserialize, Serialize};

use super::signing::SigningKey;
use super::world::{FEDERATED_AUDIENCE, FEDERATED_ISSUER, FEDERATED_SUBJECT};

/// How many seconds a federated token lives.
const LIFETIME: u64 = 3600;

/// What a federated token says, as far as Entra looks at it.
#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    aud: String,
    iss: String,
    sub: String,
    iat: u64,
    nbf: u64,
    exp: u64,
}

/// Why a client assertion does not match the federated credential.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FederatedFlaw {
    /// It is no token that the issuer signed.
    Malformed,
    /// It is of this other issuer.
    Issuer(String),
    /// It is for this other subject.
    Subject(String),
    /// It is for this other audience.
    Audience(String),
    /// It is not valid at this time.
    Expired,
}

/// A token such as Kubernetes projects into a pod, issued at `now` for `subject`.
pub(super) fn mint(key: &SigningKey, now: u64, subject: &str) -> String {
    key.sign(&Claims {
        aud: FEDERATED_AUDIENCE.to_owned(),
        iss: FEDERATED_ISSUER.to_owned(),
        sub: subject.to_owned(),
        iat: now,
        nbf: now,
        exp: now + LIFETIME,
    })
}

/// Checks a client assertion against the one federated credential there is.
pub(super) fn judge(key: &SigningKey, now: u64, assertion: &str) -> Result<(), FederatedFlaw> {
    let claims: Claims = key.open(assertion).ok_or(FederatedFlaw::Malformed)?;
    if claims.iss != FEDERATED_ISSUER {
        Err(FederatedFlaw::Issuer(claims.iss))
    } else if claims.sub != FEDERATED_SUBJECT {
        Err(FederatedFlaw::Subject(claims.sub))
    } else if claims.aud != FEDERATED_AUDIENCE {
        Err(FederatedFlaw::Audience(claims.aud))
    } else if claims.exp <= now || claims.nbf > now {
        Err(FederatedFlaw::Expired)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_checked_for_subject_and_time() {
        let key = SigningKey::shared();
        let token = mint(key, 1_000, FEDERATED_SUBJECT);
        assert_eq!(judge(key, 1_000, &token), Ok(()));
        assert_eq!(judge(key, 1_000 + LIFETIME, &token), Err(FederatedFlaw::Expired));
        assert_eq!(judge(key, 999, &token), Err(FederatedFlaw::Expired));
        assert_eq!(judge(key, 1_000, "no.token.this"), Err(FederatedFlaw::Malformed));
        let other = "system:serviceaccount:default:other".to_owned();
        assert_eq!(judge(key, 1_000, &mint(key, 1_000, &other)), Err(FederatedFlaw::Subject(other)));
    }
}
