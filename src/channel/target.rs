//! Who is called.

use http::Uri;
use http::uri::{Authority, Scheme};

use super::Error;

/// Where a channel connects to, and what its requests are addressed to.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) scheme: Scheme,
    pub(super) authority: Authority,
    pub(super) place: Place,
}

#[derive(Clone, Debug)]
pub(super) enum Place {
    /// To be looked up, and tried in order.
    Tcp(Uri),
    #[cfg(unix)]
    Unix(Box<std::path::Path>),
}

impl Target {
    /// With `tls`, of a scheme that says so.
    pub(super) fn parse(text: &str, tls: bool) -> Result<Self, Error> {
        #[cfg(unix)]
        if let Some(path) = text.strip_prefix("unix:") {
            // As gRPC names them: `unix:path` or `unix:///absolute`.
            let path = path.strip_prefix("//").unwrap_or(path);
            if path.is_empty() {
                return Err(Error::target(text, "a path has to follow"));
            }
            let place = Place::Unix(std::path::Path::new(path).into());
            let authority = Authority::from_static("localhost");
            return Ok(Self { scheme: Scheme::HTTP, authority, place });
        }
        let uri: Uri = text.parse().map_err(|_| Error::target(text, "it is no URI"))?;
        let scheme = match uri.scheme_str() {
            Some("http") => Scheme::HTTP,
            Some("https") if tls => Scheme::HTTPS,
            Some("https") => return Err(Error::target(text, "it takes a configuration of TLS")),
            Some(_) => return Err(Error::target(text, "its scheme is none of http, https, unix")),
            None => return Err(Error::target(text, "it has no scheme: http://host:port")),
        };
        let authority = uri.authority().ok_or_else(|| Error::target(text, "it has no host"))?;
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(Error::target(text, "it has a path, which calls have themselves"));
        }
        Ok(Self { scheme, authority: authority.clone(), place: Place::Tcp(uri) })
    }

    /// As in errors.
    pub(super) fn name(&self) -> &str {
        match &self.place {
            Place::Tcp(_) => self.authority.as_str(),
            #[cfg(unix)]
            Place::Unix(path) => path.to_str().unwrap_or("a unix socket"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_called_is_taken_and_what_not_is_told() {
        for (text, name) in [
            ("http://127.0.0.1:50051", "127.0.0.1:50051"),
            ("http://[::1]:80/", "[::1]:80"),
            ("unix:/run/stock", "/run/stock"),
            ("unix:///run/stock", "/run/stock"),
            ("unix:stock", "stock"),
        ] {
            assert_eq!(Target::parse(text, false).unwrap().name(), name);
        }
        for text in ["", "127.0.0.1:50051", "ftp://a", "http://a/b", "http://a?b", "unix:", "http:"]
        {
            let error = Target::parse(text, false).unwrap_err();
            assert!(error.is_user() && error.to_string().contains(text), "{error}");
        }
        let text = "https://stock";
        assert!(Target::parse(text, false).unwrap_err().to_string().contains("TLS"));
        assert_eq!(Target::parse(text, true).unwrap().scheme, Scheme::HTTPS);
    }
}
