//! The models of the emulated region and the deployments of the emulated account.

/// What a model can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Chat completions and responses.
    Chat,
    /// Embeddings with this many dimensions, and whether fewer may be asked for.
    Embeddings { dimensions: usize, adjustable: bool },
    /// Conversations over WebSockets.
    Realtime,
    /// Something the emulator lists and does not serve.
    Listed,
}

/// A model that is available in the region.
#[derive(Debug, Clone, Copy)]
pub(super) struct Model {
    pub(super) name: &'static str,
    pub(super) version: &'static str,
    pub(super) created: u64,
    pub(super) kind: Kind,
}

/// A model the account serves, under its own name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deployment {
    pub(super) name: &'static str,
    pub(super) model: &'static Model,
}

/// How long after its release a model is served: five years of made-up Azure.
const SERVICE_LIFE: u64 = 5 * 365 * 24 * 3600;

/// The models of the region.
pub(super) static MODELS: [Model; 20] = [
    chat("gpt-4o", "2024-08-06", 1_722_902_400),
    chat("gpt-4o", "2024-11-20", 1_732_060_800),
    chat("gpt-4o-mini", "2024-07-18", 1_721_260_800),
    chat("gpt-4.1", "2025-04-14", 1_744_588_800),
    chat("gpt-4.1-mini", "2025-04-14", 1_744_588_800),
    chat("gpt-4.1-nano", "2025-04-14", 1_744_588_800),
    chat("gpt-5", "2025-08-07", 1_754_524_800),
    chat("gpt-5-mini", "2025-08-07", 1_754_524_800),
    chat("gpt-5-nano", "2025-08-07", 1_754_524_800),
    chat("o3", "2025-04-16", 1_744_761_600),
    chat("o3-mini", "2025-01-31", 1_738_281_600),
    chat("o4-mini", "2025-04-16", 1_744_761_600),
    embeddings("text-embedding-3-small", "1", 1_705_536_000, 1536, true),
    embeddings("text-embedding-3-large", "1", 1_705_536_000, 3072, true),
    embeddings("text-embedding-ada-002", "2", 1_680_480_000, 1536, false),
    listed("gpt-image-1", "2025-04-15", 1_744_675_200),
    realtime("gpt-realtime", "2025-08-28", 1_756_339_200),
    listed("gpt-4o-transcribe", "2025-03-20", 1_742_428_800),
    listed("tts", "001", 1_698_796_800),
    listed("whisper", "001", 1_694_563_200),
];

/// The names under which the account serves models; each is also the model's name.
const DEPLOYED: [&str; 11] = [
    "gpt-4o",
    "gpt-4o-mini",
    "gpt-4.1",
    "gpt-4.1-mini",
    "gpt-5",
    "gpt-5-mini",
    "o4-mini",
    "gpt-realtime",
    "text-embedding-3-small",
    "text-embedding-3-large",
    "text-embedding-ada-002",
];

/// The deployments of the account, each of the newest version of its model.
pub(super) fn deployments() -> impl Iterator<Item = Deployment> {
    DEPLOYED
        .iter()
        .filter_map(|name| MODELS.iter().rfind(|model| model.name == *name).map(|model| Deployment { name, model }))
}

/// The deployment called `name`; Azure does not mind upper case.
pub(super) fn deployment(name: &str) -> Option<Deployment> {
    deployments().find(|deployment| deployment.name.eq_ignore_ascii_case(name))
}

impl Model {
    /// The id under which the data plane lists the model.
    pub(super) fn id(&self) -> String {
        format!("{}-{}", self.name, self.version)
    }

    /// When the model will no longer answer, in seconds since the epoch.
    pub(super) fn retires(&self) -> u64 {
        self.created + SERVICE_LIFE
    }
}

const fn chat(name: &'static str, version: &'static str, created: u64) -> Model {
    Model { name, version, created, kind: Kind::Chat }
}

const fn realtime(name: &'static str, version: &'static str, created: u64) -> Model {
    Model { name, version, created, kind: Kind::Realtime }
}

const fn listed(name: &'static str, version: &'static str, created: u64) -> Model {
    Model { name, version, created, kind: Kind::Listed }
}

const fn embeddings(
    name: &'static str,
    version: &'static str,
    created: u64,
    dimensions: usize,
    adjustable: bool,
) -> Model {
    Model { name, version, created, kind: Kind::Embeddings { dimensions, adjustable } }
}
