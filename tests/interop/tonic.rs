//! tonic as it is, on the other side.

use ::tonic::{Code, Request};
use deadbeat::propagation::grpc::{ClientLayer, RequestDeadline, ServerLayer};
use deadbeat::time::Duration;
use tower::Layer;

use crate::matrix::{Facts, Table};
use crate::service::{self, Method, connect, outcome, serve_tonic};
use crate::{MS, within};

#[tokio::test]
async fn a_client_of_tonics_is_served_by_our_layer() {
    let mut facts = Facts::of("tonic_client");
    let mut ours = serve_tonic(Some(ServerLayer::new()));
    let channel = connect(&ours.at).await;
    within(service::call(channel.clone(), Method::Echo, Request::new(()))).await.1.unwrap();
    assert_eq!(ours.begun().await, None);
    let mut request = Request::new(());
    request.set_timeout(Duration::from_secs(60));
    within(service::call(channel.clone(), Method::Echo, request)).await.1.unwrap();
    assert_eq!(ours.begun().await, Some(Duration::from_secs(60)));
    assert_eq!(ours.over().await, "answered");
    for method in Method::ENDLESS {
        let mut request = Request::new(());
        request.set_timeout(MS * 500);
        let (_, result) = within(service::call(channel.clone(), method, request)).await;
        // Its own timer, which it calls CANCELLED, runs until there is a head.
        let code = result.as_ref().unwrap_err().code();
        if method == Method::Stream {
            assert_eq!(code, Code::DeadlineExceeded, "{result:?}");
            facts.add(Table::Tonic, "its client, our server", method.when(), outcome(&result));
        } else {
            assert!(matches!(code, Code::Cancelled | Code::DeadlineExceeded), "{result:?}");
            let text = "CANCELLED by its own timer, or DEADLINE_EXCEEDED by ours";
            facts.add(Table::Tonic, "its client, our server", method.when(), text);
        }
        let over = ours.over().await;
        assert!(over == "dropped" || over.starts_with("cut off"), "{over}");
    }
    facts.settle();
}

#[tokio::test]
async fn a_server_of_tonics_is_called_by_our_layer() {
    let mut facts = Facts::of("tonic_server");
    let mut theirs = serve_tonic(None);
    let channel = ClientLayer::new().layer(connect(&theirs.at).await);
    within(service::call(channel.clone(), Method::Echo, Request::new(()))).await.1.unwrap();
    assert_eq!(theirs.over().await, "answered");
    for method in Method::ENDLESS {
        let mut request = Request::new(());
        request.set_deadline(MS * 500);
        let (_, result) = within(service::call(channel.clone(), method, request)).await;
        assert_eq!(outcome(&result), service::name(Code::DeadlineExceeded), "{result:?}");
        let over = theirs.over().await;
        // It takes a request that is cancelled for one that is complete.
        let is_ended = method == Method::Upload && over == "complete";
        assert!(is_ended || over == "dropped", "{over}");
        let text = format!("{}; its handler: {over}", outcome(&result));
        if method == Method::Upload {
            facts.vary(Table::Tonic, "our client, its server", method.when(), text);
        } else {
            facts.add(Table::Tonic, "our client, its server", method.when(), text);
        }
    }
    facts.settle();
}
