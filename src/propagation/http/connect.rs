//! What a client of Connect reads: <https://connectrpc.com/docs/protocol>.

use bytes::{BufMut, Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, request};

use crate::propagation::framing::Framing;

static VERSION: HeaderName = HeaderName::from_static("connect-protocol-version");

/// The flag of the message that ends a stream.
const END: u8 = 0b10;

/// What an answer that isn't the handler's is written in.
#[derive(Debug, Default)]
#[expect(unnameable_types, reason = "part of a sealed trait")]
pub enum Manner {
    /// Any client of HTTP.
    #[default]
    Plain,
    /// One message each way.
    Connect,
    /// Messages in envelopes, of this type.
    ConnectStream(HeaderValue),
}

#[derive(Clone, Copy)]
pub(super) enum Code {
    DeadlineExceeded,
    InvalidArgument,
    Unavailable,
}

impl Code {
    const fn name(self) -> &'static str {
        match self {
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::InvalidArgument => "invalid_argument",
            Self::Unavailable => "unavailable",
        }
    }
}

/// The type of a stream's messages.
fn stream(headers: &HeaderMap) -> Option<&HeaderValue> {
    headers.get(CONTENT_TYPE).filter(|it| it.as_bytes().starts_with(b"application/connect+"))
}

/// Whether a message has these headers that is a stream of Connect's.
pub(super) fn is_stream(headers: &HeaderMap) -> bool {
    stream(headers).is_some()
}

impl Manner {
    pub(super) fn of(request: &request::Parts) -> Self {
        if let Some(content_type) = stream(&request.headers) {
            return Self::ConnectStream(content_type.clone());
        }
        let in_query = || {
            let query = request.uri.query().unwrap_or_default();
            request.method == Method::GET && query.split('&').any(|it| it == "connect=v1")
        };
        if request.headers.contains_key(&VERSION) || in_query() {
            Self::Connect
        } else {
            Self::Plain
        }
    }

    /// `None` for who doesn't speak it.
    pub(super) fn answer(
        &self,
        code: Code,
        status: StatusCode,
        why: &str,
    ) -> Option<Response<Bytes>> {
        let (status, content_type, body) = match self {
            Self::Plain => return None,
            Self::Connect => {
                let body = Bytes::from(error(code, why));
                (status, HeaderValue::from_static("application/json"), body)
            }
            // A stream tells at its end how it went, also one of nothing else.
            Self::ConnectStream(content_type) => {
                (StatusCode::OK, content_type.clone(), end_of_stream(code, why))
            }
        };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, content_type);
        Some(response)
    }
}

/// Whether that message has passed.
pub(super) fn has_ended(framing: &Framing) -> bool {
    framing.is_between_messages() && framing.flag() & END == END
}

/// The message that ends a stream.
pub(super) fn end_of_stream(code: Code, why: &str) -> Bytes {
    let text = format!("{{\"error\":{}}}", error(code, why));
    let mut message = BytesMut::with_capacity(5 + text.len());
    message.put_u8(END);
    message.put_u32(u32::try_from(text.len()).expect("it is a line of text"));
    message.put_slice(text.as_bytes());
    message.freeze()
}

/// As JSON.
fn error(code: Code, why: &str) -> String {
    let mut message = String::with_capacity(why.len());
    for letter in why.chars() {
        match letter {
            '"' | '\\' => message.extend(['\\', letter]),
            // Of no use in a line of text, and JSON has no bare ones.
            _ if letter.is_control() => message.push(' '),
            _ => message.push(letter),
        }
    }
    format!("{{\"code\":\"{}\",\"message\":\"{message}\"}}", code.name())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;
    use proptest::prelude::*;

    fn manner(request: http::request::Builder) -> Manner {
        Manner::of(&request.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn a_client_of_connect_is_known_by_what_it_sends() {
        let unary = Request::post("/a.B/C").header("connect-protocol-version", "1");
        assert!(matches!(manner(unary), Manner::Connect));
        assert!(matches!(manner(Request::get("/a.B/C?x=2&connect=v1")), Manner::Connect));
        let stream = Request::post("/a.B/C").header("content-type", "application/connect+proto");
        assert!(
            matches!(manner(stream), Manner::ConnectStream(it) if it == "application/connect+proto")
        );
        for plain in [
            Request::post("/?connect=v1"),
            Request::get("/?reconnect=v1"),
            Request::post("/").header("content-type", "application/json"),
        ] {
            assert!(matches!(manner(plain), Manner::Plain));
        }
    }

    /// The text of a JSON string that begins after its first quote, and what follows the last.
    fn unquoted(json: &str) -> Option<(String, &str)> {
        let (mut text, mut letters) = (String::new(), json.chars());
        loop {
            match letters.next()? {
                '"' => return Some((text, letters.as_str())),
                '\\' => text.push(letters.next().filter(|it| matches!(it, '"' | '\\'))?),
                letter if letter < ' ' => return None,
                letter => text.push(letter),
            }
        }
    }

    proptest! {
        #[test]
        fn whatever_is_said_is_json(why: String) {
            let json = error(Code::InvalidArgument, &why);
            let rest = json.strip_prefix(r#"{"code":"invalid_argument","message":""#).unwrap();
            prop_assert_eq!(unquoted(rest), Some((why.replace(char::is_control, " "), "}")));
            let end = end_of_stream(Code::InvalidArgument, &why);
            prop_assert_eq!(end[0], 2);
            prop_assert_eq!(&end[1..5], &(u32::try_from(end.len()).unwrap() - 5).to_be_bytes());
            let within = format!(r#"{{"error":{json}}}"#);
            prop_assert_eq!(&end[5..], within.as_bytes());
        }
    }
}
