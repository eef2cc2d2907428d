//! What the gate (S10) looks at and writes in a data directory before its server starts.
//!
//! Must not: decide; `runtime::gate` does. Source: PostgreSQL manual 20.5.4 (`standby.signal` wins
//! over `recovery.signal`) and `postgres -C` (prints a setting, whatever files it comes from).

use std::fs::File;
use std::time::Duration;

use super::control_file::system_id;
use super::fence::write_signal_file;
use super::installation::{bin_dir, config_file_elsewhere, server_user, server_version};
use super::process::Instance;
use crate::config::settings::Node;
use crate::effects::error::EffectError;
use crate::effects::exec::{CommandSpec, run};
use crate::model::SystemId;

/// Bound on reading one setting.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);

/// A data directory that does not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    /// The database cluster that it belongs to.
    pub system_id: SystemId,
    /// It starts as a standby.
    pub is_standby: bool,
}

/// Looks at the data directory.
///
/// # Errors
/// Permanent if it is none, or this process may not look after it; `OutcomeUnknown` if its control
/// file cannot be read.
pub fn look(instance: &Instance) -> Result<Directory, EffectError> {
    instance.identify()?;
    // A server that still works in the directory that was here is not to get company.
    instance.in_place()?;
    let signal = instance.data_dir().join("standby.signal");
    let is_standby = signal.try_exists().map_err(|error| {
        EffectError::unknown(format!("cannot look for {}", signal.display())).caused_by(error)
    })?;
    Ok(Directory {
        system_id: system_id(instance.data_dir())?,
        is_standby,
    })
}

/// Whether it knows whom it would follow as a standby.
///
/// # Errors
/// Permanent if its server's programs or settings cannot be found, Retryable if they cannot be run.
pub async fn knows_primary(node: &Node, instance: &Instance) -> Result<bool, EffectError> {
    let data_dir = instance.data_dir();
    let version = server_version(data_dir)?;
    let user = server_user(node, &instance.identify()?)?;
    let postgres = bin_dir(node, version).await?.join("postgres");
    // `-C` must come first: only then does a server program run as root, too.
    let mut spec = CommandSpec::new(postgres, ASK_TIMEOUT)
        .args(["-C", "primary_conninfo", "-D"])
        .arg(data_dir)
        .user(user);
    if let Some(file) = config_file_elsewhere(data_dir, version)? {
        spec = spec.arg("-c").arg(format!("config_file={file}"));
    }
    let ended = run(&spec).await?;
    if !ended.success() {
        let what = format!("{spec} failed: {}", ended.complaint());
        return Err(EffectError::retryable(what).hint("repair the server's settings"));
    }
    Ok(!ended.stdout.trim().is_empty())
}

/// Makes the next start that of a standby, safe from a power cut.
///
/// # Errors
/// Retryable if the file cannot be written: the server must not start then.
pub fn make_standby(instance: &Instance) -> Result<(), EffectError> {
    let path = instance.data_dir().join("standby.signal");
    let id = instance.identify()?;
    write_signal_file(&path, id)
        .and_then(|file| file.sync_all())
        .and_then(|()| File::open(instance.data_dir())?.sync_all())
        .map_err(|error| {
            EffectError::retryable(format!("cannot write {}", path.display())).caused_by(error)
        })
}
