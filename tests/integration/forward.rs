//! What goes through comes out as it went in.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aoai_auth_proxy::emulator::{Action, Route};
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{World, azure, demo_settings, proxy, within};

#[tokio::test]
async fn openais_calls_and_azures_older_ones_are_answered() {
    for http2 in [false, true] {
        let world = World::over(http2, &[], |_| ()).await;
        let answer: Value = world.chat().await.json().await.unwrap();
        assert!(answer["choices"][0]["message"]["content"].as_str().unwrap().contains("one two three four five"));
        let expected = if http2 { http::Version::HTTP_2 } else { http::Version::HTTP_11 };
        assert_eq!(world.last(Route::Chat).version, expected);

        let embedding = json!({ "model": "text-embedding-3-small", "input": "x", "dimensions": 8 });
        for path in [
            "/v1/embeddings",
            "/openai/v1/embeddings",
            "/openai/deployments/text-embedding-3-small/embeddings?api-version=2024-10-21",
        ] {
            let response = within(world.client.post(world.url(path)).json(&embedding).send()).await.unwrap();
            assert_eq!(response.status(), 200, "{path}");
            let answer: Value = response.json().await.unwrap();
            assert_eq!(answer["data"][0]["embedding"].as_array().unwrap().len(), 8, "{path}");
        }
        let responses = json!({ "model": "gpt-4o-mini", "input": "Hello" });
        let answer = within(world.client.post(world.url("/v1/responses")).json(&responses).send()).await.unwrap();
        assert_eq!(answer.status(), 200);
    }
}

#[tokio::test]
async fn the_resources_errors_pass_unchanged() {
    let world = World::new().await;
    let missing = json!({ "model": "no-such-deployment", "messages": [] });
    let response = within(world.client.post(world.url("/v1/chat/completions")).json(&missing).send()).await.unwrap();
    assert_eq!(response.status(), 404);
    assert!(response.headers().get("proxy-status").is_none());
    let answer: Value = response.json().await.unwrap();
    assert_eq!(answer["error"]["code"], "DeploymentNotFound");

    world.fault(Route::Chat, Action::status(429), Some(1));
    let response = world.chat().await;
    assert_eq!(response.status(), 429);
    assert!(response.headers().contains_key("retry-after-ms"));

    world.azure.control().set_role(false);
    let response = world.chat().await;
    assert_eq!(response.status(), 401);
    assert!(response.text().await.unwrap().contains("PermissionDenied"));
}

#[tokio::test]
async fn a_redirect_is_handed_back() {
    let world = World::new().await;
    let location = "https://evil.example/openai/v1/models";
    let headers = [("location".to_owned(), location.to_owned())].into();
    world.fault(Route::Models, Action::Status { status: 307, body: Some(String::new()), headers }, Some(1));
    let response = world.get("/v1/models").await;
    assert_eq!(response.status(), 307);
    assert_eq!(response.headers()["location"], location);
    assert_eq!(world.azure.control().count(Route::OpenAi), 1);
}

#[tokio::test]
async fn a_file_comes_back_as_it_went() {
    for http2 in [false, true] {
        let world = World::over(http2, &[], |_| ()).await;
        let content: Bytes =
            (0..5 * 1024 * 1024_u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let id = world.upload(&content).await;
        let back = within(world.get(&format!("/v1/files/{id}/content")).await.bytes()).await.unwrap();
        assert!(back == content, "{} bytes came back of {}", back.len(), content.len());

        let deleted = within(world.client.delete(world.url(&format!("/v1/files/{id}"))).send()).await.unwrap();
        assert_eq!(deleted.status(), 200);
        assert_eq!(world.get(&format!("/v1/files/{id}")).await.status(), 404);
    }
}

#[tokio::test]
async fn connections_to_the_resource_are_used_again() {
    for http2 in [false, true] {
        let world = World::over(http2, &[], |_| ()).await;
        for _ in 0..20 {
            let response = world.get("/v1/models").await;
            assert_eq!(response.status(), 200);
            within(response.bytes()).await.unwrap();
        }
        assert_eq!(world.upstream_connections(), 1, "http2: {http2}");
    }
}

/// A resource that answers the first request on each connection, and closes it when it has read a second one.
async fn one_answer_a_connection(listener: TcpListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            let mut request = vec![0; 64 * 1024];
            let mut received = 0;
            // Head and content arrive together or not; the content ends in a brace.
            while received == 0 || request[received - 1] != b'}' {
                received += stream.read(&mut request[received..]).await.unwrap();
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await.unwrap();
            let _ = stream.read(&mut request).await;
        });
    }
}

#[tokio::test]
async fn a_kept_connection_that_dies_under_a_request_costs_no_error() {
    let (azure, clock) = azure(true).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut settings = demo_settings(&azure);
    settings.push(format!("upstream.endpoint=http://{}", listener.local_addr().unwrap()));
    let proxy = proxy(&settings, &clock).await;
    tokio::spawn(one_answer_a_connection(listener));
    let client = crate::support::client();
    for _ in 0..20 {
        let request = client.post(format!("http://{}/v1/x", proxy.address)).body(r#"{"a":"request"}"#);
        let response = within(request.send()).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(within(response.text()).await.unwrap(), "{}");
    }
}

/// A resource: on each connection it gives the answers in turn, each to a request whose content is or ends an object, then
/// closes.
async fn resource(answers: &'static [&'static str]) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = requests.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            for answer in answers {
                let mut request = vec![0; 64 * 1024];
                let mut received = 0;
                while ![&b"}"[..], b"}\r\n0\r\n\r\n"].iter().any(|end| request[..received].ends_with(end)) {
                    match stream.read(&mut request[received..]).await {
                        Ok(0) | Err(_) => return,
                        Ok(more) => received += more,
                    }
                }
                counted.fetch_add(1, Ordering::Relaxed);
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        }
    });
    (origin, requests)
}

async fn in_front_of(origin: &str) -> (crate::support::Proxy, aoai_auth_proxy::emulator::Emulator) {
    let (azure, clock) = azure(true).await;
    let mut settings = demo_settings(&azure);
    settings.push(format!("upstream.endpoint={origin}"));
    (proxy(&settings, &clock).await, azure)
}

#[tokio::test]
async fn a_request_whose_answer_has_begun_is_not_sent_again() {
    for beginning in ["HTTP/1.1 200 OK\r\nx-", "garbage\r\n\r\n", "HTTP/1.1 100 Continue\r\n\r\n"] {
        let answers: &'static [&'static str] =
            Box::leak(Box::new(["HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", beginning]));
        let (origin, requests) = resource(answers).await;
        let (proxy, _azure) = in_front_of(&origin).await;
        let client = crate::support::client();
        let post = || client.post(format!("http://{}/v1/x", proxy.address)).body(r#"{"a":1}"#).send();
        let first = within(post()).await.unwrap();
        assert_eq!(within(first.text()).await.unwrap(), "{}");
        assert_eq!(within(post()).await.unwrap().status(), 502, "{beginning}");
        assert_eq!(requests.load(Ordering::Relaxed), 2, "{beginning}");
    }
}

#[tokio::test]
async fn of_two_lengths_the_true_one_is_passed_on() {
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n14\r\nABCDEFGHIJKLMNOPQRST\r\n0\r\n\r\n";
    let (origin, _) = resource(Box::leak(Box::new([answer]))).await;
    let (proxy, _azure) = in_front_of(&origin).await;
    let request = crate::support::client().post(format!("http://{}/v1/x", proxy.address)).body("{}");
    let response = within(request.send()).await.unwrap();
    assert!(response.headers().get("content-length").is_none());
    assert_eq!(within(response.text()).await.unwrap(), "ABCDEFGHIJKLMNOPQRST");
}

#[tokio::test]
async fn of_several_equal_lengths_one_is_passed_on() {
    for lengths in ["content-length: 2, 2\r\n", "content-length: 2\r\ncontent-length: 2\r\n"] {
        let answer: &'static str = Box::leak(format!("HTTP/1.1 200 OK\r\n{lengths}\r\n{{}}").into_boxed_str());
        let (origin, _) = resource(Box::leak(Box::new([answer]))).await;
        let (proxy, _azure) = in_front_of(&origin).await;
        let request = crate::support::client().post(format!("http://{}/v1/x", proxy.address)).body("{}");
        let response = within(request.send()).await.unwrap();
        let passed: Vec<_> = response.headers().get_all("content-length").iter().collect();
        assert_eq!(passed, ["2"], "{lengths}");
    }
}

#[tokio::test]
async fn a_get_keeps_its_content_of_unknown_length() {
    let (origin, requests) = resource(&["HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"]).await;
    let (proxy, _azure) = in_front_of(&origin).await;
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    stream
        .write_all(b"GET /v1/x HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    within(stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && requests.load(Ordering::Relaxed) == 1, "{answer}");
}

#[tokio::test]
async fn trailers_are_cleaned_like_other_fields_and_end_a_response() {
    let answer = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-checksum, connection\r\n\r\n2\r\n{}\r\n0\r\nx-checksum: 1\r\nkeep-alive: 9\r\n\r\n";
    let (origin, requests) = resource(Box::leak(Box::new([answer; 4]))).await;
    let (proxy, _azure) = in_front_of(&origin).await;
    let client = crate::support::client();
    for _ in 0..4 {
        let response = within(client.post(format!("http://{}/v1/x", proxy.address)).body("{}").send()).await.unwrap();
        assert_eq!(within(response.text()).await.unwrap(), "{}");
    }
    assert_eq!(
        requests.load(Ordering::Relaxed),
        4,
        "all over one connection, or the resource would have stopped answering"
    );
}

#[tokio::test]
async fn many_streams_share_few_http2_connections() {
    let world = World::new().await;
    assert_eq!(world.chat().await.status(), 200);
    world.fault(Route::Chat, Action::Hold { after_events: 1 }, Some(90));
    let streams = futures_util::future::join_all((0..90).map(|_| world.chat_stream())).await;
    assert!(streams.iter().all(|stream| stream.status() == 200));
    assert_eq!(world.upstream_connections(), 1);
    within(world.azure.control().until(|state| state.streams_held == 90)).await;
    world.azure.control().release();
    for stream in streams {
        assert!(within(stream.text()).await.unwrap().ends_with("data: [DONE]\n\n"));
    }
}

#[tokio::test]
async fn callers_may_speak_http2_without_tls() {
    let (azure, clock) = azure(true).await;
    let proxy = proxy(&demo_settings(&azure), &clock).await;
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(aoai_auth_proxy::tls::client(&[]).unwrap())
        .no_proxy()
        .http2_prior_knowledge()
        .build()
        .unwrap();
    let response = within(client.get(format!("http://{}/v1/models", proxy.address)).send()).await.unwrap();
    assert_eq!((response.status().as_u16(), response.version()), (200, http::Version::HTTP_2));
}
