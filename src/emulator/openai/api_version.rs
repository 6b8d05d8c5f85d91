//! The rules for `api-version`: optional in the v1 interface, required in the older one.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::refusal::Refusal;

/// What the v1 interface accepts.
const V1_VERSIONS: [&str; 3] = ["v1", "preview", "latest"];

/// The middleware.
pub(super) async fn check(request: Request, next: Next) -> Response {
    let version = api_version(request.uri().query().unwrap_or_default());
    let path = request.uri().path();
    let older_interface = path.starts_with("/openai/deployments/") || path == "/openai/realtime";
    match version {
        Some(version) if older_interface && !is_date(&version) => Refusal::ResourceNotFound.into_response(),
        None if older_interface => Refusal::ResourceNotFound.into_response(),
        Some(version) if !older_interface && !V1_VERSIONS.contains(&version.as_str()) => {
            Refusal::ApiVersion.into_response()
        }
        _ => next.run(request).await,
    }
}

fn api_version(query: &str) -> Option<String> {
    url::form_urlencoded::parse(query.as_bytes())
        .find(|(name, _)| name.eq_ignore_ascii_case("api-version"))
        .map(|(_, value)| value.into_owned())
}

/// `2024-10-21`, or the same with `-preview`.
fn is_date(version: &str) -> bool {
    let date = version.strip_suffix("-preview").unwrap_or(version);
    date.len() == "2024-10-21".len()
        && date
            .char_indices()
            .all(|(index, char)| if matches!(index, 4 | 7) { char == '-' } else { char.is_ascii_digit() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_told_from_other_words() {
        assert!(is_date("2024-10-21"));
        assert!(is_date("2025-01-01-preview"));
        assert!(!is_date("v1"));
        assert!(!is_date("2024-10-2x"));
        assert!(!is_date("2024/10/21"));
    }

    #[test]
    fn the_parameter_is_found_in_any_case() {
        assert_eq!(api_version("a=b&API-Version=v1").as_deref(), Some("v1"));
        assert_eq!(api_version("a=b"), None);
    }
}
