//! How the world sees a DNS record: what each server answers, who has the change, and how long old
//! answers may live.

use std::fmt::{self, Write as _};

use serde::{Deserialize, Serialize};

use super::edge::EdgeView;
use super::{Epoch, Timestamp};

/// What a server is to the record's zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerKind {
    /// It serves the zone.
    Authoritative,
    /// It asks others and remembers what they said.
    Resolver,
}

/// What a server answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "heard", rename_all = "snake_case")]
pub enum Heard {
    /// The wanted values.
    Wanted {
        /// How long whoever asked may keep that, in seconds.
        ttl_s: u32,
    },
    /// Other values.
    Other {
        /// Which.
        values: Vec<String>,
        /// How long they may be kept, in seconds; at a resolver: how long it still keeps them.
        ttl_s: u32,
    },
    /// There is no such record.
    Absent {
        /// How long that may be remembered, in seconds.
        ttl_s: u32,
    },
    /// The name is an alias of another one, where a record of its own is wanted. Not followed.
    Alias {
        /// The other name.
        to: String,
        /// How long that may be kept, in seconds.
        ttl_s: u32,
    },
    /// It answered that it does not answer this.
    Refused {
        /// In words.
        why: String,
    },
    /// It did not answer.
    Silent {
        /// In words.
        why: String,
    },
    /// It cannot be asked from this host, e.g. for want of IPv6: that says nothing of the server.
    Unaskable {
        /// In words.
        why: String,
    },
}

impl Heard {
    /// How long, in seconds, somebody who was told something else than what is wanted may keep it.
    #[must_use]
    pub fn outdated_ttl_s(&self) -> Option<u32> {
        match self {
            Self::Other { ttl_s, .. } | Self::Absent { ttl_s } | Self::Alias { ttl_s, .. } => {
                Some(*ttl_s)
            }
            Self::Wanted { .. }
            | Self::Refused { .. }
            | Self::Silent { .. }
            | Self::Unaskable { .. } => None,
        }
    }

    /// How long, in seconds, what it said may be kept.
    #[must_use]
    pub fn ttl_s(&self) -> Option<u32> {
        match self {
            Self::Wanted { ttl_s } => Some(*ttl_s),
            Self::Other { .. }
            | Self::Absent { .. }
            | Self::Alias { .. }
            | Self::Refused { .. }
            | Self::Silent { .. }
            | Self::Unaskable { .. } => self.outdated_ttl_s(),
        }
    }
}

impl fmt::Display for Heard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wanted { ttl_s } => write!(f, "has it ({ttl_s} s)"),
            Self::Other { values, ttl_s } => write!(f, "has {} ({ttl_s} s)", values.join(", ")),
            Self::Absent { ttl_s } => write!(f, "has no such record ({ttl_s} s)"),
            Self::Alias { to, ttl_s } => write!(f, "has an alias to {to} ({ttl_s} s)"),
            Self::Refused { why } => write!(f, "does not answer this: {why}"),
            Self::Silent { why } => write!(f, "silent: {why}"),
            Self::Unaskable { why } => write!(f, "cannot be asked from here: {why}"),
        }
    }
}

/// One server and what it answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerAnswer {
    /// Where it was asked, as `ip:port`, or [`Self::NOWHERE`].
    pub server: String,
    /// Its name, where one is known.
    pub name: Option<String>,
    /// What it is to the zone.
    pub kind: ServerKind,
    /// What it said.
    #[serde(flatten)]
    pub heard: Heard,
}

impl ServerAnswer {
    /// Where a server was asked whose address was not found.
    pub const NOWHERE: &str = "(not asked)";
}

/// How many of those that could be asked have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Share {
    /// So many have it.
    pub has: usize,
    /// So many could be asked.
    pub of: usize,
}

impl Share {
    /// True when there are some, and every one of them has it.
    #[must_use]
    pub fn is_whole(self) -> bool {
        self.of > 0 && self.has == self.of
    }
}

/// What all servers answered at one time.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct OutsideView {
    /// Authoritative servers first.
    pub servers: Vec<ServerAnswer>,
    /// Why the zone's servers are not known, or not all of them.
    pub unfound: Option<String>,
}

impl OutsideView {
    /// How many servers of a kind have it.
    #[must_use]
    pub fn share(&self, kind: ServerKind) -> Share {
        let mut share = Share::default();
        for answer in self.servers.iter().filter(|answer| answer.kind == kind) {
            share.of += usize::from(!matches!(answer.heard, Heard::Unaskable { .. }));
            share.has += usize::from(matches!(answer.heard, Heard::Wanted { .. }));
        }
        share
    }

    /// True when every authoritative server that could be asked has it, and so has every resolver.
    #[must_use]
    pub fn is_everywhere(&self) -> bool {
        let resolvers = self.share(ServerKind::Resolver);
        self.unfound.is_none()
            && self.share(ServerKind::Authoritative).is_whole()
            && resolvers.has == resolvers.of
    }

    /// The longest time, in seconds, for which a resolver still keeps something else.
    #[must_use]
    pub fn resolvers_keep_old_s(&self) -> Option<u32> {
        let resolvers = self
            .servers
            .iter()
            .filter(|answer| answer.kind == ServerKind::Resolver);
        resolvers
            .filter_map(|answer| answer.heard.outdated_ttl_s())
            .max()
    }

    /// The share that has it, in words.
    #[must_use]
    pub fn words(&self) -> String {
        let authoritative = self.share(ServerKind::Authoritative);
        let resolvers = self.share(ServerKind::Resolver);
        let mut words = match (&self.unfound, authoritative.of) {
            (Some(why), 0) => format!("authoritative servers not found: {why}"),
            (Some(why), _) => format!(
                "{} of {} authoritative servers ({why})",
                authoritative.has, authoritative.of
            ),
            (None, _) => format!(
                "{} of {} authoritative servers",
                authoritative.has, authoritative.of
            ),
        };
        if resolvers.of > 0 {
            let written = write!(words, ", {} of {} resolvers", resolvers.has, resolvers.of);
            debug_assert!(written.is_ok());
        }
        words
    }
}

/// How far a change has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Spreading {
    /// Not everybody has it, or an old answer may still live.
    UnderWay,
    /// Every server asked has it, and the old TTL has run out.
    Done,
    /// Not everybody had it after so long a time that it is not looked for any more.
    GivenUp,
    /// The provider answers with addresses of its own, and nothing is named to be asked through its
    /// edge: which site it forwards to cannot be seen.
    Proxied,
}

/// A record that the active agent keeps, as it was last seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsStatus {
    /// Its name in `agent.toml`.
    pub name: String,
    /// The DNS name.
    pub record: String,
    /// The record's type.
    pub kind: String,
    /// What it should be.
    pub wanted: Vec<String>,
    /// Under which epoch.
    pub epoch: Epoch,
    /// How far that has got.
    pub spreading: Spreading,
    /// When servers were last asked.
    pub looked_at: Option<Timestamp>,
    /// What they answered.
    pub view: Option<OutsideView>,
    /// What answered through the provider's edge.
    #[serde(default)]
    pub edge: Option<EdgeView>,
    /// Until when old answers may live; `None`: not known yet.
    pub old_until: Option<Timestamp>,
    /// How the record differs at the provider from what it should be.
    pub drift: Option<String>,
    /// Why the provider could not be looked at.
    pub unlooked: Option<String>,
}

impl DnsStatus {
    /// One line for people, without the name.
    #[must_use]
    pub fn words(&self) -> String {
        let views = [
            self.view.as_ref().map(OutsideView::words),
            self.edge.as_ref().map(EdgeView::words),
        ];
        let seen = views.into_iter().flatten().collect::<Vec<_>>().join("; ");
        let mut words = match self.spreading {
            Spreading::Proxied => {
                "proxied: which site the provider's edge forwards to is not seen \
                                   without edge_check"
                    .to_owned()
            }
            // The edge is many servers, of which the nearest answers.
            Spreading::Done if self.edge.is_some() => {
                format!("{} as seen from here: {seen}", self.wanted.join(", "))
            }
            Spreading::Done => format!("{} everywhere: {seen}", self.wanted.join(", ")),
            Spreading::GivenUp => format!("{seen}; not looked for any more"),
            Spreading::UnderWay if seen.is_empty() => "nobody asked yet".to_owned(),
            Spreading::UnderWay => match (&self.view, self.old_until) {
                (None, _) => seen,
                (Some(_), Some(until)) => format!("{seen}; old answers may live until {until}"),
                (Some(_), None) => format!("{seen}; how long old answers live is not known yet"),
            },
        };
        if let Some(drift) = &self.drift {
            words.push_str("; DRIFT: ");
            words.push_str(drift);
        }
        if let Some(why) = &self.unlooked {
            words.push_str("; cannot look at the provider: ");
            words.push_str(why);
        }
        words
    }
}

/// A record as the provider has it, against what it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsPlanned {
    /// Its name in `agent.toml`.
    pub name: String,
    /// The DNS name.
    pub record: String,
    /// The record's type.
    pub kind: String,
    /// What it should be.
    pub wanted: Vec<String>,
    /// Under which epoch.
    pub epoch: Epoch,
    /// What the provider has, or why it could not be asked.
    pub provider: Result<DnsKept, String>,
}

/// What a provider has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsKept {
    /// The values of that name and type.
    pub values: Vec<String>,
    /// How long they may be kept, in seconds; `None` when the provider decides.
    pub ttl_s: Option<u32>,
    /// True when the provider answers with its own addresses.
    pub proxied: bool,
    /// How it differs from what it should be; `None`: not at all.
    pub drift: Option<Drift>,
}

/// How a record differs from what it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "drift", rename_all = "snake_case")]
pub enum Drift {
    /// It names something else.
    Moved {
        /// What.
        values: Vec<String>,
    },
    /// It is right, but does not say so under this epoch.
    Unmarked,
    /// The provider stands before the site, or does not, other than the settings say.
    Proxy {
        /// Whether it does.
        proxied: bool,
    },
    /// It is gone, or so that it is not clear which record is meant.
    Unclear {
        /// In words.
        why: String,
    },
    /// A newer epoch was here: nobody here may touch it.
    Newer {
        /// Which.
        epoch: Epoch,
    },
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Moved { values } => write!(f, "it is {}", values.join(", ")),
            Self::Unmarked => f.write_str("it does not say under which epoch it is right"),
            Self::Proxy { proxied: true } => {
                f.write_str("it is proxied, and the settings say proxied = false")
            }
            Self::Proxy { proxied: false } => {
                f.write_str("it is not proxied, and the settings say proxied = true")
            }
            Self::Unclear { why } => f.write_str(why),
            Self::Newer { epoch } => {
                write!(f, "the newer epoch {epoch} has moved it; it is left alone")
            }
        }
    }
}

/// A record as it is seen from here: at its provider, at the zone's servers, at resolvers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsVerified {
    /// At the provider.
    #[serde(flatten)]
    pub planned: DnsPlanned,
    /// At everybody else; `None` for a proxied record, which DNS does not show.
    pub view: Option<OutsideView>,
    /// Through the provider's edge; `None` where nothing is named to be asked.
    #[serde(default)]
    pub edge: Option<EdgeView>,
    /// Until when old answers may live, as far as the watch over a move and what resolvers keep
    /// say; `None`: none is known of.
    pub old_until: Option<Timestamp>,
}

impl DnsVerified {
    /// True when everybody who was asked has it.
    #[must_use]
    pub fn is_everywhere(&self) -> bool {
        let kept = self.planned.provider.as_ref();
        kept.is_ok_and(|kept| kept.drift.is_none())
            && self.view.as_ref().is_none_or(OutsideView::is_everywhere)
            && self.edge.as_ref().is_none_or(EdgeView::follows)
    }
}
