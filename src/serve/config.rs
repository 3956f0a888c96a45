//! What is set for the connections of a server.

use std::time::Duration;

/// Settings of connections, with defaults for a service that the internet reaches.
#[derive(Clone, Debug)]
pub(super) struct Config {
    pub(super) http1: bool,
    pub(super) handshake_timeout: Duration,
    pub(super) detection_timeout: Duration,
    pub(super) header_read_timeout: Duration,
    pub(super) max_header_list_size: u32,
    pub(super) max_concurrent_streams: u32,
    pub(super) stream_window: u32,
    pub(super) connection_window: u32,
    pub(super) max_pending_resets: usize,
    pub(super) max_error_resets: usize,
    pub(super) data_frame_budget: usize,
    pub(super) keep_alive: Option<(Duration, Duration)>,
}

/// How much a connection may ask for that makes work, or that takes memory beyond its windows.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Excess {
    pub(super) pending: Option<usize>,
    pub(super) errors: Option<usize>,
    pub(super) small_frames: Option<usize>,
}

impl Excess {
    /// On a listener whose clients aren't trusted, and on one whose clients are.
    pub(super) fn pending(self, trusted: bool) -> usize {
        self.pending.unwrap_or(if trusted { 16_384 } else { 400 })
    }

    /// The same, of streams that are reset for what a client sends.
    pub(super) fn errors(self, trusted: bool) -> usize {
        self.errors.unwrap_or(if trusted { 65_536 } else { 4_096 })
    }

    /// The same, of small frames of data, in bytes.
    pub(super) fn small_frames(self, trusted: bool) -> usize {
        self.small_frames.unwrap_or(if trusted { 64 << 20 } else { 4 << 20 })
    }
}

impl Config {
    pub(super) fn new(http1: bool) -> Self {
        let excess = Excess::default();
        Self {
            http1,
            handshake_timeout: Duration::from_secs(10),
            detection_timeout: Duration::from_secs(10),
            header_read_timeout: Duration::from_secs(30),
            max_header_list_size: 16 << 10,
            max_concurrent_streams: 200,
            stream_window: 1 << 20,
            connection_window: 1 << 20,
            max_pending_resets: excess.pending(false),
            max_error_resets: excess.errors(false),
            data_frame_budget: excess.small_frames(false),
            keep_alive: None,
        }
    }

    pub(super) fn header_read_timeout_or_none(&self) -> Option<Duration> {
        (self.header_read_timeout != Duration::MAX).then_some(self.header_read_timeout)
    }
}
