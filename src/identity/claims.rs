//! What a token says about its holder. Unverified: good for telling people who we are, for no decision.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

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
}

impl Claims {
    /// Application: what `--client-id` names.
    #[must_use]
    pub fn application(&self) -> Option<&str> {
        self.appid.as_deref().or(self.azp.as_deref())
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

    #[test]
    fn a_payload_is_read_and_anything_else_is_nobody() {
        let payload =
            URL_SAFE_NO_PAD.encode(r#"{"tid":"t","oid":"o","appid":"a","azp":"b","aud":"https://x","extra":1}"#);
        let claims = Claims::read(&format!("h.{payload}.s"));
        assert_eq!(claims.object_id.as_deref(), Some("o"));
        assert_eq!(claims.application(), Some("a"));
        for nonsense in ["", "a", "a.b.c", "a..c", "opaque-token"] {
            assert_eq!(Claims::read(nonsense), Claims::default());
        }
    }
}
