//! What a server makes of the headers that it is sent, and a client of the deadlines that it has.
//!
//! No clock, no I/O: `now` is passed in.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue};

use super::allowance::Allowance;
use super::codec::{
    CannotEncode, Decoded, Decoder, Encoder, Header, Inbound, Malformed, OnMalformed, Value,
    is_timeout_header,
};
use crate::clock::{Elapsed, Instant};
use crate::deadline::{Deadline, Origin, Provenance};

/// How a server treats a call: what may differ from one method or caller to the next.
///
/// # Examples
///
/// ```
/// use deadbeat::propagation::http::{ServerLayer, Settings};
/// use deadbeat::time::Duration;
///
/// let layer = ServerLayer::new()
///     .maximum(Duration::from_secs(30))
///     .settings(|request, settings: Settings| match request.uri.path() {
///         "/export" => settings.maximum(Duration::from_secs(600)),
///         "/events" => settings.enabled(false),
///         _ => settings,
///     });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Settings {
    pub(crate) enabled: bool,
    pub(crate) trusted: bool,
    pub(crate) maximum: Duration,
    pub(crate) default: Duration,
    /// As trusted, if it isn't said.
    pub(crate) blame: Option<bool>,
}

impl Settings {
    pub(crate) const fn new() -> Self {
        Self {
            enabled: true,
            trusted: false,
            maximum: Duration::MAX,
            default: Duration::MAX,
            blame: None,
        }
    }

    /// Whether the call has a deadline at all. Default: it has. If not, its headers aren't looked at.
    pub const fn enabled(mut self, enabled: bool) -> Self {
        self.enabled = enabled;
        self
    }

    /// Whether the caller may ask for more time than the [default](Self::default_timeout). Default: no.
    ///
    /// One that isn't trusted has the least of what it asks for, the default and the maximum; one that is
    /// has the least of what it asks for and the maximum, and the default only if it asks for nothing.
    pub const fn trusted(mut self, trusted: bool) -> Self {
        self.trusted = trusted;
        self
    }

    /// The most that any call has. Default, and disabled by: `Duration::MAX`.
    pub const fn maximum(mut self, maximum: Duration) -> Self {
        self.maximum = maximum;
        self
    }

    /// What a call has that asks for nothing, and the most that one from a caller that isn't
    /// [trusted](Self::trusted) has. Default, and disabled by: `Duration::MAX`.
    pub const fn default_timeout(mut self, timeout: Duration) -> Self {
        self.default = timeout;
        self
    }

    /// Whether a caller whose call has expired is told where the time went in here: [blame](super::blame),
    /// which names this service and those that it calls. Default: one that is [trusted](Self::trusted) is.
    ///
    /// One that isn't told gets no more than which deadline it was.
    pub const fn blame(mut self, blame: bool) -> Self {
        self.blame = Some(blame);
        self
    }

    pub(crate) const fn tells_blame(&self) -> bool {
        match self.blame {
            Some(blame) => blame,
            None => self.trusted,
        }
    }
}

impl Settings {
    /// The latest that any call has which comes `now`, but for those that may ask for more.
    pub(crate) fn most(&self, now: Instant<Elapsed>) -> Deadline {
        let limit = if self.trusted { self.maximum } else { self.maximum.min(self.default) };
        Deadline::at(now + limit)
    }
}

/// A header with its name as a map of headers finds it soonest.
#[derive(Clone, Debug)]
struct Named {
    header: Header,
    name: HeaderName,
}

impl Named {
    fn new(header: Header) -> Self {
        Self { header, name: HeaderName::from_static(header.name()) }
    }

    fn values<'a>(&self, headers: &'a HeaderMap) -> impl Iterator<Item = &'a [u8]> {
        headers.get_all(&self.name).iter().map(HeaderValue::as_bytes)
    }
}

/// What a server reads.
#[derive(Clone, Debug)]
pub(crate) struct Honoured {
    headers: Vec<Named>,
    pub(crate) on_malformed: OnMalformed,
    /// For headers that hold a date: the clock on the wall, and the most that a date may give.
    pub(crate) wall: Option<(fn() -> SystemTime, Duration)>,
}

impl Default for Honoured {
    fn default() -> Self {
        Self {
            headers: [Header::GrpcTimeout, Header::ConnectTimeoutMs].map(Named::new).into(),
            on_malformed: OnMalformed::default(),
            wall: None,
        }
    }
}

/// What the headers of a call and the settings come to.
#[derive(Debug, Default)]
pub(crate) struct Admitted {
    pub(crate) provenance: Option<Provenance>,
    /// How long the client would like to wait, at the most.
    pub(crate) preference: Option<Duration>,
    pub(crate) ignored: u32,
    pub(crate) lenient: u32,
}

impl Honoured {
    pub(crate) fn add(&mut self, header: Header) {
        if !self.headers.iter().any(|named| named.header == header) {
            self.headers.push(Named::new(header));
        }
    }

    /// For a call whose headers have come at `now`.
    pub(crate) fn admit(
        &self,
        headers: &HeaderMap,
        settings: &Settings,
        now: Instant<Elapsed>,
    ) -> Result<Admitted, Malformed> {
        let mut decoder = Decoder::new().on_malformed(self.on_malformed);
        if let Some((wall, max)) = self.wall {
            decoder = decoder.wall(wall(), max);
        }
        let mut inbound = Inbound::default();
        let mut admitted = Admitted::default();
        let mut asks = false;
        for named in &self.headers {
            if !headers.contains_key(&named.name) {
                continue;
            }
            let read = decoder.decode(named.header, named.values(headers))?;
            if named.header.is_preference() {
                admitted.preference = read.decoded.remaining();
            } else {
                asks |= read.ignored == 0 || read.decoded != Decoded::Unbounded;
                inbound = inbound.min(read);
            }
        }
        admitted.ignored = inbound.ignored;
        admitted.lenient = inbound.lenient;
        let asked = inbound
            .decoded
            .remaining()
            .zip(inbound.header)
            .map(|(remaining, header)| (remaining, Origin::Header(header.name())));
        let default = (!settings.trusted || !asks).then_some((settings.default, Origin::Default));
        admitted.provenance = [asked, default, Some((settings.maximum, Origin::Maximum))]
            .into_iter()
            .flatten()
            .map(|(limit, origin)| Provenance::new(Deadline::at(now + limit), origin, now))
            .filter(|provenance| !provenance.deadline().is_never())
            .reduce(Provenance::min);
        Ok(admitted)
    }
}

/// What a client writes, and what it waits.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    written: Named,
    /// What a caller may have written itself.
    read: Vec<Named>,
    pub(crate) encoder: Encoder,
    pub(crate) wall: Option<fn() -> SystemTime>,
    pub(crate) timeout: Duration,
    /// Unless somebody has set one, there is none; or that of a channel.
    pub(crate) allowance: Option<Allowance>,
}

impl Outgoing {
    pub(crate) fn new(header: Header) -> Self {
        let mut outgoing = Self {
            written: Named::new(header),
            read: Vec::new(),
            encoder: Encoder::new().digits(4),
            wall: None,
            timeout: Duration::MAX,
            allowance: None,
        };
        outgoing.write(header);
        outgoing
    }

    pub(crate) fn write(&mut self, header: Header) {
        let mut read = vec![Header::GrpcTimeout, Header::ConnectTimeoutMs];
        if !read.contains(&header) {
            read.push(header);
        }
        self.read = read.into_iter().map(Named::new).collect();
        self.written = Named::new(header);
    }

    /// The earliest deadline that the call has at `now`: that of its surroundings, its own, that which its
    /// headers asked for, the endpoint's.
    pub(crate) fn effective(
        &self,
        ambient: Option<Provenance>,
        own: Option<Deadline>,
        asked: Option<Deadline>,
        now: Instant<Elapsed>,
    ) -> Option<Provenance> {
        let own = own
            .into_iter()
            .chain(asked)
            .map(|deadline| Provenance::new(deadline, Origin::Call, now));
        let endpoint = (self.timeout != Duration::MAX)
            .then(|| Provenance::new(Deadline::at(now + self.timeout), Origin::Endpoint, now));
        ambient
            .into_iter()
            .chain(own)
            .chain(endpoint)
            .filter(|provenance| !provenance.deadline().is_never())
            .reduce(Provenance::min)
    }

    /// Takes away all that says how long somebody waits, or did. Returns what the caller has written itself,
    /// as [`tonic::Request::set_timeout`] does.
    ///
    /// Not what says other things too, and gives a callee no more time: a preference sets no deadline, and a
    /// date doesn't move. (A signature may cover the latter.)
    pub(crate) fn take(&self, headers: &mut HeaderMap, now: Instant<Elapsed>) -> Option<Deadline> {
        let says_more = [Header::Prefer.name(), Header::AmzSdkRequest.name()];
        let is_stale = |name: &HeaderName| {
            name == self.written.name
                || is_timeout_header(name.as_str()) && !says_more.contains(&name.as_str())
        };
        if !headers.keys().any(is_stale) {
            return None;
        }
        let mut inbound = Inbound::default();
        for named in &self.read {
            if let Ok(read) = Decoder::new().decode(named.header, named.values(headers)) {
                inbound = inbound.min(read);
            }
        }
        while let Some(name) = headers.keys().find(|name| is_stale(name)).cloned() {
            headers.remove(name);
        }
        inbound.decoded.remaining().map(|remaining| Deadline::at(now + remaining))
    }

    /// What a callee has of `deadline` at `now`: less the allowance.
    pub(crate) fn for_callee(&self, deadline: Deadline, now: Instant<Elapsed>) -> Deadline {
        match &self.allowance {
            Some(allowance) => deadline.earlier_by(allowance.of(deadline.remaining_at(now))),
            None => deadline,
        }
    }

    /// Writes what remains at `now` of what is [for the callee](Self::for_callee). An error if that is nothing,
    /// or nothing that the header can say: the call isn't to be sent.
    pub(crate) fn stamp(
        &self,
        headers: &mut HeaderMap,
        deadline: Deadline,
        now: Instant<Elapsed>,
    ) -> Result<(), CannotEncode> {
        let value = self.value(deadline, now)?;
        let value = HeaderValue::from_bytes(value.as_bytes()).expect("what is written is ASCII");
        headers.insert(self.written.name.clone(), value);
        Ok(())
    }

    /// When a callee's time is up that was told so `at` then, which is rounded and may be capped. `None` if
    /// what is written holds a date.
    pub(crate) fn told(&self, deadline: Deadline, at: Instant<Elapsed>) -> Option<Deadline> {
        let value = self.value(deadline, at).ok()?;
        let told = Decoder::new().decode(self.written.header, [value.as_bytes()]).ok()?;
        told.decoded.remaining().map(|told| Deadline::at(at + told))
    }

    fn value(&self, deadline: Deadline, now: Instant<Elapsed>) -> Result<Value, CannotEncode> {
        let mut encoder = self.encoder;
        if let Some(wall) = self.wall {
            encoder = encoder.wall(wall());
        }
        encoder.encode(self.written.header, deadline.remaining_at(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: Duration = Duration::from_millis(1);
    const SECOND: Duration = Duration::from_secs(1);

    fn now() -> Instant<Elapsed> {
        Instant::from_nanos(7_000_000_000)
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    fn admit(pairs: &[(&'static str, &str)], settings: Settings) -> Option<(Duration, Origin)> {
        let admitted = Honoured::default().admit(&headers(pairs), &settings, now()).unwrap();
        admitted.provenance.map(|it| (it.budget(), it.origin()))
    }

    const GRPC: Origin = Origin::Header("grpc-timeout");

    #[test]
    fn who_is_not_trusted_may_only_shorten() {
        let settings = Settings::new().default_timeout(SECOND).maximum(10 * SECOND);
        let asked = |value| admit(&[("grpc-timeout", value)], settings);
        assert_eq!(asked("300m"), Some((300 * MS, GRPC)));
        assert_eq!(asked("3S"), Some((SECOND, Origin::Default)));
        assert_eq!(asked("99999999H"), Some((SECOND, Origin::Default)));
        assert_eq!(admit(&[], settings), Some((SECOND, Origin::Default)));
        let maximum = Settings::new().maximum(2 * SECOND).default_timeout(5 * SECOND);
        assert_eq!(admit(&[], maximum), Some((2 * SECOND, Origin::Maximum)));
    }

    #[test]
    fn who_is_trusted_has_the_default_only_if_it_asks_for_nothing() {
        let settings = Settings::new().trusted(true).default_timeout(SECOND).maximum(10 * SECOND);
        let asked = |value| admit(&[("grpc-timeout", value)], settings);
        assert_eq!(asked("3S"), Some((3 * SECOND, GRPC)));
        assert_eq!(asked("20S"), Some((10 * SECOND, Origin::Maximum)));
        assert_eq!(asked("99999999H"), Some((10 * SECOND, Origin::Maximum)));
        assert_eq!(asked("soon"), Some((SECOND, Origin::Default)));
        assert_eq!(admit(&[], settings), Some((SECOND, Origin::Default)));
        assert_eq!(admit(&[], Settings::new()), None);
    }

    #[test]
    fn of_several_headers_the_smallest_counts() {
        let both = [("grpc-timeout", "2S"), ("connect-timeout-ms", "1500"), ("l5d-timeout", "1s")];
        let connect = Origin::Header("connect-timeout-ms");
        assert_eq!(admit(&both, Settings::new()), Some((1500 * MS, connect)));
        let mut honoured = Honoured::default();
        honoured.add(Header::L5dTimeout);
        let admitted = honoured.admit(&headers(&both), &Settings::new(), now()).unwrap();
        assert_eq!(admitted.provenance.unwrap().budget(), SECOND);
    }

    #[test]
    fn a_preference_sets_no_deadline_and_is_told() {
        let mut honoured = Honoured { on_malformed: OnMalformed::Reject, ..Honoured::default() };
        honoured.add(Header::Prefer);
        let admit = |value| honoured.admit(&headers(&[("prefer", value)]), &Settings::new(), now());
        let admitted = admit("wait=0").unwrap();
        assert_eq!((admitted.provenance, admitted.preference), (None, Some(Duration::ZERO)));
        assert_eq!(admit("wait=3").unwrap().preference, Some(3 * SECOND));
        assert_eq!(admit("wait=\"").unwrap().preference, None);
    }

    #[test]
    fn zero_is_expired_on_arrival() {
        assert_eq!(admit(&[("grpc-timeout", "0n")], Settings::new()), Some((Duration::ZERO, GRPC)));
    }

    #[test]
    fn a_date_says_something_once_there_is_a_clock_on_the_wall() {
        let mut honoured = Honoured::default();
        honoured.add(Header::AmzSdkRequest);
        let dated = headers(&[("amz-sdk-request", "ttl=19700101T000102Z; attempt=1; max=3")]);
        let admit = |honoured: &Honoured| {
            honoured.admit(&dated, &Settings::new(), now()).unwrap().provenance
        };
        assert_eq!(admit(&honoured), None);
        honoured.wall = Some((|| SystemTime::UNIX_EPOCH + 60 * SECOND, 10 * SECOND));
        assert_eq!(admit(&honoured).unwrap().budget(), 2 * SECOND);
    }

    #[test]
    fn what_a_client_has_is_the_earliest_of_all() {
        let outgoing = Outgoing { timeout: 5 * SECOND, ..Outgoing::new(Header::GrpcTimeout) };
        let at = |after| Deadline::at(now() + after);
        let ambient = |after| Some(Provenance::new(at(after), Origin::Scope("outer"), now()));
        let effective = |ambient, own, value: Option<&str>| {
            let mut headers: HeaderMap =
                value.map(|value| headers(&[("grpc-timeout", value)])).unwrap_or_default();
            let asked = outgoing.take(&mut headers, now());
            let it = outgoing.effective(ambient, own, asked, now()).unwrap();
            (it.budget(), it.origin())
        };
        assert_eq!(effective(None, None, None), (5 * SECOND, Origin::Endpoint));
        let scope = (2 * SECOND, Origin::Scope("outer"));
        assert_eq!(effective(ambient(2 * SECOND), Some(at(3 * SECOND)), None), scope);
        let own = (SECOND, Origin::Call);
        assert_eq!(effective(ambient(2 * SECOND), Some(at(SECOND)), None), own);
        assert_eq!(effective(ambient(2 * SECOND), None, Some("1000m")), own);
        // Forwarded as it came: there is less than that by now.
        assert_eq!(effective(ambient(2 * SECOND), None, Some("9S")), scope);
        let unlimited = Outgoing::new(Header::GrpcTimeout);
        assert_eq!(unlimited.effective(None, Some(Deadline::NEVER), None, now()), None);
    }

    #[test]
    fn one_header_takes_the_place_of_all() {
        let outgoing = Outgoing {
            allowance: Some((5 * MS).into()),
            ..Outgoing::new(Header::ConnectTimeoutMs)
        };
        let mut stale = headers(&[
            ("grpc-timeout", "9S"),
            ("grpc-timeout", "8S"),
            ("x-envoy-expected-rq-timeout-ms", "9000"),
            ("connect-timeout-ms", "garbage"),
            ("x-other", "kept"),
        ]);
        outgoing.take(&mut stale, now());
        let callees = outgoing.for_callee(Deadline::at(now() + 20 * MS), now());
        outgoing.stamp(&mut stale, callees, now()).unwrap();
        assert_eq!(stale, headers(&[("x-other", "kept"), ("connect-timeout-ms", "15")]));
    }

    #[test]
    fn what_is_used_up_by_the_allowance_is_not_sent() {
        let outgoing =
            Outgoing { allowance: Some((5 * MS).into()), ..Outgoing::new(Header::GrpcTimeout) };
        let stamp = |left| {
            let callees = outgoing.for_callee(Deadline::at(now() + left), now());
            outgoing.stamp(&mut HeaderMap::new(), callees, now()).is_ok()
        };
        assert!(!stamp(5 * MS));
        assert!(stamp(5 * MS + Duration::from_nanos(1)));
        assert!(!stamp(Duration::ZERO));
    }

    fn any_headers() -> impl Strategy<Value = HeaderMap> {
        let name = prop::sample::select(&super::super::codec::TIMEOUT_HEADERS[..]);
        let value = prop_oneof![
            prop::collection::vec(any::<u8>(), 0..40),
            "[0-9]{0,12}(H|M|S|m|u|n|ms|s)?".prop_map(String::into_bytes),
        ];
        prop::collection::vec((name, value), 0..12).prop_map(|pairs| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                if let Ok(value) = HeaderValue::from_bytes(&value) {
                    headers.append(name, value);
                }
            }
            headers
        })
    }

    fn any_limit() -> impl Strategy<Value = Duration> {
        prop_oneof![
            Just(Duration::MAX),
            any::<u64>().prop_map(Duration::from_nanos),
            (0u64..10_000).prop_map(Duration::from_millis),
        ]
    }

    proptest! {
        #[test]
        fn no_headers_hurt_or_give_more_than_the_settings(
            headers in any_headers(),
            trusted: bool, maximum in any_limit(), default in any_limit(),
            policy in 0..3, now_ns: u64,
        ) {
            let on_malformed =
                [OnMalformed::Ignore, OnMalformed::Reject, OnMalformed::Lenient][policy as usize];
            let mut honoured = Honoured { on_malformed, ..Honoured::default() };
            honoured.wall = Some((|| SystemTime::UNIX_EPOCH, SECOND));
            Header::KNOWN.into_iter().for_each(|header| honoured.add(header));
            let settings =
                Settings::new().trusted(trusted).maximum(maximum).default_timeout(default);
            let now = Instant::from_nanos(now_ns);
            if let Ok(admitted) = honoured.admit(&headers, &settings, now) {
                let limit = if trusted { maximum } else { maximum.min(default) };
                let deadline = admitted.provenance.map_or(Deadline::NEVER, |it| it.deadline());
                prop_assert!(deadline <= Deadline::at(now + limit));
            }
        }

        #[test]
        fn what_is_sent_is_never_more_than_any_limit_leaves(
            mut headers in any_headers(),
            around in any_limit(), own in any_limit(), timeout in any_limit(),
            allowance in (0u64..1 << 40).prop_map(Duration::from_nanos),
            passes in (0u64..1 << 40).prop_map(Duration::from_nanos),
        ) {
            let fixed = Some(allowance.into());
            let outgoing =
                Outgoing { timeout, allowance: fixed, ..Outgoing::new(Header::GrpcTimeout) };
            let ambient = Provenance::new(Deadline::at(now() + around), Origin::Maximum, now());
            let own = Deadline::at(now() + own);
            let asked = outgoing.take(&mut headers, now());
            let effective = outgoing.effective(Some(ambient), Some(own), asked, now());
            let Some(effective) = effective else { return Ok(()) };
            for limit in [Some(ambient.deadline()), Some(own), asked].into_iter().flatten() {
                prop_assert!(effective.deadline() <= limit);
            }
            let later = now() + passes;
            let callees = outgoing.for_callee(effective.deadline(), later);
            if outgoing.stamp(&mut headers, callees, later).is_ok() {
                // What says other things too stays: neither makes a deadline later.
                headers.remove(Header::Prefer.name());
                headers.remove(Header::AmzSdkRequest.name());
                prop_assert_eq!(headers.len(), 1);
                let sent = outgoing.take(&mut headers, later).unwrap();
                prop_assert_eq!(outgoing.told(callees, later), Some(sent));
                prop_assert!(sent <= effective.deadline().earlier_by(allowance));
                prop_assert!(sent.instant() > later);
            }
        }
    }
}
