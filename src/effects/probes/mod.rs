//! Probes: each looks at one target and says what it saw, never what that means.
//!
//! To add a kind of endpoint probe: one file with a `KIND`, one line in [`PROBE_KINDS`].
//! Start reading at [`Probe`]; `http` is the richest example. The database probes are in
//! [`postgres`]; when to look is `runtime::scheduler`'s business.

pub mod dial;
pub mod directory;
pub mod http;
pub mod neutral;
pub mod outlet;
pub mod postgres;
pub mod process;
pub mod resolve;
pub mod tcp;

use async_trait::async_trait;

use self::resolve::Resolver;
use super::error::EffectError;
use crate::config::settings;
use crate::model::Moment;
use crate::model::observation::{EndpointResult, EndpointSeen, Phases, Seen, Target};

/// Something that can look at one target.
#[async_trait]
pub trait Probe: Send {
    /// What is looked at.
    fn target(&self) -> Target;

    /// Looks once and comes back by `deadline`. Dropping the future must leave the probe usable.
    async fn look(&mut self, deadline: Moment) -> Seen;

    /// What it means when [`Probe::look`] did not even come back.
    fn overdue(&self) -> Seen;
}

/// A kind of endpoint probe.
#[derive(Debug, Clone, Copy)]
pub struct ProbeKind {
    /// Its name in `agent.toml`.
    pub name: &'static str,
    /// One line for people.
    pub summary: &'static str,
    /// A complete `[[probe]]` section that works as it stands.
    pub example: &'static str,
    /// Builds the probe; `None` when the settings are those of another kind.
    pub build: Build,
}

/// See [`ProbeKind::build`].
pub type Build = fn(&settings::Probe, &Resolver) -> Option<Result<Box<dyn Probe>, EffectError>>;

/// Every kind of endpoint probe.
pub const PROBE_KINDS: &[ProbeKind] = &[http::KIND, tcp::KIND];

/// Builds the probe that `settings` describe.
///
/// # Errors
///
/// `Permanent` when they cannot work: unreadable authorities, a malformed address.
pub fn build(
    settings: &settings::Probe,
    resolver: &Resolver,
) -> Result<Box<dyn Probe>, EffectError> {
    PROBE_KINDS
        .iter()
        .find_map(|kind| (kind.build)(settings, resolver))
        .unwrap_or_else(|| {
            Err(EffectError::permanent(format!(
                "cannot build probe {}: its kind is not in PROBE_KINDS",
                settings.name
            )))
        })
}

/// What an endpoint probe that did not come back saw.
fn endpoint_overdue() -> Seen {
    Seen::Endpoint(EndpointSeen {
        result: EndpointResult::TimedOut {
            phase: "probe".to_owned(),
        },
        phases: Phases::default(),
    })
}

/// A text from somebody else's system, cut to a bounded length.
pub(crate) fn cut(text: &str) -> String {
    /// Enough for any one-line reason; status, journal and alerts stay readable.
    const LENGTH_MAX: usize = 300;
    match text.char_indices().nth(LENGTH_MAX) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}
