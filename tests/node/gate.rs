//! The gate (S10): a node starts as primary only with the lease's word, at boot too.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests run programs, and may fail loudly"
)]

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use failover_agent::effects::clock::boottime;
use failover_agent::effects::postgres::control_file::system_id;
use failover_agent::model::lease::{ClusterIdentity, ClusterRecord, StoredVote};
use failover_agent::model::{ClusterName, Epoch, Lsn, SiteName, SystemId, Timeline};
use failover_agent::runtime::inherited;
use failover_agent::runtime::vote_file::{VOTE_VERSION, VoteFile};
use serde_json::Value;

use crate::support::postgres::{NodeOptions, Pair, SUPERUSER, TestNode};

/// What a gate said.
#[derive(Debug)]
struct Said {
    code: i32,
    json: Value,
}

impl Said {
    fn verdict(&self) -> &str {
        let verdict = self.json.get("verdict");
        verdict.and_then(Value::as_str).unwrap_or_default()
    }

    fn text(&self) -> String {
        self.json.to_string()
    }
}

/// A site whose agent does not run: its settings, and the state of its former life.
struct Site {
    dir: tempfile::TempDir,
    settings: PathBuf,
}

impl Site {
    fn of(node: &TestNode) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let settings = dir.path().join("agent.toml");
        let text = format!(
            "state_dir = \"{dir}\"\n\
             [peer]\nsecret_env = \"NOT_SET_IN_THE_UNIT_OF_POSTGRESQL\"\n\
             [sites.fra]\naddress = \"127.0.0.1:7001\"\n\
             [sites.fra.database]\nport = {port}\ndata_dir = \"{data}\"\nbin_dir = \"{bin}\"\n\
             [sites.ams]\naddress = \"127.0.0.1:7002\"\n\
             [sites.ams.database]\nhost = \"127.0.0.1\"\nport = 2\ndata_dir = \"/nowhere\"\n\
             [witness]\naddress = \"127.0.0.1:7003\"\n[database]\ntls = \"off\"\n",
            dir = dir.path().display(),
            port = node.port,
            data = node.data_dir.display(),
            bin = node.bin_dir().display(),
        );
        fs::write(&settings, text).unwrap();
        Self { dir, settings }
    }

    fn state_dir(&self) -> &Path {
        self.dir.path()
    }

    /// It was a member: its voter knows a record of this database cluster.
    fn remembers(&self, system_id: SystemId) {
        let vote = StoredVote {
            version: VOTE_VERSION,
            identity: ClusterIdentity {
                cluster: ClusterName::new("main"),
                voters_hash: "a hash".to_owned(),
            },
            promised: Epoch(7),
            granted_to: Some(SiteName::new("fra")),
            released: false,
            released_to: None,
            record: Some(ClusterRecord {
                epoch: Epoch(7),
                revision: 1,
                primary: SiteName::new("fra"),
                promoting: false,
                system_id,
                timeline: Timeline(1),
                last_lsn: Lsn(1),
                last_failover: None,
                brakes: Box::default(),
            }),
        };
        let file = VoteFile::new(self.state_dir(), ClusterName::new("main"));
        file.store(&vote).unwrap();
    }

    fn holds_for(&self, left: Duration) {
        let held = Some((Epoch(7), boottime() + left));
        inherited::leave(self.state_dir(), || held).unwrap();
    }

    fn gate(&self, more: &[&str]) -> Said {
        let output = Command::new(env!("CARGO_BIN_EXE_agent"))
            .args(["gate", "--site", "fra", "--json", "--config"])
            .arg(&self.settings)
            .args(more)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        Said {
            code: output.status.code().unwrap(),
            json: serde_json::from_str(&text).unwrap_or_else(|_| Value::String(text.into_owned())),
        }
    }
}

fn signal_file(node: &TestNode) -> PathBuf {
    node.data_dir.join("standby.signal")
}

/// A primary of before, down, with everything that its agent left.
fn primary_down() -> (TestNode, Site) {
    let node = TestNode::primary(NodeOptions::default());
    node.stop("fast");
    let site = Site::of(&node);
    site.remembers(system_id(&node.data_dir).unwrap());
    (node, site)
}

#[test]
fn s10_who_was_active_is_never_told_to_start_without_the_gate() {
    // As with a lease in etcd, or a lost vote: only the deadline's file knows of former times.
    let node = TestNode::primary(NodeOptions::default());
    node.stop("fast");
    let site = Site::of(&node);
    let newcomer = site.gate(&["--dry-run"]);
    assert!(
        newcomer.text().contains("without this gate"),
        "{newcomer:?}"
    );
    inherited::leave(site.state_dir(), || None).unwrap();
    let said = site.gate(&["--dry-run"]);
    assert_eq!(said.verdict(), "refused", "{said:?}");
    assert!(!said.text().contains("without this gate"), "{said:?}");
}

#[test]
fn s10_node_starts_as_primary_with_the_word_of_a_lease_that_runs() {
    let (node, site) = primary_down();
    site.holds_for(Duration::from_secs(60));
    let said = site.gate(&[]);
    assert_eq!(
        (said.verdict(), said.code),
        ("primary", 0),
        "{}",
        said.text()
    );
    assert_eq!(said.json["epoch"], 7);
    assert!(!signal_file(&node).exists());
}

#[test]
fn s10_node_without_a_lease_that_knows_nobody_to_follow_is_refused() {
    let (node, site) = primary_down();
    site.holds_for(Duration::ZERO);
    let said = site.gate(&[]);
    assert_eq!(
        (said.verdict(), said.code),
        ("refused", 3),
        "{}",
        said.text()
    );
    assert!(said.text().contains("run out") && said.text().contains("start the agent"));
    assert!(!signal_file(&node).exists());
    // Given up in order is not held either, however long it would have lasted.
    inherited::leave(site.state_dir(), || None).unwrap();
    assert!(
        site.gate(&[])
            .text()
            .contains("does not hold the lease any more")
    );
}

/// At boot: nothing of this boot is known, the agent is not up, nobody can be asked.
#[tokio::test]
async fn s10_old_primary_that_boots_starts_as_a_standby() {
    let pair = Pair::start();
    let site = Site::of(&pair.primary);
    site.remembers(system_id(&pair.primary.data_dir).unwrap());
    let text =
        r#"{"boot":"another boot","fence_at_nanos":18446744073709551615,"epoch":7,"held":true}"#;
    fs::write(site.state_dir().join("fence-deadline.json"), text).unwrap();
    pair.primary.stop("fast");
    let conninfo = format!("host=127.0.0.1 port={} user={SUPERUSER}", pair.standby.port);
    pair.primary.append_setting("primary_conninfo", &conninfo);

    let would = site.gate(&["--dry-run"]);
    assert_eq!(
        (would.verdict(), would.code),
        ("made_standby", 0),
        "{}",
        would.text()
    );
    assert!(
        !signal_file(&pair.primary).exists(),
        "a dry run writes nothing"
    );

    let said = site.gate(&[]);
    assert_eq!(
        (said.verdict(), said.code),
        ("made_standby", 0),
        "{}",
        said.text()
    );
    assert!(said.text().contains("before this host was restarted"));
    let owner = |path: &Path| fs::metadata(path).unwrap().uid();
    assert_eq!(
        owner(&signal_file(&pair.primary)),
        owner(&pair.primary.data_dir)
    );
    pair.primary.start();
    let client = pair.primary.connect(SUPERUSER).await;
    let row = client.query_one("SELECT pg_is_in_recovery()", &[]).await;
    assert!(row.unwrap().get::<_, bool>(0), "it is a standby");
    assert_eq!(
        site.gate(&[]).verdict(),
        "standby",
        "and passes from now on"
    );
}

#[test]
fn s10_directory_of_another_cluster_is_refused_also_with_the_word() {
    let (node, site) = primary_down();
    site.remembers(SystemId(1));
    site.holds_for(Duration::from_secs(60));
    let said = site.gate(&[]);
    assert_eq!(
        (said.verdict(), said.code),
        ("refused", 3),
        "{}",
        said.text()
    );
    assert!(said.text().contains("right data directory"));
    fs::write(signal_file(&node), "").unwrap();
    assert_eq!(site.gate(&[]).code, 3);
}

#[test]
fn s10_state_that_cannot_be_read_is_no_word() {
    let (_node, site) = primary_down();
    fs::write(site.state_dir().join("fence-deadline.json"), "{").unwrap();
    let said = site.gate(&[]);
    assert_eq!(said.code, 3);
    assert!(said.text().contains("cannot be read"), "{}", said.text());
    site.holds_for(Duration::from_secs(60));
    fs::write(site.state_dir().join("vote"), "garbage").unwrap();
    let said = site.gate(&[]);
    assert_eq!(said.code, 3);
    assert!(
        said.text().contains("state cannot be read"),
        "{}",
        said.text()
    );
}

#[test]
fn gate_of_a_site_that_was_never_active_says_how_to_begin() {
    let node = TestNode::primary(NodeOptions::default());
    let site = Site::of(&node);
    let said = site.gate(&[]);
    assert_eq!(said.code, 3);
    assert!(
        said.text()
            .contains("start the server once without this gate")
    );
}

#[test]
fn gate_of_an_unknown_site_or_directory_is_refused() {
    let (node, site) = primary_down();
    let said = site.gate(&["--site", "lhr"]);
    assert_eq!(said.code, 2, "{}", said.text());
    fs::rename(node.data_dir.join("PG_VERSION"), node.data_dir.join("gone")).unwrap();
    let said = site.gate(&[]);
    assert_eq!(said.code, 3);
    assert!(
        said.text().contains("not a PostgreSQL data directory"),
        "{}",
        said.text()
    );
}
