//! Deadlines of the calls that are served: what [`http::ServerLayer`](super::http::ServerLayer) and
//! `grpc::ServerLayer` are made of.

mod body;
mod future;
mod layer;
mod service;
mod tell;

pub use body::ResponseBody;
pub use future::ServerFuture;
pub use layer::ServerLayer;
pub use service::Server;
