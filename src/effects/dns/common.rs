//! What the providers of several records have in common, so that it exists once.

use super::cloudflare::Accounts;
use super::zone_ids::ZoneIds;

/// Made once for all records of the settings.
#[derive(Debug, Default)]
pub struct Common {
    /// Which zones records are in, as far as that is known.
    pub zones: ZoneIds,
    /// Cloudflare's accounts: a token's requests are counted whatever they are for.
    pub(super) cloudflare: Accounts,
}

impl Common {
    /// What begins with these zones.
    #[must_use]
    pub fn with(zones: ZoneIds) -> Self {
        Self {
            zones,
            cloudflare: Accounts::default(),
        }
    }
}
