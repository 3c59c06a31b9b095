//! Where traces are sent.

use std::path::Path;

use super::{Error, source::Source, value::Value};

/// Where traces are sent.
#[derive(Debug, Clone, Default)]
pub struct Telemetry {
    /// The collector of OpenTelemetry, where there is one.
    pub otlp_endpoint: Option<OtlpEndpoint>,
}

impl Telemetry {
    pub(super) fn settings(&mut self, source: &mut impl Source) -> Result<(), Error> {
        let endpoint = &mut self.otlp_endpoint;
        let place = source.setting("telemetry.otlp_endpoint", "OKMSD_OTLP_ENDPOINT", endpoint)?;
        match place {
            Some(place) if !cfg!(feature = "otel") => Err(Error::Rule {
                place,
                rule: "must not be set: this program was built without the feature `otel`",
                flag: false,
            }),
            _ => Ok(()),
        }
    }
}

/// A collector that takes OTLP over HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtlpEndpoint(String);

impl OtlpEndpoint {
    /// Its host and port.
    pub fn authority(&self) -> &str {
        &self.0
    }
}

impl Value for OtlpEndpoint {
    const RULE: &'static str = "must be http://HOST:PORT of a collector that takes OTLP over HTTP, such as \
         \"http://127.0.0.1:4318\"";

    fn parse(text: &str, _base: &Path) -> Option<Self> {
        let authority = text.strip_prefix("http://")?;
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        let (host, port) = authority.rsplit_once(':')?;
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
        let known = !host.is_empty() && host.bytes().all(allowed) && port.parse::<u16>().is_ok();
        known.then(|| Self(authority.to_owned()))
    }

    fn show(&self) -> String {
        format!("http://{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_is_a_host_and_a_port() {
        let parse = |text: &str| OtlpEndpoint::parse(text, Path::new("")).map(|found| found.show());
        for text in ["http://127.0.0.1:4318", "http://[::1]:4318", "http://otel.example:80"] {
            assert_eq!(parse(text).as_deref(), Some(text));
        }
        assert_eq!(parse("http://a:1/").as_deref(), Some("http://a:1"));
        for bad in ["", "a:1", "https://a:1", "http://a", "http://:1", "http://a:x", "http://u@a:1"]
        {
            assert_eq!(parse(bad), None, "{bad}");
        }
        assert_eq!(parse("http://a:1/v1/traces"), None);
    }
}
