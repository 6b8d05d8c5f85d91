//! What a token must be for.

use super::account;
use super::words::Words;
use crate::config::Endpoint;

/// The audiences that the resource takes: those it names, else those of its cloud. None if nobody can tell: a gateway may
/// want one of its own.
pub(super) fn wanted(words: &Words, endpoint: &Endpoint) -> Vec<String> {
    let named: Vec<_> = words.audiences().filter(|audience| is_data_plane(audience)).map(str::to_owned).collect();
    if !named.is_empty() {
        return named;
    }
    let cloud = account::cloud(endpoint);
    match account::subdomain(endpoint) {
        Some(_) if endpoint.is_foundry_project() => vec![format!("https://ai.azure.{cloud}")],
        Some(_) => vec![format!("https://cognitiveservices.azure.{cloud}"), format!("https://ai.azure.{cloud}")],
        None => Vec::new(),
    }
}

/// Whether this is the data plane's in one of the clouds.
///
/// People do as hints say, and whoever answers at the endpoint gets the token: nobody must be led to ask for one that opens
/// anything else.
fn is_data_plane(audience: &str) -> bool {
    ["https://cognitiveservices.azure.", "https://ai.azure."]
        .iter()
        .any(|prefix| matches!(audience.strip_prefix(prefix), Some("com" | "us" | "cn")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderMap;

    fn wanted_by(message: &str, endpoint: &str) -> Vec<String> {
        let words = Words::read(&HeaderMap::new(), format!(r#"{{"statusCode":401,"message":"{message}"}}"#).as_bytes());
        wanted(&words, &Endpoint::parse(endpoint).expect(endpoint))
    }

    #[test]
    fn the_audiences_named_are_those_wanted() {
        for (names, expected) in [
            ("https://cognitiveservices.azure.com", vec!["https://cognitiveservices.azure.com"]),
            ("https://ai.azure.com/", vec!["https://ai.azure.com"]),
            (
                "https://cognitiveservices.azure.us/ or https://ai.azure.us/",
                vec!["https://cognitiveservices.azure.us", "https://ai.azure.us"],
            ),
        ] {
            let message =
                format!("Access token is missing, invalid, audience is incorrect ({names}), or have expired.");
            assert_eq!(wanted_by(&message, "https://gateway.example.com"), expected);
        }
    }

    #[test]
    fn no_audience_of_anything_else_is_wanted() {
        for name in [
            "https://management.azure.com",
            "https://cognitiveservices.azure.com.example",
            "https://graph.microsoft.com",
            "urn:ms.scopedToken or urn:ms.faceSessionToken",
        ] {
            let message = format!("audience is incorrect ({name})");
            assert!(wanted_by(&message, "https://gateway.example.com").is_empty(), "{name}");
        }
    }

    #[test]
    fn unnamed_they_are_the_clouds() {
        assert_eq!(
            wanted_by("Unauthorized", "https://name.openai.azure.us"),
            ["https://cognitiveservices.azure.us", "https://ai.azure.us"]
        );
        assert_eq!(
            wanted_by("Unauthorized", "https://name.services.ai.azure.com/api/projects/p"),
            ["https://ai.azure.com"]
        );
        assert!(wanted_by("Unauthorized", "https://gateway.example.com").is_empty());
    }
}
