//! Calls over any number of hops, with header blocks of any bytes and every setting, against the earliest
//! deadline so far: for property tests and for fuzzing.
//!
//! A fuzz target is one line: `fuzz_target!(|bytes: &[u8]| harness::hops(bytes));`.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue};

use super::codec::{Encoder, Header, OnMalformed, TIMEOUT_HEADERS};
use super::policy::{Honoured, Outgoing, Settings};
use crate::clock::{Elapsed, Instant};
use crate::deadline::Deadline;

/// Those that a client can write which set a deadline that all its peers read alike.
const WRITTEN: [Header; 9] = [
    Header::GrpcTimeout,
    Header::ConnectTimeoutMs,
    Header::EnvoyExpectedRqTimeoutMs,
    Header::EnvoyUpstreamRqTimeoutMs,
    Header::L5dTimeout,
    Header::L5dRequestTimeout,
    Header::L5dResponseTimeout,
    Header::ContextTtlMs,
    Header::XServerTimeout,
];

/// Runs hops, which are between zero bytes: nine bytes of settings and times, and then lines of headers. A
/// line is a byte for the name, and a value.
///
/// # Panics
///
/// If a callee gets more time than its caller has, by any limit.
pub fn hops(bytes: &[u8]) {
    let mut now = Instant::<Elapsed>::from_nanos(1 << 40);
    let mut limit = Deadline::NEVER;
    let mut headers = HeaderMap::new();
    for hop in bytes.split(|&byte| byte == 0) {
        let Some((settings, block)) = hop.split_at_checked(9) else { return };
        add(&mut headers, block);
        let Some(sent) = run(Hop::new(settings), &mut headers, &mut now, limit) else { return };
        limit = sent;
    }
}

/// What a proxy or a peer adds to a request.
fn add(headers: &mut HeaderMap, block: &[u8]) {
    for line in block.split(|&byte| byte == b'\n') {
        if let Some((&name, value)) = line.split_first()
            && let Ok(value) = HeaderValue::from_bytes(value)
        {
            let name = TIMEOUT_HEADERS[usize::from(name) % TIMEOUT_HEADERS.len()];
            headers.append(HeaderName::from_static(name), value);
        }
    }
}

struct Hop {
    settings: Settings,
    on_malformed: OnMalformed,
    prefer_ms: bool,
    digits: u32,
    written: Header,
    /// On the way there, and until the call is passed on.
    transit: Duration,
    takes: Duration,
    own: Duration,
    timeout: Duration,
    allowance: Duration,
}

/// Of all magnitudes, and no limit at all.
fn time(byte: u8) -> Duration {
    match byte {
        255 => Duration::MAX,
        _ => Duration::from_nanos((u64::from(byte & 3) + 4) << (byte / 4)),
    }
}

/// Rather short.
fn pause(byte: u8) -> Duration {
    if byte < 64 { Duration::ZERO } else { time(byte / 2) }
}

impl Hop {
    fn new(bytes: &[u8]) -> Self {
        let [flags, written, maximum, default, transit, takes, own, timeout, allowance] = bytes[..]
        else {
            unreachable!("nine bytes")
        };
        Self {
            settings: Settings::new()
                .trusted(flags & 1 != 0)
                .maximum(time(maximum))
                .default_timeout(time(default)),
            on_malformed: match flags >> 4 & 3 {
                0 => OnMalformed::Reject,
                1 => OnMalformed::Lenient,
                _ => OnMalformed::Ignore,
            },
            prefer_ms: flags & 2 != 0,
            digits: if flags & 4 != 0 { u32::MAX } else { u32::from(flags >> 6) },
            written: WRITTEN[usize::from(written) % WRITTEN.len()],
            transit: pause(transit),
            takes: pause(takes),
            own: time(own),
            timeout: time(timeout),
            allowance: pause(allowance),
        }
    }
}

/// A server that is called, and forwards all that it was sent. Returns what it has told the next one; `None`
/// if it has rejected the call, or has no time or no limit to tell.
fn run(
    hop: Hop,
    headers: &mut HeaderMap,
    now: &mut Instant<Elapsed>,
    limit: Deadline,
) -> Option<Deadline> {
    *now += hop.transit;
    // What is told is a length, which begins when it arrives.
    let limit = Deadline::at(limit.instant() + hop.transit);
    let mut honoured = Honoured::default();
    honoured.on_malformed = hop.on_malformed;
    honoured.wall = Some((|| SystemTime::UNIX_EPOCH, Duration::from_secs(9)));
    Header::KNOWN.into_iter().for_each(|header| honoured.add(header));
    let admitted = honoured.admit(headers, &hop.settings, *now).ok()?;
    let ambient = admitted.provenance;
    let got = ambient.map_or(Deadline::NEVER, |it| it.deadline());
    assert!(got <= limit, "{got:?} of {limit:?}, at {now:?}");
    assert!(got <= hop.settings.most(*now), "{got:?} at {now:?}");

    *now += hop.takes;
    let mut outgoing = Outgoing::new(hop.written);
    outgoing.timeout = hop.timeout;
    outgoing.allowance = Some(hop.allowance.into());
    outgoing.encoder = Encoder::new().prefer_ms(hop.prefer_ms).digits(hop.digits);
    let asked = outgoing.take(headers, *now);
    let own = (hop.own != Duration::MAX).then(|| Deadline::at(*now + hop.own));
    let effective = outgoing.effective(ambient, own, asked, *now)?.deadline();
    for limit in [Some(got), own, asked].into_iter().flatten() {
        assert!(effective <= limit, "{effective:?} of {limit:?}");
    }
    let callees = outgoing.for_callee(effective, *now);
    outgoing.stamp(headers, callees, *now).ok()?;
    let told = outgoing.told(callees, *now).expect("what was written is read");
    assert!(told <= limit.min(effective.earlier_by(hop.allowance)), "{told:?} of {effective:?}");
    assert!(told.instant() > *now, "told that there is nothing left");
    Some(told)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    fn any_hop() -> impl Strategy<Value = Vec<u8>> {
        let line = (any::<u8>(), "[0-9]{0,11}(H|M|S|m|u|n|ms|s|h|\\.5)?")
            .prop_map(|(name, value)| [&[name], value.as_bytes()].concat());
        (prop::collection::vec(any::<u8>(), 9), prop::collection::vec(line, 0..4)).prop_map(
            |(settings, lines)| {
                let mut hop = [settings, lines.join(&b'\n')].concat();
                hop.iter_mut().filter(|byte| **byte == 0).for_each(|byte| *byte = 1);
                hop
            },
        )
    }

    proptest! {
        #[test]
        fn no_hop_has_more_than_the_one_before(hops in prop::collection::vec(any_hop(), 1..10)) {
            super::hops(&hops.join(&0));
        }

        #[test]
        fn no_bytes_hurt(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            super::hops(&bytes);
        }
    }
}
