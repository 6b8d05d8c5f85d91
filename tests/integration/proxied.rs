//! The way to a resource that is not on this machine: through a forward proxy, verified by the authorities of the environment.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Mutex;

use crate::authority::Authority;
use crate::program::{Running, emulator, serve};
use crate::support::within;

const NAME: &str = "name.openai.azure.com";

/// A forward proxy that answers each tunnel with what asks for it, and then plays the resource at its end.
struct ForwardProxy {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl ForwardProxy {
    async fn new(authority: &Authority) -> Self {
        let acceptor = authority.acceptor(NAME, &["http/1.1"]);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = asked.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                log.lock().await.push(String::from_utf8(head).unwrap());
                stream.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").await.unwrap();
                let mut stream = acceptor.accept(stream).await.unwrap();
                let _ = stream.read(&mut [0; 4096]).await;
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
                let _ = stream.read(&mut [0; 1]).await;
            }
        });
        Self { address, asked }
    }
}

#[tokio::test]
async fn a_tunnel_with_a_password_leads_to_the_resource() {
    let azure = emulator().await;
    let authority = Authority::new();
    let forward = ForwardProxy::new(&authority).await;
    let mut command = serve(&azure);
    command.env("HTTPS_PROXY", format!("http://me:p%40ss@{}", forward.address));
    command.args(["--set", &format!("upstream.endpoint=https://{NAME}"), "--set", &authority.trusted()]);
    let running = Running::start(&mut command).await;
    let answer = running.get("/v1/models").await;
    assert_eq!((answer.status().as_u16(), within(answer.text()).await.unwrap().as_str()), (200, "ok"));
    let asked = forward.asked.lock().await;
    let [tunnel] = &asked[..] else { panic!("{asked:?}") };
    assert!(tunnel.starts_with(&format!("CONNECT {NAME}:443 HTTP/1.1\r\n")), "{tunnel}");
    let fields = tunnel.to_ascii_lowercase();
    assert!(fields.contains("\r\nproxy-authorization: basic bwu6cebzcw==\r\n"), "{tunnel}");
    assert!(!fields.contains("\r\nauthorization:"), "the token is for the resource alone: {tunnel}");
}

#[tokio::test]
async fn the_environments_authorities_are_trusted() {
    let azure = emulator().await;
    let (trusted, other) = (Authority::new(), Authority::new());
    for (authority, status) in [(&trusted, 200), (&other, 502)] {
        let forward = ForwardProxy::new(authority).await;
        let mut command = serve(&azure);
        command.env("HTTPS_PROXY", format!("http://{}", forward.address)).env("SSL_CERT_FILE", trusted.file.path());
        command.args(["--set", &format!("upstream.endpoint=https://{NAME}")]);
        let running = Running::start(&mut command).await;
        assert_eq!(running.get("/v1/models").await.status(), status);
    }
}

/// A name with two addresses, of which nothing listens on the first: both are tried.
#[tokio::test]
async fn every_address_of_a_name_is_tried() {
    let azure = emulator().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 4096]).await;
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";
            stream.write_all(answer).await.unwrap();
        }
    });
    // `localhost` is ::1 and 127.0.0.1 on most machines; where it is only one of them, this shows less.
    let mut command = serve(&azure);
    command.args(["--set", &format!("upstream.endpoint=http://localhost:{port}")]);
    let running = Running::start(&mut command).await;
    assert_eq!(running.get("/v1/models").await.status(), 200);
}
