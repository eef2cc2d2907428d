//! The own data directory: is it still where the server was started, and does its disk take writes?
//!
//! A server whose directory was unmounted or renamed commits for hours and cannot be started
//! again; one whose file system has become read-only dies at its next write without anybody having
//! read why. Reads happen aside, with a bound: a disk that hangs is not gone.

use async_trait::async_trait;
use tokio::task::{JoinHandle, spawn_blocking};

use super::Probe;
use crate::effects::deadline::before;
use crate::effects::postgres::process::Instance;
use crate::model::Moment;
use crate::model::observation::{DirectorySeen, Seen, Target};

/// Looks at the data directory of a local node.
#[derive(Debug)]
pub struct DirectoryProbe {
    instance: Instance,
    /// A look that hangs is waited for, so that they do not pile up.
    looking: Option<JoinHandle<DirectorySeen>>,
    /// Beside it: the state directory's disk is another one.
    keeping: Option<JoinHandle<()>>,
}

impl DirectoryProbe {
    /// Prepares to look at the directory of `instance`.
    #[must_use]
    pub fn new(instance: Instance) -> Self {
        Self {
            instance,
            looking: None,
            keeping: None,
        }
    }
}

impl DirectoryProbe {
    fn keep_in_mind(&mut self) {
        if self.keeping.as_ref().is_none_or(JoinHandle::is_finished) {
            let instance = self.instance.clone();
            self.keeping = Some(spawn_blocking(move || instance.keep_in_mind()));
        }
    }
}

#[async_trait]
impl Probe for DirectoryProbe {
    fn target(&self) -> Target {
        Target::OwnDirectory
    }

    async fn look(&mut self, deadline: Moment) -> Seen {
        let instance = self.instance.clone();
        let looking = self
            .looking
            .get_or_insert_with(|| spawn_blocking(move || instance.look_at_directory()));
        let Some(ended) = before(deadline, looking).await else {
            return self.overdue();
        };
        self.looking = None;
        self.keep_in_mind();
        Seen::Directory(ended.unwrap_or_else(|error| DirectorySeen::Unknown {
            why: format!("the look was cut short: {error}"),
        }))
    }

    fn overdue(&self) -> Seen {
        Seen::Directory(DirectorySeen::Unknown {
            why: format!("looking at {} hangs", self.instance.data_dir().display()),
        })
    }
}
