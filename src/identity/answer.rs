//! A token as identity services write it, rewritten as `azure_identity` reads it.
//!
//! Services differ in whether numbers are strings and in which members they leave out; `azure_identity` 1.0 wants each in
//! one way and shows the offending content otherwise. What is no token is told without its content: it may hold one.

use secrecy::{ExposeSecret, SecretString};
use serde::de::{Deserializer, Error, Unexpected};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// Which of the two ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// `expires_on`, seconds since 1970, as a string.
    ManagedIdentity,
    /// `expires_in`, seconds, as a number.
    Entra,
}

#[derive(Deserialize)]
struct Received {
    access_token: SecretString,
    #[serde(default, deserialize_with = "seconds")]
    expires_on: Option<u64>,
    #[serde(default, deserialize_with = "seconds")]
    expires_in: Option<u64>,
}

#[derive(Serialize)]
struct Rewritten<'a> {
    access_token: &'a str,
    token_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_on: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_in: Option<u64>,
}

/// Reads the content of a successful answer.
///
/// # Errors
///
/// What is missing, or that it is nothing of the kind.
pub(super) fn rewrite(dialect: Dialect, content: &[u8]) -> Result<Zeroizing<Vec<u8>>, String> {
    let received: Received = serde_json::from_slice(content).map_err(|error| told(&error))?;
    let mut rewritten = Rewritten {
        access_token: received.access_token.expose_secret(),
        token_type: "Bearer",
        resource: None,
        expires_on: None,
        expires_in: None,
    };
    match dialect {
        Dialect::ManagedIdentity => {
            let time = received.expires_on.ok_or_else(|| missing("expires_on"))?;
            rewritten.expires_on = Some(time.to_string());
            // It must be there, and nothing reads it.
            rewritten.resource = Some("");
        }
        Dialect::Entra => rewritten.expires_in = Some(received.expires_in.ok_or_else(|| missing("expires_in"))?),
    }
    // Room for all of it: what a buffer leaves behind when it grows is not wiped.
    let mut text = Zeroizing::new(Vec::with_capacity(content.len() + 128));
    serde_json::to_writer(&mut *text, &rewritten).map_err(|_| "it cannot be written as JSON".to_owned())?;
    Ok(text)
}

/// A number, or a string that is one.
fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Number(u64),
        Text(String),
    }
    match Option::<Written>::deserialize(deserializer)? {
        None => Ok(None),
        Some(Written::Number(seconds)) => Ok(Some(seconds)),
        Some(Written::Text(text)) => {
            text.trim().parse().map(Some).map_err(|_| D::Error::invalid_value(Unexpected::Other("text"), &"seconds"))
        }
    }
}

/// The library's words if they name a member, and never its content.
fn told(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.strip_prefix("missing field `").and_then(|rest| rest.split_once('`')) {
        Some((name, _)) => missing(name),
        None => "it is not the JSON that was expected".to_owned(),
    }
}

fn missing(name: &str) -> String {
    format!("there is no {name} in it")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(dialect: Dialect, content: &str) -> Result<String, String> {
        rewrite(dialect, content.as_bytes()).map(|text| String::from_utf8(text.to_vec()).expect("text"))
    }

    #[test]
    fn numbers_may_be_strings_and_strings_numbers() {
        for content in [
            r#"{"access_token":"t","expires_on":"1893456000"}"#,
            r#"{"access_token":"t","expires_on":1893456000,"resource":"r","refresh_in":null}"#,
        ] {
            assert_eq!(
                rewritten(Dialect::ManagedIdentity, content).expect("a token"),
                r#"{"access_token":"t","token_type":"Bearer","resource":"","expires_on":"1893456000"}"#
            );
        }
        for content in [r#"{"access_token":"t","expires_in":3599}"#, r#"{"access_token":"t","expires_in":" 3599"}"#] {
            assert_eq!(
                rewritten(Dialect::Entra, content).expect("a token"),
                r#"{"access_token":"t","token_type":"Bearer","expires_in":3599}"#
            );
        }
    }

    #[test]
    fn what_is_no_token_is_told_without_its_content() {
        for (content, problem) in [
            ("", "not the JSON"),
            ("<html>hunter2</html>", "not the JSON"),
            ("\"hunter2\"", "not the JSON"),
            (r#"{"access_token":["hunter2"],"expires_on":1}"#, "not the JSON"),
            (r#"{"access_token":"hunter2","expires_on":"hunter2"}"#, "not the JSON"),
            (r#"{"hunter2":"hunter2"}"#, "no access_token"),
            (r#"{"access_token":"hunter2"}"#, "no expires_on"),
        ] {
            let told = rewritten(Dialect::ManagedIdentity, content).expect_err("no token");
            assert!(told.contains(problem) && !told.contains("hunter2"), "{content}: {told}");
        }
    }
}
