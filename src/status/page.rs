//! The page at `/`: for people who look whether it runs, and how to use it. All of it is in one answer, and nothing from
//! elsewhere: its scripts listen at `/status/events` and make the rest live.

use std::fmt::Write;
use std::sync::{Arc, LazyLock};

use axum::extract::State;
use axum::response::{Html, IntoResponse};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderName};
use sha2::{Digest, Sha256};

use super::Readiness;
use crate::identity::claims::Claims;

const TEMPLATE: &str = include_str!("assets/page.html");
const STYLE: &str = include_str!("assets/page.css");
/// One module: each part uses what stands before it.
const SCRIPT: &str = concat!(
    include_str!("assets/words.js"),
    include_str!("assets/charts.js"),
    include_str!("assets/facts.js"),
    include_str!("assets/tools.js"),
    include_str!("assets/page.js"),
);
const CHART_STYLE: &str = include_str!("assets/uplot/uPlot.min.css");
const CHART_SCRIPT: &str = include_str!("assets/uplot/uPlot.iife.min.js");

/// Scripts and styles of the page's own and no others, and nothing asked of anybody but the proxy; text never becomes
/// markup; and no page may show this one in a frame.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    format!(
        "default-src 'none'; script-src {} {}; style-src {} {}; connect-src 'self'; img-src data:; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
        source(CHART_SCRIPT),
        source(SCRIPT),
        source(CHART_STYLE),
        source(STYLE),
    )
});

/// `GET /`.
pub async fn page(State(readiness): State<Arc<Readiness>>, fields: HeaderMap) -> impl IntoResponse {
    // The guard has let only names of this machine pass.
    let host = fields.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost:8642");
    let protection: [(HeaderName, &str); 4] = [
        (CONTENT_SECURITY_POLICY, POLICY.as_str()),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (CACHE_CONTROL, "no-store"),
    ];
    (protection, Html(render(&readiness, host)))
}

/// What a policy calls this script or style.
fn source(text: &str) -> String {
    format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text)))
}

fn render(readiness: &Readiness, host: &str) -> String {
    let obstacles = readiness.obstacles();
    let (state, word) = if obstacles.is_empty() { ("ready", "Ready") } else { ("not-ready", "Not ready") };
    let reasons: Vec<_> = obstacles.iter().map(|obstacle| format!("<li>{}</li>", escaped(&obstacle.message))).collect();
    let token = readiness.tokens.held();
    let claim = |read: fn(&Claims) -> Option<&str>| {
        escaped(token.as_ref().and_then(|token| read(&token.claims)).unwrap_or("–"))
    };
    let now = readiness.clock.now();
    let left = token.as_ref().and_then(|token| token.expires_at.duration_since(now).ok());
    filled(TEMPLATE, |place| match place {
        "style" => STYLE.to_owned(),
        "script" => SCRIPT.to_owned(),
        "chart_style" => CHART_STYLE.to_owned(),
        "chart_script" => CHART_SCRIPT.to_owned(),
        "state" => state.to_owned(),
        "word" => word.to_owned(),
        "reasons" => reasons.concat(),
        "says" if obstacles.is_empty() => "Requests are passed on with a valid token.".to_owned(),
        "upstream" => escaped(&readiness.upstream),
        "credential" => escaped(&credential(readiness)),
        "principal" => claim(|claims| claims.object_id.as_deref()),
        "application" => claim(Claims::application),
        "tenant" => claim(|claims| claims.tenant.as_deref()),
        "audience" => claim(|claims| claims.audience.as_deref()),
        "expires" => left.map_or_else(|| "–".to_owned(), |left| format!("{} min", left.as_secs() / 60)),
        "now" => humantime::format_rfc3339_millis(now).to_string(),
        "version" => env!("CARGO_PKG_VERSION").to_owned(),
        "base" => escaped(&format!("http://{host}")),
        _ => String::new(),
    })
}

/// The template with its places (`{name}`) filled. What a place is filled with is not looked at again.
fn filled(template: &str, value: impl Fn(&str) -> String) -> String {
    let mut page = String::with_capacity(128 * 1024);
    let mut rest = template;
    while let Some((before, (place, after))) =
        rest.split_once('{').and_then(|(before, after)| Some((before, after.split_once('}')?)))
    {
        page.push_str(before);
        page.push_str(&value(place));
        rest = after;
    }
    page.push_str(rest);
    page
}

/// The configured kind and, if that is a choice, what was chosen.
fn credential(readiness: &Readiness) -> String {
    match readiness.source() {
        Some(source) if source != readiness.credential => format!("{}: {source}", readiness.credential),
        _ => readiness.credential.to_owned(),
    }
}

/// Text that is nothing but text in HTML.
fn escaped(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut escaped, character| {
        if matches!(character, '&' | '<' | '>' | '"' | '\'') {
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
        assert_eq!(escaped("<b>&\"'"), "&#60;b&#62;&#38;&#34;&#39;");
        let value = |place: &str| if place == "a" { "{b}".to_owned() } else { "no".to_owned() };
        assert_eq!(filled("1 {a} 2 {", value), "1 {b} 2 {");
    }

    #[test]
    fn what_is_in_the_page_does_not_end_its_element() {
        for text in [STYLE, SCRIPT, CHART_STYLE, CHART_SCRIPT] {
            // In Windows' line ends a browser sees others, and so another digest.
            for ending in ["</script", "</style", "<!--", "\r"] {
                assert!(!text.contains(ending), "{ending:?}");
            }
        }
    }

    #[test]
    fn the_page_asks_for_nothing_from_elsewhere() {
        let own = [TEMPLATE, STYLE, SCRIPT].concat().replace("http://www.w3.org/2000/svg", "");
        for asking in ["http://", "https://", "url(", "@import", "src=", "innerHTML", "style="] {
            assert!(!own.contains(asking), "{asking}");
        }
    }

    #[test]
    fn the_page_is_small() {
        let size = [TEMPLATE, STYLE, SCRIPT, CHART_STYLE, CHART_SCRIPT].concat().len();
        assert!(size < 120 * 1024, "{size}");
    }
}
