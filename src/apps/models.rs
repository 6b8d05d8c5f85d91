//! Which models an app may ask for, and where a request says which: in its path, its query, or its content.

use std::borrow::Cow;

use http::HeaderMap;
use http::HeaderValue;
use http::Uri;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use percent_encoding::percent_decode_str;
use url::form_urlencoded;

use super::App;
use crate::error::ProxyError;
use crate::inspect::model::{ModelReader, Unseen};
use crate::workers::Near;

/// Names a deployment besides the one that is asked: for images that a model makes as a tool.
const IMAGE_DEPLOYMENT: &str = "x-ms-oai-image-generation-deployment";
/// Percent-decoding is repeated at most this often; paths that take more are not forwarded at all.
const ROUNDS: usize = 4;

/// Where the model that is asked is the one that stands at the top of the content: elsewhere it stands further down, or in
/// what was stored before, whatever else the content says.
const NAMED_IN_CONTENT: [&str; 8] = [
    "audio/speech",
    "chat/completions",
    "completions",
    "embeddings",
    "images/generations",
    "moderations",
    "responses",
    "responses/input_tokens",
];
/// What a deployment can be asked for, by its name in the path: that it is, whatever the content says.
const OF_DEPLOYMENTS: [&str; 10] = [
    "audio/speech",
    "audio/transcriptions",
    "audio/translations",
    "chat/completions",
    "completions",
    "embeddings",
    "extensions/chat/completions",
    "images/edits",
    "images/generations",
    "images/variations",
];
/// WebSockets whose address names the model for all that follows.
const NAMED_IN_QUERY: [&str; 3] = ["/openai/realtime", "/openai/v1/realtime", "/v1/realtime"];
/// How much of a name that is refused is told.
const LONGEST_TOLD: usize = 64;

/// Models that an app may ask for.
#[derive(Debug, Clone)]
pub struct Models(Vec<String>);

/// What is left to be found out once a request's head was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Head {
    /// The path names the deployment that is asked, whatever the content says.
    Names,
    /// Content must name the model, if there is any.
    LeavesOpen,
    /// There must be no content: where it would name the model is not known.
    NamesNowhere,
}

impl Models {
    /// These.
    #[must_use]
    pub fn new(names: Vec<String>) -> Self {
        Self(names)
    }

    /// Whether `model` is among them. Azure's names of deployments do not differ by case alone.
    #[must_use]
    pub fn allow(&self, model: &str) -> bool {
        self.0.iter().any(|allowed| allowed.eq_ignore_ascii_case(model))
    }

    /// Looks for models in a head.
    ///
    /// # Errors
    ///
    /// What is asked for and may not be.
    pub fn check(&self, uri: &Uri, fields: &HeaderMap, upgrades: bool) -> Result<Head, String> {
        let in_path = self.check_path(uri.path())?;
        let in_query = self.check_query(uri.query().unwrap_or_default())?;
        for value in fields.get_all(IMAGE_DEPLOYMENT) {
            self.check_name(&String::from_utf8_lossy(value.as_bytes()))?;
        }
        if upgrades && in_path != Head::Names && !(in_query && NAMED_IN_QUERY.contains(&uri.path())) {
            return Err("a model that cannot be seen, because its messages name it".to_owned());
        }
        if in_path != Head::Names && fields.get_all(CONTENT_TYPE).iter().any(has_another_charset) {
            return Err("a model that cannot be seen, because its content is not in UTF-8".to_owned());
        }
        let encoded =
            fields.get_all(CONTENT_ENCODING).iter().any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"));
        if in_path != Head::Names && encoded {
            return Err("a model that cannot be seen, because its content is encoded".to_owned());
        }
        Ok(in_path)
    }

    /// Whatever follows `deployments` must be allowed, in whichever way a server may read the path.
    fn check_path(&self, path: &str) -> Result<Head, String> {
        let decoded = decoded(path);
        let mut segments = decoded.split('/').filter(|segment| !segment.is_empty());
        while let Some(segment) = segments.next() {
            if segment.eq_ignore_ascii_case("deployments")
                && let Some(name) = segments.clone().next()
            {
                self.check_name(name)?;
            }
        }
        let asked_of_it = path.strip_prefix("/openai/deployments/").and_then(|rest| rest.split_once('/'));
        let names = asked_of_it.is_some_and(|(name, operation)| {
            !name.is_empty() && !name.contains('%') && OF_DEPLOYMENTS.contains(&operation)
        });
        let operation = path.strip_prefix("/openai/v1/").or_else(|| path.strip_prefix("/v1/"));
        Ok(match operation {
            _ if names => Head::Names,
            Some(operation) if NAMED_IN_CONTENT.contains(&operation) => Head::LeavesOpen,
            _ => Head::NamesNowhere,
        })
    }

    /// Whether the query names a model.
    fn check_query(&self, query: &str) -> Result<bool, String> {
        let mut names = false;
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            if key.eq_ignore_ascii_case("model") || key.eq_ignore_ascii_case("deployment") {
                self.check_name(&value)?;
                names = true;
            }
        }
        Ok(names)
    }

    fn check_name(&self, name: &str) -> Result<(), String> {
        if self.allow(name) { Ok(()) } else { Err(told(name)) }
    }
}

/// The model that a request's address names, if it does: in its path, or where WebSockets of the realtime API begin.
#[must_use]
pub fn named_in_address(uri: &Uri) -> Option<Cow<'_, str>> {
    if let Some(rest) = uri.path().strip_prefix("/openai/deployments/") {
        let (name, _) = rest.split_once('/')?;
        return percent_decode_str(name).decode_utf8().ok();
    }
    if !NAMED_IN_QUERY.contains(&uri.path()) {
        return None;
    }
    let mut pairs = form_urlencoded::parse(uri.query()?.as_bytes());
    pairs.find(|(key, _)| key == "model" || key == "deployment").map(|(_, value)| value)
}

/// Whether content is said to be written otherwise than JSON is (RFC 8259 §8.1); whoever believes it may read other names.
fn has_another_charset(kind: &HeaderValue) -> bool {
    let kind = kind.as_bytes().to_ascii_lowercase();
    let charset = |parameter: &[u8]| Some(parameter.trim_ascii().strip_prefix(b"charset")?.trim_ascii_start().to_vec());
    let is_plain = |charset: Vec<u8>| {
        let name = charset.strip_prefix(b"=").unwrap_or_default().trim_ascii();
        matches!(name, b"utf-8" | b"\"utf-8\"" | b"utf8" | b"us-ascii")
    };
    !kind.split(|byte| *byte == b';').skip(1).filter_map(charset).all(is_plain)
}

/// A name that a caller made up, as a message has it.
pub(crate) fn told(name: &str) -> String {
    let plain = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    let mut told: String = name.chars().take(LONGEST_TOLD).map(plain).collect();
    if told.len() < name.len() && name.chars().nth(LONGEST_TOLD).is_some() {
        told.push('…');
    }
    told
}

/// The path as whoever decodes it over and over reads it.
fn decoded(path: &str) -> Cow<'_, str> {
    let mut seen = Cow::Borrowed(path);
    for _ in 0..ROUNDS {
        if !seen.contains('%') {
            break;
        }
        seen = Cow::Owned(percent_decode_str(&seen).decode_utf8_lossy().into_owned());
    }
    seen
}

/// Looks at the content of an app's request on its way: every model in it must be one that the app may ask for.
#[derive(Debug)]
pub struct Screening {
    app: Near<App>,
    reader: ModelReader,
}

impl Screening {
    /// Of content of which nothing has been seen yet.
    #[must_use]
    pub fn new(app: Near<App>) -> Self {
        Self { app, reader: ModelReader::new() }
    }

    /// Looks at the next piece, before it goes on.
    ///
    /// # Errors
    ///
    /// [`ProxyError::ModelDenied`]; then it must not.
    pub fn read(&mut self, piece: &[u8]) -> Result<(), ProxyError> {
        let read = self.reader.read(piece);
        // What was seen is told rather than what could not be.
        self.check()?;
        read.map_err(|unseen| self.denied(unseen))
    }

    /// The content has ended.
    ///
    /// # Errors
    ///
    /// [`ProxyError::ModelDenied`]; then whoever takes it must not learn that it has.
    pub fn end(&mut self) -> Result<(), ProxyError> {
        let ended = self.reader.end();
        self.check()?;
        ended.map_err(|unseen| self.denied(unseen))
    }

    /// Whether a model has been seen.
    #[must_use]
    pub fn has_seen(&self) -> bool {
        !self.reader.models().is_empty()
    }

    fn check(&self) -> Result<(), ProxyError> {
        let Some(models) = self.app.models() else { return Ok(()) };
        match self.reader.models().iter().find(|model| !models.allow(model)) {
            Some(model) => Err(self.app.may_not_ask_for(told(model))),
            None => Ok(()),
        }
    }

    fn denied(&self, unseen: Unseen) -> ProxyError {
        self.app.may_not_ask_for(format!("a model that cannot be seen, because {unseen}"))
    }
}

impl App {
    /// The refusal of a request for `asked`.
    #[must_use]
    pub fn may_not_ask_for(&self, asked: String) -> ProxyError {
        let allowed = self.models().map_or(String::new(), |models| models.0.join(", "));
        ProxyError::ModelDenied { app: self.name().to_owned(), asked, allowed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(target: &str, fields: &[(&'static str, &'static str)], upgrades: bool) -> Result<Head, String> {
        let fields = fields.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        Models::new(vec!["gpt-4o".to_owned()]).check(&target.parse().unwrap(), &fields, upgrades)
    }

    #[test]
    fn the_path_names_a_deployment() {
        for target in
            ["/openai/deployments/gpt-4o/chat/completions", "/openai/deployments/GPT-4o/embeddings?api-version=1"]
        {
            assert_eq!(check(target, &[], false), Ok(Head::Names), "{target}");
        }
        for target in ["/v1/chat/completions", "/openai/v1/responses", "/v1/embeddings"] {
            assert_eq!(check(target, &[], false), Ok(Head::LeavesOpen), "{target}");
        }
        for target in [
            "/v1/realtime/client_secrets",
            "/v1/batches",
            "/v1/files",
            "/v1/threads/t/runs",
            "/v1/responses/r",
            "/v1/responses/",
            "/v1//responses",
            "/v1/Responses",
            "/v1/%72esponses",
            "/openai/chat/completions",
            "/openai/deployments",
            "/openai/deployments/",
            "/openai/deployments/gpt-4o",
            "/openai/deployments/gpt-4o/batches",
            "/openai/deployments/gpt-4o/Chat/completions",
            "/openai/deployments/gpt-4o/chat/completions/",
        ] {
            assert_eq!(check(target, &[], false), Ok(Head::NamesNowhere), "{target}");
        }
    }

    #[test]
    fn no_spelling_of_a_path_hides_a_deployment() {
        for target in [
            "/openai/deployments/o3/chat/completions",
            "/openai/deployments/o3",
            "/openai/Deployments/o3/chat/completions",
            "/openai//deployments//o3/chat/completions",
            "/openai/%64eployments/o3/chat/completions",
            "/openai/%2564eployments/o3/chat/completions",
            "/openai%2fdeployments%2fo3/chat/completions",
            "/openai/deployments/gpt-4o/deployments/o3/chat",
            "/openai/deployments/gpt-4o%2f..x/chat/completions/deployments/o3",
            "/v1/deployments/o3/chat/completions",
        ] {
            assert_eq!(check(target, &[], false), Err("o3".to_owned()), "{target}");
        }
        // Allowed, and yet read in more than one way: the content must name it too.
        for target in [
            "/openai/deployments//gpt-4o/chat",
            "/openai/deployments/gpt%2d4o/chat",
            "/openai//deployments/gpt-4o/chat",
        ] {
            assert_eq!(check(target, &[], false), Ok(Head::NamesNowhere), "{target}");
        }
    }

    #[test]
    fn a_websocket_says_it_in_its_query() {
        assert_eq!(check("/v1/realtime?model=gpt-4o", &[], true), Ok(Head::NamesNowhere));
        assert_eq!(check("/openai/realtime?deployment=gpt-4o&api-version=1", &[], true), Ok(Head::NamesNowhere));
        for (target, asked) in [
            ("/v1/realtime?model=o3", "o3"),
            ("/v1/realtime?model=gpt-4o&model=o3", "o3"),
            ("/v1/realtime?Mod%65l=o3&model=gpt-4o", "o3"),
            ("/openai/realtime?deployment=o%33", "o3"),
            ("/v1/realtime", "a model that cannot be seen, because its messages name it"),
            ("/v1/responses", "a model that cannot be seen, because its messages name it"),
            ("/v1/responses?model=gpt-4o", "a model that cannot be seen, because its messages name it"),
            ("/v1/realtime/x?model=gpt-4o", "a model that cannot be seen, because its messages name it"),
            ("/openai//realtime?deployment=gpt-4o", "a model that cannot be seen, because its messages name it"),
        ] {
            assert_eq!(check(target, &[], true), Err(asked.to_owned()), "{target}");
        }
    }

    #[test]
    fn fields_can_name_another_and_hide_one() {
        assert_eq!(check("/v1/responses", &[(IMAGE_DEPLOYMENT, "dall-e")], false), Err("dall-e".to_owned()));
        assert_eq!(check("/v1/responses", &[(IMAGE_DEPLOYMENT, "gpt-4o")], false), Ok(Head::LeavesOpen));
        assert!(check("/v1/responses", &[("content-encoding", "gzip")], false).is_err());
        assert_eq!(check("/v1/responses", &[("content-encoding", "identity")], false), Ok(Head::LeavesOpen));
        for (kind, is_plain) in [
            ("application/json", true),
            ("application/json; charset=UTF-8", true),
            ("application/json; a=b; Charset=\"utf-8\"", true),
            ("application/json; charset=utf-7", false),
            ("application/json;charset = utf-16", false),
            ("application/json; charset=utf-8; charset=utf-7", false),
            ("application/json; charset", false),
        ] {
            assert_eq!(check("/v1/responses", &[("content-type", kind)], false).is_ok(), is_plain, "{kind}");
        }
    }
}
