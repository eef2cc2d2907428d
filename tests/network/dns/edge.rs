//! Which site is reached through the edge of a provider that proxies: seen by asking through it.
//! Here nginx is the edge, and both sites.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use failover_agent::config::settings::{DnsAccess, EdgeCheck};
use failover_agent::effects::clock::boottime;
use failover_agent::effects::dns::edge::look;
use failover_agent::effects::dns::moved::Moved;
use failover_agent::model::SiteName;
use failover_agent::model::dns::Spreading;
use failover_agent::model::edge::EdgeHeard;
use failover_agent::surfaces::demo::cloudflare::{CloudflareStandIn, Record, ZONE_ID};
use tempfile::TempDir;

use super::watch::{AMS, EPOCH, SOON, Watched, config_with};
use super::{NAME, TOKEN};
use crate::support::ports::free_port;
use crate::support::processes::watch;
use crate::support::wait_until;

/// Longer than an edge on this host takes, shorter than the slow one does.
const PATIENCE: Duration = Duration::from_secs(3);
/// What Cloudflare adds to every answer.
const RAY: &str = "230b030023ae2822-AMS";
/// Many times what is read of a body.
const HUGE: usize = 8 << 20;

/// nginx with an edge and two origins.
struct Edge {
    child: Child,
    /// Ends it when the test process is gone, however it went.
    watch: Child,
    dir: TempDir,
    port: u16,
    origins: [u16; 2],
}

impl Edge {
    /// It leads to fra.
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (port, origins) = (free_port(), [free_port(), free_port()]);
        let at = dir.path().display().to_string();
        fs::write(dir.path().join("huge"), "ams ".repeat(HUGE / 4)).unwrap();
        fs::write(dir.path().join("nginx.conf"), main_file(&at, port, origins)).unwrap();
        let guard = watch(dir.path(), dir.path());
        fs::write(dir.path().join("origin.conf"), leads_to(origins[0])).unwrap();
        let child = Command::new("/usr/sbin/nginx")
            .args(["-g", "daemon off;", "-e"])
            .arg(dir.path().join("error.log"))
            .arg("-c")
            .arg(dir.path().join("nginx.conf"))
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let edge = Self {
            child,
            watch: guard,
            dir,
            port,
            origins,
        };
        wait_until("nginx serves", SOON, || async {
            edge.answers(&edge.check("/", None)).await == site("fra")
        })
        .await;
        edge
    }

    fn check(&self, path: &str, header: Option<&str>) -> EdgeCheck {
        EdgeCheck {
            url: format!("http://127.0.0.1:{}{path}", self.port),
            header: header.map(str::to_owned),
            expect: "{site}".to_owned(),
        }
    }

    /// Where ams is wanted.
    async fn answers(&self, check: &EdgeCheck) -> EdgeHeard {
        let (ams, fra) = (SiteName::new("ams"), SiteName::new("fra"));
        look(check, (&ams, &fra), PATIENCE).await.heard
    }

    /// The edge has the change now, and no worker is left that has not.
    async fn follow_to_ams(&self) {
        let file = self.dir.path().join("origin.conf");
        fs::write(file, leads_to(self.origins[1])).unwrap();
        let told = Command::new("kill")
            .args(["-HUP", &self.child.id().to_string()])
            .status();
        assert!(told.unwrap().success());
        wait_until("the old worker is gone", SOON, || async {
            let log = fs::read_to_string(self.dir.path().join("error.log"));
            log.is_ok_and(|log| log.contains("exited with code 0"))
        })
        .await;
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        // In order, so that its workers end with it.
        let told = Command::new("kill")
            .args(["-TERM", &self.child.id().to_string()])
            .status();
        if !told.is_ok_and(|status| status.success()) {
            self.child.kill().ok();
        }
        self.child.wait().ok();
        self.watch.kill().ok();
        self.watch.wait().ok();
    }
}

fn leads_to(port: u16) -> String {
    format!("upstream origin {{ server 127.0.0.1:{port}; }}\n")
}

fn main_file(dir: &str, port: u16, [fra, ams]: [u16; 2]) -> String {
    let origin = |port: u16, site: &str| {
        format!(
            "  server {{\n    listen 127.0.0.1:{port};\n    add_header x-site {site};\n    \
             location / {{ return 200 \"this is {site}\\n\"; }}\n    \
             location = /ailing {{ return 503; }}\n    \
             location = /both {{ return 200 \"fra ams\"; }}\n    \
             location = /nobody {{ return 200 \"hello, teams\"; }}\n    \
             location = /huge {{ root {dir}; limit_rate 4096; }}\n  }}\n"
        )
    };
    format!(
        "worker_processes 1;\npid {dir}/nginx.pid;\nerror_log {dir}/error.log notice;\n\
         events {{ worker_connections 64; }}\nhttp {{\n  access_log off;\n  \
         client_body_temp_path {dir}/body;\n  proxy_temp_path {dir}/proxy;\n  \
         fastcgi_temp_path {dir}/fastcgi;\n  uwsgi_temp_path {dir}/uwsgi;\n  \
         scgi_temp_path {dir}/scgi;\n  include {dir}/origin.conf;\n  server {{\n    \
         listen 127.0.0.1:{port};\n    add_header cf-ray {RAY} always;\n    \
         location / {{ proxy_pass http://origin; }}\n    \
         location = /moved {{ return 301 /; }}\n    \
         location = /remembered {{ proxy_pass http://origin; add_header age 30; \
         add_header cf-ray {RAY}; }}\n  }}\n\
         {}{}}}\n",
        origin(fra, "fra"),
        origin(ams, "ams")
    )
}

fn site(name: &str) -> EdgeHeard {
    let site = SiteName::new(name);
    match name {
        "ams" => EdgeHeard::Wanted { site },
        _ => EdgeHeard::OtherSite { site },
    }
}

#[tokio::test]
async fn marker_in_header_or_body_says_which_site_answers() {
    let edge = Edge::start().await;
    for header in [None, Some("x-site")] {
        assert_eq!(edge.answers(&edge.check("/", header)).await, site("fra"));
    }
    edge.follow_to_ams().await;
    for header in [None, Some("x-site")] {
        assert_eq!(edge.answers(&edge.check("/", header)).await, site("ams"));
    }
    let mut words = edge.check("/?key=hidden", None);
    words.expect = "this is {site}".to_owned();
    let (ams, fra) = (SiteName::new("ams"), SiteName::new("fra"));
    let view = look(&words, (&ams, &fra), PATIENCE).await;
    assert!(view.follows() && !view.url.contains("hidden"), "{view:?}");
}

#[tokio::test]
async fn answer_that_came_past_the_edge_is_no_move() {
    let edge = Edge::start().await;
    // Where the name leads inside a site: to the origin there, which names its own site.
    let mut past = edge.check("/", Some("x-site"));
    for (origin, header) in edge.origins.iter().zip([None, Some("x-site")]) {
        past.url = format!("http://127.0.0.1:{origin}/?key=hidden");
        past.header = header.map(str::to_owned);
        let missing = "cf-ray".to_owned();
        assert_eq!(edge.answers(&past).await, EdgeHeard::PastEdge { missing });
        assert!(!format!("{past:?}").contains("hidden"), "{past:?}");
    }
    let (ams, fra) = (SiteName::new("ams"), SiteName::new("fra"));
    let view = look(&past, (&ams, &fra), PATIENCE).await;
    let words = "the answer did not come through Cloudflare: it has no header cf-ray";
    assert!(!view.follows() && view.words() == words, "{view:?}");
}

#[tokio::test]
async fn what_proves_nothing_is_called_by_its_name() {
    let edge = Edge::start().await;
    let answers = async |path: &str, header| edge.answers(&edge.check(path, header)).await;
    for (path, status) in [("/ailing", 503), ("/moved", 301)] {
        assert_eq!(answers(path, None).await, EdgeHeard::Status { status });
    }
    for (path, header, why) in [
        ("/both", None, "the body names both sites"),
        ("/nobody", None, "the body names neither site"),
        (
            "/",
            Some("x-other"),
            "the header x-other names neither site",
        ),
    ] {
        let why = why.to_owned();
        assert_eq!(answers(path, header).await, EdgeHeard::Unmarked { why });
    }
    let why = "age 30 s".to_owned();
    let remembered = answers("/remembered", Some("x-site")).await;
    assert_eq!(remembered, EdgeHeard::Remembered { why });
    // A header is there before a body that never ends; a body is waited for, but not for ever.
    assert_eq!(answers("/huge", Some("x-site")).await, site("fra"));
    let begun = Instant::now();
    let slow = answers("/huge", None).await;
    assert!(matches!(slow, EdgeHeard::Silent { .. }), "{slow}");
    assert!(begun.elapsed() < PATIENCE * 2);
    let check = edge.check("/", None);
    let (ams, fra) = (SiteName::new("ams"), SiteName::new("fra"));
    drop(edge);
    let down = look(&check, (&ams, &fra), PATIENCE).await.heard;
    assert!(matches!(down, EdgeHeard::Silent { .. }), "{down}");
}

#[tokio::test]
async fn move_of_a_proxied_record_is_watched_until_the_edge_follows() {
    let edge = Edge::start().await;
    let mut record = Record::new("A", NAME, AMS).comment("agent epoch=3 site=ams");
    record.proxied = true;
    let provider = CloudflareStandIn::start(TOKEN, vec![record]).await.unwrap();
    let mut config = config_with(&format!(
        "[[dns]]\nname = \"shop\"\nprovider = \"cloudflare\"\nrecord = \"{NAME}\"\n\
         zone_id = \"{ZONE_ID}\"\ntoken = \"{TOKEN}\"\napi_url = \"{}\"\nproxied = true\n\
         edge_check = {{ url = \"https://{NAME}/\", header = \"X-Site\" }}\n\
         content = {{ fra = \"192.0.2.1\", ams = \"{AMS}\" }}\n",
        provider.url()
    ));
    // Settings name the record; only a test has its edge on this host.
    if let DnsAccess::Cloudflare { proxy, .. } = &mut config.dns[0].access {
        proxy.edge_check.as_mut().unwrap().url = format!("http://127.0.0.1:{}/", edge.port);
    }
    let watched = Watched::start(config);
    watched.moved[0].send_replace(Some(Moved {
        at: boottime(),
        epoch: EPOCH,
        wanted: vec![AMS.to_owned()],
        ttl_s: None,
        proxied: true,
    }));
    let stale = watched
        .wait("the edge is asked", |it| it.edge.is_some())
        .await;
    assert_eq!((stale.spreading, &stale.view), (Spreading::UnderWay, &None));
    assert_eq!(stale.words(), "through the edge site fra still answers");
    let verified = watched.desk.verify(&watched.picture, None).await.unwrap();
    let [verified] = verified.try_into().unwrap();
    assert_eq!(verified.edge.as_ref().unwrap().heard, site("fra"));
    assert!(verified.planned.provider.as_ref().unwrap().drift.is_none());
    assert!(!verified.is_everywhere(), "{verified:?}");

    edge.follow_to_ams().await;
    let done = watched
        .wait("the edge follows", |it| it.spreading == Spreading::Done)
        .await;
    assert_eq!(
        done.words(),
        format!("{AMS} as seen from here: through the edge site ams answers")
    );
    let verified = watched.desk.verify(&watched.picture, None).await.unwrap();
    assert!(verified[0].is_everywhere(), "{verified:?}");
}

#[tokio::test]
async fn record_that_is_not_proxied_as_the_settings_say_is_told() {
    let record = Record::new("A", NAME, AMS).comment("agent epoch=3 site=ams");
    let provider = CloudflareStandIn::start(TOKEN, vec![record]).await.unwrap();
    let watched = Watched::start(config_with(&format!(
        "[[dns]]\nname = \"shop\"\nprovider = \"cloudflare\"\nrecord = \"{NAME}\"\n\
         zone_id = \"{ZONE_ID}\"\ntoken = \"{TOKEN}\"\napi_url = \"{}\"\nproxied = true\n\
         content = {{ fra = \"192.0.2.1\", ams = \"{AMS}\" }}\n",
        provider.url()
    )));
    let planned = watched.desk.plan(&watched.picture, None).await.unwrap();
    let drift = planned[0]
        .provider
        .as_ref()
        .unwrap()
        .drift
        .as_ref()
        .unwrap();
    let why = "it is not proxied, and the settings say proxied = true";
    assert_eq!(drift.to_string(), why);
}
