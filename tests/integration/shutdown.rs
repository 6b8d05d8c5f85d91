//! The end: running requests have theirs, new connections are refused.

use aoai_auth_proxy::emulator::{Action, Route};
use aoai_auth_proxy::server::Drained;
use tokio::net::TcpStream;

use crate::support::{World, within};

#[tokio::test]
async fn a_stream_that_runs_is_finished() {
    let mut world = World::new().await;
    world.fault(Route::Chat, Action::Hold { after_events: 2 }, Some(1));
    let mut response = world.chat_stream().await;
    within(response.chunk()).await.unwrap().expect("the first event");

    world.proxy.lifecycle.end();
    let address = world.proxy.address;
    within(async {
        // The listener is closed as soon as the server has heard of the end.
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    within(world.azure.control().until(|state| state.streams_held == 1)).await;
    world.azure.control().release();
    let mut text = String::new();
    while let Some(chunk) = within(response.chunk()).await.expect("no break") {
        text.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    // The caller's kept connections must not hold the end up.
    drop(world.client);
    assert_eq!(within(&mut world.proxy.serving).await.unwrap(), Drained::Completely);
}

#[tokio::test]
async fn after_the_grace_period_what_runs_is_cut_off() {
    let mut world = World::with(&["limits.shutdown_grace=50ms"], |_| ()).await;
    world.fault(Route::Chat, Action::Hold { after_events: 2 }, Some(1));
    let mut response = world.chat_stream().await;
    within(response.chunk()).await.unwrap().expect("the first event");
    world.proxy.lifecycle.end();
    assert_eq!(within(&mut world.proxy.serving).await.unwrap(), Drained::CutOff);
}
