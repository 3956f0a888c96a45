//! The bare wheel in an event loop of one's own: a UDP client that sends again what isn't answered.
//!
//! ```text
//! cargo run --example event_loop
//! ```
//!
//! No thread, no task: [`Wheel`] says when to wake up at the latest, and what is due then. Here the
//! loop waits in `recv`; with many sockets it would be `poll(2)` or `epoll_wait(2)`.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::thread;
use std::time::Duration;

use deadbeat::clock::Clock;
use deadbeat::wheel::{Key, Wheel};

/// How long the first answer may take; the next one twice as long, and so on.
const RETRANSMIT_NS: u64 = 20_000_000;
/// How long a request may take in all.
const GIVE_UP_NS: u64 = 250_000_000;
/// How many timers are handled before the socket has its turn again.
const BUDGET: usize = 64;

/// What a timer is for.
#[derive(Clone, Copy, Debug)]
enum Timer {
    Retransmit { request: u8, timeout_ns: u64 },
    GiveUp { request: u8 },
}

struct Client {
    socket: UdpSocket,
    clock: Clock,
    wheel: Wheel<Timer>,
    /// The timers of each request that waits for its answer.
    waiting: HashMap<u8, [Key; 2]>,
}

impl Client {
    fn new(socket: UdpSocket) -> Self {
        let clock = Clock::system();
        let wheel = Wheel::new(clock.now().as_nanos());
        Self { socket, clock, wheel, waiting: HashMap::new() }
    }

    fn send(&mut self, request: u8) -> io::Result<()> {
        let now = self.clock.now().as_nanos();
        let retransmit = Timer::Retransmit { request, timeout_ns: RETRANSMIT_NS };
        let timers = [
            self.wheel.insert(now + RETRANSMIT_NS, retransmit),
            self.wheel.insert(now + GIVE_UP_NS, Timer::GiveUp { request }),
        ];
        self.waiting.insert(request, timers);
        self.socket.send(&[request]).map(drop)
    }

    /// Runs until nothing is waited for.
    fn run(&mut self) -> io::Result<()> {
        while let Some(at) = self.wheel.next_expiration() {
            if let Some(answered) = self.receive(at)? {
                self.answered(answered);
            }
            // If there is more, the next expiration has passed, and the socket isn't waited for.
            let _ = self.wheel.advance(self.clock.now().as_nanos(), BUDGET);
            while let Some(expired) = self.wheel.pop_expired() {
                self.expired(expired.value)?;
            }
        }
        Ok(())
    }

    /// Waits for a datagram until `at`.
    fn receive(&self, at: u64) -> io::Result<Option<u8>> {
        let wait = at.saturating_sub(self.clock.now().as_nanos());
        self.socket.set_nonblocking(wait == 0)?;
        if wait > 0 {
            self.socket.set_read_timeout(Some(Duration::from_nanos(wait)))?;
        }
        let mut datagram = [0];
        match self.socket.recv(&mut datagram) {
            Ok(_) => Ok(Some(datagram[0])),
            Err(error) if is_timeout(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn answered(&mut self, request: u8) {
        // Perhaps the answer to a copy of what was answered before.
        if let Some(timers) = self.waiting.remove(&request) {
            println!("{request}: answered");
            for timer in timers {
                self.wheel.remove(timer);
            }
        }
    }

    fn expired(&mut self, timer: Timer) -> io::Result<()> {
        match timer {
            Timer::Retransmit { request, timeout_ns } => {
                println!("{request}: no answer for {:?}", Duration::from_nanos(timeout_ns));
                let timeout_ns = 2 * timeout_ns;
                let at = self.clock.now().as_nanos() + timeout_ns;
                let timer = self.wheel.insert(at, Timer::Retransmit { request, timeout_ns });
                if let Some([retransmit, _]) = self.waiting.get_mut(&request) {
                    *retransmit = timer;
                }
                self.socket.send(&[request]).map(drop)
            }
            Timer::GiveUp { request } => {
                println!("{request}: given up");
                if let Some([retransmit, _]) = self.waiting.remove(&request) {
                    self.wheel.remove(retransmit);
                }
                Ok(())
            }
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), Interrupted | TimedOut | WouldBlock)
}

fn main() -> io::Result<()> {
    let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.connect(server.local_addr()?)?;
    // Ends with the program.
    thread::spawn(move || serve(&server));

    let mut client = Client::new(socket);
    for request in 0..4 {
        client.send(request)?;
    }
    client.run()
}

/// Answers request 0 at once, request 1 when it comes for the second time, and so on; 3 never.
fn serve(socket: &UdpSocket) -> io::Result<()> {
    let mut seen = [0; 256];
    loop {
        let mut datagram = [0];
        let (_, client) = socket.recv_from(&mut datagram)?;
        let [request] = datagram;
        seen[usize::from(request)] += 1;
        if request < 3 && seen[usize::from(request)] > request {
            socket.send_to(&datagram, client)?;
        }
    }
}
