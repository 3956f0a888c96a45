//! What time it is on the wall, for the head of an answer (RFC 9110, 6.6.1).

use std::cell::RefCell;
use std::time::{Duration, SystemTime};

use http::HeaderValue;

use crate::clock::{Elapsed, Instant};

thread_local! {
    /// And from when on it is another.
    static DATE: RefCell<Option<(HeaderValue, Instant<Elapsed>)>> = const { RefCell::new(None) };
}

/// Of this second. A step of the clock on the wall shows within a second.
pub(super) fn date() -> HeaderValue {
    let now = Instant::<Elapsed>::now();
    DATE.with_borrow_mut(|kept| match kept {
        Some((date, until)) if now < *until => date.clone(),
        _ => {
            #[expect(
                clippy::disallowed_methods,
                reason = "it is the clock on the wall that is told"
            )]
            let (date, left) = at(SystemTime::now());
            *kept = Some((date.clone(), now + left));
            date
        }
    })
}

/// And how long it stays.
fn at(wall: SystemTime) -> (HeaderValue, Duration) {
    let since = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    // There is no way to write years after 9999.
    const LAST: Duration = Duration::from_secs(253_402_300_799);
    let written = SystemTime::UNIX_EPOCH + since.min(LAST);
    let date = httpdate::fmt_http_date(written);
    let date = HeaderValue::try_from(date).expect("it is ASCII");
    (date, Duration::from_secs(1) - Duration::from_nanos(since.subsec_nanos().into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_that_of_its_second() {
        let (date, left) = at(SystemTime::UNIX_EPOCH + Duration::from_millis(784_111_777_250));
        // The example of RFC 9110, 5.6.7.
        assert_eq!(date, "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(left, Duration::from_millis(750));
    }

    #[test]
    fn a_clock_on_the_wall_that_is_far_off_is_no_panic() {
        let (first, _) = at(SystemTime::UNIX_EPOCH - Duration::from_secs(1));
        assert_eq!(first, "Thu, 01 Jan 1970 00:00:00 GMT");
        let (last, _) = at(SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 40));
        assert_eq!(last, "Fri, 31 Dec 9999 23:59:59 GMT");
    }

    #[test]
    fn it_is_kept_for_its_second() {
        let first = date();
        let until = DATE.with_borrow(|kept| kept.as_ref().map(|kept| kept.1));
        assert!(
            until.is_some_and(|until| until <= Instant::<Elapsed>::now() + Duration::from_secs(1))
        );
        assert_eq!(first.len(), 29);
    }
}
