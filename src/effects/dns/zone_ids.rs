//! Which zone a record is in, as it was found: kept over a restart, so that a failover right after
//! it does not begin with a search. Holds ids and names, no secret.
//!
//! Only zones are kept, not records: without compare-and-swap the look at the record is what sees a
//! newer epoch (S8), and where there is compare-and-swap it compares with what the look has seen.
//! An id that the provider refuses is thrown away and looked for anew; so is everything, now and
//! then, while nothing moves. An id of a former life is worth less than one of this life: the token
//! may be another one by now. It counts until the first good look, and not where it shows nothing.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::common::Common;
use crate::config::settings::{DnsAccess, DnsRecord};
use crate::effects::whole_file::write_private;

/// The file in the state directory.
const FILE: &str = "dns-zones.json";
/// More than this is no file of ours.
const FILE_BYTES_MAX: u64 = 256 * 1024;
/// An id becomes part of a path. Longer ones are nobody's.
const ID_CHARS_MAX: usize = 64;

/// Every zone that is known.
#[derive(Debug, Default)]
pub struct ZoneIds {
    /// `None`: they are not kept.
    path: Option<PathBuf>,
    known: Mutex<Known>,
    /// Held while the file is written: a disk that hangs costs one thread, not one each time.
    writing: Mutex<()>,
}

#[derive(Debug, Default)]
struct Known {
    zones: Vec<Found>,
    /// Something is not in the file yet.
    changed: bool,
}

/// One record's zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Found {
    #[serde(flatten)]
    place: Place,
    zone: String,
    /// Nobody has found it in this life.
    #[serde(skip)]
    kept: bool,
}

/// What an id belongs to: at another provider or API it means something else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    provider: String,
    /// Without what may be secret in a URL; empty for the provider's own.
    api: String,
    record: String,
    /// Of its `[[dns]]`: with another token the same name may be in another zone. Files of older
    /// versions have none, and are not used.
    #[serde(default)]
    name: String,
}

impl Place {
    /// `None` where there is nothing to find.
    fn of(settings: &DnsRecord) -> Option<Self> {
        let (zone_id, api) = match &settings.access {
            DnsAccess::Cloudflare {
                zone_id, api_url, ..
            } => (zone_id, api_url),
            DnsAccess::Route53(access) => (&access.zone_id, &access.endpoint),
            DnsAccess::Rfc2136 { .. } => return None,
        };
        if zone_id.is_some() {
            return None;
        }
        let api = api.as_deref().unwrap_or_default();
        Some(Self {
            provider: settings.access.provider().to_owned(),
            api: api.split(['?', '#']).next().unwrap_or_default().to_owned(),
            record: settings.record.clone(),
            name: settings.name.clone(),
        })
    }
}

impl ZoneIds {
    /// What a former life found for these records. A file that cannot be used is only told: what is
    /// in it can be found again.
    #[must_use]
    pub fn open(state_dir: &Path, records: &[DnsRecord]) -> Self {
        let path = state_dir.join(FILE);
        let mut zones = read(&path).unwrap_or_else(|why| {
            tracing::warn!(path = %path.display(), reason = %why, "kept DNS zones are not used");
            Vec::new()
        });
        // So the file never has more than the settings.
        let places: Vec<Place> = records.iter().filter_map(Place::of).collect();
        zones.retain(|it| places.contains(&it.place) && is_id(&it.zone));
        for it in &mut zones {
            it.kept = true;
        }
        let known = Known {
            zones,
            changed: false,
        };
        Self {
            path: Some(path),
            known: Mutex::new(known),
            writing: Mutex::new(()),
        }
    }

    /// Writes down what is new. It waits for the disk: call it where nothing waits for it.
    ///
    /// # Errors
    /// When it cannot be written; the next call tries again.
    pub fn save(&self) -> io::Result<()> {
        let (Some(path), Ok(_writing)) = (&self.path, self.writing.try_lock()) else {
            return Ok(());
        };
        let zones = {
            let mut known = self.known();
            if !known.changed {
                return Ok(());
            }
            known.changed = false;
            known.zones.clone()
        };
        let text = serde_json::to_vec_pretty(&zones).map_err(io::Error::other)?;
        write_private(path, &text).inspect_err(|_| self.known().changed = true)
    }

    /// True when a former life has found this record's zone, and this one has not.
    #[must_use]
    pub fn kept(&self, settings: &DnsRecord) -> bool {
        Place::of(settings).is_some_and(|place| self.is_kept(&place))
    }

    fn is_kept(&self, place: &Place) -> bool {
        let known = self.known();
        known.zones.iter().any(|it| it.place == *place && it.kept)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(path: &Path) -> Result<Vec<Found>, String> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        opened => opened.map_err(|error| error.to_string())?,
    };
    let mut text = Vec::new();
    let read = file.take(FILE_BYTES_MAX).read_to_end(&mut text);
    read.map_err(|error| error.to_string())?;
    serde_json::from_slice(&text).map_err(|error| error.to_string())
}

fn is_id(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    (1..=ID_CHARS_MAX).contains(&text.len()) && text.chars().all(allowed)
}

/// What is known of one record's zone.
#[derive(Debug)]
pub(super) struct ZoneSlot {
    common: Arc<Common>,
    place: Option<Place>,
}

impl ZoneSlot {
    pub(super) fn of(settings: &DnsRecord, common: &Arc<Common>) -> Self {
        Self {
            common: Arc::clone(common),
            place: Place::of(settings),
        }
    }

    /// The id that was found last.
    pub(super) fn get(&self) -> Option<String> {
        let known = self.common.zones.known();
        let found = known
            .zones
            .iter()
            .find(|it| Some(&it.place) == self.place.as_ref())?;
        Some(found.zone.clone())
    }

    /// True when that was in a former life.
    pub(super) fn is_kept(&self) -> bool {
        let zones = &self.common.zones;
        self.place.as_ref().is_some_and(|it| zones.is_kept(it))
    }

    /// An id that was just found.
    pub(super) fn set(&self, zone: &str) {
        let Some(place) = self.place.as_ref().filter(|_| is_id(zone)) else {
            return;
        };
        let found = Found {
            place: place.clone(),
            zone: zone.to_owned(),
            kept: false,
        };
        let mut known = self.common.zones.known();
        let mut same = known.zones.iter_mut();
        if let Some(same) = same.find(|it| it.place == *place && it.zone == zone) {
            same.kept = false;
            return;
        }
        known.zones.retain(|it| it.place != *place);
        known.zones.push(found);
        known.changed = true;
    }

    /// The provider knows of no such zone, or lets nobody in.
    pub(super) fn forget(&self) {
        let mut known = self.common.zones.known();
        let count = known.zones.len();
        known
            .zones
            .retain(|it| Some(&it.place) != self.place.as_ref());
        known.changed |= known.zones.len() != count;
    }
}
