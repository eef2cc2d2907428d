//! A proxy's file that names the healthy members of a group.
//!
//! Owns: what the file has ([`UpstreamFile::present`]) and the change of it, which is checked, told
//! and proved like every other change of a file. Must not decide who is healthy.

mod nginx;
pub mod render;

use std::fmt;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use async_trait::async_trait;

use self::nginx::NginxByCommand;
use self::render::{places, render};
use super::applier::{Applier, applier_of};
use super::draft::Job;
use super::{Applied, block, off_thread, run, write};
use crate::config::settings::{ProxyFormat, Upstream};
use crate::effects::error::EffectError;
use crate::effects::whole_file::TempFile;
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
        let block = render(&self.upstream, &places);
        let job = Job::of_block(self.target(), path.clone(), block, &self.state_dir)?;
        let (lock, making) = (job.dir.lock().await?, path.clone());
        off_thread(self.target(), move || {
            let made = create(&making);
            drop(lock);
            made
        })
        .await?;
        let target = &self.upstream.file.target;
        let told_only = target.verify.is_none() && target.reload.is_some();
        let applier: Box<dyn Applier> = match self.upstream.file.format {
            ProxyFormat::Nginx if told_only => Box::new(NginxByCommand::new(path)),
            ProxyFormat::Nginx | ProxyFormat::Haproxy => applier_of(target, job.dir.path()),
        };
        run(target, applier, job, None).await
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

/// A file that is not there begins empty: then there is something to go back to. It appears with
/// its mode, or not at all. Only who holds the lock may call this.
fn create(path: &Path) -> Result<(), EffectError> {
    let fail = |error| write::failure("create", path, error);
    if path.try_exists().map_err(fail)? {
        return Ok(());
    }
    let temp = TempFile::beside(path).map_err(fail)?;
    // The umask of a service may be stricter than the proxy's user can live with.
    temp.file
        .set_permissions(Permissions::from_mode(MODE))
        .and_then(|()| temp.file.sync_all())
        .and_then(|()| temp.rename_to(path))
        .map_err(fail)
}
