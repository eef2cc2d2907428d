//! The own vote: one [`Voter`], its file, and the rule that a promise is on disk before it is
//! given.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::{Mutex, Notify, OwnedMutexGuard};

use crate::decision::lease::{LeaseRules, Voter};
use crate::effects::clock::boottime;
use crate::model::lease::{ClusterIdentity, LeaseReply, LeaseRequest, StoredVote, Verdict};
use crate::model::{Member, SiteName};
use crate::runtime::tasks::spawn_named;
use crate::runtime::vote_file::{LoadedVote, VoteFile, VoteFileError};

/// A member's vote. Cheap to clone.
#[derive(Debug, Clone)]
pub struct VoterHost {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    voter: Arc<Mutex<Voter>>,
    file: VoteFile,
    site: Option<SiteName>,
    /// Told when somebody released the lease to this site.
    released_here: Notify,
}

impl VoterHost {
    /// Loads the vote from the state directory.
    ///
    /// # Errors
    /// When the file cannot be read or belongs to another cluster.
    pub fn open(rules: LeaseRules, dir: &Path) -> Result<Self, VoteFileError> {
        let file = VoteFile::new(dir, rules.identity.cluster.clone());
        let stored = match file.load()? {
            LoadedVote::Vote(vote) => Some(*vote),
            LoadedVote::Missing => None,
            LoadedVote::Unreadable(warning) => {
                tracing::warn!(reason = %warning, "the vote file is damaged: this voter abstains");
                None
            }
        };
        let site = rules.me.site().cloned();
        let voter = Voter::boot(rules, stored, boottime());
        let inner = Inner {
            voter: Arc::new(Mutex::new(voter)),
            file,
            site,
            released_here: Notify::new(),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Answers a request. What it promises is on disk before the answer exists; the work goes on
    /// in a task of its own, so that a caller who gives up cannot leave it half-done. Waiting for
    /// its turn does not: while a disk hangs, the callers' own patience bounds who waits here.
    pub async fn handle(&self, identity: ClusterIdentity, request: LeaseRequest) -> LeaseReply {
        let voter = Arc::clone(&self.inner.voter).lock_owned().await;
        let inner = Arc::clone(&self.inner);
        let work = spawn_named("vote", async move {
            inner.handle(voter, &identity, &request).await
        });
        work.await.unwrap_or_else(|_| LeaseReply {
            verdict: Verdict::NotDurable,
            knows: crate::model::lease::VoterView::default(),
        })
    }

    /// Lets a voter without memory learn from what others said. Whoever gives up waiting leaves
    /// nothing half-done, as with [`Self::handle`].
    pub async fn learn(&self, reply: &LeaseReply, from: &Member) {
        let mut voter = Arc::clone(&self.inner.voter).lock_owned().await;
        let Some(vote) = voter.learn(reply, from, boottime()) else {
            return;
        };
        let inner = Arc::clone(&self.inner);
        let work = spawn_named("vote learnt", async move {
            if !inner.stored(vote).await {
                voter.not_durable(boottime());
            }
        });
        // Its panic was logged.
        work.await.ok();
    }

    /// Whether the voter wants to hear what the others know.
    pub async fn listens(&self) -> bool {
        self.inner.voter.lock().await.listens()
    }

    /// Waits until somebody releases the lease to this site.
    pub async fn released_here(&self) {
        self.inner.released_here.notified().await;
    }
}

impl Inner {
    async fn handle(
        &self,
        mut voter: OwnedMutexGuard<Voter>,
        identity: &ClusterIdentity,
        request: &LeaseRequest,
    ) -> LeaseReply {
        let answer = voter.handle(identity, request, boottime());
        let durable = match answer.store {
            Some(vote) => self.stored(vote).await,
            None => true,
        };
        let reply = if durable {
            answer.reply
        } else {
            voter.not_durable(boottime())
        };
        let for_us = matches!(request, LeaseRequest::Release { to: Some(to), .. }
            if Some(to) == self.site.as_ref());
        if for_us && reply.verdict == Verdict::Ok {
            self.released_here.notify_one();
        }
        reply
    }

    async fn stored(&self, vote: StoredVote) -> bool {
        let file = self.file.clone();
        let stored = tokio::task::spawn_blocking(move || file.store(&vote)).await;
        match stored {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                tracing::error!(%error, "cannot write the vote: no promise is given");
                false
            }
            Err(error) => {
                tracing::error!(%error, "writing the vote was cut short: no promise is given");
                false
            }
        }
    }
}
