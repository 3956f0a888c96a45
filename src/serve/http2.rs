//! A connection of HTTP/2.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use h2::Reason;
use h2::server::{Builder, SendResponse};
use http::{Method, Request};
use tower_service::Service;

use super::body::Incoming;
use super::config::Config;
use super::connection::Call;
use super::keep_alive::KeepAlive;
use super::registry::{Connection, Order};
use super::served::Served;
use super::stats::Event;
use super::stream::Stream;
use super::wire::Io;
use crate::propagation::Protocol;

/// How much of an answer is kept, that the client has room for, while the socket doesn't take it.
const SEND_BUFFER: usize = 128 << 10;

/// Serves it to its end. Each call is a task of its own.
pub(super) async fn serve<S, P>(
    io: Io,
    mut call: Call<S, P>,
    config: &Config,
    connection: &Arc<Connection>,
) -> Result<(), h2::Error>
where
    S: Served<P>,
    P: Protocol,
{
    let mut h2 = Builder::new()
        .initial_window_size(config.stream_window)
        .initial_connection_window_size(config.connection_window)
        .max_concurrent_streams(config.max_concurrent_streams)
        .max_header_list_size(config.max_header_list_size)
        .max_pending_accept_reset_streams(config.max_pending_resets)
        .max_local_error_reset_streams(Some(config.max_error_resets))
        // Of as many it is known for a while that what still comes for them is no error.
        .max_concurrent_reset_streams(config.max_pending_resets)
        .data_frame_budget(config.data_frame_budget)
        .max_send_buffer_size(SEND_BUFFER)
        .handshake::<_, Bytes>(io)
        .await?;
    let mut keep_alive = config
        .keep_alive
        .and_then(|(interval, timeout)| Some(KeepAlive::new(interval, timeout, h2.ping_pong()?)));
    let mut is_draining = false;
    poll_fn(|cx| {
        loop {
            if !is_draining && connection.order() != Order::GoOn {
                is_draining = true;
                h2.graceful_shutdown();
            }
            match h2.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, mut reply)))) => {
                    // What was given up in the meantime isn't begun.
                    if reply.poll_reset(cx).is_pending() {
                        begin(&mut call, request, reply, connection);
                    }
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Pending => break,
            }
        }
        let Some(keep_alive) = &mut keep_alive else { return Poll::Pending };
        if keep_alive.poll_silent(connection.has_read(), cx).is_pending() {
            return Poll::Pending;
        }
        connection.count(Event::Silent);
        // It is told, should it come to read again.
        h2.abrupt_shutdown(Reason::NO_ERROR);
        let _ = h2.poll_accept(cx);
        Poll::Ready(Ok(()))
    })
    .await
}

/// Its clock starts now.
fn begin<S, P>(
    call: &mut Call<S, P>,
    request: Request<h2::RecvStream>,
    reply: SendResponse<Bytes>,
    connection: &Arc<Connection>,
) where
    S: Served<P>,
    P: Protocol,
{
    let (head, body) = request.into_parts();
    let is_head = head.method == Method::HEAD;
    let body = Incoming::http2(body, &head.headers);
    let mut request = Request::from_parts(head, body);
    if let Some(peer) = &call.peer {
        request.extensions_mut().insert(peer.clone());
    }
    let answering = call.service.call(request);
    tokio::spawn(Stream::new(answering, is_head, reply, connection.clone()));
}
