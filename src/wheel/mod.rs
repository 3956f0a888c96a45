//! When the next thing is due.
