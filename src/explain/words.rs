//! What a refusal says, in whichever of its shapes.

use http::HeaderMap;
use http::header::WWW_AUTHENTICATE;
use serde_json::Value;
use uuid::Uuid;

/// Stands before the text in what some gateways send.
pub(super) const BYTE_ORDER_MARK: char = '\u{feff}';

/// What a refusal says, in lower case: Azure's services differ in that, and nothing here depends on it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Words {
    code: String,
    message: String,
    challenge: String,
    policy: String,
}

impl Words {
    /// Reads a response: its fields, and its content with any coding undone.
    ///
    /// Azure writes `{"error":{"code","message"}}`, `{"statusCode","message"}` and `{"code","message"}`. Content that is no
    /// JSON object is a message as a whole.
    #[must_use]
    pub fn read(fields: &HeaderMap, content: &[u8]) -> Self {
        let content = String::from_utf8_lossy(content);
        let content = content.trim_start_matches(BYTE_ORDER_MARK);
        let parsed = serde_json::from_str(content).ok().filter(Value::is_object);
        let (code, message) = match &parsed {
            Some(object) => {
                let error = object.get("error").filter(|error| error.is_object()).unwrap_or(object);
                (text(error.get("code")), text(error.get("message")))
            }
            None => (String::new(), content.to_lowercase()),
        };
        Self { code, message, challenge: field(fields, WWW_AUTHENTICATE.as_str()), policy: field(fields, "policy-id") }
    }

    /// Whether `code` is the code.
    pub(super) fn code_is(&self, code: &str) -> bool {
        self.code == code
    }

    /// Whether the message holds one of `parts`.
    pub(super) fn say(&self, parts: &[&str]) -> bool {
        parts.iter().any(|part| self.message.contains(part))
    }

    /// Whether a `WWW-Authenticate` asks for claims that the token lacks.
    pub(super) fn ask_for_claims(&self) -> bool {
        self.challenge.contains("insufficient_claims")
    }

    /// Whether the policy that answered is the one that keeps networks out.
    pub(super) fn deny_traffic(&self) -> bool {
        self.policy.contains("throwexceptionduetotrafficdenied")
    }

    /// What the message names as audiences: `audience is incorrect (ONE or ANOTHER)`.
    pub(super) fn audiences(&self) -> impl Iterator<Item = &str> {
        let named = after(&self.message, "audience is incorrect").and_then(|rest| rest.trim_start().strip_prefix('('));
        let named = named.and_then(|rest| rest.split(')').next()).unwrap_or_default();
        named.split(|c: char| c.is_whitespace() || c == ',').map(|name| name.trim_end_matches('/'))
    }

    /// The resource's tenant, if the message or a challenge names it.
    pub(super) fn tenant(&self) -> Option<&str> {
        let message = after(&self.message, "must match the tenant").and_then(first_guid);
        message.or_else(|| after(&self.challenge, "authorization_uri").and_then(first_guid))
    }
}

fn text(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => text.to_lowercase(),
        Some(Value::Number(number)) => number.to_string(),
        _ => String::new(),
    }
}

/// All lines of a field.
fn field(fields: &HeaderMap, name: &str) -> String {
    let lines = fields.get_all(name).iter().map(|line| String::from_utf8_lossy(line.as_bytes()).to_lowercase());
    lines.collect::<Vec<_>>().join("\n")
}

fn after<'a>(text: &'a str, mark: &str) -> Option<&'a str> {
    text.split_once(mark).map(|(_, rest)| rest)
}

fn first_guid(text: &str) -> Option<&str> {
    let pieces = text.split(|c: char| !c.is_ascii_hexdigit() && c != '-');
    pieces.filter(|piece| piece.len() == uuid::fmt::Hyphenated::LENGTH).find(|piece| Uuid::try_parse(piece).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn words(content: &str) -> Words {
        Words::read(&HeaderMap::new(), content.as_bytes())
    }

    #[test]
    fn every_shape_is_read() {
        for content in [
            r#"{"error":{"code":"CODE","message":"Message"}}"#,
            r#"{"code":"CODE","message":"Message"}"#,
            r#"{"error":null,"code":"Code","message":"MESSAGE"}"#,
            "\u{feff}{\"error\":{\"code\":\"code\",\"message\":\"message\",\"more\":[{}]}}\r\n",
        ] {
            assert!(words(content).code_is("code"), "{content}");
            assert!(words(content).say(&["else", "message"]), "{content}");
        }
        assert!(words(r#"{"error":{"code":401}}"#).code_is("401"));
        assert!(words(r#"{"statusCode":401,"message":"Message"}"#).say(&["message"]));
        assert!(words("<h1>Message</h1>").say(&["message"]));
        assert!(!words(r#"{"error":{"code":"x"},"more":"Message"}"#).say(&["message"]));
    }

    #[test]
    fn content_that_is_no_text_says_nothing() {
        for content in [&b""[..], b"\xff\xfe{", b"[]", b"null", b"{\"error\":[\"message\"]}"] {
            let words = Words::read(&HeaderMap::new(), content);
            assert!(!words.say(&["audience"]) && words.audiences().all(str::is_empty) && words.tenant().is_none());
        }
    }

    #[test]
    fn the_resources_tenant_is_the_one_behind_its_words() {
        let other = "11111111-1111-1111-1111-111111111111";
        let own = "22222222-2222-2222-2222-222222222222";
        let message = format!(
            "The access token is from the wrong issuer 'https://sts.windows.net/{other}/'. It must match the tenant \
             'https://sts.windows.net/{own}/' associated with this subscription."
        );
        let message =
            words(&format!(r#"{{"error":{{"code":"InvalidAuthenticationTokenTenant","message":"{message}"}}}}"#));
        assert_eq!(message.tenant(), Some(own));
        assert_eq!(words(&format!(r#"{{"message":"Token tenant {other} does not match"}}"#)).tenant(), None);

        let mut fields = HeaderMap::new();
        fields.append(WWW_AUTHENTICATE, HeaderValue::from_static("Basic"));
        let challenge =
            format!("Bearer Authorization_Uri=\"https://login.windows.net/{own}\", error=\"invalid_token\"");
        fields.append(WWW_AUTHENTICATE, challenge.parse().expect("a value"));
        assert_eq!(Words::read(&fields, b"").tenant(), Some(own));
        let common = HeaderValue::from_static("Bearer authorization_uri=\"https://login.windows.net/common\"");
        fields.insert(WWW_AUTHENTICATE, common);
        assert_eq!(Words::read(&fields, b"").tenant(), None);
    }
}
