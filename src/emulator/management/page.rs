//! One page of an ARM list, with the absolute link to the next.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use url::form_urlencoded::Serializer;

/// How many entries a page has: few, so that the lists of the emulator have several pages.
const PAGE: usize = 6;

/// The parameter that tells where a page begins.
const SKIP_TOKEN: &str = "$skiptoken";

/// The page that `parameters` ask for; `None` if nobody handed out such a skip token.
pub(super) fn page(
    origin: &str,
    path: &str,
    parameters: &HashMap<String, String>,
    entries: Vec<Value>,
) -> Option<Value> {
    let start = match parameters.get(SKIP_TOKEN) {
        Some(token) => read_skip_token(token)?,
        None => 0,
    };
    let end = start + PAGE;
    let more = entries.len() > end;
    let mut page = json!({ "value": entries.into_iter().skip(start).take(PAGE).collect::<Vec<_>>() });
    if more {
        let mut query = Serializer::new(String::new());
        query.extend_pairs(parameters.iter().filter(|(name, _)| *name != SKIP_TOKEN));
        query.append_pair(SKIP_TOKEN, &skip_token(end));
        page["nextLink"] = Value::String(format!("{origin}{path}?{}", query.finish()));
    }
    Some(page)
}

fn skip_token(start: usize) -> String {
    URL_SAFE_NO_PAD.encode(format!("from {start}"))
}

fn read_skip_token(token: &str) -> Option<usize> {
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
    text.strip_prefix("from ")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn following_the_links_visits_every_entry_once() {
        let entries: Vec<_> = (0..=2 * PAGE).map(|number| json!(number)).collect();
        let mut parameters = HashMap::from([("api-version".to_owned(), "2024-10-01".to_owned())]);
        let mut seen = Vec::new();
        loop {
            let page = page("https://arm.test", "/list", &parameters, entries.clone()).unwrap();
            seen.extend(page["value"].as_array().unwrap().clone());
            let Some(link) = page.get("nextLink") else { break };
            let link = url::Url::parse(link.as_str().unwrap()).unwrap();
            assert_eq!(link.origin().ascii_serialization(), "https://arm.test");
            parameters = link.query_pairs().into_owned().collect();
            assert_eq!(parameters["api-version"], "2024-10-01");
        }
        assert_eq!(seen, entries);
    }

    #[test]
    fn a_skip_token_of_somebody_else_is_refused() {
        let parameters = HashMap::from([(SKIP_TOKEN.to_owned(), "abc".to_owned())]);
        assert_eq!(page("https://arm.test", "/list", &parameters, Vec::new()), None);
    }
}
