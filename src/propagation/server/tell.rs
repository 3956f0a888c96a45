//! What a caller is told about a deadline that has passed.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response};

use super::layer::Config;
use crate::deadline::{Blame, Expired, Hop};
use crate::propagation::blame;
use crate::propagation::http::DEADLINE_EXCEEDED;
use crate::propagation::protocol::Protocol;

/// How much a caller is told.
pub(super) struct Tell {
    /// Whether it is told what is further inside.
    pub(super) blame: bool,
    /// That of the request, if it is to be told.
    pub(super) path: Option<Box<str>>,
}

impl Tell {
    /// What of it may be told.
    pub(super) fn outward(&self, expired: &Expired) -> Expired {
        let expired = expired.clone();
        if self.blame { expired } else { expired.with_blame(None) }
    }

    /// In place of the handler's answer.
    pub(super) fn answer<P: Protocol>(
        &self,
        config: &Config<P>,
        manner: &P::Manner,
        expired: &Expired,
    ) -> Response<Bytes> {
        let mut answer = config.protocol.answer_expired(manner, &self.outward(expired));
        self.write(config, answer.headers_mut(), expired);
        answer
    }

    /// Says whose time is up; and what is known of where it went, to those who may know.
    pub(super) fn write<P: Protocol>(
        &self,
        config: &Config<P>,
        headers: &mut HeaderMap,
        expired: &Expired,
    ) {
        let whose = HeaderValue::from_static(blame::whose(expired.origin()));
        headers.insert(DEADLINE_EXCEEDED, whose);
        if self.blame {
            self.write_hops(config, headers, expired);
        }
    }

    /// For a failure of the handler's. `inside` is what this call's expiry would be now, and why a call of its
    /// own had expired before, if one had; `is_expiry`, whether the failure says that.
    pub(super) fn pass_on<P: Protocol>(
        &self,
        config: &Config<P>,
        headers: &mut HeaderMap,
        inside: Option<(Expired, &Blame)>,
        is_expiry: bool,
    ) {
        let is_whole = inside.as_ref().is_some_and(|(expired, blame)| {
            is_expiry && expired.used_whole_budget() && blame.used_whole_budget()
        });
        if is_whole {
            headers.insert(DEADLINE_EXCEEDED, HeaderValue::from_static(blame::TOLD));
        } else if headers.get(DEADLINE_EXCEEDED).is_some_and(|whose| whose == blame::TOLD) {
            // What was told to others, in an answer that the handler hands on.
            headers.insert(DEADLINE_EXCEEDED, HeaderValue::from_static(blame::OTHER));
        }
        if !self.blame {
            // That of a client without a layer, in an answer that is handed on.
            headers.remove(P::BLAME);
        }
        let Some((expired, blame)) = inside else { return };
        if self.blame {
            let expired = expired.with_whole(is_whole).with_blame(Some(blame.clone()));
            self.write_hops(config, headers, &expired);
        } else if is_expiry {
            P::hush(headers);
        }
    }

    /// This service, and in their order those that it has learned of.
    fn write_hops<P: Protocol>(
        &self,
        config: &Config<P>,
        headers: &mut HeaderMap,
        expired: &Expired,
    ) {
        let mut own = Hop::of(expired);
        if let Some(name) = &config.name {
            own = own.with_service(name.clone());
        }
        if let Some(path) = &self.path {
            own = own.with_path(path.clone());
        }
        let text = blame::encode(std::iter::once(&own).chain(expired.hops()));
        let value = HeaderValue::try_from(text).expect("base64 is ASCII");
        headers.insert(P::BLAME, value);
    }
}
