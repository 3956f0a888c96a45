//! Nothing to interpose: neither glibc's symbols nor the convention of its `syscall`.

pub(super) enum Liar {
    Monotonic,
    Boottime,
    Realtime,
    Raw,
}

pub(super) fn are_heard() -> bool {
    false
}

pub(super) fn jump(_: Liar, _: i64) {}

pub(super) fn rate_ppm(_: Liar, _: i64) {}

pub(super) fn clear() {}
