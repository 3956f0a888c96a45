//! Blame that travels back: what the services that a call has passed tell of where its time went, as bytes.
//!
//! No clock, no I/O. [`encode()`] makes a header's value of [`Hop`]s, [`decode()`] makes hops of any bytes.
//!
//! ```
//! use deadbeat::deadline::{self, Hop};
//! use deadbeat::propagation::blame;
//! use deadbeat::time::{Duration, sleep};
//!
//! # deadbeat::Manual::new().block_on(async {
//! let work = sleep(Duration::from_secs(9));
//! let expired = deadline::scope(Duration::from_millis(475), work).named("reserve").await.unwrap_err();
//!
//! let text = blame::encode(&[Hop::of(&expired).with_service("stock")]);
//! let hops = blame::decode(text.as_bytes()).unwrap();
//! assert_eq!(hops[0].service(), Some("stock"));
//! assert_eq!(hops[0].set_by(), Some("scope `reserve`"));
//! assert_eq!(hops[0].to_string(), "stock: expired after 475ms of 475ms");
//! # });
//! ```
//!
//! # Where it is
//!
//! | | name | where |
//! | --- | --- | --- |
//! | HTTP | [`HTTP_HEADER`] | in the head of an answer |
//! | gRPC | [`GRPC_METADATA`] | in the head of an answer of trailers only, or in the trailers |
//!
//! Beside it is `x-deadline-exceeded`, in both: whose time it was that has passed. That says little, and is
//! told to every caller; blame names what is further inside, and is told to
//! [those that are trusted](crate::propagation::Settings::blame).
//!
//! # The form
//!
//! Base64 (the standard alphabet; written without padding, which may be there), at most [`MAX_LEN`] bytes of
//! it. In that, a byte for the version, 1, and at most [`MAX_HOPS`] hops, nearest first: two bytes for the
//! length of each, big-endian, and then fields. A field is a byte for its number, a byte for its length, and
//! so many bytes:
//!
//! | number | field | form |
//! | --- | --- | --- |
//! | 1 | the service | text: at most [`MAX_TEXT`] bytes of printable ASCII |
//! | 2 | the path or method | text |
//! | 3 | what set the deadline | text |
//! | 4 | how much time there was | ns, big-endian, at most 8 bytes |
//! | 5 | how much had passed | ns |
//! | 6 | bits: 1, it has used up all that it was told; 2, hops are missing before this one | a byte |
//! | 7 | the phase in which it ended, numbered as below | a byte |
//! | 8 to 12 | time in queue, connect, send, wait, body | ns |
//! | 13 | who it waited for | text |
//! | 14 | the phase of that call, from 0: queue, connect, send, wait, body | a byte |
//! | 15 | how long that phase took | ns |
//!
//! Any field may be missing. Fields of other numbers, bits and phases are ignored, and so are all but the
//! last of those that come twice.
//!
//! # Promises
//!
//! - **Never a surprise.** Any bytes can be decoded: nothing panics, and what is kept is at most 8 hops of
//!   four short texts. What isn't of this form is an error as a whole, which layers count
//!   ([`Stats::bad_blame`](crate::propagation::Stats::bad_blame)) and drop.
//! - **Never a decision.** It changes no status and no deadline: it is there to be read, by people.
//! - **Never too long.** Of what doesn't fit, the hops in the middle are left out: the nearest says whom to
//!   ask, and the farthest where it began. Text is cut, and what isn't printable ASCII is written as `?`.

mod base64;
mod decode;
mod encode;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod harness;

#[cfg(feature = "http")]
use crate::deadline::Origin;

pub use crate::deadline::{Blame, Hop, Waited};
pub use decode::{BadBlame, decode};
pub use encode::encode;

/// The header of an answer over HTTP.
pub const HTTP_HEADER: &str = "x-deadline-blame";

/// The metadata of an answer of gRPC: binary, as its name says.
pub const GRPC_METADATA: &str = "deadline-blame-bin";

/// The most hops that there are in one value.
pub const MAX_HOPS: usize = 8;

/// The longest value, in bytes on the wire.
pub const MAX_LEN: usize = 1024;

/// The longest text in it, in bytes.
pub const MAX_TEXT: usize = 64;

const VERSION: u8 = 1;

/// So many bytes have no more than [`MAX_LEN`] in base64.
const MAX_BYTES: usize = MAX_LEN / 4 * 3;

/// The numbers of fields.
mod field {
    pub(super) const SERVICE: u8 = 1;
    pub(super) const PATH: u8 = 2;
    pub(super) const SET_BY: u8 = 3;
    pub(super) const BUDGET: u8 = 4;
    pub(super) const ELAPSED: u8 = 5;
    pub(super) const BITS: u8 = 6;
    pub(super) const PHASE: u8 = 7;
    /// And the other phases after it.
    pub(super) const QUEUE: u8 = 8;
    pub(super) const BODY: u8 = 12;
    pub(super) const PEER: u8 = 13;
    pub(super) const PEER_PHASE: u8 = 14;
    pub(super) const PEER_TOOK: u8 = 15;
}

const WHOLE: u8 = 1;
const AFTER_GAP: u8 = 2;

/// Whose time it was that has passed, for `x-deadline-exceeded`.
#[cfg(feature = "http")]
pub(crate) const fn whose(origin: Origin) -> &'static str {
    match origin {
        Origin::Header(_) => TOLD,
        Origin::Maximum => "maximum",
        Origin::Default => "default",
        _ => OTHER,
    }
}

/// That which the caller had told.
#[cfg(feature = "http")]
pub(crate) const TOLD: &str = "header";

#[cfg(feature = "http")]
pub(crate) const OTHER: &str = "other";
