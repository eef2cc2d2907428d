//! Groups of app servers behind a proxy.

use std::path::PathBuf;
use std::time::Duration;

use super::{AppConfig, HttpProbe, ProbeKindSettings, ProbeTiming};
use crate::model::{ProbeName, SiteName};

/// A group of app servers; the healthy ones are what a proxy's file names.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// Its name.
    pub name: String,
    /// The site where the file lies; `None`: on both.
    pub site: Option<SiteName>,
    /// In the order of the file; at least one that is no backup, no address twice.
    pub members: Vec<UpstreamMember>,
    /// The request that each member must answer, `{address}` in its URL; `None`: it must accept a
    /// connection.
    pub http: Option<Box<HttpProbe>>,
    /// Rhythm and thresholds.
    pub timing: ProbeTiming,
    /// Fewer healthy members than this, and none is taken out any more.
    pub min_healthy: usize,
    /// Most members that are taken out or put in by one rendering.
    pub change_max: usize,
    /// How long it must be quiet after a change before the file is written.
    pub settle: Duration,
    /// The file.
    pub file: UpstreamFile,
    /// When too few healthy members fail the site over; `None`: never.
    pub trip: Option<UpstreamTrip>,
}

/// An app server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamMember {
    /// `host:port`.
    pub address: String,
    /// Used only when none of the others is left.
    pub backup: bool,
    /// Its share of the requests; `None`: the proxy's default.
    pub weight: Option<u32>,
    /// Most connections to it at a time; `None`: no bound.
    pub connections_max: Option<u32>,
}

/// A proxy's file, and how the proxy is made to read it.
#[derive(Debug, Clone)]
pub struct UpstreamFile {
    /// In whose language.
    pub format: ProxyFormat,
    /// Where.
    pub path: PathBuf,
    /// The name of the `upstream` block or the `backend` section.
    pub block: String,
    /// Only the servers' lines are written, which stand in a block of somebody else's.
    pub servers_only: bool,
    /// How the file is changed, and the proxy told: a target of one file without edits.
    pub target: AppConfig,
}

/// A proxy's language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyFormat {
    /// nginx.
    Nginx,
    /// HAProxy.
    Haproxy,
}

impl ProxyFormat {
    /// Its name in `agent.toml`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
        }
    }
}

/// When too few healthy members fail the whole site over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpstreamTrip {
    /// Fewer healthy ones than this,
    pub below: usize,
    /// for this long without a break.
    pub down_for: Duration,
}

impl Upstream {
    /// What the group as a whole is called among what an agent looks at. No probe can have this
    /// name, because names have no `/`.
    #[must_use]
    pub fn target(&self) -> ProbeName {
        ProbeName::new(format!("upstream/{}", self.name))
    }

    /// How a member is looked at.
    #[must_use]
    pub fn probe_of(&self, member: &UpstreamMember) -> ProbeKindSettings {
        match &self.http {
            None => ProbeKindSettings::Tcp {
                address: member.address.clone(),
            },
            Some(http) => {
                let mut http = http.clone();
                http.url = http.url.replace("{address}", &member.address);
                ProbeKindSettings::Http(http)
            }
        }
    }

    /// Whether the agent of this site takes care of it.
    #[must_use]
    pub fn is_at(&self, site: &SiteName) -> bool {
        self.site.as_ref().is_none_or(|own| own == site)
    }

    /// Healthy members without which the group counts as down.
    #[must_use]
    pub fn needed(&self) -> usize {
        self.trip.map_or(1, |trip| trip.below)
    }
}
