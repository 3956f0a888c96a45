//! When streams may be reset.
//!
//! A client that gives up a call resets its stream. A server can't tell a client whose deadlines all pass
//! from one that attacks it with resets (CVE-2023-44487, "rapid reset"), so servers count them, and close
//! the connection, with all healthy calls on it, over
//!
//! | peer | what it takes for an attack |
//! | --- | --- |
//! | hyper, tonic (h2 0.4.20, `max_pending_accept_reset_streams`) | 20 streams that were reset before it came to accept them, as those of a server that has stood still |
//! | netty (`decoderEnforceMaxRstFramesPerWindow`, 4.1.100) | 200 in 30 s |
//! | Node.js (`streamResetBurst`, `streamResetRate`, 20.8.1) | 1000, and 33 a second |
//!
//! So resets are paced: the first ones are sent at once, but no more than [`UNHEARD`] of which it isn't known
//! that the peer has come to read them, and no more than a number a second. What must wait keeps its stream
//! open. Nobody waits for it: the call has failed already. Many need no reset in the end, since the peer,
//! which has the same deadline, ends them itself.
//!
//! # How a peer is heard
//!
//! Frames are read in order. So a reset has been read when
//!
//! 1. the peer begins to answer a stream that was opened after it, or
//! 2. a PING that was sent after it is answered, and [`SETTLES`] has passed: hyper's servers read on while they
//!    have streams to accept. They accept the oldest first, and so it is the oldest that are reset first.
//!
//! PINGs are asked for only when resets pile up, and no more than [`SILENT_PINGS`] between two answers:
//! gRPC servers take more for an attack, too (gRFC A8: two "strikes", but for one every five minutes). A peer that
//! answers those, and is then silent, is sent one reset a [`SLOWLY`], and no more than [`UNHEARD_SLOWLY`].
//!
//! Sans-IO: `now` is passed in; whoever asks keeps the streams.

use std::collections::VecDeque;
use std::time::Duration;

use crate::time::Instant;

/// So many resets may be on their way of which it isn't known that the peer has read them: a half of what
/// hyper's servers bear, for a peer may have had others before it was heard.
const UNHEARD: usize = 10;

/// How long a peer that has answered a PING may still be at work on what came before it.
const SETTLES: Duration = Duration::from_millis(100);

/// So many PINGs may be sent while the peer answers nothing else.
const SILENT_PINGS: u32 = 2;

/// Or one after so long.
const PING_AGAIN: Duration = Duration::from_secs(300);

/// After that, and while they were answered, how often a reset is sent.
const SLOWLY: Duration = Duration::from_secs(1);

/// And how many there may be then on their way: what hyper's servers bear.
const UNHEARD_SLOWLY: usize = 20;

/// How many resets in a row, and how many a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rate {
    pub(super) burst: u32,
    pub(super) interval: Duration,
}

impl Default for Rate {
    /// A hundred, then 25 a second.
    fn default() -> Self {
        Self { burst: 100, interval: Duration::from_millis(40) }
    }
}

/// Of one connection.
#[derive(Debug)]
pub(super) struct Resets {
    rate: Rate,
    /// When as many as the burst could be sent again: the theoretical arrival time of the generic cell rate
    /// algorithm (ITU-T I.371).
    full_at: Instant,
    /// The last stream that was open when each was sent, oldest first: those that are on their way.
    unheard: VecDeque<u32>,
    /// How many of those the PING that is on its way comes after.
    pinged: Option<usize>,
    /// The same of one that was answered, and when they no longer count.
    settles: Option<(Instant, usize)>,
    silent_pings: u32,
    last_ping: Option<Instant>,
    last_sent: Option<Instant>,
    waiting: usize,
}

impl Resets {
    pub(super) fn new(rate: Rate, now: Instant) -> Self {
        Self {
            rate,
            full_at: now,
            unheard: VecDeque::new(),
            pinged: None,
            settles: None,
            silent_pings: 0,
            last_ping: None,
            last_sent: None,
            waiting: 0,
        }
    }

    /// Whether one more may be sent now; it is then. `last_opened` is the stream that was opened last. If
    /// not, it waits.
    pub(super) fn ask(&mut self, now: Instant, last_opened: u32) -> bool {
        let may = self.waiting == 0 && self.may(now);
        if may {
            self.send(now, last_opened);
        } else {
            self.waiting += 1;
        }
        may
    }

    /// The same for one that waits.
    pub(super) fn ask_again(&mut self, now: Instant, last_opened: u32) -> bool {
        let may = self.waiting > 0 && self.may(now);
        if may {
            self.waiting -= 1;
            self.send(now, last_opened);
        }
        may
    }

    /// One that waits need not be sent any more: its stream has ended.
    pub(super) fn give_up(&mut self) {
        self.waiting -= 1;
    }

    /// Whether those that wait may do so until the peer says something: it is asked, or is known to be mute.
    #[cfg(any(test, fuzzing))]
    pub(super) fn is_stuck(&self, now: Instant) -> bool {
        let is_asked = self.pinged.is_some() || self.wants_ping(now);
        !is_asked && self.next_at().is_none() && self.unheard.len() < UNHEARD_SLOWLY
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn is_pinged(&self) -> bool {
        self.pinged.is_some()
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    fn may(&mut self, now: Instant) -> bool {
        if let Some((_, heard)) = self.settles.take_if(|(at, _)| *at <= now) {
            let heard = heard.min(self.unheard.len());
            self.unheard.drain(..heard);
            self.pinged = self.pinged.map(|pinged| pinged.saturating_sub(heard));
        }
        self.next_at().is_some_and(|at| at <= now)
    }

    /// When the next may be sent, as far as time goes; `None` until the peer is heard.
    pub(super) fn next_at(&self) -> Option<Instant> {
        let burst = self.rate.interval.saturating_mul(self.rate.burst.max(1) - 1);
        let by_rate = self.full_at - burst;
        if self.unheard.len() < UNHEARD {
            return Some(by_rate);
        }
        if let Some((settled, _)) = self.settles {
            return Some(by_rate.max(settled));
        }
        let is_mute = self.pinged.is_none()
            && self.silent_pings >= SILENT_PINGS
            && self.unheard.len() < UNHEARD_SLOWLY;
        let slowly = self.last_sent.filter(|_| is_mute)? + SLOWLY;
        Some(by_rate.max(slowly))
    }

    fn send(&mut self, now: Instant, last_opened: u32) {
        self.full_at = self.full_at.max(now) + self.rate.interval;
        self.last_sent = Some(now);
        self.unheard.push_back(last_opened);
    }

    /// Whether a PING would help, and may be sent.
    pub(super) fn wants_ping(&self, now: Instant) -> bool {
        let pile_up = self.waiting > 0 || self.unheard.len() >= UNHEARD / 2;
        let may_again = self.last_ping.is_none_or(|last| last + PING_AGAIN <= now);
        pile_up
            && !self.unheard.is_empty()
            && self.pinged.is_none()
            && self.settles.is_none()
            && (self.silent_pings < SILENT_PINGS || may_again)
    }

    /// A PING is sent: all resets so far were sent before it.
    pub(super) fn ping(&mut self, now: Instant) {
        self.silent_pings += 1;
        self.last_ping = Some(now);
        self.pinged = Some(self.unheard.len());
    }

    /// It is answered.
    pub(super) fn pong(&mut self, now: Instant) {
        let heard = self.pinged.take().unwrap_or(0);
        self.settles = (heard > 0).then_some((now + SETTLES, heard));
    }

    /// The peer has begun to answer this stream.
    pub(super) fn answered(&mut self, stream: u32) {
        self.silent_pings = 0;
        while self.unheard.front().is_some_and(|last_opened| *last_opened < stream) {
            self.unheard.pop_front();
            self.pinged = self.pinged.map(|heard| heard.saturating_sub(1));
            self.settles =
                self.settles.map(|(at, heard)| (at, heard - 1)).filter(|(_, heard)| *heard > 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: Duration = Duration::from_millis(1);

    fn at(ms: u32) -> Instant {
        Instant::from_nanos(1_000_000_000) + MS * ms
    }

    fn resets() -> Resets {
        Resets::new(Rate::default(), at(0))
    }

    #[test]
    fn a_peer_that_is_not_heard_is_sent_ten() {
        let mut resets = resets();
        let sent = (0..100).filter(|i| resets.ask(at(*i), 201)).count();
        assert_eq!((sent, resets.waiting()), (UNHEARD, 90));
        // Whose PING isn't answered.
        assert!(resets.wants_ping(at(99)));
        resets.ping(at(99));
        assert!(!resets.wants_ping(at(99)));
        assert_eq!(resets.next_at(), None);
        assert!(!resets.ask_again(at(3_600_000), 201));
    }

    #[test]
    fn each_answer_to_a_ping_is_good_for_those_before_it() {
        let mut resets = resets();
        assert!((0..6).all(|_| resets.ask(at(0), 1)));
        resets.ping(at(0));
        assert!((0..4).all(|_| resets.ask(at(0), 1)));
        assert!(!resets.ask(at(0), 1));
        resets.pong(at(1));
        assert!(!resets.ask_again(at(100), 1));
        assert_eq!(resets.next_at(), Some(at(101)));
        assert!((0..6).all(|i| resets.ask_again(at(101), 1) == (i == 0)));
        assert_eq!(resets.unheard.len(), 5);
    }

    #[test]
    fn a_ping_for_nothing_is_in_nobodys_way() {
        let mut resets = resets();
        resets.ping(at(0));
        resets.pong(at(1));
        assert!((0..11).all(|i| resets.ask(at(2), 1) == (i < 10)));
        assert!(resets.wants_ping(at(2)));
    }

    #[test]
    fn one_that_measures_the_round_trip_comes_when_it_likes() {
        let mut resets = resets();
        assert!((0..6).all(|_| resets.ask(at(0), 1)));
        resets.ping(at(0));
        resets.pong(at(1));
        resets.ping(at(11_000));
        assert!(resets.ask(at(11_001), 1));
        resets.pong(at(11_002));
        assert!(resets.ask(at(11_200), 1));
        assert_eq!(resets.unheard.len(), 2);
    }

    #[test]
    fn an_answer_is_good_for_what_was_sent_before_its_stream_was_opened() {
        let mut resets = resets();
        for last_opened in [1, 3, 3, 5, 7, 7, 7, 9, 9, 9] {
            assert!(resets.ask(at(0), last_opened));
        }
        assert!(!resets.ask(at(0), 9));
        resets.answered(1);
        assert!(!resets.ask_again(at(0), 9));
        resets.answered(5);
        assert_eq!(resets.unheard, [5, 7, 7, 7, 9, 9, 9]);
        assert!(resets.ask_again(at(0), 9));
    }

    #[test]
    fn no_more_pings_are_sent_than_a_grpc_server_bears() {
        let mut resets = resets();
        for round in 0..2 {
            assert!((0..10).all(|_| resets.ask(at(100 * round), 1)));
            assert!(resets.wants_ping(at(100 * round)));
            resets.ping(at(100 * round));
            resets.pong(at(100 * round));
            assert!(!resets.wants_ping(at(100 * round)));
        }
        assert!((0..10).all(|_| resets.ask(at(200), 1)));
        assert!(!resets.wants_ping(at(200)));
        assert!(resets.wants_ping(at(300_100)));
        // It was there a moment ago, and says nothing by itself.
        assert!(!resets.ask(at(210), 1));
        assert_eq!(resets.next_at(), Some(at(1200)));
        assert!(resets.ask_again(at(1200), 1));
        resets.answered(3);
        assert!(!resets.wants_ping(at(1200)));
        assert!((0..10).all(|_| resets.ask(at(1200), 3)));
        assert!(resets.wants_ping(at(1200)));
    }

    #[test]
    fn no_more_are_sent_a_second_however_well_the_peer_is_heard() {
        let mut resets = resets();
        let mut sent = 0;
        for ms in 0..30_000 {
            if resets.ask(at(ms), 1) {
                sent += 1;
                resets.answered(3);
            } else {
                resets.give_up();
            }
        }
        assert_eq!(sent, 100 + 30_000 / 40 - 1);
    }

    proptest! {
        #[test]
        fn whatever_happens_no_peer_is_overrun(bytes in prop::collection::vec(any::<u8>(), 0..800)) {
            super::super::harness::resets(&bytes);
        }
    }
}
