//! What a service tells: a line of JSON on its standard output for each thing that happens.

use super::moment;
use super::story::Hop;
use serde::{Deserialize, Serialize};
use std::io::{self, Write};

/// One line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Event {
    pub(super) at_ns: u64,
    #[serde(flatten)]
    pub(super) what: What,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub(super) enum What {
    /// It can be called.
    Listening { port: u16 },
    /// A call is there.
    Arrived {
        call: u32,
        /// How long its caller waits, if that was told.
        remaining_us: Option<u64>,
    },
    /// An item is done.
    Item { call: u32 },
    /// There will be no more.
    WorkEnded { call: u32, how: End },
    /// The next hop has answered that it failed, or was given up.
    Heard { call: u32, from: Hop, code: String, text: String },
    /// The handler is over.
    Ended { call: u32, how: End },
}

/// How something ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum End {
    /// By itself.
    Done,
    /// It was dropped at an `await`, or was told to stop.
    Stopped,
}

impl What {
    /// Tells it. If nobody listens any more, the process is about to end.
    pub(super) fn tell(self) {
        let event = Event { at_ns: moment::now_ns(), what: self };
        let mut line = serde_json::to_string(&event).expect("it is numbers and text");
        line.push('\n');
        // Whole, since threads tell at the same time.
        let _ = io::stdout().lock().write_all(line.as_bytes());
    }

    /// Which call it is about.
    pub(super) fn call(&self) -> Option<u32> {
        match *self {
            Self::Listening { .. } => None,
            Self::Arrived { call, .. }
            | Self::Item { call }
            | Self::WorkEnded { call, .. }
            | Self::Heard { call, .. }
            | Self::Ended { call, .. } => Some(call),
        }
    }
}
