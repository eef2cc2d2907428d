//! DNS records that follow the primary, and how each provider is reached.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use crate::config::secret::Secret;
use crate::model::SiteName;

/// A DNS record that follows the primary.
#[derive(Debug, Clone)]
pub struct DnsRecord {
    /// Its name in this file.
    pub name: String,
    /// Fully qualified, lower case, no final dot.
    pub record: String,
    /// `A`, `AAAA`, `CNAME` or `TXT`.
    pub kind: String,
    /// Who serves it, and how that is reached.
    pub access: DnsAccess,
    /// Bound on one call to the provider.
    pub timeout: Duration,
    /// What the records contain when the site of the same index in `Config::sites` is active:
    /// one value each, never none.
    pub contents: [Vec<String>; 2],
}

impl DnsRecord {
    /// What is said of the provider's proxy; `None` for one that has none.
    #[must_use]
    pub fn proxy(&self) -> Option<&Proxy> {
        match &self.access {
            DnsAccess::Cloudflare { proxy, .. } => Some(proxy),
            DnsAccess::Rfc2136 { .. } | DnsAccess::Route53(_) => None,
        }
    }

    /// How it is seen through the provider's edge which site clients reach.
    #[must_use]
    pub fn edge_check(&self) -> Option<&EdgeCheck> {
        self.proxy()?.edge_check.as_ref()
    }
}

/// What the settings say of a provider that may stand between clients and a site.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Proxy {
    /// Whether it does; `None`: whatever the provider says.
    pub proxied: Option<bool>,
    /// How it is seen which site it forwards to.
    pub edge_check: Option<EdgeCheck>,
}

impl Proxy {
    /// As far as the settings say.
    #[must_use]
    pub fn seems_on(&self) -> bool {
        self.proxied.unwrap_or(self.edge_check.is_some())
    }
}

/// A request that the app answers with its site's marker.
#[derive(Clone, PartialEq, Eq)]
pub struct EdgeCheck {
    /// What is asked for. Its query may be secret: show it with [`EdgeCheck::shown`].
    pub url: String,
    /// The response header that is the marker; `None`: the marker stands in the body.
    pub header: Option<String>,
    /// The marker, with `{site}` in it.
    pub expect: String,
}

impl EdgeCheck {
    /// What this site answers.
    #[must_use]
    pub fn marker(&self, site: &SiteName) -> String {
        self.expect.replace("{site}", site.as_str())
    }

    /// What is asked for, as anybody may see it: without its query.
    #[must_use]
    pub fn shown(&self) -> &str {
        self.url.split(['?', '#']).next().unwrap_or_default()
    }
}

impl fmt::Debug for EdgeCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EdgeCheck")
            .field("url", &self.shown())
            .field("header", &self.header)
            .field("expect", &self.expect)
            .finish()
    }
}

/// How it is seen whether the world has what the records say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsCheck {
    /// The servers of every zone; empty: each zone's own, found by its NS records.
    pub authoritative: Vec<SocketAddr>,
    /// Resolvers that are asked, too; empty: none.
    pub resolvers: Vec<SocketAddr>,
    /// Bound on one question to one server.
    pub timeout: Duration,
    /// How often the active agent looks whether somebody else changed its records.
    pub drift_every: Duration,
}

/// How a provider of DNS is reached.
#[derive(Debug, Clone)]
pub enum DnsAccess {
    /// Cloudflare's API.
    Cloudflare {
        /// The zone's id at the provider; `None`: it is found by the record's name.
        zone_id: Option<String>,
        /// The API token.
        token: Secret,
        /// Where the API is; `None`: the provider's own address.
        api_url: Option<String>,
        /// What is said of its proxy.
        proxy: Proxy,
    },
    /// A server that takes signed updates (RFC 2136): BIND, Knot, PowerDNS.
    Rfc2136 {
        /// The zone's primary server.
        server: SocketAddr,
        /// The zone's name: lower case, no final dot.
        zone: String,
        /// What the server calls the key.
        key_name: String,
        /// How updates are signed.
        algorithm: TsigAlgorithm,
        /// The key, in base64.
        key: Secret,
    },
    /// Amazon Route 53.
    Route53(Route53),
}

impl DnsAccess {
    /// The provider's kind in `agent.toml`.
    #[must_use]
    pub fn provider(&self) -> &'static str {
        match self {
            Self::Cloudflare { .. } => "cloudflare",
            Self::Rfc2136 { .. } => "rfc2136",
            Self::Route53(_) => "route53",
        }
    }
}

/// How Amazon Route 53 is reached, and as whom.
#[derive(Debug, Clone)]
pub struct Route53 {
    /// The hosted zone; `None`: the one that the record is in.
    pub zone_id: Option<String>,
    /// Where the API is; `None`: AWS's own address.
    pub endpoint: Option<String>,
    /// The region that requests are signed for, and whose token service is asked for roles.
    pub region: String,
    /// Whose credentials.
    pub login: AwsLogin,
    /// The role taken with them.
    pub role: Option<AwsRole>,
}

/// Where credentials for AWS come from.
#[derive(Debug, Clone)]
pub enum AwsLogin {
    /// The first of: environment, profile, web identity, container, instance.
    Chain,
    /// A profile in AWS's own files.
    Profile(String),
    /// An access key of the agent's own.
    Key {
        /// Its id; no secret.
        id: String,
        /// Its secret.
        secret: Secret,
    },
}

/// A role of AWS's IAM.
#[derive(Debug, Clone)]
pub struct AwsRole {
    /// Its name.
    pub arn: String,
    /// What its owner may demand beside the name.
    pub external_id: Option<String>,
}

/// How updates of DNS are signed. Source: RFC 8945, 6; the others there are too short or too old.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TsigAlgorithm {
    /// HMAC with SHA-256.
    HmacSha256,
    /// HMAC with SHA-384.
    HmacSha384,
    /// HMAC with SHA-512.
    HmacSha512,
}

impl TsigAlgorithm {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::HmacSha256, Self::HmacSha384, Self::HmacSha512];

    /// Its name in settings files of servers.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::HmacSha256 => "hmac-sha256",
            Self::HmacSha384 => "hmac-sha384",
            Self::HmacSha512 => "hmac-sha512",
        }
    }
}
