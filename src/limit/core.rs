//! Who runs, who waits and who is turned away. Sans-IO: it takes `now`, and never waits, wakes or locks.
//!
//! 1. No more run than there are slots.
//! 2. Whoever has expired, when it comes or when it is its turn, is rejected.
//! 3. After [`settle`](Core::settle) has returned `None`, nobody waits while a slot is free.
//! 4. A newcomer doesn't overtake those that wait, but for [`Order::NewestFirst`].

use std::task::Poll;
use std::time::Duration;

use super::crowd::{Crowd, room};
use super::estimate::Estimate;
use super::probe::Probes;
use super::queue::{Popped, Queue, Ticket};
use super::settings::{Order, Settings};
use super::stats::Stats;
use crate::clock::{Elapsed, Instant};
use crate::deadline::Deadline;

/// `W` is what wakes who waits.
#[derive(Debug)]
pub(crate) struct Core<W> {
    settings: Settings,
    queue: Queue<Waiting<W>>,
    running: usize,
    estimate: Estimate,
    probes: Probes,
    /// With [`Order::NewestFirst`].
    crowd: Crowd,
    stats: Stats,
}

#[derive(Debug)]
struct Waiting<W> {
    deadline: Deadline,
    since: Instant<Elapsed>,
    waker: Option<W>,
    /// Whether it runs even if it is doomed: a probe, or one that has been counted in the dark.
    exempt: bool,
    verdict: Option<Result<Admitted, Why>>,
}

/// It runs from then on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Admitted {
    pub(crate) at: Instant<Elapsed>,
    is_probe: bool,
}

/// Why it was turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    Expired,
    Doomed {
        remaining: Duration,
        service: Duration,
        wait: Duration,
    },
    Full {
        waiting: usize,
    },
    /// By those that came later, of which there are too many.
    Overtaken {
        waited: Duration,
    },
}

#[derive(Debug)]
pub(crate) enum Arrival {
    Admitted(Admitted),
    Queued(Ticket),
    Rejected(Why),
}

/// How a call has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Done,
    /// By its caller or its deadline: it would have taken longer.
    CutOff,
}

#[derive(Clone, Copy)]
enum At {
    Arrival,
    Dequeue,
}

/// All are *O*(1), amortised over the calls.
impl<W> Core<W> {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            settings,
            queue: Queue::new(),
            running: 0,
            estimate: Estimate::new(),
            probes: Probes::new(settings.probes),
            crowd: Crowd::default(),
            stats: Stats::default(),
        }
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(crate) fn stats(&mut self, now: Instant<Elapsed>) -> Stats {
        self.estimate.forget(now);
        Stats {
            queued: self.queue.len(),
            running: self.running,
            service_time: self.estimate.quantile(self.settings.quantile),
            ..self.stats
        }
    }

    /// Somebody has come. Call [`settle`](Self::settle) if it was queued.
    pub(crate) fn arrive(&mut self, now: Instant<Elapsed>, deadline: Deadline) -> Arrival {
        if deadline.instant() <= now {
            return Arrival::Rejected(self.reject(At::Arrival, Why::Expired));
        }
        self.estimate.forget(now);
        let is_free = self.running < self.settings.slots && self.queue.is_empty();
        let wait = if is_free { Duration::ZERO } else { self.predicted_wait() };
        let doom = self.doom(deadline, now, wait, !is_free);
        let exempt = match doom {
            Some(doom) => {
                if !self.lets_through(!is_free) {
                    return Arrival::Rejected(self.reject(At::Arrival, doom));
                }
                if self.settings.dark {
                    self.stats.rejected_doomed_on_arrival += 1;
                }
                true
            }
            None => false,
        };
        if is_free {
            return Arrival::Admitted(self.admit(now, Duration::ZERO, exempt));
        }
        let makes_room = self.settings.order == Order::NewestFirst && self.settings.queue > 0;
        if self.queue.len() >= self.settings.queue && !makes_room {
            let waiting = self.queue.len();
            return Arrival::Rejected(self.reject(At::Arrival, Why::Full { waiting }));
        }
        let waiting = Waiting { deadline, since: now, waker: None, exempt, verdict: None };
        let ticket = self.queue.push_back(waiting);
        self.see_crowd(now);
        Arrival::Queued(ticket)
    }

    /// Decides about one of those that wait, if there is something to decide: its verdict is there to be
    /// [seen](Self::look) then, and it is to be woken. To be called until there is `None`.
    pub(crate) fn settle(&mut self, now: Instant<Elapsed>) -> Option<Option<W>> {
        self.see_crowd(now);
        if self.is_settled() {
            return None;
        }
        let waiting = self.queue.len();
        if waiting > self.settings.queue {
            let popped = self.queue.pop_front()?;
            let why = self.reject(At::Dequeue, Why::Full { waiting: waiting - 1 });
            return Some(self.decide(popped, Err(why)));
        }
        if waiting > self.room() {
            let waited = now - self.queue.front()?.since;
            let popped = self.queue.pop_front()?;
            let why = self.reject(At::Dequeue, Why::Overtaken { waited });
            return Some(self.decide(popped, Err(why)));
        }
        self.estimate.forget(now);
        let is_newest_first = self.is_newest_first(waiting);
        // The oldest go first all the same, if that is for nothing: nobody else would tell them.
        let popped = if is_newest_first && !self.is_hopeless(self.queue.front()?, now) {
            self.queue.pop_back()?
        } else {
            self.queue.pop_front()?
        };
        let &mut Waiting { deadline, since, exempt, .. } = self.queue.popped(popped);
        let verdict = self.judge(deadline, since, exempt, now);
        Some(self.decide(popped, verdict))
    }

    /// Whether there is nothing to decide.
    pub(crate) fn is_settled(&self) -> bool {
        self.queue.len() <= self.room()
            && (self.queue.is_empty() || self.running >= self.settings.slots)
    }

    /// For so many that wait.
    fn room(&self) -> usize {
        let most = self.settings.queue;
        if self.crowd.is_standing() { most.min(room(self.settings.slots)) } else { most }
    }

    fn see_crowd(&mut self, now: Instant<Elapsed>) {
        let Settings { order, quantile, dark, slots, .. } = self.settings;
        if order == Order::OldestFirst || dark || quantile == 0.0 {
            return;
        }
        match self.estimate.quantile(quantile) {
            Some(service) => self.crowd.see(self.queue.len(), slots, service, now),
            // After a long calm, say: that overload is over.
            None => self.crowd = Crowd::None,
        }
    }

    /// Whether it is, when so many wait.
    fn is_newest_first(&self, waiting: usize) -> bool {
        self.settings.order == Order::NewestFirst
            && (waiting > self.settings.slots || self.crowd.is_standing())
    }

    /// Of one that waits: whether its turn would be for nothing.
    fn is_hopeless(&self, waiting: &Waiting<W>, now: Instant<Elapsed>) -> bool {
        waiting.deadline.instant() <= now
            || (!waiting.exempt && self.doom(waiting.deadline, now, Duration::ZERO, true).is_some())
    }

    /// Of one whose turn it is.
    fn judge(
        &mut self,
        deadline: Deadline,
        since: Instant<Elapsed>,
        exempt: bool,
        now: Instant<Elapsed>,
    ) -> Result<Admitted, Why> {
        if deadline.instant() <= now {
            return Err(self.reject(At::Dequeue, Why::Expired));
        }
        let contended = !self.queue.is_empty();
        let mut is_probe = exempt;
        if !exempt && let Some(doom) = self.doom(deadline, now, Duration::ZERO, contended) {
            if !self.lets_through(contended) {
                return Err(self.reject(At::Dequeue, doom));
            }
            if self.settings.dark {
                self.stats.rejected_doomed_at_dequeue += 1;
            }
            is_probe = true;
        }
        Ok(self.admit(now, now - since, is_probe))
    }

    /// Whether one that is doomed goes on all the same.
    fn lets_through(&mut self, contended: bool) -> bool {
        self.settings.dark || self.probes.take(contended)
    }

    fn decide(&mut self, popped: Popped, verdict: Result<Admitted, Why>) -> Option<W> {
        let waiting = self.queue.popped(popped);
        waiting.verdict = Some(verdict);
        waiting.waker.take()
    }

    fn admit(&mut self, now: Instant<Elapsed>, waited: Duration, is_probe: bool) -> Admitted {
        self.running += 1;
        self.stats.admitted += 1;
        self.stats.longest_wait = self.stats.longest_wait.max(waited);
        // In the dark, there is no need of them.
        let is_probe = is_probe && !self.settings.dark;
        if is_probe {
            self.stats.probes += 1;
        } else {
            self.probes.admitted();
        }
        Admitted { at: now, is_probe }
    }

    fn reject(&mut self, at: At, why: Why) -> Why {
        let count = match (why, at) {
            (Why::Expired, _) => &mut self.stats.rejected_expired,
            (Why::Full { .. }, _) => &mut self.stats.rejected_full,
            (Why::Overtaken { .. }, _) => &mut self.stats.rejected_overtaken,
            (Why::Doomed { .. }, At::Arrival) => &mut self.stats.rejected_doomed_on_arrival,
            (Why::Doomed { .. }, At::Dequeue) => &mut self.stats.rejected_doomed_at_dequeue,
        };
        *count += 1;
        why
    }

    /// How long one that comes now has to wait while all slots are taken: as many services as are ahead of
    /// it, by all slots. The next is due after one share of a slot.
    fn predicted_wait(&self) -> Duration {
        let waiting = self.queue.len();
        let ahead = if self.is_newest_first(waiting + 1) { 0 } else { waiting };
        let ns = self.estimate.mean().as_nanos() * (ahead as u128 + 1);
        let ns = ns / self.settings.slots as u128;
        Duration::from_nanos(u64::try_from(ns).unwrap_or(u64::MAX))
    }

    /// Why it won't be in time, if that is to be expected.
    fn doom(
        &self,
        deadline: Deadline,
        now: Instant<Elapsed>,
        wait: Duration,
        contended: bool,
    ) -> Option<Why> {
        let quantile = self.settings.quantile;
        if deadline.is_never() || quantile == 0.0 {
            return None;
        }
        let quantile = if contended { quantile } else { quantile.min(0.5) };
        let service = self.estimate.quantile(quantile)?;
        let remaining = deadline.remaining_at(now);
        (remaining < service.saturating_add(wait)).then_some(Why::Doomed {
            remaining,
            service,
            wait,
        })
    }

    /// What has become of one that was queued. If nothing yet, it keeps `waker`, and leaves the one that it
    /// had in its place. Otherwise it takes the ticket, and returns what it had. After an error, call
    /// [`settle`](Self::settle).
    pub(crate) fn look(
        &mut self,
        ticket: &mut Option<Ticket>,
        waker: &mut Option<W>,
        now: Instant<Elapsed>,
    ) -> Poll<(Result<Admitted, Why>, Option<W>)> {
        let taken = ticket.take().expect("not looked at after it was told");
        let waiting = self.queue.get_mut(&taken);
        let is_expired = waiting.deadline.instant() <= now;
        if waiting.verdict.is_none() && !is_expired {
            std::mem::swap(&mut waiting.waker, waker);
            *ticket = Some(taken);
            return Poll::Pending;
        }
        let waiting = self.queue.give_back(taken);
        let verdict = match waiting.verdict {
            Some(verdict) if verdict.is_err() || !is_expired => verdict,
            // Nobody has told it in time.
            granted => {
                if let Some(Ok(admitted)) = granted {
                    self.take_back(admitted);
                }
                Err(self.reject(At::Dequeue, Why::Expired))
            }
        };
        Poll::Ready((verdict, waiting.waker))
    }

    /// The slot of one that never ran, which says nothing of how long it takes.
    fn take_back(&mut self, admitted: Admitted) {
        self.running -= 1;
        self.stats.admitted -= 1;
        self.stats.probes -= u64::from(admitted.is_probe);
    }

    /// One that was queued is gone. Call [`settle`](Self::settle). Returns what would have woken it.
    pub(crate) fn cancel(&mut self, ticket: Ticket) -> Option<W> {
        let waiting = self.queue.give_back(ticket);
        if let Some(Ok(admitted)) = waiting.verdict {
            self.take_back(admitted);
        }
        waiting.waker
    }

    /// One that ran has ended. Call [`settle`](Self::settle).
    pub(crate) fn release(&mut self, admitted: Admitted, end: End, now: Instant<Elapsed>) {
        self.running -= 1;
        let took = now - admitted.at;
        match end {
            End::Done => self.estimate.add(took, now),
            // That it had no more time says something only if it had more than others need. By how much it
            // is too short, nobody knows: a quarter, say, so that those that come with as much are doomed.
            End::CutOff if self.estimate.quantile(0.5).is_none_or(|usual| took >= usual) => {
                self.estimate.add(took.saturating_add(took / 4), now);
            }
            End::CutOff => {}
        }
    }

    /// A waker has panicked.
    pub(crate) fn waker_panicked(&mut self) {
        self.stats.waker_panics += 1;
    }

    /// How many wait, and how many run.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn load(&self) -> (usize, usize) {
        (self.queue.len(), self.running)
    }
}
