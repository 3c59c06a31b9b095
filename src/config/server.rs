//! Where the server listens and what it is called.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
};

use super::{Error, source::Source, value::Value};
use crate::domain::OkmsDomain;

/// Where the server listens and what it is called.
#[derive(Debug, Clone)]
pub struct Server {
    /// Where the API listens.
    pub api_listen: ApiListen,
    /// Where the public documentation listens.
    pub docs_listen: DocsListen,
    /// Where operations, such as metrics, are served over plain HTTP.
    pub operations_listen: OperationsListen,
    /// The address of the API as clients know it, where it is not the one it listens on.
    pub api_url: Option<Origin>,
    /// The region that new domains are in.
    pub region: Region,
}

impl Server {
    pub(super) fn settings(&mut self, source: &mut impl Source) -> Result<(), Error> {
        source.setting("server.api_listen", "OKMSD_API_LISTEN", &mut self.api_listen)?;
        source.setting("server.docs_listen", "OKMSD_DOCS_LISTEN", &mut self.docs_listen)?;
        source.setting(
            "server.operations_listen",
            "OKMSD_OPERATIONS_LISTEN",
            &mut self.operations_listen,
        )?;
        source.setting("server.api_url", "OKMSD_API_URL", &mut self.api_url)?;
        source.setting("server.region", "OKMSD_REGION", &mut self.region)?;
        Ok(())
    }
}

impl Default for Server {
    fn default() -> Self {
        Self {
            api_listen: ApiListen(SocketAddr::from((Ipv4Addr::LOCALHOST, 8443))),
            docs_listen: DocsListen(Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 8444)))),
            operations_listen: OperationsListen(Some(SocketAddr::from((
                Ipv4Addr::LOCALHOST,
                8445,
            )))),
            api_url: None,
            region: Region("eu".to_owned()),
        }
    }
}

/// Where the API listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApiListen(pub SocketAddr);

impl Value for ApiListen {
    const RULE: &'static str = SocketAddr::RULE;

    fn parse(text: &str, base: &Path) -> Option<Self> {
        SocketAddr::parse(text, base).map(Self)
    }

    fn show(&self) -> String {
        self.0.show()
    }
}

/// Where the public documentation listens; nowhere where it is off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DocsListen(pub Option<SocketAddr>);

impl Value for DocsListen {
    const RULE: &'static str =
        "must be ADDRESS:PORT, such as \"127.0.0.1:8444\" or \"[::]:8444\", or \"off\"";

    fn parse(text: &str, base: &Path) -> Option<Self> {
        if text == OFF {
            return Some(Self(None));
        }
        SocketAddr::parse(text, base).map(Some).map(Self)
    }

    fn show(&self) -> String {
        self.0.map_or_else(|| OFF.to_owned(), |address| address.show())
    }
}

/// Where operations are served; nowhere where it is off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OperationsListen(pub Option<SocketAddr>);

impl Value for OperationsListen {
    const RULE: &'static str = "must be ADDRESS:PORT, such as \"127.0.0.1:8445\", or \"off\"";

    fn parse(text: &str, base: &Path) -> Option<Self> {
        DocsListen::parse(text, base).map(|DocsListen(address)| Self(address))
    }

    fn show(&self) -> String {
        DocsListen(self.0).show()
    }
}

/// The origin of a web address: `https://HOST[:PORT]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin(String);

impl Origin {
    /// The text, without a slash at its end.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Value for Origin {
    const RULE: &'static str =
        "must be https://HOST or https://HOST:PORT, such as \"https://okms.example.com\"";

    fn parse(text: &str, _base: &Path) -> Option<Self> {
        let host = text.strip_prefix("https://")?;
        let host = host.strip_suffix('/').unwrap_or(host);
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
        (!host.is_empty() && host.bytes().all(allowed)).then(|| Self(format!("https://{host}")))
    }

    fn show(&self) -> String {
        self.0.clone()
    }
}

/// The name of a region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Region(String);

impl Region {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Value for Region {
    const RULE: &'static str =
        "must be 1 to 32 lower-case letters, digits and hyphens, such as \"eu-west-rbx\"";

    fn parse(text: &str, _base: &Path) -> Option<Self> {
        OkmsDomain::check_region(text).is_ok().then(|| Self(text.to_owned()))
    }

    fn show(&self) -> String {
        self.0.clone()
    }
}

const OFF: &str = "off";
