//! What a token says about its holder. Unverified: good for telling people who we are, for no decision.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};

/// The claims of an Entra access token that name its holder.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Claims {
    /// Directory.
    #[serde(default, rename = "tid")]
    pub tenant: Option<String>,
    /// Principal: what role assignments name.
    #[serde(default, rename = "oid")]
    pub object_id: Option<String>,
    /// Application, as tokens of version 1.0 name it.
    #[serde(default)]
    appid: Option<String>,
    /// Application, as tokens of version 2.0 name it.
    #[serde(default)]
    azp: Option<String>,
    /// What the token is for.
    #[serde(default, rename = "aud")]
    pub audience: Option<String>,
    /// The kind of principal, in tokens that say it.
    #[serde(default, rename = "idtyp")]
    kind: Option<String>,
    /// A user's name in tokens of either version. Applications have none.
    #[serde(default)]
    upn: Option<UserName>,
    #[serde(default)]
    unique_name: Option<UserName>,
    /// What an application may do in a user's name.
    #[serde(default)]
    scp: Option<Present>,
}

/// The kinds of principal that role assignments tell apart and that hold tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrincipalType {
    /// An application or a managed identity.
    ServicePrincipal,
    /// A person.
    User,
}

/// Often a person's name: shown to that person alone, where they ask who they are (`check`).
#[derive(Clone, PartialEq, Eq)]
struct UserName(String);

impl fmt::Debug for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UserName")
    }
}

impl<'de> Deserialize<'de> for UserName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Whatever it is, it is there.
        let claim = serde_json::Value::deserialize(deserializer)?;
        Ok(Self(claim.as_str().unwrap_or_default().to_owned()))
    }
}

/// That a claim is there. What it says is not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Present;

impl<'de> Deserialize<'de> for Present {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

impl Claims {
    /// Application: what `--client-id` names.
    #[must_use]
    pub fn application(&self) -> Option<&str> {
        self.appid.as_deref().or(self.azp.as_deref())
    }

    /// What a user signs in with.
    #[must_use]
    pub fn user_name(&self) -> Option<&str> {
        let name = self.upn.as_ref().or(self.unique_name.as_ref())?;
        Some(name.0.as_str()).filter(|name| !name.is_empty())
    }

    /// What kind of principal holds the token, if it can be told: managed identities' tokens, for one, need not say.
    #[must_use]
    pub fn principal_type(&self) -> Option<PrincipalType> {
        match self.kind.as_deref() {
            Some("app") => Some(PrincipalType::ServicePrincipal),
            Some("user") => Some(PrincipalType::User),
            _ if self.upn.is_some() || self.unique_name.is_some() || self.scp.is_some() => Some(PrincipalType::User),
            _ => None,
        }
    }

    /// Reads the payload of a JWT; a token that is none has no claims.
    #[must_use]
    pub fn read(token: &str) -> Self {
        let payload = token.split('.').nth(1).and_then(|payload| URL_SAFE_NO_PAD.decode(payload).ok());
        payload.and_then(|payload| serde_json::from_slice(&payload).ok()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(payload: &str) -> Claims {
        Claims::read(&format!("h.{}.s", URL_SAFE_NO_PAD.encode(payload)))
    }

    #[test]
    fn a_payload_is_read_and_anything_else_is_nobody() {
        let claims = claims(r#"{"tid":"t","oid":"o","appid":"a","azp":"b","aud":"https://x","extra":1}"#);
        assert_eq!(claims.object_id.as_deref(), Some("o"));
        assert_eq!(claims.application(), Some("a"));
        for nonsense in ["", "a", "a.b.c", "a..c", "opaque-token"] {
            assert_eq!(Claims::read(nonsense), Claims::default());
        }
    }

    #[test]
    fn a_principals_type_is_said_or_told_from_what_only_users_have() {
        for (payload, expected) in [
            (r#"{"idtyp":"app"}"#, Some(PrincipalType::ServicePrincipal)),
            (r#"{"idtyp":"app","scp":"user_impersonation"}"#, Some(PrincipalType::ServicePrincipal)),
            (r#"{"idtyp":"user"}"#, Some(PrincipalType::User)),
            (r#"{"upn":"someone@example.com"}"#, Some(PrincipalType::User)),
            (r#"{"unique_name":"someone@example.com"}"#, Some(PrincipalType::User)),
            (r#"{"scp":["user_impersonation"]}"#, Some(PrincipalType::User)),
            (r#"{"scp":null}"#, None),
            (r#"{"oid":"o"}"#, None),
        ] {
            assert_eq!(claims(payload).principal_type(), expected, "{payload}");
        }
    }

    #[test]
    fn a_persons_name_is_told_to_who_asks_for_it_and_never_printed() {
        let named = [r#"{"upn":"a@b.c","unique_name":"x"}"#, r#"{"unique_name":"a@b.c"}"#];
        assert!(named.iter().all(|payload| claims(payload).user_name() == Some("a@b.c")));
        assert_eq!((claims(r#"{"upn":7}"#).user_name(), claims("{}").user_name()), (None, None));
        assert!(!format!("{:?}", claims(r#"{"upn":"someone","unique_name":"someone"}"#)).contains("someone"));
    }
}
