//! Every step against the real thing: applied, applied again, failed and undone, undone again.
//!
//! A step that is cut short at any point is repeated or undone by the next life of the agent, so
//! each must bear all of that. S3, S8, S9, S11.
#![expect(
    clippy::disallowed_methods,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests may fail loudly"
)]

#[path = "steps/candidate.rs"]
mod candidate;
mod support;

use std::fs;
use std::path::Path;
use std::time::Duration;

use failover_agent::config::secret::Secret;
use failover_agent::config::settings::{AppConfig, Control, ControlCommands, DnsRecord};
use failover_agent::effects::clock::boottime;
use failover_agent::effects::dns::provider_of;
use failover_agent::effects::error::EffectError;
use failover_agent::effects::postgres::control::NodeControl;
use failover_agent::effects::steps::{Attempt, DnsRecordTool, Tools, run};
use failover_agent::model::event::Learned;
use failover_agent::model::outcome::FailureKind;
use failover_agent::model::plan::{ConfigEdit, EditValue, Step, StepKind};
use failover_agent::model::{
    ClusterName, Epoch, LagBytes, Lsn, Role, SiteName, SystemId, Timeline,
};
use failover_agent::surfaces::demo::cloudflare::{CloudflareStandIn, Fault, Record, ZONE_ID};
use support::agent_role::{Access, install, table};
use support::cluster::install_tls_provider;
use support::postgres::{NodeOptions, Pair, SUPERUSER, TestNode};

const EPOCH: Epoch = Epoch(7);
const AMPLE: Duration = Duration::from_secs(30);
const TOKEN: &str = "Sn3lkgR6nPbvUzsHbYVuuCTFM8dZZgiJ8hR1Tqtk";

/// What one agent has to work with.
struct World {
    tools: Tools,
    dns: CloudflareStandIn,
    _dir: tempfile::TempDir,
}

impl World {
    async fn of(node: &TestNode) -> Self {
        Self::with(node, &Access::to(node)).await
    }

    async fn with(node: &TestNode, access: &Access) -> Self {
        install_tls_provider();
        let dir = tempfile::tempdir().unwrap();
        let records = vec![Record::new("A", "db.example.com", "192.0.2.1")];
        let dns = CloudflareStandIn::start(TOKEN, records).await.unwrap();
        let mut settings = access.node.clone();
        settings.bin_dir = Some(node.bin_dir());
        let site = SiteName::new("ams");
        let tools = Tools {
            cluster: ClusterName::new("test"),
            site: site.clone(),
            node: NodeControl::new(site, settings),
            login: access.login(),
            table: table(),
            app_configs: vec![app(dir.path(), "shop"), app(dir.path(), "other")],
            dns: vec![DnsRecordTool {
                name: "public".to_owned(),
                record: "db.example.com".to_owned(),
                kind: "A".to_owned(),
                provider: provider_of(&record(&dns)).unwrap(),
            }],
            state_dir: dir.path().join("state"),
        };
        Self {
            tools,
            dns,
            _dir: dir,
        }
    }

    async fn attempt(&self, step: &Step, undo: bool) -> Result<Learned, EffectError> {
        let attempt = Attempt {
            step,
            epoch: EPOCH,
            undo,
            deadline: boottime() + AMPLE,
        };
        run(&self.tools, attempt).await
    }

    async fn apply(&self, step: &Step) -> Result<Learned, EffectError> {
        self.attempt(step, false).await
    }

    async fn undo(&self, step: &Step) -> Result<Learned, EffectError> {
        self.attempt(step, true).await
    }

    /// This step can only be repeated: its undo does nothing, twice, and says so.
    async fn has_no_undo(&self, step: &Step) {
        for _ in 0..2 {
            let error = self.undo(step).await.unwrap_err();
            assert_eq!(error.kind, FailureKind::Permanent, "{error:?}");
            assert!(error.what.contains("no effect"), "{error:?}");
        }
    }
}

fn app(dir: &Path, name: &str) -> AppConfig {
    let path = dir.join(format!("{name}.env"));
    fs::write(&path, "# the app\nDATABASE_HOST=db1\n").unwrap();
    AppConfig {
        name: name.to_owned(),
        site: None,
        path,
        edits: Vec::new(),
        reload: None,
        reload_timeout: AMPLE,
        keep: 3,
    }
}

fn record(dns: &CloudflareStandIn) -> DnsRecord {
    DnsRecord {
        name: "public".to_owned(),
        provider: "cloudflare".to_owned(),
        record: "db.example.com".to_owned(),
        kind: "A".to_owned(),
        zone_id: ZONE_ID.to_owned(),
        token: Secret::new(TOKEN),
        api_url: Some(dns.url().to_owned()),
        timeout: AMPLE,
        content: ["192.0.2.1".to_owned(), "192.0.2.2".to_owned()],
    }
}

async fn pair() -> Pair {
    let pair = Pair::start();
    install(&pair.primary).await;
    let client = pair.primary.connect(SUPERUSER).await;
    let sql = "CREATE TABLE kept (n bigint); INSERT INTO kept SELECT generate_series(1, 100)";
    client.batch_execute(sql).await.unwrap();
    pair.wait_caught_up().await;
    pair
}

async fn role(node: &TestNode) -> Role {
    let client = node.connect(SUPERUSER).await;
    let row = client.query_one("SELECT pg_is_in_recovery()", &[]).await;
    if row.unwrap().get(0) {
        Role::Standby
    } else {
        Role::Primary
    }
}

async fn rows(node: &TestNode) -> i64 {
    let client = node.connect(SUPERUSER).await;
    let row = client.query_one("SELECT count(*) FROM kept", &[]).await;
    row.unwrap().get(0)
}

/// What the node of this pair must be like to be promoted.
async fn demand(primary: &TestNode, lag_max: u64) -> Step {
    let client = primary.connect(SUPERUSER).await;
    let sql = "SELECT (SELECT system_identifier::text FROM pg_control_system()), \
               pg_current_wal_flush_lsn()::text";
    let row = client.query_one(sql, &[]).await.unwrap();
    let (id, lsn): (String, String) = (row.get(0), row.get(1));
    Step::CheckCandidate {
        system_id: SystemId(id.parse().unwrap()),
        timeline: Timeline(1),
        last_lsn: lsn.parse::<Lsn>().unwrap(),
        lag_max: LagBytes(lag_max),
    }
}

fn fence(grace: Duration) -> Step {
    Step::FenceOwn {
        grace,
        budget: Duration::from_secs(5),
    }
}

fn rewrite(target: &str, key: &str) -> Step {
    Step::RewriteAppConfig {
        target: target.to_owned(),
        path: target.into(),
        edits: vec![ConfigEdit {
            key: key.to_owned(),
            to: EditValue::Text("db2".to_owned()),
        }],
    }
}

fn update_dns() -> Step {
    Step::UpdateDns {
        target: "public".to_owned(),
        provider: "cloudflare".to_owned(),
        name: "db.example.com".to_owned(),
        kind: "A".to_owned(),
        content: "192.0.2.2".to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_step_may_be_repeated_undone_and_undone_again() {
    let pair = pair().await;
    let (fra, ams) = (
        World::of(&pair.primary).await,
        World::of(&pair.standby).await,
    );
    // In this order each finds what it needs, and the pair is used up at the end.
    for kind in StepKind::ALL {
        match kind {
            StepKind::FenceOwn => fence_own(&fra, &pair.primary).await,
            StepKind::CheckCandidate => {
                let step = demand(&pair.primary, 1 << 20).await;
                for _ in 0..2 {
                    let learned = ams.apply(&step).await.unwrap();
                    assert_eq!(learned.node.unwrap().role, Role::Standby);
                }
                ams.has_no_undo(&step).await;
            }
            StepKind::Promote => promote(&ams, &pair).await,
            StepKind::StartOwn => start_own(&ams, &pair.standby).await,
            StepKind::VerifyWrites => verify_writes(&ams, &fra, &pair).await,
            StepKind::RewriteAppConfig => rewrite_app_config(&ams).await,
            StepKind::UpdateDns => move_dns(&ams).await,
            StepKind::HandOver | StepKind::RecordPrimary | StepKind::Notify => {
                no_effect(&ams, kind).await;
            }
        }
    }
}

async fn fence_own(fra: &World, primary: &TestNode) {
    // By force, and after a clean stop.
    for grace in [Duration::ZERO, AMPLE] {
        let step = fence(grace);
        let session = primary.connect(SUPERUSER).await;
        fra.apply(&step).await.unwrap();
        assert!(primary.processes().is_empty());
        assert!(primary.data_dir.join("standby.signal").exists());
        assert!(session.simple_query("SELECT 1").await.is_err());
        let again = fra.apply(&step).await.unwrap();
        assert!(again.note.contains("nothing ran"), "{}", again.note);
        let undone = fra.undo(&step).await.unwrap();
        assert_eq!(undone.node.unwrap().role, Role::Primary);
        let postmaster = primary.postmaster_pid();
        fra.undo(&step).await.unwrap();
        assert_eq!(
            primary.postmaster_pid(),
            postmaster,
            "it is not started again"
        );
        assert_eq!(role(primary).await, Role::Primary);
    }
    assert_eq!(rows(primary).await, 100);
}

async fn promote(ams: &World, pair: &Pair) {
    let step = Step::Promote { timeout: AMPLE };
    let fra = World::of(&pair.primary).await;
    fra.apply(&fence(Duration::ZERO)).await.unwrap();
    for _ in 0..2 {
        let node = ams.apply(&step).await.unwrap().node.unwrap();
        assert_eq!((node.role, node.timeline), (Role::Primary, Timeline(2)));
    }
    assert_eq!(rows(&pair.standby).await, 100);
    for _ in 0..2 {
        ams.undo(&step).await.unwrap();
        assert!(pair.standby.processes().is_empty());
        assert!(pair.standby.data_dir.join("standby.signal").exists());
    }
}

async fn start_own(ams: &World, node: &TestNode) {
    let step = Step::StartOwn { timeout: AMPLE };
    // What cannot be started as primary stays forbidden to start as one (S10).
    let settings = node.data_dir.join("postgresql.conf");
    let text = fs::read_to_string(&settings).unwrap();
    fs::write(&settings, format!("{text}\nno such setting\n")).unwrap();
    let error = ams.apply(&step).await.unwrap_err();
    assert_eq!(error.kind, FailureKind::Retryable, "{error:?}");
    assert!(node.data_dir.join("standby.signal").exists());
    fs::write(&settings, text).unwrap();
    ams.apply(&step).await.unwrap();
    let postmaster = node.postmaster_pid();
    let again = ams.apply(&step).await.unwrap();
    assert_eq!(again.node.unwrap().role, Role::Primary);
    assert_eq!(node.postmaster_pid(), postmaster);
    ams.has_no_undo(&step).await;
}

async fn verify_writes(ams: &World, fra: &World, pair: &Pair) {
    let step = Step::VerifyWrites { timeout: AMPLE };
    for _ in 0..2 {
        let node = ams.apply(&step).await.unwrap().node.unwrap();
        assert!(node.canary.is_some());
    }
    ams.has_no_undo(&step).await;
    // The old primary is a standby of nobody now: no commit is possible there.
    pair.primary.start();
    let attempt = Attempt {
        step: &step,
        epoch: EPOCH,
        undo: false,
        deadline: boottime() + Duration::from_millis(500),
    };
    run(&fra.tools, attempt).await.unwrap_err();
    // A database that has seen a higher epoch refuses this one (S8).
    let late = Attempt {
        epoch: Epoch(6),
        deadline: boottime() + AMPLE,
        ..attempt
    };
    let error = run(&ams.tools, late).await.unwrap_err();
    assert_eq!(error.kind, FailureKind::Permanent, "{error:?}");
    assert!(error.what.contains("epoch 6 is over"), "{error:?}");
}

async fn rewrite_app_config(ams: &World) {
    let step = rewrite("shop", "DATABASE_HOST");
    let path = ams.tools.app_configs[0].path.clone();
    ams.apply(&step).await.unwrap();
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains("DATABASE_HOST=db2\n"), "{text}");
    ams.apply(&step).await.unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
    ams.has_no_undo(&step).await;
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
    for broken in [
        rewrite("other", "MISSING"),
        rewrite("gone", "DATABASE_HOST"),
    ] {
        let error = ams.apply(&broken).await.unwrap_err();
        assert_eq!(error.kind, FailureKind::Permanent, "{error:?}");
        assert!(error.hint.is_some() || error.what.contains("gone"));
    }
}

async fn move_dns(ams: &World) {
    let step = update_dns();
    ams.dns.fail_next_write(Fault::Status(503));
    let error = ams.apply(&step).await.unwrap_err();
    assert_ne!(error.kind, FailureKind::Permanent, "{error:?}");
    ams.has_no_undo(&step).await;
    for _ in 0..2 {
        ams.apply(&step).await.unwrap();
        let record = ams.dns.records().remove(0);
        assert_eq!(record.content, "192.0.2.2");
        assert!(record.comment.unwrap().contains('7'));
    }
    ams.has_no_undo(&step).await;
    let writes = ams.dns.requests();
    let writes = writes.iter().filter(|request| request.method == "PATCH");
    assert_eq!(writes.count(), 2, "one that failed, one that did it");
}

async fn no_effect(ams: &World, kind: StepKind) {
    let step = match kind {
        StepKind::HandOver => Step::HandOver {
            to: SiteName::new("fra"),
        },
        StepKind::RecordPrimary => Step::RecordPrimary {
            site: SiteName::new("fra"),
        },
        StepKind::Notify => Step::Notify {
            summary: String::new(),
        },
        StepKind::FenceOwn
        | StepKind::StartOwn
        | StepKind::CheckCandidate
        | StepKind::Promote
        | StepKind::VerifyWrites
        | StepKind::RewriteAppConfig
        | StepKind::UpdateDns => panic!("step '{kind}' has an effect"),
    };
    // Somebody else's work: asked here by mistake, nothing may happen.
    for undo in [false, true] {
        let error = ams.attempt(&step, undo).await.unwrap_err();
        assert_eq!(error.kind, FailureKind::Permanent, "{error:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s3_fence_that_cannot_be_proved_is_undone_without_harm() {
    let node = TestNode::primary(NodeOptions::default());
    install(&node).await;
    let command = |text: &str| ["/bin/sh", "-c", text].map(str::to_owned).to_vec();
    let mut access = Access::to(&node);
    access.node.control = Control::Commands(Box::new(ControlCommands {
        start: command("true"),
        stop: command("true"),
        promote: None,
        status: command("true"),
        fence: Some(command("true")),
        fenced: Some(command("false")),
        timeout: Duration::from_secs(5),
    }));
    let world = World::with(&node, &access).await;
    let step = Step::FenceOwn {
        grace: Duration::ZERO,
        budget: Duration::from_millis(300),
    };
    let postmaster = node.postmaster_pid();
    for _ in 0..2 {
        let error = world.apply(&step).await.unwrap_err();
        assert_eq!(error.kind, FailureKind::OutcomeUnknown, "{error:?}");
    }
    for _ in 0..2 {
        world.undo(&step).await.unwrap();
    }
    assert_eq!(node.postmaster_pid(), postmaster);
    assert_eq!(role(&node).await, Role::Primary);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s1_undone_promotion_never_comes_true_later() {
    let pair = pair().await;
    let ams = World::of(&pair.standby).await;
    // A startup process that is frozen takes the order, but does not carry it out.
    let startup = startup_process(&pair.standby).await;
    pair.standby.signal("STOP", &[startup]);
    let step = Step::Promote { timeout: AMPLE };
    let attempt = Attempt {
        step: &step,
        epoch: EPOCH,
        undo: false,
        deadline: boottime() + Duration::from_secs(1),
    };
    let error = run(&ams.tools, attempt).await.unwrap_err();
    assert_eq!(error.kind, FailureKind::OutcomeUnknown, "{error:?}");
    for _ in 0..2 {
        ams.undo(&step).await.unwrap();
    }
    assert!(pair.standby.processes().is_empty());
    pair.standby.start();
    assert_eq!(role(&pair.standby).await, Role::Standby);
    assert_eq!(rows(&pair.standby).await, 100);
}

/// The process that replays WAL.
async fn startup_process(node: &TestNode) -> u32 {
    let client = node.connect(SUPERUSER).await;
    let sql = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'startup'";
    let row = client.query_one(sql, &[]).await.unwrap();
    u32::try_from(row.get::<_, i32>(0)).unwrap()
}
