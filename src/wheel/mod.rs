//! When the next thing is due.

pub(crate) mod raw;
mod slab;

pub use raw::coalesce;
pub use slab::Key;
