//! Identities. Each is its own type, so that a site can never be passed where a probe is meant.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Wraps a name that the configuration has already checked.
            #[must_use]
            pub fn new(name: impl Into<String>) -> Self {
                Self(name.into())
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name_type! {
    /// The name of the whole: two sites and their witness. Sent with every peer request, so that
    /// agents of different clusters refuse each other.
    ClusterName
}
name_type! {
    /// One place: one agent, one PostgreSQL node, the apps beside it.
    SiteName
}
name_type! {
    /// A configured probe, app config target or DNS record, as named in `agent.toml`.
    ProbeName
}
name_type! {
    /// One plan, unique for ever within a site: `<site>-<number>`.
    PlanId
}

/// The ever-growing number of the lease: the fencing token. Zero means "never granted".
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The epoch before the first grant.
    pub const NONE: Self = Self(0);

    /// The epoch that follows.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Somebody with a vote: the agent of a site, or the witness.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Member {
    /// The agent of this site.
    Site(SiteName),
    /// The witness: votes and probes from a third place, runs no step.
    Witness,
}

impl Member {
    /// The site of an agent; nothing for the witness.
    #[must_use]
    pub fn site(&self) -> Option<&SiteName> {
        match self {
            Self::Site(site) => Some(site),
            Self::Witness => None,
        }
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Site(site) => site.fmt(f),
            Self::Witness => f.write_str("witness"),
        }
    }
}
