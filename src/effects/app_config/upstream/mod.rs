//! A proxy's file that names the healthy members of a group.
//!
//! Owns: what the file has ([`UpstreamFile::present`]) and the change of it, which is checked, told
//! and proved like every other change of a file. Must not decide who is healthy.

pub mod render;

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use async_trait::async_trait;

use self::render::{places, render};
use super::draft::Job;
use super::{Applied, block, off_thread, run, write};
use crate::config::settings::Upstream;
use crate::effects::error::EffectError;
use crate::model::upstream::Place;

/// Everybody may read a proxy's file, as its package's own.
const MODE: u32 = 0o644;

/// The file of one group.
#[async_trait]
pub trait UpstreamFile: fmt::Debug + Send + Sync {
    /// Where the file has each member; `None`: it has nothing of the group yet.
    ///
    /// # Errors
    /// When it cannot be read, or has no place for the group.
    async fn present(&self) -> Result<Option<Vec<Place>>, EffectError>;

    /// Makes the file have these places, and the proxy use it. Doing it again changes nothing; an
    /// attempt that was cut off is ended first.
    ///
    /// # Errors
    /// When the file cannot be changed, or the proxy does not take it.
    async fn apply(&self, places: Vec<Place>) -> Result<Applied, EffectError>;
}

/// The file on this host.
#[derive(Debug)]
pub struct RenderedFile {
    upstream: Upstream,
    state_dir: PathBuf,
}

impl RenderedFile {
    /// The file of a group.
    #[must_use]
    pub fn new(upstream: Upstream, state_dir: &Path) -> Self {
        Self {
            upstream,
            state_dir: state_dir.to_owned(),
        }
    }

    fn target(&self) -> &str {
        &self.upstream.file.target.name
    }
}

#[async_trait]
impl UpstreamFile for RenderedFile {
    async fn present(&self) -> Result<Option<Vec<Place>>, EffectError> {
        let upstream = self.upstream.clone();
        off_thread(self.target(), move || present(&upstream)).await
    }

    async fn apply(&self, places: Vec<Place>) -> Result<Applied, EffectError> {
        let path = self.upstream.file.path.clone();
        off_thread(self.target(), move || create(&path)).await?;
        let path = self.upstream.file.path.clone();
        let block = render(&self.upstream, &places);
        let job = Job::of_block(self.target(), path, block, &self.state_dir)?;
        run(&self.upstream.file.target, job, None).await
    }
}

/// Where the file of a group has each member; `None`: it has nothing of the group yet. Blocks.
///
/// # Errors
/// When it cannot be read, or has no place for the group.
pub(super) fn present(upstream: &Upstream) -> Result<Option<Vec<Place>>, EffectError> {
    let file = &upstream.file;
    if !file.path.exists() {
        return Ok(None);
    }
    let text = write::read(&file.path)?.text;
    let lines = block::read(&text, &upstream.name);
    let lines = lines.map_err(|error| error.in_file(&file.target.name, &file.path))?;
    Ok(lines.map(|lines| places(upstream, &lines)))
}

/// A file that is not there begins empty: then there is something to go back to.
fn create(path: &Path) -> Result<(), EffectError> {
    let created = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(MODE)
        .open(path)
        .and_then(|file| file.sync_all());
    match created {
        Ok(()) => {
            // The umask of a service may be stricter than the proxy's user can live with.
            let mode = std::os::unix::fs::PermissionsExt::from_mode(MODE);
            fs::set_permissions(path, mode).map_err(|error| write::failure("create", path, error))
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(write::failure("create", path, error)),
    }
}
