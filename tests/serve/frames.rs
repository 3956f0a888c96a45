//! A peer that speaks HTTP/2 frame by frame, as it likes.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::within;

pub(crate) const NO_ERROR: u32 = 0;
pub(crate) const INTERNAL_ERROR: u32 = 2;
pub(crate) const CANCEL: u32 = 8;
pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// How many bytes, and whether they end it.
    Data(usize, bool),
    /// Whether they end it: trailers, or an answer without a body.
    Headers(bool),
    Reset(u32),
}

pub(crate) struct Peer {
    io: TcpStream,
    next: u32,
    may_go: bool,
}

impl Peer {
    /// With windows of so many bytes for each stream that it begins.
    pub(crate) async fn connect(at: SocketAddr, window: u32) -> Self {
        let mut io = TcpStream::connect(at).await.expect("it listens");
        io.set_nodelay(true).expect("it is TCP");
        let mut begin = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        // SETTINGS_INITIAL_WINDOW_SIZE.
        let settings = [&4u16.to_be_bytes()[..], &window.to_be_bytes()].concat();
        frame(&mut begin, 4, 0, 0, &settings);
        io.write_all(&begin).await.expect("it reads");
        Self { io, next: 1, may_go: false }
    }

    /// Begins a call. Returns its stream.
    pub(crate) async fn call(&mut self, headers: &[(&str, &str)], ends: bool) -> u32 {
        let mut bytes = vec![];
        let stream = self.encode_call(&mut bytes, headers, ends);
        self.send(&bytes).await;
        stream
    }

    /// The same, for what is sent together with others.
    pub(crate) fn encode_call(
        &mut self,
        bytes: &mut Vec<u8>,
        headers: &[(&str, &str)],
        ends: bool,
    ) -> u32 {
        let stream = self.next;
        self.next += 2;
        let mut block = vec![];
        let method = if ends { "GET" } else { "POST" };
        let pseudo =
            [(":method", method), (":scheme", "http"), (":authority", "a"), (":path", "/")];
        let pseudo = pseudo.into_iter().filter(|pair| !headers.iter().any(|it| it.0 == pair.0));
        let named = |it: &&(&str, &str)| it.0.starts_with(':');
        let given = headers.iter().filter(named).chain(headers.iter().filter(|it| !named(it)));
        for (name, value) in pseudo.chain(given.copied()) {
            // A literal without indexing, with a name of its own.
            block.push(0);
            for text in [name, value] {
                block.push(u8::try_from(text.len()).expect("short") & 0x7f);
                block.extend(text.as_bytes());
            }
        }
        let flags = END_HEADERS | if ends { END_STREAM } else { 0 };
        frame(bytes, 1, flags, stream, &block);
        stream
    }

    pub(crate) async fn data(&mut self, stream: u32, data: &[u8]) {
        let mut bytes = vec![];
        frame(&mut bytes, 0, 0, stream, data);
        self.send(&bytes).await;
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        within(self.io.write_all(bytes)).await.expect("it reads");
    }

    /// What comes next on a stream. What isn't of any is answered if need be, and passed over.
    pub(crate) async fn next_on(&mut self, stream: u32) -> Seen {
        loop {
            let (kind, flags, on, payload) = self.frame().await.expect("the connection lives");
            if on == stream {
                let ends = flags & END_STREAM != 0;
                match kind {
                    0 => return Seen::Data(payload.len(), ends),
                    1 => return Seen::Headers(ends),
                    3 => return Seen::Reset(number(&payload)),
                    _ => {}
                }
            }
            assert!(kind != 7 || self.may_go, "GOAWAY with {}", number(&payload[4..]));
        }
    }

    /// As [`rest_of`](Self::rest_of), on a connection that is ending.
    pub(crate) async fn rest(&mut self, stream: u32) -> Vec<Seen> {
        self.may_go = true;
        self.rest_of(stream).await
    }

    /// All that comes on a stream, to its end.
    pub(crate) async fn rest_of(&mut self, stream: u32) -> Vec<Seen> {
        let mut all = vec![];
        loop {
            let seen = self.next_on(stream).await;
            all.push(seen.clone());
            if matches!(seen, Seen::Reset(_) | Seen::Data(_, true) | Seen::Headers(true)) {
                return all;
            }
        }
    }

    /// The reason of the GOAWAY that comes, whatever comes before.
    pub(crate) async fn goaway(&mut self) -> u32 {
        loop {
            let (kind, _, _, payload) = self.frame().await.expect("a GOAWAY");
            if kind == 7 {
                return number(&payload[4..]);
            }
        }
    }

    /// Until it was asked so often whether it is there, which it has answered.
    pub(crate) async fn asked(&mut self, times: usize) {
        let mut seen = 0;
        while seen < times {
            let (kind, flags, ..) = self.frame().await.expect("the connection lives");
            seen += usize::from((kind, flags & 1) == (6, 0));
        }
    }

    /// Until the connection is closed. What is asked meanwhile is answered.
    pub(crate) async fn closed(mut self) {
        while self.frame().await.is_some() {}
    }

    /// Whether the connection is open: a PING is answered.
    pub(crate) async fn is_alive(&mut self) -> bool {
        let mut ping = vec![];
        frame(&mut ping, 6, 0, 0, b"are you?");
        if within(self.io.write_all(&ping)).await.is_err() {
            return false;
        }
        loop {
            match self.frame().await {
                Some((6, 1, ..)) => return true,
                Some(_) => {}
                None => return false,
            }
        }
    }

    /// `None` once the connection has ended.
    async fn frame(&mut self) -> Option<(u8, u8, u32, Vec<u8>)> {
        let mut head = [0; 9];
        within(self.io.read_exact(&mut head)).await.ok()?;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let mut payload = vec![0; length];
        within(self.io.read_exact(&mut payload)).await.ok()?;
        let (kind, flags, stream) = (head[3], head[4], number(&head[5..]));
        let mut answer = vec![];
        match (kind, flags & 1) {
            (4, 0) => frame(&mut answer, 4, 1, 0, &[]),
            (6, 0) => frame(&mut answer, 6, 1, 0, &payload),
            _ => {}
        }
        // What has gone doesn't read.
        let _ = within(self.io.write_all(&answer)).await;
        Some((kind, flags, stream, payload))
    }
}

pub(crate) fn reset(bytes: &mut Vec<u8>, stream: u32, reason: u32) {
    frame(bytes, 3, 0, stream, &reason.to_be_bytes());
}

fn frame(bytes: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).expect("short");
    bytes.extend(&length.to_be_bytes()[1..]);
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes[..4].try_into().expect("four bytes"))
}
