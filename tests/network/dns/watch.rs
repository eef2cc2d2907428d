//! How a move spreads from BIND to its secondary and to a resolver, and what is told when somebody
//! else changes the record: the watch of the agent, without the rest of it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use failover_agent::config::{self, Config, MemberRole};
use failover_agent::effects::clock::boottime;
use failover_agent::effects::dns::moved::{Moved, MovedSender};
use failover_agent::effects::dns::{apply, provider_of};
use failover_agent::effects::error::EffectError;
use failover_agent::effects::notify::Notifier;
use failover_agent::effects::permit::Unconditional;
use failover_agent::model::alert::{Alert, AlertLevel};
use failover_agent::model::dns::{DnsStatus, ServerKind, Spreading};
use failover_agent::model::{Epoch, Moment, SiteName, Timestamp};
use failover_agent::runtime::app_desk::AppDesk;
use failover_agent::runtime::dns_desk::DnsDesk;
use failover_agent::runtime::dns_records::{self, DnsProviders};
use failover_agent::runtime::dns_watch::{self, Audience, DnsSeen};
use failover_agent::runtime::handle::AgentHandle;
use failover_agent::runtime::lease_keeper::Held;
use failover_agent::runtime::outbox::Outbox;
use failover_agent::runtime::status::Snapshot;
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::Wanted;
use super::servers::{KEY, KEY_NAME, KINDS, Server, ZONE};
use crate::support::wait_until;

pub(super) const SOON: Duration = Duration::from_secs(20);
const FRA: &str = "192.0.2.1";
pub(super) const AMS: &str = "192.0.2.2";
pub(super) const EPOCH: Epoch = Epoch(3);

/// The watch of ams, which is active.
pub(super) struct Watched {
    config: Config,
    pub(super) desk: DnsDesk,
    pub(super) picture: Arc<Snapshot>,
    held: watch::Sender<Held>,
    pub(super) moved: Vec<MovedSender>,
    seen: watch::Receiver<DnsSeen>,
    pub(super) providers: watch::Receiver<DnsProviders>,
    alerts: Arc<Mutex<Vec<Alert>>>,
    stop: CancellationToken,
    _dir: tempfile::TempDir,
    _pictures: watch::Sender<Arc<Snapshot>>,
}

#[derive(Debug)]
struct Told(Arc<Mutex<Vec<Alert>>>);

#[async_trait]
impl Notifier for Told {
    async fn send(&self, alert: &Alert) -> Result<(), EffectError> {
        self.0.lock().unwrap().push(alert.clone());
        Ok(())
    }
}

fn config(primary: SocketAddr, authoritative: &[SocketAddr], resolvers: &[SocketAddr]) -> Config {
    let [authoritative, resolvers] = [authoritative, resolvers]
        .map(|all| all.iter().map(ToString::to_string).collect::<Vec<String>>());
    config_with(&format!(
        "[dns_check]\nauthoritative = {authoritative:?}\nresolvers = {resolvers:?}\n\
         drift_every = \"1s\"\n\
         [[dns]]\nname = \"shop\"\nprovider = \"rfc2136\"\nrecord = \"shop.{ZONE}\"\n\
         server = \"{primary}\"\nzone = \"{ZONE}\"\nkey_name = \"{KEY_NAME}\"\nkey = \"{KEY}\"\n\
         content = {{ fra = \"{FRA}\", ams = \"{AMS}\" }}\n"
    ))
}

/// Two sites, a witness, and these records.
pub(super) fn config_with(dns: &str) -> Config {
    let text = format!(
        "cluster = \"test\"\nstate_dir = \"/nowhere\"\n\
         [peer]\nsecret = \"a test secret of enough length\"\n\
         [sites.fra]\naddress = \"127.0.0.1:7001\"\n\
         [sites.fra.database]\nhost = \"127.0.0.1\"\nport = 1\ndata_dir = \"/nowhere/f\"\n\
         [sites.ams]\naddress = \"127.0.0.1:7002\"\n\
         [sites.ams.database]\nhost = \"127.0.0.1\"\nport = 2\ndata_dir = \"/nowhere/a\"\n\
         [witness]\naddress = \"127.0.0.1:7003\"\n[database]\ntls = \"off\"\n{dns}"
    );
    let file = Path::new("agent.toml");
    let loaded = config::parse(&text, file, Some("ams"), MemberRole::Agent, &|_| None);
    loaded.unwrap().config
}

fn picture() -> Arc<Snapshot> {
    let picture = json!({
        "cluster": "test", "site": "ams", "version": "1", "at": 1, "phase": "active",
        "active": true, "stopped": null,
        "lease": {
            "view": "held", "holder": "ams", "epoch": 3, "fence_in_ms": 5000, "reached": [],
            "words": "",
        },
        "record": {
            "epoch": 3, "revision": 1, "primary": "ams", "promoting": false, "system_id": 1, "timeline": 2,
            "last_lsn": "0/0",
        },
        "facts": null, "diagnoses": [], "would_do": "", "refusals": [],
        "members": [], "targets": [], "run": null, "last_run": null, "counters": [],
    });
    Arc::new(serde_json::from_value(picture).unwrap())
}

impl Watched {
    pub(super) fn start(config: Config) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let stop = CancellationToken::new();
        let desk = DnsDesk::new(&config);
        let picture = picture();
        let (pictures, status) = watch::channel(Arc::clone(&picture));
        let (held, held_seen) = watch::channel(Some((EPOCH, Moment::NEVER)));
        let agent = AgentHandle {
            status,
            held: held_seen,
            requests: mpsc::channel(1).0,
            dns: desk.clone(),
            apps: AppDesk::default(),
        };
        let alerts = Arc::default();
        let told: Box<dyn Notifier> = Box::new(Told(Arc::clone(&alerts)));
        let (outbox, courier) = Outbox::open(dir.path(), vec![("told".to_owned(), told)]);
        tokio::spawn(courier.run(stop.clone()));
        let audience = Audience {
            cluster: config.cluster.clone(),
            site: SiteName::new("ams"),
            outbox,
        };
        let (moved, seen) = dns_watch::start(&agent, &audience, &stop);
        let providers = dns_records::tend(&desk, &audience, &stop);
        Self {
            config,
            desk,
            picture,
            held,
            moved,
            seen,
            providers,
            alerts,
            stop,
            _dir: dir,
            _pictures: pictures,
        }
    }

    /// Somebody sets the record.
    async fn set(&self, content: &str, epoch: Epoch) {
        let wanted = Wanted {
            name: format!("shop.{ZONE}"),
            kind: "A".to_owned(),
            contents: vec![content.to_owned()],
            epoch,
            site: SiteName::new("ams"),
        };
        let provider = provider_of(&self.config.dns[0]).unwrap();
        apply(provider.as_ref(), &wanted, &Unconditional)
            .await
            .unwrap();
    }

    /// What the step says once it has moved the record.
    fn say_moved(&self) {
        self.moved[0].send_replace(Some(Moved {
            at: boottime(),
            epoch: EPOCH,
            wanted: vec![AMS.to_owned()],
            ttl_s: Some(45),
            proxied: false,
        }));
    }

    pub(super) async fn wait(&self, what: &str, is_so: impl Fn(&DnsStatus) -> bool) -> DnsStatus {
        let mut seen = self.seen.clone();
        let there = seen.wait_for(|seen| seen[0].as_ref().is_some_and(&is_so));
        let there = tokio::time::timeout(SOON, there).await;
        let Ok(there) = there else {
            panic!("waited for: {what}; there is {:?}", self.seen.borrow());
        };
        there.unwrap()[0].clone().unwrap()
    }

    pub(super) fn told(&self) -> Vec<(AlertLevel, String)> {
        let alerts = self.alerts.lock().unwrap();
        let told = alerts.iter();
        told.map(|alert| (alert.level, alert.summary.clone()))
            .collect()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[tokio::test]
async fn move_is_watched_until_the_secondary_has_it_and_old_answers_have_run_out() {
    let primary = Server::start(KINDS[0]);
    let secondary = Server::secondary_of(&primary);
    let resolver = Server::resolver_of(&primary);
    let servers = [primary.address(), secondary.address()];
    let watched = Watched::start(config(primary.address(), &servers, &[resolver.address()]));
    // From here on the resolver keeps the old answer.
    assert_eq!(resolver.dig_with("+recurse", "shop", "A"), [FRA]);
    watched.set(AMS, EPOCH).await;
    watched.say_moved();
    let half = watched
        .wait("the primary has it", |it| it.view.is_some())
        .await;
    let words = half.words();
    assert!(
        words.starts_with("1 of 2 authoritative servers, 0 of 1 resolvers; "),
        "{words}"
    );
    assert_eq!(
        (half.spreading, half.old_until),
        (Spreading::UnderWay, None)
    );

    let verified = watched.desk.verify(&watched.picture, None).await.unwrap();
    let [verified] = verified.try_into().unwrap();
    assert!(!verified.is_everywhere());
    let kept = verified.planned.provider.as_ref().unwrap();
    assert_eq!((&kept.drift, kept.ttl_s), (&None, Some(45)));
    assert!(verified.old_until.is_some(), "a resolver keeps it");

    secondary.notify();
    let whole = watched
        .wait("the secondary has it", |it| it.old_until.is_some())
        .await;
    let view = whole.view.as_ref().unwrap();
    assert!(view.share(ServerKind::Authoritative).is_whole());
    assert_eq!(whole.spreading, Spreading::UnderWay);
    let Timestamp(until) = whole.old_until.unwrap();
    let Timestamp(looked) = whole.looked_at.unwrap();
    assert!((1..=46_000).contains(&(until - looked)), "{whole:?}");
    assert_eq!(watched.told(), []);
}

#[tokio::test]
async fn verify_says_how_long_old_answers_may_live_where_no_resolver_is_known() {
    let primary = Server::start(KINDS[0]);
    let address = primary.address();
    let watched = Watched::start(config(address, &[address], &[]));
    watched.set(AMS, EPOCH).await;
    watched.say_moved();
    let status = watched
        .wait("every server has it", |it| it.old_until.is_some())
        .await;
    let mut picture = (*watched.picture).clone();
    let verified = async |picture: Snapshot| {
        let verified = watched.desk.verify(&picture, None).await.unwrap();
        let [verified] = verified.try_into().unwrap();
        assert!(verified.is_everywhere(), "{verified:?}");
        verified.old_until
    };
    assert_eq!(verified(picture.clone()).await, None, "nothing is watched");
    picture.dns = vec![status.clone()];
    assert_eq!(verified(picture.clone()).await, status.old_until);
    picture.dns[0].old_until = Some(Timestamp(1));
    assert_eq!(verified(picture.clone()).await, None, "they are gone");
    picture.dns = vec![DnsStatus {
        epoch: Epoch(EPOCH.0 - 1),
        ..status
    }];
    assert_eq!(verified(picture).await, None, "of another move");
}

#[tokio::test]
async fn s8_change_by_somebody_else_is_told_once_and_left_alone() {
    let primary = Server::start(KINDS[0]);
    let address = primary.address();
    let watched = Watched::start(config(address, &[address], &[address]));
    watched.set(AMS, EPOCH).await;
    watched.say_moved();
    watched
        .wait("the provider is looked at", |it| it.view.is_some())
        .await;

    watched.set(FRA, EPOCH).await;
    let drifted = watched
        .wait("the change is seen", |it| it.drift.is_some())
        .await;
    assert_eq!(drifted.drift.as_deref(), Some("it is 192.0.2.1"));
    watched.set(AMS, EPOCH).await;
    watched
        .wait("it is right again", |it| it.drift.is_none())
        .await;
    watched.set(AMS, Epoch(EPOCH.0 + 1)).await;
    let newer = watched
        .wait("the newer epoch is seen", |it| it.drift.is_some())
        .await;
    let why = "the newer epoch 4 has moved it; it is left alone";
    assert_eq!(newer.drift.as_deref(), Some(why));
    wait_until("all of it is told", SOON, || async {
        watched.told().len() >= 3
    })
    .await;
    let told = watched.told();
    let levels: Vec<AlertLevel> = told.iter().map(|(level, _)| *level).collect();
    let expected = [AlertLevel::Page, AlertLevel::Info, AlertLevel::Page];
    assert_eq!(levels, expected, "each once: {told:?}");
    assert!(
        told[0]
            .1
            .contains("it is 192.0.2.1; it should be 192.0.2.2")
    );
    assert_eq!(primary.dig("shop", "A"), [AMS]);

    // Whoever is not active any more says nothing of it.
    watched.held.send_replace(None);
    let mut seen = watched.seen.clone();
    let gone = seen.wait_for(|seen| seen[0].is_none());
    tokio::time::timeout(SOON, gone).await.unwrap().unwrap();
}
