//! The page at `/`: for people who look whether it runs, and how to use it. No scripts, nothing from elsewhere.

use std::fmt::Write;
use std::sync::Arc;

use axum::extract::State;
use axum::response::{Html, IntoResponse};
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderName};

use super::Readiness;

const TEMPLATE: &str = include_str!("page.html");

/// Styles of the page's own and nothing else; and no page may show this one in a frame.
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// `GET /`.
pub async fn page(State(readiness): State<Arc<Readiness>>, fields: HeaderMap) -> impl IntoResponse {
    // The guard has let only names of this machine pass.
    let host = fields.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost:8642");
    let protection: [(HeaderName, &str); 4] = [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (CACHE_CONTROL, "no-store"),
    ];
    (protection, Html(render(&readiness, host)))
}

fn render(readiness: &Readiness, host: &str) -> String {
    let obstacles = readiness.obstacles();
    let state = match obstacles.first() {
        None => "ready".to_owned(),
        Some(obstacle) => format!("not ready: {}", obstacle.message),
    };
    let token = readiness.tokens.held();
    let claim = |read: fn(&crate::identity::claims::Claims) -> Option<&str>| {
        token.as_ref().and_then(|token| read(&token.claims)).unwrap_or("–").to_owned()
    };
    let expires = token.as_ref().and_then(|token| token.expires_at.duration_since(readiness.clock.now()).ok());
    let values = [
        ("{state}", state),
        ("{upstream}", readiness.upstream.clone()),
        ("{credential}", credential(readiness)),
        ("{principal}", claim(|claims| claims.object_id.as_deref())),
        ("{tenant}", claim(|claims| claims.tenant.as_deref())),
        ("{expires}", expires.map_or_else(|| "–".to_owned(), |left| format!("{} min", left.as_secs() / 60))),
        ("{version}", env!("CARGO_PKG_VERSION").to_owned()),
        ("{base}", format!("http://{host}")),
    ];
    values.iter().fold(TEMPLATE.to_owned(), |page, (place, value)| page.replace(place, &escaped(value)))
}

/// The configured kind and, if that is a choice, what was chosen.
fn credential(readiness: &Readiness) -> String {
    match readiness.source() {
        Some(source) if source != readiness.credential => format!("{}: {source}", readiness.credential),
        _ => readiness.credential.to_owned(),
    }
}

/// Text that is nothing but text in HTML. Braces too, so that a value cannot name a place of the template.
fn escaped(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut escaped, character| {
        if matches!(character, '&' | '<' | '>' | '"' | '\'' | '{' | '}') {
            // Writing to a string cannot fail.
            let _ = write!(escaped, "&#{};", u32::from(character));
        } else {
            escaped.push(character);
        }
        escaped
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_never_markup_or_a_place() {
        assert_eq!(escaped("<b>&\"'{state}"), "&#60;b&#62;&#38;&#34;&#39;&#123;state&#125;");
    }
}
