//! What a client of gRPC's takes, and is told.

use deadbeat::propagation::grpc::ClientLayer;
use deadbeat::time::Duration;
use tonic::transport::Server;
use tonic::{Code, Request};

use super::rpc::*;
use super::{SECOND, ours};

#[tokio::test]
async fn generated_clients_take_it_without_a_wrapper() {
    let (test, _told) = Test::new();
    let address = served!(Server::builder(), test);
    let channel = ours(address, ClientLayer::new().timeout(60 * SECOND));
    let channel = is_what_generated_clients_take(channel);
    assert_eq!(nap(channel.clone(), 1).await.unwrap(), 1);
    // And with an interceptor, as their `with_interceptor` does.
    let intercepted =
        tonic::service::interceptor::InterceptedService::new(channel, |mut request: Request<()>| {
            request.set_timeout(Duration::ZERO);
            Ok(request)
        });
    let status = nap(is_what_generated_clients_take(intercepted), 1).await.unwrap_err();
    expired(&status);
}

#[tokio::test]
async fn forged_details_make_nobody_panic() {
    for in_trailers in [false, true] {
        let (address, _) = serve_frames(move |_request, mut respond| async move {
            let mut status = http::HeaderMap::new();
            status.insert("grpc-status", "9".parse().unwrap());
            status.insert("grpc-message", "not%20now".parse().unwrap());
            status.insert("grpc-status-details-bin", "!no base64?".parse().unwrap());
            let mut head = head_of_answer();
            if in_trailers {
                let mut body = respond.send_response(head, false).unwrap();
                body.send_data(message(7), false).unwrap();
                body.send_trailers(status).unwrap();
            } else {
                head.headers_mut().extend(status);
                respond.send_response(head, true).unwrap();
            }
        })
        .await;
        let layer = ClientLayer::new().timeout(60 * SECOND);
        let channel = ours(address, layer.clone());
        let status = match stream(channel, "/test.Test/Drip", 0).await {
            Ok(mut numbers) => failure(&mut numbers).await,
            Err(status) => status,
        };
        assert_eq!((status.code(), status.message()), (Code::FailedPrecondition, "not now"));
        assert!(status.details().is_empty());
        assert_eq!(layer.stats().bad_details(), 1, "in trailers: {in_trailers}");
    }
}
