//! What one step may touch: a real pair, an app's file, a DNS record. Start at [`World::start`].

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use failover_agent::config::secret::Secret;
use failover_agent::config::settings::{
    AppConfig, AppConfigEdit, AppConfigFile, AppConfigValue, DnsAccess, DnsRecord, Proxy,
};
use failover_agent::effects::app_config::Surroundings;
use failover_agent::effects::clock::boottime;
use failover_agent::effects::dns::provider_of;
use failover_agent::effects::error::EffectError;
use failover_agent::effects::permit::Unconditional;
use failover_agent::effects::postgres::control::NodeControl;
use failover_agent::effects::steps::{Attempt, DnsRecordTool, Tools, run};
use failover_agent::model::event::Learned;
use failover_agent::model::observation::NodeReport;
use failover_agent::model::plan::{ConfigEdit, EditValue, Step, StepKind};
use failover_agent::model::{
    ClusterName, Epoch, LagBytes, Lsn, Role, SiteName, SystemId, Timeline,
};
use failover_agent::surfaces::demo::cloudflare::{CloudflareStandIn, Record, ZONE_ID};

use crate::support::agent_role::{Access, install, table};
use crate::support::postgres::{NodeOptions, Pair, SUPERUSER, TestNode};
use crate::support::wait_until;

/// Bound on everything that is expected to work.
pub(crate) const PATIENT: Duration = Duration::from_secs(30);

/// The epoch of every attempt.
pub(crate) const EPOCH: Epoch = Epoch(2);

const TOKEN: &str = "Sn3lkgR6nPbvUzsHbYVuuCTFM8dZZgiJ8hR1Tqtk";
const RECORD: &str = "db.example.com";

pub(crate) struct World {
    pub(crate) pair: Pair,
    pub(crate) dns: CloudflareStandIn,
    dir: tempfile::TempDir,
}

/// Everything that a step could have changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) postmaster: Option<u32>,
    pub(crate) standby_signal: bool,
    /// In recovery, and the newest epoch that the database has seen.
    pub(crate) answer: Option<(bool, Option<i64>)>,
    file: (u64, String),
    pub(crate) reloads: usize,
    record: (String, Option<String>),
    pub(crate) patches: usize,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::start_with(NodeOptions::default()).await
    }

    pub(crate) async fn start_with(primary: NodeOptions) -> Self {
        let pair = Pair::start_with(primary, NodeOptions::default());
        install(&pair.primary).await;
        let client = pair.primary.connect(SUPERUSER).await;
        client
            .batch_execute("CREATE TABLE kept (n bigint)")
            .await
            .unwrap();
        pair.wait_caught_up().await;
        let record = Record::new("A", RECORD, "192.0.2.1");
        let dns = CloudflareStandIn::start(TOKEN, vec![record]).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let world = Self { pair, dns, dir };
        fs::write(world.path("app.env"), "# the app\nDB_HOST=old\n").unwrap();
        world
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The node on which a step of this kind works.
    pub(crate) fn node(&self, kind: StepKind) -> &TestNode {
        match kind {
            StepKind::CheckCandidate | StepKind::Promote => &self.pair.standby,
            StepKind::FenceOwn
            | StepKind::HandOver
            | StepKind::StartStandby
            | StepKind::StartOwn
            | StepKind::RecordPrimary
            | StepKind::VerifyWrites
            | StepKind::RewriteAppConfig
            | StepKind::UpdateDns
            | StepKind::Notify => &self.pair.primary,
        }
    }

    /// What the agent beside this node works with.
    pub(crate) fn tools(&self, access: &Access) -> Tools {
        let site = SiteName::new("ams");
        Tools {
            cluster: ClusterName::new("test"),
            node: NodeControl::new(site.clone(), access.node.clone()),
            site,
            login: access.login(),
            other: Some(Access::to(&self.pair.primary).login()),
            table: table(),
            app_configs: vec![self.app_config()],
            surroundings: Arc::new(Surroundings {
                cluster: ClusterName::new("test"),
                site: SiteName::new("ams"),
                nodes: Vec::new(),
                upstreams: Vec::new(),
            }),
            dns: vec![self.dns_tool()],
            state_dir: self.path("state"),
        }
    }

    fn app_config(&self) -> AppConfig {
        // Fails as long as a file forbids it, and counts its runs either way.
        let script = format!(
            "echo run >> '{}'; test ! -e '{}'",
            self.path("reloads").display(),
            self.path("no-reload").display()
        );
        AppConfig {
            name: "shop".to_owned(),
            site: None,
            files: vec![AppConfigFile {
                path: self.path("app.env"),
                format: None,
                edits: vec![AppConfigEdit {
                    key: "DB_HOST".to_owned(),
                    value: AppConfigValue::Text("{host}".to_owned()),
                }],
                template: None,
            }],
            validate: None,
            validate_timeout: PATIENT,
            stage: None,
            reload: Some(["/bin/sh", "-c", &script].map(str::to_owned).into()),
            reload_timeout: PATIENT,
            verify: None,
            verify_timeout: PATIENT,
            target: None,
            keep: 3,
        }
    }

    fn dns_tool(&self) -> DnsRecordTool {
        let settings = DnsRecord {
            name: "public".to_owned(),
            record: RECORD.to_owned(),
            kind: "A".to_owned(),
            access: DnsAccess::Cloudflare {
                zone_id: Some(ZONE_ID.to_owned()),
                token: Secret::new(TOKEN),
                api_url: Some(self.dns.url().to_owned()),
                proxy: Proxy::default(),
            },
            timeout: Duration::from_secs(2),
            contents: ["192.0.2.1", "192.0.2.2"].map(|content| vec![content.to_owned()]),
        };
        DnsRecordTool {
            provider: provider_of(&settings).unwrap().into(),
            name: settings.name,
            record: settings.record,
            kind: settings.kind,
            moved: tokio::sync::watch::channel(None).0,
        }
    }

    /// One attempt beside the node of the step's kind.
    pub(crate) async fn attempt(
        &self,
        step: &Step,
        undo: bool,
        within: Duration,
    ) -> Result<Learned, EffectError> {
        let access = Access::to(self.node(step.kind()));
        self.attempt_as(&access, step, undo, within).await
    }

    pub(crate) async fn attempt_as(
        &self,
        access: &Access,
        step: &Step,
        undo: bool,
        within: Duration,
    ) -> Result<Learned, EffectError> {
        let tools = self.tools(access);
        let attempt = Attempt {
            step,
            epoch: EPOCH,
            undo,
            deadline: boottime() + within,
            permit: &Unconditional,
        };
        run(&tools, attempt).await
    }

    pub(crate) async fn apply(&self, step: &Step) -> Result<Learned, EffectError> {
        self.attempt(step, false, PATIENT).await
    }

    pub(crate) async fn undo(&self, step: &Step) -> Result<Learned, EffectError> {
        self.attempt(step, true, PATIENT).await
    }

    pub(crate) async fn state(&self, node: &TestNode) -> State {
        let running = !node.processes().is_empty();
        let answer = if running { self.ask(node).await } else { None };
        let file = self.path("app.env");
        let reloads = fs::read_to_string(self.path("reloads")).unwrap_or_default();
        let record = self.dns.records().remove(0);
        let requests = self.dns.requests();
        State {
            postmaster: running.then(|| node.postmaster_pid()),
            standby_signal: node.data_dir.join("standby.signal").exists(),
            answer,
            file: (
                fs::metadata(&file).unwrap().ino(),
                fs::read_to_string(&file).unwrap(),
            ),
            reloads: reloads.lines().count(),
            record: (record.content, record.comment),
            patches: requests.iter().filter(|r| r.method != "GET").count(),
        }
    }

    async fn ask(&self, node: &TestNode) -> Option<(bool, Option<i64>)> {
        let client = node.try_connect(SUPERUSER).await.ok()?;
        let query = "SELECT pg_is_in_recovery(), (SELECT max(epoch) FROM agent.heartbeat)";
        let row = client.query_one(query, &[]).await.unwrap();
        Some((row.get(0), row.get(1)))
    }

    /// Kills a node at once and waits until nothing of it is left.
    pub(crate) async fn kill(&self, node: &TestNode) {
        node.kill_all();
        gone(node).await;
    }

    /// Brings about what a plan would have, before its step of this kind.
    pub(crate) async fn prepare(&self, kind: StepKind) {
        let primary = &self.pair.primary;
        match kind {
            StepKind::StartOwn => {
                self.kill(primary).await;
                // As a fence leaves it behind.
                primary.become_standby_at_next_start();
            }
            StepKind::StartStandby | StepKind::Promote => self.kill(primary).await,
            StepKind::FenceOwn
            | StepKind::HandOver
            | StepKind::CheckCandidate
            | StepKind::RecordPrimary
            | StepKind::VerifyWrites
            | StepKind::RewriteAppConfig
            | StepKind::UpdateDns
            | StepKind::Notify => {}
        }
    }

    /// The step of this kind that fits this world.
    pub(crate) async fn step(&self, kind: StepKind) -> Step {
        match kind {
            StepKind::FenceOwn => Step::FenceOwn {
                grace: Duration::ZERO,
                budget: PATIENT,
            },
            StepKind::HandOver => Step::HandOver {
                to: SiteName::new("fra"),
            },
            StepKind::StartStandby => Step::StartStandby { timeout: PATIENT },
            StepKind::StartOwn => Step::StartOwn { timeout: PATIENT },
            StepKind::CheckCandidate => demand(self).await,
            StepKind::RecordPrimary => Step::RecordPrimary {
                site: SiteName::new("ams"),
            },
            StepKind::Promote => Step::Promote { timeout: PATIENT },
            StepKind::VerifyWrites => Step::VerifyWrites { timeout: PATIENT },
            StepKind::RewriteAppConfig => Step::RewriteAppConfig {
                target: "shop".to_owned(),
                path: self.path("app.env"),
                edits: vec![ConfigEdit {
                    key: "DB_HOST".to_owned(),
                    to: EditValue::Text("new".to_owned()),
                }],
                also: Vec::new(),
                primary: None,
            },
            StepKind::UpdateDns => Step::UpdateDns {
                target: "public".to_owned(),
                provider: "cloudflare".to_owned(),
                name: RECORD.to_owned(),
                kind: "A".to_owned(),
                contents: vec!["192.0.2.2".to_owned()],
            },
            StepKind::Notify => Step::Notify {
                summary: "news".to_owned(),
            },
        }
    }
}

/// Waits until no process of a node is left.
pub(crate) async fn gone(node: &TestNode) {
    wait_until("its processes are gone", PATIENT, async || {
        node.processes().is_empty()
    })
    .await;
}

/// What the living primary demands of its standby.
pub(crate) async fn demand(world: &World) -> Step {
    let client = world.pair.primary.connect(SUPERUSER).await;
    let query = "SELECT (SELECT system_identifier FROM pg_control_system()), \
                 (SELECT timeline_id FROM pg_control_checkpoint()), \
                 (pg_current_wal_lsn() - '0/0'::pg_lsn)::bigint";
    let row = client.query_one(query, &[]).await.unwrap();
    let (system_id, timeline, lsn): (i64, i32, i64) = (row.get(0), row.get(1), row.get(2));
    Step::CheckCandidate {
        system_id: SystemId(u64::try_from(system_id).unwrap()),
        timeline: Timeline(u32::try_from(timeline).unwrap()),
        last_lsn: Lsn(u64::try_from(lsn).unwrap()),
        lag_max: LagBytes(64 * 1024),
        finishes: false,
        silent: None,
    }
}

/// What must not differ between two looks at the same node.
pub(crate) fn identity(learned: &Learned) -> Option<(SystemId, Role, Timeline)> {
    let of = |node: &NodeReport| (node.system_id, node.role, node.timeline);
    learned.node.as_ref().map(of)
}

/// The other site is silent, so that nobody has fenced its node.
pub(crate) fn of_a_silent_site(step: &Step) -> Step {
    let mut step = step.clone();
    if let Step::CheckCandidate { silent, .. } = &mut step {
        *silent = Some(SiteName::new("fra"));
    }
    step
}
