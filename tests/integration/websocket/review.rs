//! Findings of a review: each of these fails until what it names is mended.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Before;
use crate::support::{client, within};

/// A conversation whose messages are compressed, as both sides have agreed: what it cost is not known, and that is told.
#[tokio::test]
async fn review_a_compressed_conversation_is_of_unknown_cost() {
    let before = Before::a_socket(&[]).await;
    let ((mut caller, _), (mut resource, _)) = before.open_plainly().await;
    // A text, complete and compressed; then the end.
    resource.write_all(&[0xc1, 3, 1, 2, 3, 0x88, 0]).await.unwrap();
    let mut heard = [0; 7];
    within(caller.read_exact(&mut heard)).await.unwrap();
    drop((caller, resource));
    let metrics = || async {
        let url = format!("http://{}/metrics", before.proxy.address);
        within(within(client().get(url).send()).await.unwrap().text()).await.unwrap()
    };
    let text = within(async {
        loop {
            let text = metrics().await;
            if text.contains(r#"route="/v1/realtime",status="101""#) {
                break text;
            }
        }
    })
    .await;
    assert!(text.contains("aoai_proxy_responses_of_unknown_usage_total{"), "{text}");
}
