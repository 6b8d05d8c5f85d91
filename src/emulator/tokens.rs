//! Issues access tokens and judges them: what Entra does for Azure's services.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::federation::{self, FederatedFlaw};
use super::lock::Lock;
use super::signing::SigningKey;
use super::world::{Principal, TENANT_ID};
use crate::clock::SharedClock;

/// How long Entra's own tokens live, unless the lifetime was set shorter.
const ENTRA_LIFETIME: Duration = Duration::from_secs(3599);

/// How far back a token says it was issued, against clocks that are slow.
const BACKDATED: Duration = Duration::from_secs(300);

/// With less than this left, managed identity gets a new token instead of the one it keeps.
const NEAR_EXPIRY: Duration = Duration::from_secs(300);

/// What an access token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Claims {
    pub(super) aud: String,
    pub(super) iss: String,
    pub(super) iat: u64,
    pub(super) nbf: u64,
    pub(super) exp: u64,
    pub(super) appid: String,
    pub(super) appidacr: String,
    pub(super) azp: String,
    pub(super) idp: String,
    pub(super) idtyp: String,
    pub(super) oid: String,
    pub(super) sub: String,
    pub(super) tid: String,
    pub(super) uti: String,
    pub(super) ver: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) xms_mirid: Option<String>,
}

/// A token together with what it says.
#[derive(Clone)]
pub(super) struct Issued {
    pub(super) token: String,
    pub(super) claims: Claims,
}

/// Why a token is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flaw {
    /// It is no token, or not one of ours.
    Invalid,
    /// It is for another resource.
    Audience,
    /// It is of another tenant.
    Tenant,
    /// It is not valid yet.
    Early,
    /// It was valid.
    Expired,
    /// It was taken back.
    Revoked,
}

/// The tokens of one emulator.
#[derive(Debug)]
pub(super) struct Tokens {
    key: &'static SigningKey,
    clock: SharedClock,
    lifetime: Lock<Duration>,
    live: Lock<HashSet<String>>,
    kept: Lock<Kept>,
}

/// What managed identity keeps to hand out again, by client id and resource.
#[derive(Debug, Default)]
struct Kept {
    off: bool,
    tokens: HashMap<(&'static str, String), Issued>,
}

impl Tokens {
    pub(super) fn new(key: &'static SigningKey, clock: SharedClock, lifetime: Duration) -> Self {
        Self { key, clock, lifetime: Lock::new(lifetime), live: Lock::default(), kept: Lock::default() }
    }

    /// A token from Entra's token endpoint.
    pub(super) fn entra(&self, principal: &Principal, resource: &str) -> Issued {
        let lifetime = (*self.lifetime.open()).min(ENTRA_LIFETIME);
        self.issue(principal, resource, lifetime)
    }

    /// A token from managed identity: the one it keeps, unless that is near its end.
    pub(super) fn managed_identity(&self, principal: &Principal, resource: &str) -> Issued {
        let lifetime = *self.lifetime.open();
        let mut kept = self.kept.open();
        let slot = (principal.client_id, resource.to_owned());
        if let Some(token) = kept.tokens.get(&slot)
            && token.claims.exp > self.now() + NEAR_EXPIRY.as_secs()
        {
            return token.clone();
        }
        let fresh = self.issue(principal, resource, lifetime);
        if !kept.off {
            kept.tokens.insert(slot, fresh.clone());
        }
        fresh
    }

    /// What `token` says, if it is good for one of `audiences` now.
    pub(super) fn judge(&self, token: &str, audiences: &[&str]) -> Result<Claims, Flaw> {
        let claims: Claims = self.key.open(token).ok_or(Flaw::Invalid)?;
        let now = self.now();
        if claims.tid != TENANT_ID {
            Err(Flaw::Tenant)
        } else if !audiences.contains(&claims.aud.trim_end_matches('/')) {
            Err(Flaw::Audience)
        } else if claims.nbf > now {
            Err(Flaw::Early)
        } else if claims.exp <= now {
            Err(Flaw::Expired)
        } else if !self.live.open().contains(&claims.uti) {
            Err(Flaw::Revoked)
        } else {
            Ok(claims)
        }
    }

    /// A token such as Kubernetes projects into a pod, for `subject`.
    pub(super) fn federated(&self, subject: &str) -> String {
        federation::mint(self.key, self.now(), subject)
    }

    /// Checks a client assertion against the federated credential.
    pub(super) fn judge_federated(&self, assertion: &str) -> Result<(), FederatedFlaw> {
        federation::judge(self.key, self.now(), assertion)
    }

    /// Takes back every token issued so far; managed identity goes on handing out what it keeps.
    pub(super) fn revoke(&self) {
        self.live.open().clear();
    }

    /// Makes managed identity forget what it keeps.
    pub(super) fn forget(&self) {
        self.kept.open().tokens.clear();
    }

    /// Whether managed identity keeps tokens from now on.
    pub(super) fn set_keeping(&self, on: bool) {
        let mut kept = self.kept.open();
        kept.off = !on;
        kept.tokens.clear();
    }

    /// How long tokens live that are issued from now on.
    pub(super) fn set_lifetime(&self, lifetime: Duration) {
        *self.lifetime.open() = lifetime;
    }

    /// The public key set.
    pub(super) fn key_set(&self) -> serde_json::Value {
        self.key.key_set()
    }

    /// Seconds since the epoch, by the emulator's clock.
    pub(super) fn now(&self) -> u64 {
        seconds(self.clock.now())
    }

    fn issue(&self, principal: &Principal, resource: &str, lifetime: Duration) -> Issued {
        let now = self.now();
        let begins = now.saturating_sub(BACKDATED.as_secs());
        let issuer = format!("https://sts.windows.net/{TENANT_ID}/");
        let claims = Claims {
            aud: resource.to_owned(),
            iss: issuer.clone(),
            iat: begins,
            nbf: begins,
            exp: now + lifetime.as_secs(),
            appid: principal.client_id.to_owned(),
            appidacr: if principal.resource_id.is_some() { "2" } else { "1" }.to_owned(),
            azp: principal.client_id.to_owned(),
            idp: issuer,
            idtyp: "app".to_owned(),
            oid: principal.object_id.to_owned(),
            sub: principal.object_id.to_owned(),
            tid: TENANT_ID.to_owned(),
            uti: Uuid::new_v4().simple().to_string(),
            ver: "1.0".to_owned(),
            xms_mirid: principal.resource_id.map(str::to_owned),
        };
        self.live.open().insert(claims.uti.clone());
        Issued { token: self.key.sign(&claims), claims }
    }
}

impl fmt::Debug for Issued {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Issued").field("claims", &self.claims).finish_non_exhaustive()
    }
}

impl Issued {
    /// How many seconds are left at `now`.
    pub(super) fn expires_in(&self, now: u64) -> u64 {
        self.claims.exp.saturating_sub(now)
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::ManualClock;
    use crate::emulator::world::{MANAGEMENT_AUDIENCES, OPENAI_AUDIENCES, SERVICE_PRINCIPAL, SYSTEM_ASSIGNED};

    const DAY: Duration = Duration::from_secs(86_400);

    fn tokens() -> (Tokens, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::stopped());
        (Tokens::new(SigningKey::shared(), clock.clone(), DAY), clock)
    }

    #[test]
    fn a_token_is_good_for_its_audience_alone() {
        let (tokens, _) = tokens();
        let issued = tokens.entra(&SERVICE_PRINCIPAL, "https://ai.azure.com/");
        assert_eq!(tokens.judge(&issued.token, &OPENAI_AUDIENCES), Ok(issued.claims));
        assert_eq!(tokens.judge(&issued.token, &MANAGEMENT_AUDIENCES), Err(Flaw::Audience));
        assert_eq!(tokens.judge("no.token.this", &OPENAI_AUDIENCES), Err(Flaw::Invalid));
    }

    #[test]
    fn a_token_expires_by_the_clock() {
        let (tokens, clock) = tokens();
        let issued = tokens.entra(&SERVICE_PRINCIPAL, OPENAI_AUDIENCES[0]);
        clock.advance(Duration::from_secs(3598));
        assert!(tokens.judge(&issued.token, &OPENAI_AUDIENCES).is_ok());
        clock.advance(Duration::from_secs(1));
        assert_eq!(tokens.judge(&issued.token, &OPENAI_AUDIENCES), Err(Flaw::Expired));
    }

    #[test]
    fn managed_identity_keeps_a_token_until_near_its_end() {
        let (tokens, clock) = tokens();
        let ask = || tokens.managed_identity(&SYSTEM_ASSIGNED, OPENAI_AUDIENCES[0]).token;
        let first = ask();
        clock.advance(Duration::from_secs(86_400 - 300 - 1));
        assert_eq!(ask(), first);
        clock.advance(Duration::from_secs(1));
        assert_ne!(ask(), first);
    }

    #[test]
    fn managed_identity_can_be_told_to_keep_nothing() {
        let (tokens, _) = tokens();
        let ask = || tokens.managed_identity(&SYSTEM_ASSIGNED, OPENAI_AUDIENCES[0]).token;
        let first = ask();
        tokens.forget();
        let second = ask();
        assert_ne!(second, first);
        tokens.set_keeping(false);
        assert_ne!(ask(), ask());
    }

    #[test]
    fn a_revoked_token_is_still_handed_out_and_no_longer_good() {
        let (tokens, _) = tokens();
        let ask = || tokens.managed_identity(&SYSTEM_ASSIGNED, OPENAI_AUDIENCES[0]).token;
        let first = ask();
        tokens.revoke();
        assert_eq!(ask(), first);
        assert_eq!(tokens.judge(&first, &OPENAI_AUDIENCES), Err(Flaw::Revoked));
    }
}
