//! What a node's control file says of it. Only looks.
//!
//! Source: PostgreSQL's `src/include/catalog/pg_control.h`: the file begins with the system
//! identifier (8 bytes), two version numbers (4 each) and the state (4), in the host's byte order,
//! in every version since 8.0; `DBState` has not changed since 9.0.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use crate::effects::error::EffectError;
use crate::model::SystemId;

const FILE: &str = "global/pg_control";
const STATE_AT: usize = 16;

/// What the node last was, by `DBState`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastState {
    /// A standby, or a restore that had not ended: it has taken no writes since.
    InRecovery,
    /// A primary, running or stopped.
    Primary,
}

/// The system identifier of a data directory.
///
/// # Errors
/// `OutcomeUnknown` when the file cannot be read.
pub fn system_id(data_dir: &Path) -> Result<SystemId, EffectError> {
    let mut id = [0; 8];
    id.copy_from_slice(&head(data_dir)?[..8]);
    Ok(SystemId(u64::from_ne_bytes(id)))
}

/// Reads what a node that does not run last was, or what one that runs is.
///
/// # Errors
/// `OutcomeUnknown` when the file cannot be read or says something unheard of.
pub fn last_state(data_dir: &Path) -> Result<LastState, EffectError> {
    let mut state = [0; 4];
    state.copy_from_slice(&head(data_dir)?[STATE_AT..]);
    match u32::from_ne_bytes(state) {
        // DB_SHUTDOWNED_IN_RECOVERY, DB_IN_ARCHIVE_RECOVERY
        2 | 5 => Ok(LastState::InRecovery),
        // DB_SHUTDOWNED, DB_SHUTDOWNING, DB_IN_CRASH_RECOVERY, DB_IN_PRODUCTION
        1 | 3 | 4 | 6 => Ok(LastState::Primary),
        other => Err(EffectError::unknown(format!(
            "{} says state {other}, which is not known",
            data_dir.join(FILE).display()
        ))),
    }
}

fn head(data_dir: &Path) -> Result<[u8; STATE_AT + 4], EffectError> {
    let path = data_dir.join(FILE);
    let mut bytes = [0; STATE_AT + 4];
    File::open(&path)
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(|error| {
            EffectError::unknown(format!("cannot read {}", path.display())).caused_by(error)
        })?;
    Ok(bytes)
}
