//! Every key of the configuration, with what it means: what `config` prints, what the reference lists and what a slip of
//! the pen is compared with.

/// One key.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Section and name, joined by a dot; what holds for every app, or model, has `NAME` in its place.
    pub name: &'static str,
    /// What it means, in a clause.
    pub meaning: &'static str,
    /// What holds where no layer sets it, if that is something.
    pub otherwise: Option<&'static str>,
    /// The variable that other programs for Azure read too.
    pub variable: Option<&'static str>,
    /// Where the documentation says more.
    pub more: Option<&'static str>,
    /// Whether its value is never shown.
    pub is_secret: bool,
    /// Whether an empty text is a value too, and means none.
    pub may_be_empty: bool,
}

const fn key(name: &'static str, meaning: &'static str) -> Key {
    Key { name, meaning, otherwise: None, variable: None, more: None, is_secret: false, may_be_empty: false }
}

impl Key {
    const fn variable(self, variable: &'static str) -> Self {
        Self { variable: Some(variable), ..self }
    }

    const fn otherwise(self, otherwise: &'static str) -> Self {
        Self { otherwise: Some(otherwise), ..self }
    }

    const fn more(self, page: &'static str) -> Self {
        Self { more: Some(page), ..self }
    }

    const fn or_none(self) -> Self {
        Self { may_be_empty: true, ..self }
    }

    const fn secret(self) -> Self {
        Self { is_secret: true, ..self }
    }

    /// The section that it stands in; of an app's keys, `apps.NAME`; of a model's, `prices.NAME`.
    #[must_use]
    pub fn section(&self) -> &'static str {
        self.name.rsplit_once('.').map_or("", |(section, _)| section)
    }

    /// Its name within the section.
    #[must_use]
    pub fn short(&self) -> &'static str {
        self.name.rsplit_once('.').map_or(self.name, |(_, name)| name)
    }

    /// Whether it stands in a section of which there is one for each app or model: then what these sections stand in.
    #[must_use]
    pub fn of_each(&self) -> Option<&'static str> {
        self.name.split_once(OF_EACH).map(|(section, _)| section)
    }

    /// Whether `written` is this key: of an app's or a model's, whatever that is called.
    fn is(&self, written: &str) -> bool {
        match self.name.split_once(OF_EACH) {
            Some((section, name)) => written
                .strip_prefix(section)
                .and_then(|rest| rest.strip_prefix('.')?.rsplit_once('.'))
                .is_some_and(|(_, last)| last == name),
            None => self.name == written,
        }
    }
}

/// What stands between section and name in [`KEYS`] where there is one for each app or model.
const OF_EACH: &str = ".NAME.";

/// All keys, section by section.
pub const KEYS: &[Key] = &[
    key("listen.address", "TCP address; port 0 picks a free one, an empty text is none").or_none(),
    key(
        "listen.unix_socket",
        "also listen on this path, for this user alone (mode 0600); a stale socket is replaced, a live one is an error",
    )
    .or_none(),
    key(
        "listen.allow_remote",
        "must be true to listen on an address that other machines reach; then `access.require_key` must be true too",
    ),
    key(
        "upstream.endpoint",
        "`https://NAME.openai.azure.com`; a trailing `/`, `/openai` or `/openai/v1` is accepted; `http://` for a loopback \
         host only",
    )
    .variable("AZURE_OPENAI_ENDPOINT"),
    key("upstream.scope", "what the token is asked for; `https://ai.azure.com/.default` for Foundry project endpoints")
        .otherwise("by cloud and endpoint"),
    key(
        "upstream.models",
        "what `GET /v1/models` answers: `upstream`, the resource's own list (the region's catalogue), or `deployments`, the \
         account's deployments, so that every name listed can be called",
    ),
    key("upstream.ca_file", "PEM bundle trusted besides the system's authorities"),
    key("upstream.connect_timeout", "DNS, TCP and TLS together"),
    key("upstream.response_timeout", "from the last byte of the request to the head of the response"),
    key("upstream.idle_timeout", "the longest silence inside a response, a request's content or a WebSocket"),
    key("upstream.explain_errors", "whether Azure's refusals that the proxy can explain get a `hint`")
        .more("identity.md#what-azures-refusals-mean"),
    key("azure.cloud", "`public`, `usgovernment` or `china`: sets authority, scopes and management endpoint together"),
    key(
        "credential.kind",
        "`auto`, `managed-identity`, `workload-identity`, `client-secret`, `client-certificate`, `azure-cli` or \
         `azure-developer-cli`",
    )
    .more("identity.md"),
    key("credential.tenant_id", "directory").variable("AZURE_TENANT_ID"),
    key("credential.client_id", "application, or user-assigned identity").variable("AZURE_CLIENT_ID"),
    key("credential.object_id", "another way to name a user-assigned identity"),
    key("credential.resource_id", "another way to name a user-assigned identity"),
    key("credential.client_secret", "an application's secret; never printed").variable("AZURE_CLIENT_SECRET").secret(),
    key("credential.client_certificate_path", "PKCS#12 or PEM, with the private key; read again at every renewal")
        .variable("AZURE_CLIENT_CERTIFICATE_PATH"),
    key("credential.client_certificate_password", "what opens it; never printed")
        .variable("AZURE_CLIENT_CERTIFICATE_PASSWORD")
        .secret(),
    key(
        "credential.send_certificate_chain",
        "whether the certificate goes along, for applications that trust a certificate's subject and issuer",
    )
    .variable("AZURE_CLIENT_SEND_CERTIFICATE_CHAIN"),
    key("credential.federated_token_file", "the platform's token; read again at every renewal")
        .variable("AZURE_FEDERATED_TOKEN_FILE"),
    key("credential.authority_host", "Entra").variable("AZURE_AUTHORITY_HOST").otherwise("by cloud"),
    key("credential.imds_endpoint", "the metadata service").variable("AZURE_POD_IDENTITY_AUTHORITY_HOST"),
    key("management.endpoint", "the management plane").otherwise("by cloud"),
    key("management.subscription_id", "needed by `/management/models`, `/management/deployments` and `upstream.models = \"deployments\"`").variable("AZURE_SUBSCRIPTION_ID"),
    key("management.location", "region of `/management/models` unless `?location=` says another"),
    key("management.resource_group", "the account's resource group, with `management.account`")
        .otherwise("found by the endpoint"),
    key("management.account", "the account whose deployments are listed").otherwise("found by the endpoint"),
    key("management.api_version", "of the management plane's `Microsoft.CognitiveServices`"),
    key("access.allowed_hosts", "names under which the proxy is asked (`Host`, any port)"),
    key("access.allowed_origins", "origins whose web pages may call").more("sharing.md#web-pages"),
    key(
        "access.peer_users",
        "whose processes may connect: `any`, `same` (the proxy's own user and root), or a list of users",
    )
    .more("sharing.md#users-of-the-machine"),
    key("access.require_key", "whether callers must present an app's key").more("sharing.md#several-apps"),
    key(
        "admin.address",
        "TCP address of a second listener, for probes: `/healthz`, `/readyz`, `/metrics`, `/status` and nothing else, so it may be \
         one that other machines reach; port 0 picks a free one, an empty text is none",
    )
    .or_none()
    .more("sidecar.md#the-admin-listener"),
    key("admin.quitquitquit", "whether `POST /quitquitquit` on the admin listener begins an orderly stop")
        .more("sidecar.md#the-admin-listener"),
    key("apps.NAME.key", "the app's key, or `sha256:` and its digest; never printed").more("sharing.md#several-apps").secret(),
    key("apps.NAME.key_file", "a file with the same"),
    key("apps.NAME.models", "models that it may ask for").otherwise("all").more("sharing.md#models"),
    key("apps.NAME.requests_per_minute", "over it: 429 with `retry-after`").otherwise("no limit"),
    key("apps.NAME.tokens_per_minute", "over it: 429 with `retry-after`").otherwise("no limit"),
    key("limits.max_connections", "further connections wait in the listen queue"),
    key("limits.max_in_flight", "further requests are turned away with 503"),
    key("limits.max_body", "the most that a request's content may have"),
    key("limits.header_timeout", "how long a request's head may take"),
    key("limits.shutdown_grace", "how long running requests may go on after SIGTERM"),
    key("usage.enabled", "whether what responses cost is written down, by hour, app and model").more("usage.md"),
    key("usage.database", "the SQLite file that it is written to; it and its directory are made where they are not there yet")
        .otherwise("`$XDG_STATE_HOME/aoai-auth-proxy/usage.db`, else below `~/.local/state`"),
    key("usage.retention", "how long it is kept, like `90d`; `0` is for ever").more("usage.md#how-long-it-is-kept"),
    key("usage.currency", "what prices are in: a word that is shown with them").more("usage.md#what-it-costs"),
    key("prices.NAME.input", "what a million tokens sent to this model cost").more("usage.md#what-it-costs"),
    key("prices.NAME.cached", "what a million of them cost that the resource had still in mind").otherwise("as `input`"),
    key("prices.NAME.output", "what a million tokens answered cost, thinking included"),
    key("telemetry.log_format", "`text` or `json`"),
    key("telemetry.log_level", "`error`, `warn`, `info`, `debug`, `trace` or `off`, or directives like `info,identity=debug`")
        .more("logs.md#levels"),
    key(
        "telemetry.otlp_endpoint",
        "traces and metrics go to this collector, over OTLP (`http/protobuf`): `http://HOST:4318` or `https://HOST`; an empty \
         text is none",
    )
    .variable("OTEL_EXPORTER_OTLP_ENDPOINT")
    .or_none()
    .more("telemetry.md"),
];

/// The key that `written` names, whether of an app or not.
#[must_use]
pub fn find(written: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.is(written))
}

/// The key, or section, that `asked` was probably meant to be.
#[must_use]
pub fn near(asked: &str) -> Option<String> {
    // What is no key may be a value as well, with a sign left out before it.
    if !asked.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_')) {
        return None;
    }
    let plain = |text: &str| text.to_ascii_lowercase().replace('-', "_");
    // An app or a model may be called anything; its keys may not.
    let of_each =
        ["apps.", "prices."].iter().find_map(|section| Some((section, asked.strip_prefix(section)?.rsplit_once('.')?)));
    let (name, written) = match of_each {
        Some((section, (name, last))) => (name, format!("{section}{name}.{}", plain(last))),
        None => ("NAME", plain(asked)),
    };
    let last = written.rsplit('.').next().unwrap_or_default();
    // The right name in the wrong section, or in none.
    let elsewhere = |key: &Key| if key.short() == last { 0.9 } else { 0.0 };
    let keys = KEYS.iter().map(|key| (elsewhere(key), key.name.replacen("NAME", name, 1)));
    let sections = KEYS.iter().map(|key| (0.0, key.section().to_owned()));
    let is_section = !written.contains('.');
    let candidates = keys.chain(sections.filter(|_| is_section));
    alike(&written, candidates).filter(|near| near != asked)
}

/// The one of `choices` that `written` was probably meant to be.
pub(super) fn near_choice<'a>(written: &str, choices: impl Iterator<Item = &'a str>) -> Option<String> {
    let written = written.to_ascii_lowercase().replace('_', "-");
    alike(&written, choices.map(|choice| (0.0, choice.to_owned())))
}

/// The first of those that are most like `written`; each comes with how much it is like it for another reason.
fn alike(written: &str, candidates: impl Iterator<Item = (f64, String)>) -> Option<String> {
    /// Less alike than this is something else.
    const ALIKE: f64 = 0.75;
    let mut best = (ALIKE, None);
    for (likeness, candidate) in candidates {
        let likeness = strsim::normalized_damerau_levenshtein(written, &candidate).max(likeness);
        if likeness > best.0 {
            best = (likeness, Some(candidate));
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_pen_is_known_for_what_it_was_meant_to_be() {
        for (written, meant) in [
            ("upstream.endpont", "upstream.endpoint"),
            ("upsteam.endpoint", "upstream.endpoint"),
            ("Upstream.Endpoint", "upstream.endpoint"),
            ("endpoint", "upstream.endpoint"),
            ("upstraem", "upstream"),
            ("credential.client-secret", "credential.client_secret"),
            ("limits.unix_socket", "listen.unix_socket"),
            ("apps.mine.model", "apps.mine.models"),
            ("apps.my-app.Model", "apps.my-app.models"),
            ("apps.mine.request_per_minute", "apps.mine.requests_per_minute"),
            ("telemetry.loglevel", "telemetry.log_level"),
            ("prices.gpt-4o.inputs", "prices.gpt-4o.input"),
            ("usage.databse", "usage.database"),
        ] {
            assert_eq!(near(written).as_deref(), Some(meant), "{written}");
        }
        for nothing in ["", "a", "x.y", "retries", "upstream", "apps.mine.key:hunter2.abc==", "apps.mine.key hunter2"] {
            assert_eq!(near(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn keys_of_apps_and_models_are_found_under_their_names() {
        assert_eq!(find("prices.gpt-4.1.cached").map(|key| key.name), Some("prices.NAME.cached"));
        assert_eq!(find("apps.my-app.models").map(|key| key.name), Some("apps.NAME.models"));
        assert_eq!(find("apps.NAME.key").map(|key| key.is_secret), Some(true));
        assert_eq!(find("upstream.endpoint").map(|key| key.variable), Some(Some("AZURE_OPENAI_ENDPOINT")));
        assert!(find("upstream.endpont").is_none() && find("apps.models").is_none());
    }
}
