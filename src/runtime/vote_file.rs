//! The voter's memory on disk: replaced as a whole, durable before `store` returns (S1, S5).
//!
//! A voter that forgets its promise could grant an epoch twice. So a file that cannot be read is
//! told apart from one that never was, is never "repaired", and its voter abstains: this file
//! only says which it is, `decision::lease` decides what follows. Blocks on the disk.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::checked_line;
use super::journal::Warning;
use crate::model::ClusterName;
use crate::model::lease::StoredVote;

/// The format that this version writes and reads.
pub const VOTE_VERSION: u32 = 1;

/// A vote is a few hundred bytes; a longer file is not one.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// What the disk remembers of this voter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoadedVote {
    /// Its last promise.
    Vote(Box<StoredVote>),
    /// There is no file: the first start, or somebody deleted it.
    Missing,
    /// There is a file that cannot be trusted: treated as gone, and told loudly.
    Unreadable(Warning),
}

/// Why the vote cannot be loaded or stored.
#[derive(Debug, thiserror::Error)]
pub enum VoteFileError {
    /// The disk or the file system said no.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// What was attempted.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The file belongs to another cluster.
    #[error(
        "vote file {} belongs to cluster \"{found}\", not to \"{expected}\": correct `cluster` or \
         `state_dir` in agent.toml; delete the file only if this member really moved to another \
         cluster",
        path.display()
    )]
    OtherCluster {
        /// The file.
        path: PathBuf,
        /// The cluster named in it.
        found: ClusterName,
        /// The configured cluster.
        expected: ClusterName,
    },
    /// The vote has no JSON form.
    #[error("cannot write the vote as JSON")]
    NotJson(#[source] serde_json::Error),
}

/// The file in which one voter keeps its promises.
#[derive(Debug, Clone)]
pub struct VoteFile {
    dir: PathBuf,
    cluster: ClusterName,
}

impl VoteFile {
    /// The vote file of this cluster's voter in the state directory, which must exist.
    #[must_use]
    pub fn new(dir: &Path, cluster: ClusterName) -> Self {
        Self {
            dir: dir.to_path_buf(),
            cluster,
        }
    }

    /// Where the file lies.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.dir.join("vote")
    }

    /// Reads the last promise.
    ///
    /// # Errors
    ///
    /// A disk that cannot be read, or a file of another cluster. A damaged file is no error but
    /// [`LoadedVote::Unreadable`]; a second name `vote.damaged` keeps it for a person to look at.
    pub fn load(&self) -> Result<LoadedVote, VoteFileError> {
        let path = self.path();
        let bytes = match read_bounded(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(LoadedVote::Missing);
            }
            Err(error) => return Err(io_error("read the vote file", &path, error)),
        };
        match parse(&bytes) {
            Ok(vote) if vote.identity.cluster != self.cluster => Err(VoteFileError::OtherCluster {
                path,
                found: vote.identity.cluster,
                expected: self.cluster.clone(),
            }),
            Ok(vote) => Ok(LoadedVote::Vote(Box::new(vote))),
            Err(why) => Ok(LoadedVote::Unreadable(self.keep_damaged(&path, &why))),
        }
    }

    /// Replaces the file, and returns once the new promise is durable.
    ///
    /// # Errors
    ///
    /// When it is not: the promise must not be given then. The old file is still whole.
    pub fn store(&self, vote: &StoredVote) -> Result<(), VoteFileError> {
        let (path, fresh) = (self.path(), self.dir.join("vote.new"));
        let json = serde_json::to_string(vote).map_err(VoteFileError::NotJson)?;
        let line = checked_line::encode(&json);
        write_new(&fresh, line.as_bytes()).map_err(|error| io_error("write", &fresh, error))?;
        fs::rename(&fresh, &path).map_err(|error| io_error("replace", &path, error))?;
        File::open(&self.dir)
            .and_then(|dir| dir.sync_all())
            .map_err(|error| io_error("flush the directory", &self.dir, error))
    }

    fn keep_damaged(&self, path: &Path, why: &str) -> Warning {
        let aside = self.dir.join("vote.damaged");
        let kept = match fs::hard_link(path, &aside) {
            Ok(()) => format!("kept as {}", aside.display()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                format!("an earlier one is kept as {}", aside.display())
            }
            Err(error) => format!("cannot be kept aside: {error}"),
        };
        Warning(format!(
            "vote file {} cannot be trusted: {why}; this voter forgot its promises and abstains \
             until it has learnt the epoch from the others ({kept})",
            path.display(),
        ))
    }
}

fn parse(bytes: &[u8]) -> Result<StoredVote, String> {
    let line = bytes.strip_suffix(b"\n").ok_or("it has no end")?;
    let json = checked_line::decode(line).map_err(|fault| fault.to_string())?;
    // The version first: another version may have other fields.
    #[derive(serde::Deserialize)]
    struct Version {
        version: u32,
    }
    let found: Version = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    if found.version != VOTE_VERSION {
        return Err(format!(
            "it has format {}, this version reads format {VOTE_VERSION}",
            found.version
        ));
    }
    serde_json::from_slice(json).map_err(|error| error.to_string())
}

fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(FILE_BYTES_MAX)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o640)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn io_error(what: &'static str, path: &Path, source: io::Error) -> VoteFileError {
    VoteFileError::Io {
        what,
        path: path.to_path_buf(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::lease::ClusterIdentity;
    use crate::model::{Epoch, SiteName};

    fn vote(epoch: u64) -> StoredVote {
        StoredVote {
            version: VOTE_VERSION,
            identity: ClusterIdentity {
                cluster: ClusterName::new("shop"),
                voters_hash: "abc".to_owned(),
            },
            promised: Epoch(epoch),
            granted_to: Some(SiteName::new("paris")),
            released: false,
            released_to: None,
            record: None,
        }
    }

    fn file(dir: &Path) -> VoteFile {
        VoteFile::new(dir, ClusterName::new("shop"))
    }

    #[test]
    fn stored_vote_comes_back_and_the_newest_wins() {
        let dir = tempfile::tempdir().unwrap();
        let file = file(dir.path());
        assert_eq!(file.load().unwrap(), LoadedVote::Missing);
        for epoch in [7, 8] {
            file.store(&vote(epoch)).unwrap();
            assert_eq!(
                file.load().unwrap(),
                LoadedVote::Vote(Box::new(vote(epoch)))
            );
        }
    }

    #[test]
    fn every_damage_is_treated_as_gone_and_the_file_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let file = file(dir.path());
        file.store(&vote(7)).unwrap();
        let whole = fs::read(file.path()).unwrap();
        for end in 0..whole.len() {
            fs::write(file.path(), &whole[..end]).unwrap();
            assert!(
                matches!(file.load().unwrap(), LoadedVote::Unreadable(_)),
                "cut at {end}"
            );
        }
        for index in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[index] ^= 4;
            fs::write(file.path(), &flipped).unwrap();
            assert!(
                matches!(file.load().unwrap(), LoadedVote::Unreadable(_)),
                "byte {index}"
            );
        }
        assert!(dir.path().join("vote.damaged").exists());
        // A promise after the damage makes the file whole again.
        file.store(&vote(9)).unwrap();
        assert_eq!(file.load().unwrap(), LoadedVote::Vote(Box::new(vote(9))));
    }

    #[test]
    fn vote_of_another_version_is_not_guessed_at() {
        let dir = tempfile::tempdir().unwrap();
        let file = file(dir.path());
        file.store(&StoredVote {
            version: VOTE_VERSION + 1,
            ..vote(7)
        })
        .unwrap();
        let LoadedVote::Unreadable(warning) = file.load().unwrap() else {
            panic!("a newer format was read");
        };
        assert!(warning.0.contains("format 2"), "{warning}");
    }

    #[test]
    fn vote_of_another_cluster_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        file(dir.path()).store(&vote(7)).unwrap();
        let other = VoteFile::new(dir.path(), ClusterName::new("bank"));
        assert!(matches!(
            other.load(),
            Err(VoteFileError::OtherCluster { .. })
        ));
    }

    #[test]
    fn vote_that_cannot_be_written_leaves_the_old_one() {
        let dir = tempfile::tempdir().unwrap();
        let file = file(dir.path());
        file.store(&vote(7)).unwrap();
        // A directory where the new file should go: fails for root, too.
        fs::create_dir(dir.path().join("vote.new")).unwrap();
        assert!(file.store(&vote(8)).is_err());
        assert_eq!(file.load().unwrap(), LoadedVote::Vote(Box::new(vote(7))));
    }
}
