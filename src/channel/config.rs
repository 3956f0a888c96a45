//! What is set.

use std::time::Duration;

use super::resets::Rate;

/// Of a channel's connections.
#[derive(Clone, Debug)]
pub(super) struct Config {
    pub(super) connect_timeout: Duration,
    pub(super) max_in_flight: usize,
    pub(super) max_header_list_size: u32,
    pub(super) reset_rate: Rate,
    #[cfg(feature = "tls")]
    pub(super) tls: Option<std::sync::Arc<super::rustls::ClientConfig>>,
}

impl Config {
    #[cfg_attr(not(feature = "tls"), expect(clippy::unused_self, reason = "there is none"))]
    pub(super) fn has_tls(&self) -> bool {
        #[cfg(feature = "tls")]
        return self.tls.is_some();
        #[cfg(not(feature = "tls"))]
        false
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(20),
            max_in_flight: 1000,
            max_header_list_size: 16 << 10,
            reset_rate: Rate::default(),
            #[cfg(feature = "tls")]
            tls: None,
        }
    }
}
