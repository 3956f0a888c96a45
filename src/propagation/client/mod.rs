//! Deadlines of the calls that are made: what [`http::ClientLayer`](super::http::ClientLayer) and
//! `grpc::ClientLayer` are made of.

mod body;
mod future;
mod layer;
mod service;

pub use body::ResponseBody;
pub use future::ClientFuture;
pub use layer::ClientLayer;
pub use service::Client;
