//! Beside tonic's own timeouts, which may be set as well: what comes first ends the call, with its own
//! status.

use std::error::Error as _;

use deadbeat::deadline::Expired;
use deadbeat::propagation::grpc::{ClientLayer, ServerLayer};
use deadbeat::time::Duration;
use tonic::transport::Server;
use tonic::{Code, Request, Status};
use tower::Layer;

use super::rpc::*;
use super::within;

const MS: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(60);

fn is_ours(status: &Status) -> bool {
    status.code() == Code::DeadlineExceeded && status.message().starts_with("deadline exceeded")
}

fn is_tonics(status: &Status) -> bool {
    status.code() == Code::Cancelled && status.message() == "Timeout expired"
}

#[tokio::test]
async fn of_server_timeout_and_the_server_layer_the_first_ends_the_call() {
    for (tonics, ours) in [(100 * MS, LONG), (LONG, 100 * MS)] {
        let (test, _told) = Test::new();
        let layer = ServerLayer::new().maximum(ours);
        let address = served!(Server::builder().timeout(tonics).layer(layer), test);
        let status = nap(channel(address).await, 60_000).await.unwrap_err();
        let is_expected = if tonics < ours { is_tonics(&status) } else { is_ours(&status) };
        assert!(is_expected, "{status:?}");
    }
}

#[tokio::test]
async fn of_server_timeout_and_the_server_layer_at_once_it_is_ours() {
    let (test, _told) = Test::new();
    let layer = ServerLayer::new().maximum(100 * MS);
    let address = served!(Server::builder().timeout(100 * MS).layer(layer), test);
    let status = nap(channel(address).await, 60_000).await.unwrap_err();
    assert!(is_ours(&status), "{status:?}");
}

#[tokio::test]
async fn of_endpoint_timeout_and_the_client_layer_the_first_ends_the_call() {
    for (tonics, ours) in [(100 * MS, LONG), (LONG, 100 * MS)] {
        let (test, _told) = Test::new();
        let address = served!(Server::builder(), test);
        let channel = within(endpoint(address).timeout(tonics).connect()).await.unwrap();
        let client = ClientLayer::new().timeout(ours).layer(channel);
        let status = nap(client, 60_000).await.unwrap_err();
        let is_expected = if tonics < ours { is_tonics(&status) } else { is_ours(&status) };
        assert!(is_expected, "{status:?}");
    }
}

#[tokio::test]
async fn of_endpoint_timeout_and_the_client_layer_at_once_it_is_ours() {
    let (test, _told) = Test::new();
    let address = served!(Server::builder(), test);
    let channel = within(endpoint(address).timeout(100 * MS).connect()).await.unwrap();
    let client = ClientLayer::new().timeout(100 * MS).layer(channel);
    let status = nap(client, 60_000).await.unwrap_err();
    assert!(status.source().is_some_and(|it| it.is::<Expired>()), "{status:?}");
}

#[tokio::test]
async fn endpoint_timeout_is_not_sent_and_that_of_the_client_layer_is() {
    let (test, mut told) = Test::new();
    let address = served!(Server::builder().layer(ServerLayer::new()), test);
    let channel = within(endpoint(address).timeout(LONG).connect()).await.unwrap();
    nap(channel.clone(), 0).await.unwrap();
    assert_eq!(called(&mut told).await, None);
    assert!(matches!(next(&mut told).await, Event::Dropped));
    nap(ClientLayer::new().timeout(LONG).layer(channel), 0).await.unwrap();
    assert!(called(&mut told).await.unwrap().budget() <= LONG);
}

#[tokio::test]
async fn a_server_without_a_layer_keeps_its_timeout_and_our_client_leaves_its_status() {
    let (test, _told) = Test::new();
    let address = served!(Server::builder().timeout(100 * MS), test);
    let channel = channel(address).await;
    let client = ClientLayer::new().timeout(LONG).layer(channel.clone());
    let status = nap(client, 60_000).await.unwrap_err();
    assert!(is_tonics(&status), "{status:?}");
    // It reads the header as well, and then our deadline has passed, too.
    let client = ClientLayer::new().timeout(50 * MS).layer(channel);
    let status = nap(client, 60_000).await.unwrap_err();
    assert!(is_ours(&status), "{status:?}");
}

#[tokio::test]
async fn tonics_own_client_is_ended_by_what_it_wrote_and_by_what_we_keep() {
    let (test, _told) = Test::new();
    let layer = ServerLayer::new().maximum(100 * MS);
    let address = served!(Server::builder().layer(layer), test);
    let channel = channel(address).await;
    let ask = async |timeout| {
        let mut request = Request::new(60_000);
        request.set_timeout(timeout);
        let mut client = tonic::client::Grpc::new(channel.clone());
        client.ready().await.unwrap();
        let call = client.unary(request, path("/test.Test/Nap"), Numbers);
        within(call).await.unwrap_err()
    };
    let status = ask(LONG).await;
    assert!(is_ours(&status), "{status:?}");
    let status = ask(20 * MS).await;
    assert!(is_ours(&status) || is_tonics(&status), "{status:?}");
}

#[tokio::test]
async fn tonics_timeouts_end_with_the_head_and_ours_with_the_call() {
    let (test, _told) = Test::new();
    let address = served!(Server::builder().timeout(500 * MS), test);
    let channel = within(endpoint(address).timeout(500 * MS).connect()).await.unwrap();
    let client = ClientLayer::new().timeout(1500 * MS).layer(channel);
    let mut numbers = stream(client, "/test.Test/Drip", 100).await.unwrap();
    // Long after either of tonic's.
    let status = failure(&mut numbers).await;
    assert!(is_ours(&status), "{status:?}");
}
