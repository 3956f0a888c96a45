//! What it costs to read and to write a deadline's header.
//!
//! ```text
//! cargo bench --bench codec
//! ```
//!
//! - `codec/{header}/encode/deadbeat`: a remaining time, another each time, to bytes.
//! - `codec/{header}/decode/deadbeat`: one value as the encoder writes it, through a `Decoder` with its
//!   policy, to what the headers of a call say.
//! - `floor`, beside each: to write, the time as nanoseconds, printed by `core::fmt` into a buffer of the
//!   same size; to read, the digits of the same value parsed by `str::parse`.
//!
//! Times are between two and ten seconds, and custom is in microseconds.

mod support;

use std::{
    hint::black_box,
    io::{Cursor, Write},
    time::{Duration, SystemTime},
};

use criterion::{Bencher, Criterion, criterion_group, criterion_main};
use deadbeat::propagation::codec::{Custom, Decoder, Encoder, Header, Unit, Value};
use support::group;

/// As few as leave the cache to what is measured.
const TIMES: usize = 512;

fn headers() -> impl Iterator<Item = Header> {
    let custom = Custom::new("custom", Unit::Microseconds).expect("a name");
    Header::KNOWN.into_iter().chain([Header::Custom(custom)])
}

fn times() -> Vec<Duration> {
    let mut rng = fastrand::Rng::with_seed(0x5eed);
    let time = || Duration::from_nanos(rng.u64(2_000_000_000..10_000_000_000));
    std::iter::repeat_with(time).take(TIMES).collect()
}

fn codec(c: &mut Criterion) {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_169_472);
    let encoder = Encoder::new().wall(now);
    let decoder = Decoder::new().wall(now, Duration::from_mins(1));
    let times = times();
    for header in headers() {
        let encode = |time| encoder.encode(header, time).expect("long enough");
        let mut encodes = group(c, format!("codec/{header}/encode"));
        encodes.bench_function("floor", |b| each(b, &times, |&time| print(time)));
        encodes.bench_function("deadbeat", |b| each(b, &times, |&time| encode(time)));
        encodes.finish();

        let values: Vec<Value> = times.iter().map(|&time| encode(time)).collect();
        let digits: Vec<String> = values.iter().map(|value| digits(value.as_str())).collect();
        let mut decodes = group(c, format!("codec/{header}/decode"));
        decodes.bench_function("floor", |b| each(b, &digits, |digits| digits.parse::<u64>()));
        decodes.bench_function("deadbeat", |b| {
            each(b, &values, |value| decoder.decode(header, [value.as_bytes()]));
        });
        decodes.finish();
    }
}

/// Does it to one after the other.
fn each<T, R>(b: &mut Bencher<'_>, all: &[T], mut work: impl FnMut(&T) -> R) {
    let mut next = 0;
    b.iter(|| {
        next = (next + 1) % TIMES;
        work(black_box(&all[next]))
    });
}

fn print(time: Duration) -> [u8; 24] {
    let mut buffer = [0; 24];
    write!(Cursor::new(&mut buffer[..]), "{}", time.as_nanos()).expect("it fits");
    buffer
}

/// Those of a value that a `u64` can hold.
fn digits(value: &str) -> String {
    value.chars().filter(char::is_ascii_digit).take(19).collect()
}

criterion_group!(benches, codec);
criterion_main!(benches);
