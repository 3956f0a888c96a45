//! Deadlines that travel with a call.
//!
//! - [`codec`]: the headers that carry the remaining time, as bytes.

pub mod codec;
