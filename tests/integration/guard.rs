//! Who may call at all: the proxy's own names, and no web page that was not let in.

use std::sync::LazyLock;

use aoai_auth_proxy::emulator::Route;
use aoai_auth_proxy::guard::Guard;
use http::header::ALLOW;
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use reqwest::Method;

use crate::oracle;
use crate::support::{World, code, config, within};
use crate::wire::{Front, Resource};

/// What a hostile request says besides its method and path, and how it is refused.
type Hostile<'a> = (&'a str, u16, &'a str);

/// Everything that a caller could say to be taken for someone who may call. None has a byte reach the resource.
const HOSTILE: &[Hostile<'_>] = &[
    // Names that lead here and are not ours.
    ("GET /v1/models HTTP/1.1\r\nhost: evil.example\r\n", 421, "host_denied"),
    ("GET /v1/models HTTP/1.1\r\nhost: evil.example:8642\r\n", 421, "host_denied"),
    ("GET /v1/models HTTP/1.1\r\nhost: 127.0.0.1.evil.com\r\n", 421, "host_denied"),
    ("GET /v1/models HTTP/1.1\r\nhost: localhost.evil.com\r\n", 421, "host_denied"),
    ("GET /v1/models HTTP/1.1\r\nhost: evil-localhost\r\n", 421, "host_denied"),
    ("GET /v1/models HTTP/1.1\r\nhost: localhost.\r\n", 421, "host_denied"),
    ("GET /v1/models HTTP/1.1\r\nhost: 127.0.0.1.\r\n", 421, "host_denied"),
    ("GET /v1/models HTTP/1.1\r\nhost: 127.1\r\n", 421, "host_denied"),
    ("GET /v1/models HTTP/1.1\r\nhost: 2130706433\r\n", 421, "host_denied"),
    ("GET /v1/models HTTP/1.1\r\nhost: 0x7f.0.0.1\r\n", 421, "host_denied"),
    ("GET /v1/models HTTP/1.1\r\nhost: 0.0.0.0\r\n", 421, "host_denied"),
    ("GET /v1/models HTTP/1.1\r\nhost: [::ffff:7f00:1]\r\n", 421, "host_denied"),
    ("GET /v1/models HTTP/1.1\r\nhost: [::1].evil.com\r\n", 421, "host_denied"),
    ("GET /v1/models HTTP/1.1\r\nhost: [::1]@evil.com\r\n", 421, "host_denied"),
    ("GET /v1/models HTTP/1.1\r\nhost: localhost:80@evil.com\r\n", 421, "host_denied"),
    ("GET /v1/models HTTP/1.1\r\nhost: localhost:evil\r\n", 421, "host_denied"),
    ("GET /v1/models HTTP/1.1\r\nhost: localhost,evil.com\r\n", 421, "host_denied"),
    ("GET /v1/models HTTP/1.1\r\nhost: \"localhost\"\r\n", 421, "host_denied"),
    ("GET /v1/models HTTP/1.1\r\nhost:\r\n", 421, "host_denied"),
    ("GET /v1/models HTTP/1.1\r\n", 400, "invalid_request"),
    ("GET /v1/models HTTP/1.0\r\n", 400, "invalid_request"),
    ("GET /v1/models HTTP/1.1\r\nhost: localhost\r\nhost: evil.com\r\n", 400, "invalid_request"),
    ("GET /v1/models HTTP/1.1\r\nhost: evil.com\r\nx-forwarded-host: localhost\r\n", 421, "host_denied"),
    ("GET /v1/models HTTP/1.1\r\nhost: evil.com\r\nforwarded: host=localhost\r\n", 421, "host_denied"),
    ("GET http://evil.com/v1/models HTTP/1.1\r\nhost: localhost\r\n", 400, "invalid_path"),
    ("GET http://localhost/v1/models HTTP/1.1\r\nhost: evil.com\r\n", 400, "invalid_path"),
    ("GET //evil.com/v1/models HTTP/1.1\r\nhost: localhost\r\n", 400, "invalid_path"),
    ("CONNECT evil.com:443 HTTP/1.1\r\nhost: localhost\r\n", 400, "invalid_path"),
    ("TRACE /v1/models HTTP/1.1\r\nhost: localhost\r\n", 405, "method_not_allowed"),
    ("trace /v1/models HTTP/1.1\r\nhost: localhost\r\n", 405, "method_not_allowed"),
    // Web pages, with whatever a browser says of them.
    ("GET /v1/models HTTP/1.1\r\nhost: localhost\r\norigin: https://evil.example\r\n", 403, "origin_denied"),
    ("GET /v1/models HTTP/1.1\r\nhost: localhost\r\norigin: null\r\n", 403, "origin_denied"),
    ("GET /v1/models HTTP/1.1\r\nhost: localhost\r\norigin:\r\n", 403, "origin_denied"),
    ("GET /v1/models HTTP/1.1\r\nhost: localhost\r\norigin: http://localhost\r\n", 403, "origin_denied"),
    ("GET /v1/models HTTP/1.1\r\nhost: localhost\r\norigin: http://listed.example\r\n", 403, "origin_denied"),
    ("GET /v1/models HTTP/1.1\r\nhost: localhost\r\norigin: https://listed.example.evil.com\r\n", 403, "origin_denied"),
    ("GET /v1/models HTTP/1.1\r\nhost: localhost\r\norigin: https://listed.example:8443\r\n", 403, "origin_denied"),
    (
        "GET /v1/models HTTP/1.1\r\nhost: localhost\r\norigin: https://listed.example\r\norigin: https://evil.example\r\n",
        403,
        "origin_denied",
    ),
    ("GET /v1/models HTTP/1.1\r\nhost: localhost\r\nsec-fetch-site: cross-site\r\n", 403, "origin_denied"),
    ("GET /v1/models HTTP/1.1\r\nhost: localhost\r\nsec-fetch-site: same-site\r\n", 403, "origin_denied"),
    ("GET /status HTTP/1.1\r\nhost: localhost\r\nsec-fetch-site: cross-site\r\n", 403, "origin_denied"),
    (
        "GET /v1/models HTTP/1.1\r\nhost: localhost\r\nsec-fetch-site: none\r\nsec-fetch-site: cross-site\r\n",
        403,
        "origin_denied",
    ),
    ("GET /v1/models HTTP/1.1\r\nhost: evil.example\r\norigin: https://listed.example\r\n", 421, "host_denied"),
    (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\norigin: null\r\ncontent-type: text/plain\r\n",
        403,
        "origin_denied",
    ),
    (
        "OPTIONS /v1/models HTTP/1.1\r\nhost: localhost\r\norigin: https://evil.example\r\naccess-control-request-method: POST\r\n",
        403,
        "origin_denied",
    ),
    // And WebSockets, which browsers open across origins without asking.
    (
        "GET /v1/realtime?model=m HTTP/1.1\r\nhost: localhost\r\norigin: https://evil.example\r\nconnection: upgrade\r\nupgrade: websocket\r\n",
        403,
        "origin_denied",
    ),
    (
        "GET /v1/realtime?model=m HTTP/1.1\r\nhost: evil.example\r\nconnection: upgrade\r\nupgrade: websocket\r\n",
        421,
        "host_denied",
    ),
    (
        "GET /v1/realtime?model=m HTTP/1.1\r\nhost: localhost\r\nsec-fetch-site: same-site\r\nconnection: upgrade\r\nupgrade: websocket\r\n",
        403,
        "origin_denied",
    ),
];

#[tokio::test]
async fn no_hostile_request_reaches_the_resource() {
    let resource = Resource::new(|_| b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec()).await;
    let front = Front::of(&resource.origin, &["access.allowed_origins=https://listed.example"]).await;
    for (head, status, code) in HOSTILE {
        let mut caller = front.call().await;
        caller.say(format!("{head}connection: close\r\n\r\n").as_bytes()).await;
        let answer = within(caller.hear(false)).await.unwrap_or_else(|problem| panic!("{head}: {problem}"));
        assert_eq!((answer.status(), &*answer.code()), (*status, *code), "{head}");
        assert!(answer.values("access-control-allow-origin").is_empty(), "{head}");
        assert_eq!(resource.take().1, 0, "{head}");
    }
    // What the table is about is not refused for another reason.
    for head in [
        "GET /v1/models HTTP/1.1\r\nhost: LOCALHOST:1\r\n",
        "GET http://[::1]/v1/models HTTP/1.1\r\nhost: 127.0.0.1:8642\r\n",
        "GET /v1/models HTTP/1.1\r\nhost: localhost\r\norigin: https://listed.example\r\nsec-fetch-site: cross-site\r\n",
        "GET /v1/models HTTP/1.1\r\nhost: localhost\r\nsec-fetch-site: same-origin\r\n",
    ] {
        let mut caller = front.call().await;
        caller.say(format!("{head}connection: close\r\n\r\n").as_bytes()).await;
        assert_eq!(within(caller.hear(false)).await.unwrap().status(), 200, "{head}");
        assert_ne!(resource.take().1, 0, "{head}");
    }
}

#[tokio::test]
async fn what_is_our_own_can_only_be_read_and_says_so() {
    let world = World::new().await;
    let methods = ["TRACE", "trace", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"];
    for path in ["/", "/healthz", "/readyz", "/status", "/status/events", "/metrics", "/management/models"] {
        for method in methods {
            let method = method.parse::<Method>().unwrap();
            let response = within(world.client.request(method.clone(), world.url(path)).send()).await.unwrap();
            let allowed = response.headers().get_all(ALLOW).iter().map(HeaderValue::as_bytes).collect::<Vec<_>>();
            assert_eq!(response.status(), 405, "{method} {path}");
            assert_eq!(allowed, [b"GET, HEAD"], "{method} {path}");
        }
    }
    let response = world.client.request(Method::TRACE, world.url("/v1/models")).send().await.unwrap();
    assert!(response.headers()[ALLOW].to_str().unwrap().contains("POST"), "{response:?}");
}

#[tokio::test]
async fn the_status_page_works_in_a_browser_and_only_from_itself() {
    let world = World::new().await;
    for (path, site) in [("/", "none"), ("/", "same-origin"), ("/status", "same-origin")] {
        let response = world.client.get(world.url(path)).header("sec-fetch-site", site).send().await.unwrap();
        assert_eq!(response.status(), 200, "{path} {site}");
    }
    let response = world.client.get(world.url("/status")).header("sec-fetch-site", "cross-site").send().await.unwrap();
    assert_eq!(code(response).await, "origin_denied");
}

#[tokio::test]
async fn other_names_are_answered_when_they_are_listed() {
    let world = World::with(&["access.allowed_hosts=proxy.internal,::1"], |_| ()).await;
    for (host, status) in [("proxy.internal", 200), ("PROXY.internal:1", 200), ("[::1]:8642", 200), ("localhost", 421)]
    {
        let response = world.client.get(world.url("/healthz")).header("host", host).send().await.unwrap();
        assert_eq!(response.status(), status, "{host}");
        if status == 421 {
            let told = within(response.text()).await.unwrap();
            assert!(told.contains("proxy.internal, [::1]") && told.contains("access.allowed_hosts"), "{told}");
        }
    }
}

const PAGE: (&str, &str) = ("origin", "https://app.example");

/// A proxy that one web page may use.
async fn with_a_page(settings: &[&str]) -> World {
    World::with(&[&["access.allowed_origins=https://app.example"], settings].concat(), |_| ()).await
}

#[tokio::test]
async fn a_listed_page_asks_first_and_is_told() {
    let world = with_a_page(&["access.require_key=true", "apps.page.key=hunter2"]).await;
    let asks = || {
        let asks = world.client.request(Method::OPTIONS, world.url("/v1/chat/completions")).header(PAGE.0, PAGE.1);
        asks.header("access-control-request-method", "POST")
    };
    // Without the key: browsers never send one with this question.
    let response =
        asks().header("access-control-request-headers", "authorization,x-stainless-os").send().await.unwrap();
    assert_eq!(response.status(), 204);
    let told = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap());
    assert_eq!(told("access-control-allow-origin"), Some("https://app.example"));
    assert_eq!(told("access-control-allow-headers"), Some("authorization,x-stainless-os"));
    assert!(told("access-control-allow-methods").unwrap().contains("POST"));
    assert_eq!(told("access-control-allow-credentials"), None);
    assert_eq!(told("vary"), Some("origin"));
    // Without the question it is a request like any other, and lacks the key.
    let request = world.client.request(Method::OPTIONS, world.url("/v1/chat/completions")).header(PAGE.0, PAGE.1);
    assert_eq!(code(request.send().await.unwrap()).await, "invalid_key");
    assert_eq!(world.azure.control().count(Route::OpenAi), 0);
}

#[tokio::test]
async fn a_listed_page_reads_answers_and_refusals() {
    let world = with_a_page(&[]).await;
    let ask = async |path: &str| {
        let response = world.client.get(world.url(path)).header(PAGE.0, PAGE.1).header("sec-fetch-site", "cross-site");
        within(response.send()).await.unwrap()
    };
    for (path, status) in [("/v1/models", 200), ("/v1/nothing-here", 404), ("/nowhere", 404), ("/v1/a%5cb", 400)] {
        let response = ask(path).await;
        assert_eq!(response.status(), status, "{path}");
        assert_eq!(response.headers()["access-control-allow-origin"], "https://app.example", "{path}");
        let exposed = response.headers()["access-control-expose-headers"].to_str().unwrap();
        assert!(exposed.split(", ").any(|name| name == "x-request-id"), "{path}: {exposed}");
    }
    let exposed = ask("/v1/models").await.headers()["access-control-expose-headers"].to_str().unwrap().to_owned();
    assert!(exposed.contains("apim-request-id"), "{exposed}");
    // Others are not told that it may.
    let response = world.get("/v1/models").await;
    assert!(!response.headers().contains_key("access-control-allow-origin"));
}

/// What attacks on names and origins are made of.
const PIECES: &[&str] = &[
    "localhost",
    "LocalHost",
    "127.0.0.1",
    "[::1]",
    "::1",
    "evil.com",
    "https://app.example",
    "https://",
    "app.example",
    "null",
    "none",
    "same-origin",
    "same-site",
    "cross-site",
    ":",
    ":80",
    ".",
    "@",
    "/",
    ",",
    "%",
    " ",
    "0",
    "x",
    "[",
    "]",
    "#",
    "?",
];

static GUARD: LazyLock<Guard> = LazyLock::new(|| {
    let settings = ["upstream.endpoint=http://127.0.0.1:9".to_owned(), format!("access.allowed_origins={}", PAGE.1)];
    Guard::new(&config(&settings).access)
});

proptest! {
    #![proptest_config(ProptestConfig { cases: 5000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn who_is_let_in_is_whom_the_rules_let_in(
        lines in vec((select(vec!["host", "host", "origin", "sec-fetch-site"]), vec(select(PIECES), 0..4)), 0..4),
        authority in prop::option::weighted(0.2, vec(select(PIECES), 1..4)),
    ) {
        let origin = PAGE.1;
        let mut fields = HeaderMap::new();
        for (name, value) in &lines {
            fields.append(HeaderName::from_static(name), HeaderValue::try_from(value.concat()).unwrap());
        }
        let target = authority.map_or("/v1/models".to_owned(), |authority| format!("http://{}/v1/models", authority.concat()));
        let Ok(mut request) = Request::get(target).body(()) else { return Ok(()) };
        *request.headers_mut() = fields;
        let expected = oracle::may_call(request.uri().authority().map(http::uri::Authority::as_str), request.headers(), origin);
        prop_assert_eq!(GUARD.admit(&request).map(|cors| cors.is_some()).ok(), expected);
    }
}
