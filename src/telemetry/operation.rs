//! What a request wants done, of a list that is known beforehand: paths are written by callers, and there is no end of them.

use std::hash::{Hash, Hasher};
use std::ptr;

use http::Method;

/// One of the things that can be asked for. Cheap to copy and to compare; there are no more than a few dozen.
#[derive(Debug, Clone, Copy)]
pub struct Operation(&'static Row);

#[derive(Debug, PartialEq, Eq)]
struct Row {
    /// Its path: every request to it has the same.
    path: &'static str,
    /// The word for it in OpenTelemetry's conventions for generative AI, where they have one.
    name: Option<&'static str>,
    /// Whether its responses cost tokens.
    costs: bool,
}

const fn costing(path: &'static str, name: Option<&'static str>) -> Row {
    Row { path, name, costs: true }
}

const fn free(path: &'static str) -> Row {
    Row { path, name: None, costs: false }
}

const CHAT: Option<&str> = Some("chat");
const TEXT: Option<&str> = Some("text_completion");
const EMBEDDINGS: Option<&str> = Some("embeddings");
const CONTENT: Option<&str> = Some("generate_content");

/// What the resource does, under either way to write it. Sorted.
static OF_THE_RESOURCE: &[Row] = &[
    costing("/v1/audio/speech", CONTENT),
    costing("/v1/audio/transcriptions", CONTENT),
    costing("/v1/audio/translations", CONTENT),
    costing("/v1/chat/completions", CHAT),
    costing("/v1/completions", TEXT),
    costing("/v1/embeddings", EMBEDDINGS),
    costing("/v1/images/edits", CONTENT),
    costing("/v1/images/generations", CONTENT),
    costing("/v1/images/variations", CONTENT),
    costing("/v1/realtime", CHAT),
    costing("/v1/responses", CHAT),
    costing("/v1/responses/compact", CHAT),
];

/// The same for clients that send the API's version as a date, as far as these name no deployment in the path. Sorted.
static OF_DATED: &[Row] = &[
    costing("/openai/audio/speech", CONTENT),
    costing("/openai/audio/transcriptions", CONTENT),
    costing("/openai/audio/translations", CONTENT),
    costing("/openai/chat/completions", CHAT),
    costing("/openai/completions", TEXT),
    costing("/openai/embeddings", EMBEDDINGS),
    costing("/openai/images/edits", CONTENT),
    costing("/openai/images/generations", CONTENT),
    costing("/openai/images/variations", CONTENT),
    costing("/openai/realtime", CHAT),
    costing("/openai/responses", CHAT),
    costing("/openai/responses/compact", CHAT),
];

/// The same for those that name a deployment in the path. Sorted.
static OF_DEPLOYMENTS: &[Row] = &[
    costing("/openai/deployments/{deployment}/audio/speech", CONTENT),
    costing("/openai/deployments/{deployment}/audio/transcriptions", CONTENT),
    costing("/openai/deployments/{deployment}/audio/translations", CONTENT),
    costing("/openai/deployments/{deployment}/chat/completions", CHAT),
    costing("/openai/deployments/{deployment}/completions", TEXT),
    costing("/openai/deployments/{deployment}/embeddings", EMBEDDINGS),
    costing("/openai/deployments/{deployment}/extensions/chat/completions", CHAT),
    costing("/openai/deployments/{deployment}/images/edits", CONTENT),
    costing("/openai/deployments/{deployment}/images/generations", CONTENT),
    costing("/openai/deployments/{deployment}/images/variations", CONTENT),
];

/// Whatever is below these. Those of the resource cost nothing, or are billed elsewhere.
static COLLECTIONS: &[Row] = &[
    free("/v1/assistants/*"),
    free("/v1/batches/*"),
    free("/v1/chat/completions/*"),
    free("/v1/containers/*"),
    free("/v1/conversations/*"),
    free("/v1/evals/*"),
    free("/v1/files/*"),
    free("/v1/fine_tuning/*"),
    free("/v1/models/*"),
    free("/v1/realtime/*"),
    free("/v1/responses/*"),
    free("/v1/threads/*"),
    free("/v1/uploads/*"),
    free("/v1/vector_stores/*"),
    free("/v1/videos/*"),
];

/// The proxy's own. Sorted.
static OWN: &[Row] = &[
    free("/"),
    free("/healthz"),
    free("/management/deployments"),
    free("/management/models"),
    free("/metrics"),
    free("/quitquitquit"),
    free("/readyz"),
    free("/status"),
    free("/status/events"),
];

static ANY_OF_V1: Row = free("/v1/*");
static ANY_OF_DEPLOYMENTS: Row = free("/openai/deployments/*");
static ANY_OF_THE_RESOURCE: Row = free("/openai/*");
static NOTHING: Row = free("*");

impl PartialEq for Operation {
    /// Each row is there once.
    fn eq(&self, other: &Self) -> bool {
        ptr::eq(self.0, other.0)
    }
}

impl Eq for Operation {}

impl Hash for Operation {
    fn hash<H: Hasher>(&self, state: &mut H) {
        ptr::hash(self.0, state);
    }
}

impl Operation {
    /// What is at `path`.
    #[must_use]
    pub fn at(path: &str) -> Self {
        Self(row(path))
    }

    /// What came was no request, so that it has no path.
    #[must_use]
    pub fn unknown() -> Self {
        Self(&NOTHING)
    }

    /// Its path, with `*` for what is below and `{deployment}` for a name. What is nowhere is `*`.
    #[must_use]
    pub fn path(self) -> &'static str {
        self.0.path
    }

    /// The word for it in the conventions of OpenTelemetry (`gen_ai.operation.name`), where they have one.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        self.0.name
    }

    /// Whether it makes a model work, which costs tokens.
    #[must_use]
    pub fn asks_a_model(self) -> bool {
        self.0.costs
    }

    /// Whether a response to this `method` costs tokens, so that it should say how many.
    #[must_use]
    pub fn costs(self, method: &Method) -> bool {
        // A WebSocket is opened by a GET, and says for itself what each of its responses costs.
        self.0.costs && method == Method::POST
    }

    /// All that there are.
    pub fn all() -> impl Iterator<Item = Self> {
        let lists = [OF_THE_RESOURCE, OF_DATED, OF_DEPLOYMENTS, COLLECTIONS, OWN].into_iter().flatten();
        lists.chain([&ANY_OF_V1, &ANY_OF_DEPLOYMENTS, &ANY_OF_THE_RESOURCE, &NOTHING]).map(Self)
    }
}

fn row(path: &str) -> &'static Row {
    let path = path.strip_prefix("/openai").filter(|rest| rest.starts_with("/v1/")).unwrap_or(path);
    if path.starts_with("/v1/") {
        return find(OF_THE_RESOURCE, path).or_else(|| below(path)).unwrap_or(&ANY_OF_V1);
    }
    if let Some(rest) = path.strip_prefix("/openai/deployments/") {
        let Some((_, operation)) = rest.split_once('/') else { return &ANY_OF_DEPLOYMENTS };
        let named =
            |row: &&'static Row| row.path.ends_with(operation) && row.path.len() == DEPLOYMENT.len() + operation.len();
        return OF_DEPLOYMENTS.iter().find(named).unwrap_or(&ANY_OF_DEPLOYMENTS);
    }
    if path.starts_with("/openai/") {
        return find(OF_DATED, path).unwrap_or(&ANY_OF_THE_RESOURCE);
    }
    find(OWN, path).unwrap_or(&NOTHING)
}

const DEPLOYMENT: &str = "/openai/deployments/{deployment}/";

fn find(rows: &'static [Row], path: &str) -> Option<&'static Row> {
    rows.binary_search_by(|row| row.path.cmp(path)).ok().and_then(|at| rows.get(at))
}

/// The collection that `path` is, or is in.
fn below(path: &str) -> Option<&'static Row> {
    let is_in = |row: &&'static Row| {
        let collection = row.path.trim_end_matches("/*");
        path.strip_prefix(collection).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    COLLECTIONS.iter().find(is_in)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_path_is_what_it_is_like() {
        for (path, expected) in [
            ("/v1/chat/completions", "/v1/chat/completions"),
            ("/openai/v1/chat/completions", "/v1/chat/completions"),
            ("/v1/chat/completions/chatcmpl-1", "/v1/chat/completions/*"),
            ("/v1/responses", "/v1/responses"),
            ("/v1/responses/resp_1/cancel", "/v1/responses/*"),
            ("/v1/models", "/v1/models/*"),
            ("/v1/models/gpt-4o", "/v1/models/*"),
            ("/v1/modelsx", "/v1/*"),
            ("/v1/", "/v1/*"),
            ("/v1/next/year", "/v1/*"),
            ("/openai/deployments/my-gpt/chat/completions", "/openai/deployments/{deployment}/chat/completions"),
            ("/openai/deployments/my-gpt/completions", "/openai/deployments/{deployment}/completions"),
            ("/openai/deployments/x/ons", "/openai/deployments/*"),
            ("/openai/deployments/x/", "/openai/deployments/*"),
            ("/openai/deployments/x", "/openai/deployments/*"),
            (
                "/openai/deployments/x/extensions/chat/completions",
                "/openai/deployments/{deployment}/extensions/chat/completions",
            ),
            ("/openai/realtime", "/openai/realtime"),
            ("/openai/responses", "/openai/responses"),
            ("/openai/responses/resp_1", "/openai/*"),
            ("/v1/responses/compact", "/v1/responses/compact"),
            ("/v1/responses/input_tokens", "/v1/responses/*"),
            ("/openai/files", "/openai/*"),
            ("/", "/"),
            ("/status/events", "/status/events"),
            ("/nowhere", "*"),
            ("/openai", "*"),
            ("", "*"),
        ] {
            assert_eq!(Operation::at(path).path(), expected, "{path}");
        }
    }

    #[test]
    fn what_is_looked_up_is_sorted_and_unique() {
        for rows in [OF_THE_RESOURCE, OF_DATED, OF_DEPLOYMENTS, OWN] {
            assert!(rows.is_sorted_by(|one, next| one.path < next.path));
        }
        let paths: BTreeSet<_> = Operation::all().map(Operation::path).collect();
        assert_eq!(paths.len(), Operation::all().count());
        assert!(Operation::all().count() < 64);
    }

    #[test]
    fn only_what_makes_the_model_work_costs() {
        let costs = |method, path| Operation::at(path).costs(&method);
        assert!(costs(Method::POST, "/v1/responses"));
        assert!(!costs(Method::GET, "/v1/responses"));
        assert!(!costs(Method::POST, "/v1/responses/resp_1/cancel"), "which tells once more what the response cost");
    }

    #[test]
    fn what_costs_is_known_however_it_is_asked_for() {
        let dated = OF_THE_RESOURCE.iter().map(|row| row.path.replacen("/v1/", "/openai/", 1));
        let dated = dated.chain(OF_THE_RESOURCE.iter().map(|row| format!("/openai{}", row.path)));
        for path in dated.chain(OF_DEPLOYMENTS.iter().map(|row| row.path.to_owned())) {
            assert!(Operation::at(&path).costs(&Method::POST), "{path}");
        }
    }
}
