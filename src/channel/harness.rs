//! Resets of a channel against a peer that counts them, in virtual time: for property tests and for fuzzing.

use std::collections::VecDeque;
use std::time::Duration;

use super::resets::{Rate, Resets};
use crate::time::Instant;

/// What hyper's servers bear: streams that were reset before they were accepted.
const BORNE: usize = 20;

/// Within this, a peer that has read a PING has accepted so many streams more, the oldest first; within ten times that,
/// all of which it knew.
const ACCEPTS: (Duration, usize) = (Duration::from_millis(100), 32);

enum Frame {
    Open(u32),
    Reset(u32),
    Ping,
}

/// A server that reads all that there is, or stands still.
#[derive(Default)]
struct Peer {
    unread: VecDeque<Frame>,
    /// Read, and not accepted; and whether it was reset.
    accepts: VecDeque<(u32, bool)>,
    accepted: Vec<u32>,
    /// When it has answered a PING, and how much of what was before it has been accepted.
    ponged: Option<(Instant, u32)>,
    has_pong: bool,
}

impl Peer {
    fn read(&mut self, now: Instant) {
        for frame in self.unread.drain(..) {
            match frame {
                Frame::Open(stream) => self.accepts.push_back((stream, false)),
                Frame::Ping => {
                    self.has_pong = true;
                    self.ponged = Some((now, 0));
                }
                Frame::Reset(stream) => {
                    self.accepted.retain(|it| *it != stream);
                    for it in &mut self.accepts {
                        it.1 |= it.0 == stream;
                    }
                }
            }
            let reset = self.accepts.iter().filter(|(_, is_reset)| *is_reset).count();
            assert!(reset <= BORNE, "{reset} streams were reset before they were accepted");
        }
    }

    fn accept(&mut self, most: usize) {
        let most = most.min(self.accepts.len());
        self.accepted.extend(self.accepts.drain(..most).filter(|it| !it.1).map(|it| it.0));
    }
}

impl Peer {
    fn work(&mut self, now: Instant) {
        let Some((at, done)) = self.ponged else { return };
        if done == 0 && at + ACCEPTS.0 <= now {
            self.accept(ACCEPTS.1);
            self.ponged = Some((at, 1));
        }
        if at + ACCEPTS.0 * 10 <= now {
            self.accept(usize::MAX);
            self.ponged = None;
        }
    }
}

/// Plays a script of two bytes a step: what happens, and how much of it.
///
/// # Panics
///
/// If the peer has more to bear than it does, resets are sent too fast, or one that could be sent isn't.
pub fn resets(bytes: &[u8]) {
    let rate = Rate::default();
    let mut now = Instant::from_nanos(1 << 40);
    let (mut resets, mut peer) = (Resets::new(rate, now), Peer::default());
    // The one that measures the round trip.
    resets.ping(now);
    peer.unread.push_back(Frame::Ping);
    let (mut opened, mut waiting) = (1, VecDeque::new());
    let mut sent: VecDeque<Instant> = VecDeque::new();
    for step in bytes.chunks_exact(2) {
        let amount = u32::from(step[1]);
        match step[0] % 9 {
            // Calls that expire, each on a stream of its own.
            0 | 1 => {
                for _ in 0..=amount % 32 {
                    opened += 2;
                    peer.unread.push_back(Frame::Open(opened));
                    if resets.ask(now, opened) {
                        peer.unread.push_back(Frame::Reset(opened));
                        sent.push_back(now);
                    } else {
                        waiting.push_back(opened);
                    }
                }
            }
            2 => now += Duration::from_millis(amount.into()),
            3 => now += Duration::from_millis(u64::from(amount) * 100),
            4 => peer.read(now),
            5 => peer.accept(amount as usize),
            // It answers one, or our PING.
            6 if !peer.accepted.is_empty() => {
                let at = amount as usize % peer.accepted.len();
                let stream = peer.accepted.swap_remove(at);
                resets.answered(stream);
                if let Some(at) = waiting.iter().position(|it| *it == stream) {
                    waiting.remove(at);
                    resets.give_up();
                }
            }
            // For the round trip.
            8 if !resets.is_pinged() => {
                resets.ping(now);
                peer.unread.push_back(Frame::Ping);
            }
            7 if std::mem::take(&mut peer.has_pong) => resets.pong(now),
            _ => {}
        }
        peer.work(now);
        if resets.wants_ping(now) {
            resets.ping(now);
            peer.unread.push_back(Frame::Ping);
        }
        while resets.ask_again(now, opened) {
            peer.unread.push_back(Frame::Reset(waiting.pop_front().expect("one waits")));
            sent.push_back(now);
        }
        assert_eq!(resets.waiting(), waiting.len());
        if !waiting.is_empty() {
            assert!(resets.next_at().is_none_or(|at| at > now), "one could be sent");
            assert!(!resets.is_stuck(now), "nothing will ever send the next");
        }
        while sent.front().is_some_and(|at| now - *at >= Duration::from_secs(1)) {
            sent.pop_front();
        }
        assert!(sent.len() <= 126, "{} in a second", sent.len());
    }
}
