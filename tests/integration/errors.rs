//! What the proxy answers itself: in OpenAI's shape, within its deadline, with nothing secret in it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aoai_auth_proxy::emulator::{Action, Route};
use futures_util::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::support::{World, azure, client, code, demo_settings, proxy, within};

#[tokio::test]
async fn nothing_listens_upstream() {
    let (azure, clock) = azure(true).await;
    // Bound, so that nobody else gets the port, and not listening.
    let taken = TcpSocket::new_v4().unwrap();
    taken.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = taken.local_addr().unwrap();
    let mut settings = demo_settings(&azure);
    settings.push(format!("upstream.endpoint=https://{address}"));
    let proxy = proxy(&settings, &clock).await;
    let response = within(client().get(format!("http://{}/v1/models", proxy.address)).send()).await.unwrap();
    assert_eq!(response.status(), 502);
    assert_eq!(response.headers()["proxy-status"], "aoai-auth-proxy; error=connection_refused");
    assert_eq!(code(response).await, "upstream_unreachable");
}

#[tokio::test]
async fn a_certificate_of_an_unknown_authority() {
    let (azure, clock) = azure(true).await;
    let (other, _) = crate::support::azure(true).await;
    let mut settings = demo_settings(&azure);
    // Trust another emulator's authority only; IMDS needs none.
    settings.push(format!("upstream.ca_file={}", other.ca_file().display()));
    let proxy = proxy(&settings, &clock).await;
    let response = within(client().get(format!("http://{}/v1/models", proxy.address)).send()).await.unwrap();
    assert_eq!(response.status(), 502);
    assert_eq!(response.headers()["proxy-status"], "aoai-auth-proxy; error=tls_certificate_error");
    let content: serde_json::Value = response.json().await.unwrap();
    assert_eq!(content["error"]["code"], "upstream_tls");
    assert!(content["error"]["message"].as_str().unwrap().contains("upstream.ca_file"), "{content}");
}

#[tokio::test]
async fn an_upstream_that_accepts_and_says_nothing() {
    let (azure, clock) = azure(true).await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut settings = demo_settings(&azure);
    settings.push(format!("upstream.endpoint=https://{}", silent.local_addr().unwrap()));
    settings.push("upstream.connect_timeout=100ms".to_owned());
    let proxy = proxy(&settings, &clock).await;
    let response = within(client().get(format!("http://{}/v1/models", proxy.address)).send()).await.unwrap();
    assert_eq!(response.status(), 502);
    assert_eq!(response.headers()["proxy-status"], "aoai-auth-proxy; error=connection_timeout");
    assert_eq!(code(response).await, "upstream_unreachable");
}

#[tokio::test]
async fn a_crowd_shares_the_failure_of_one_handshake() {
    let (azure, clock) = azure(true).await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut settings = demo_settings(&azure);
    settings.push(format!("upstream.endpoint=https://{}", silent.local_addr().unwrap()));
    settings.push("upstream.connect_timeout=500ms".to_owned());
    let proxy = proxy(&settings, &clock).await;
    let url = format!("http://{}/v1/models", proxy.address);
    // A first one that fails, so that the token is there and all of the crowd come to the handshake together.
    assert_eq!(within(client().get(&url).send()).await.unwrap().status(), 502);
    let accepted = Arc::new(AtomicUsize::new(0));
    let counted = accepted.clone();
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok(connection) = silent.accept().await {
            counted.fetch_add(1, Ordering::Relaxed);
            kept.push(connection);
        }
    });
    let client = client();
    let crowd = join_all((0..10).map(|_| client.get(&url).send())).await;
    assert!(crowd.into_iter().all(|answer| answer.unwrap().status() == 502));
    // The failed one of before, the crowd's, and perhaps one of a straggler.
    assert!(accepted.load(Ordering::Relaxed) <= 3, "{} handshakes", accepted.load(Ordering::Relaxed));
}

#[tokio::test]
async fn an_upstream_that_speaks_no_http() {
    let (azure, clock) = azure(true).await;
    let babbler = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut settings = demo_settings(&azure);
    settings.push(format!("upstream.endpoint=http://{}", babbler.local_addr().unwrap()));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = babbler.accept().await {
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(b"220 mail ready\r\n\r\n").await;
        }
    });
    let proxy = proxy(&settings, &clock).await;
    let response = within(client().get(format!("http://{}/v1/models", proxy.address)).send()).await.unwrap();
    assert_eq!(response.status(), 502);
    assert_eq!(code(response).await, "upstream_protocol");
}

#[tokio::test]
async fn an_upstream_that_closes_before_it_answers() {
    let world = World::over(false, &[], |_| ()).await;
    world.fault(Route::Chat, Action::Close, None);
    let response = world.chat().await;
    assert_eq!(response.status(), 502);
    assert_eq!(code(response).await, "upstream_protocol");
}

#[tokio::test]
async fn a_response_that_never_comes() {
    for http2 in [false, true] {
        let world = World::over(http2, &["upstream.response_timeout=100ms"], |_| ()).await;
        world.fault(Route::Chat, Action::Hang, Some(1));
        let response = world.chat().await;
        assert_eq!(response.status(), 504);
        assert_eq!(response.headers()["proxy-status"], "aoai-auth-proxy; error=http_response_timeout");
        assert_eq!(code(response).await, "upstream_timeout");
    }
}

#[tokio::test]
async fn a_path_that_leaves_its_prefix_goes_nowhere() {
    let world = World::new().await;
    for target in [
        "/v1/../openai/v1/models",
        "/v1/%2e%2e/x",
        "/v1/..%2fx",
        "/v1/%2f..",
        "/v1/a\\..\\b",
        "//evil.example/v1/models",
        "http://evil.example/v1/models",
        "/v1/%252e%252e/x",
        "/openai/../subscriptions",
    ] {
        let answer =
            raw(&world, format!("GET {target} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").as_bytes())
                .await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{target}: {answer}");
        assert!(answer.contains(r#""code":"invalid_path""#), "{target}: {answer}");
    }
    let answer =
        raw(&world, b"CONNECT evil.example:443 HTTP/1.1\r\nhost: evil.example:443\r\nconnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert_eq!(world.azure.control().count(Route::OpenAi), 0);
}

#[tokio::test]
async fn a_request_that_the_caller_cuts_off_reaches_no_end_upstream() {
    for http2 in [false, true] {
        let world = World::over(http2, &[], |_| ()).await;
        assert_eq!(world.get("/v1/models").await.status(), 200);
        let mut stream = TcpStream::connect(world.proxy.address).await.unwrap();
        let head = "POST /v1/files HTTP/1.1\r\nhost: localhost\r\ncontent-type: multipart/form-data; boundary=b\r\ncontent-length: 1000\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(b"--b\r\n").await.unwrap();
        within(world.azure.control().until(|state| state.count(Route::Files) == 1)).await;
        drop(stream);
        within(world.azure.control().until(|state| state.requests_open == 0)).await;
        let files: serde_json::Value = world.get("/v1/files").await.json().await.unwrap();
        assert_eq!(files["data"], serde_json::json!([]), "the resource has not taken it for a whole one");
    }
}

#[tokio::test]
async fn a_refusal_of_content_that_has_not_come_says_that_the_connection_ends() {
    let world = World::new().await;
    let much = vec![b'x'; 4 << 20];
    for (length, ends) in [(10 + much.len(), true), (10, false)] {
        let mut stream = TcpStream::connect(world.proxy.address).await.unwrap();
        let head = format!("POST /nowhere HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}");
        let request = format!("{head}\r\n\r\n0123456789");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"}}") {
            answer.push(within(stream.read_u8()).await.unwrap());
        }
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
        // Content that nobody wanted but that is there is passed over.
        assert_eq!(answer.contains("\r\nconnection: close\r\n"), ends, "{answer}");
        if ends {
            // And it does not end before the caller has had the time to see that.
            within(stream.write_all(&much)).await.unwrap();
            assert_eq!(within(stream.read_to_end(&mut Vec::new())).await.unwrap(), 0);
        }
    }
}

#[tokio::test]
async fn what_can_be_answered_at_once_is_answered_to_a_caller_that_has_ended_its_side() {
    let world = World::new().await;
    for _ in 0..20 {
        let mut stream = TcpStream::connect(world.proxy.address).await.unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = String::new();
        within(stream.read_to_string(&mut answer)).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
}

#[tokio::test]
async fn content_that_is_malformed_is_the_callers_fault() {
    for http2 in [false, true] {
        let world = World::over(http2, &[], |_| ()).await;
        let head = "POST /v1/files HTTP/1.1\r\nhost: localhost\r\ncontent-type: multipart/form-data; boundary=b\r\ntransfer-encoding: chunked\r\n\r\n";
        let answer = raw(&world, format!("{head}5\r\n--b\r\n\r\nnonsense\r\n").as_bytes()).await;
        assert!(
            answer.starts_with("HTTP/1.1 400 ") && answer.contains(r#""code":"invalid_request""#),
            "{http2}: {answer}"
        );
    }
}

#[tokio::test]
async fn a_connection_that_never_gets_to_a_request_is_closed() {
    let world = World::with(&["limits.header_timeout=100ms"], |_| ()).await;
    let beginnings: [&[u8]; 5] = [
        b"",
        b"G",
        b"GET /v1/models HTTP/1.1\r\nhost: local",
        b"PRI * HT",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
    ];
    for beginning in beginnings {
        let mut stream = TcpStream::connect(world.proxy.address).await.unwrap();
        stream.write_all(beginning).await.unwrap();
        let mut answer = Vec::new();
        // Closed or reset, but not left open.
        let _ = within(stream.read_to_end(&mut answer)).await;
    }
    assert_eq!(world.get("/healthz").await.status(), 200);
}

#[tokio::test]
async fn an_upload_that_stands_still_has_a_deadline_on_either_side() {
    let head = "POST /v1/x HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100000000\r\n\r\nbeginning";
    for http2 in [false, true] {
        let world = World::over(http2, &["upstream.idle_timeout=200ms"], |_| ()).await;
        world.fault(Route::OpenAi, Action::Hang, Some(1));
        let answer = raw(&world, head.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains(r#""code":"request_timeout""#), "{answer}");
    }

    // A resource that accepts the connection and reads nothing, and a caller that has much to say.
    let (azure, clock) = azure(true).await;
    let deaf = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut settings = demo_settings(&azure);
    settings.push(format!("upstream.endpoint=http://{}", deaf.local_addr().unwrap()));
    settings.push("upstream.idle_timeout=200ms".to_owned());
    let proxy = proxy(&settings, &clock).await;
    let request = client().post(format!("http://{}/v1/x", proxy.address)).body(vec![b'x'; 64 << 20]);
    let response = within(request.send()).await.unwrap();
    assert_eq!(response.status(), 504);
    assert_eq!(code(response).await, "upstream_timeout");
}

#[tokio::test]
async fn an_upload_that_was_answered_early_and_stands_still_is_given_up() {
    let (azure, clock) = azure(true).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut settings = demo_settings(&azure);
    settings.push(format!("upstream.endpoint=http://{}", listener.local_addr().unwrap()));
    settings.push("upstream.idle_timeout=100ms".to_owned());
    let proxy = proxy(&settings, &clock).await;
    let mut caller = TcpStream::connect(proxy.address).await.unwrap();
    caller.write_all(b"POST /v1/x HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000\r\n\r\nbeginning").await.unwrap();
    let (mut resource, _) = within(listener.accept()).await.unwrap();
    resource.write_all(b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 2\r\n\r\n{}").await.unwrap();
    let mut seen = Vec::new();
    // The proxy lets go of the resource, and then of the caller.
    let _ = within(resource.read_to_end(&mut seen)).await;
    let mut answer = Vec::new();
    let _ = within(caller.read_to_end(&mut answer)).await;
    assert!(answer.starts_with(b"HTTP/1.1 413 "));
}

/// What a front end does that has seen enough: it says why, and closes, however much is still to come.
#[tokio::test]
async fn an_early_answer_is_not_lost_if_the_resource_closes() {
    let (azure, clock) = azure(true).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut settings = demo_settings(&azure);
    settings.push(format!("upstream.endpoint=http://{}", listener.local_addr().unwrap()));
    let proxy = proxy(&settings, &clock).await;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut vec![0; 64 << 10]).await;
            let _ =
                stream.write_all(b"HTTP/1.1 429 Too Many\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}").await;
        }
    });
    for _ in 0..40 {
        let mut caller = TcpStream::connect(proxy.address).await.unwrap();
        let (mut hears, mut says) = caller.split();
        let sending = async {
            let head = b"POST /v1/x HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100000000\r\n\r\n";
            says.write_all(head).await.unwrap();
            let _ = says.write_all(&vec![b'x'; 8 << 20]).await;
            std::future::pending::<()>().await;
        };
        let hearing = async {
            let mut answer = Vec::new();
            while !answer.ends_with(b"}") {
                answer.push(hears.read_u8().await.unwrap());
            }
            String::from_utf8(answer).unwrap()
        };
        let answer = within(async {
            tokio::select! {
                () = sending => unreachable!(),
                answer = hearing => answer,
            }
        });
        let answer = answer.await;
        assert!(answer.starts_with("HTTP/1.1 429 Too Many\r\n"), "{answer}");
        assert!(answer.contains("\r\nconnection: close\r\n"), "content is still to come: {answer}");
    }
}

#[tokio::test]
async fn a_trace_would_show_the_token_and_is_refused() {
    let world = World::new().await;
    let answer = raw(&world, b"TRACE /v1/models HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 405 ") && answer.contains(r#""code":"method_not_allowed""#), "{answer}");
    assert_eq!(world.azure.control().count(Route::OpenAi), 0);
}

#[tokio::test]
async fn no_answer_of_the_proxys_holds_a_token() {
    let world = World::with(&["upstream.response_timeout=50ms"], |_| ()).await;
    world.fault(Route::Chat, Action::Hang, Some(1));
    let mut answers = Vec::new();
    for response in [world.chat().await, world.get("/readyz").await, world.get("/nowhere").await] {
        answers.push(format!("{:?} {}", response.headers().clone(), response.text().await.unwrap()));
    }
    let token = world.last(Route::Chat).headers["authorization"].to_str().unwrap().to_owned();
    let token = token.strip_prefix("Bearer ").unwrap();
    for part in token.split('.') {
        assert!(answers.iter().all(|answer| !answer.contains(part)));
    }
}

/// Bytes in, everything out.
async fn raw(world: &World, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(world.proxy.address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}
