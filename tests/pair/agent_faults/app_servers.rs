//! App servers that die beside a healthy database: as long as enough are left, the proxy's file and
//! what is rendered from it follow; when too few are, the site is failed over.
#![expect(clippy::indexing_slicing, reason = "a missing server is a failed test")]

use std::fs;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::{SOON, wait_moved};
use crate::support::cluster::{ClusterOptions, TestCluster};
use crate::support::wait_until;

/// How long too few must be down before the site is given up.
const DOWN_FOR: Duration = Duration::from_millis(500);

/// App servers of fra, until they are stopped.
struct Servers {
    addresses: Vec<String>,
    running: Vec<Option<JoinHandle<()>>>,
}

impl Servers {
    async fn start(count: usize) -> Self {
        let (mut addresses, mut running) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            addresses.push(listener.local_addr().unwrap().to_string());
            running.push(Some(tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    drop(stream);
                }
            })));
        }
        Self { addresses, running }
    }

    async fn stop(&mut self, index: usize) {
        let running = self.running[index].take().unwrap();
        running.abort();
        running.await.unwrap_err();
    }

    /// A group at fra that needs two of them, and at each site a file that is rendered.
    fn toml(&self) -> String {
        let members = self.addresses.iter();
        let members: String = members
            .map(|address| format!("{{ address = \"{address}\" }}, "))
            .collect();
        let app = |site: &str| {
            format!(
                "[[app_config]]\nname = \"front-{site}\"\nsite = \"{site}\"\n\
                 path = \"{{dir}}/{site}/front.conf\"\ntemplate = \"{{dir}}/front.j2\"\n"
            )
        };
        format!(
            "[[upstream]]\nname = \"shop\"\nsite = \"fra\"\nformat = \"nginx\"\n\
             path = \"{{dir}}/fra/shop.conf\"\nmembers = [{members}]\ninterval = \"200ms\"\n\
             fast_interval = \"50ms\"\ntimeout = \"1s\"\nfall = 2\nsettle = \"0s\"\n\
             trip_below = 2\ndown_for = \"{}ms\"\n{}{}",
            DOWN_FOR.as_millis(),
            app("fra"),
            app("ams"),
        )
    }

    fn lines(&self, kept: &[usize]) -> String {
        let kept = kept.iter();
        kept.map(|index| format!("to {}\n", self.addresses[*index]))
            .collect()
    }
}

/// The group is fra's: at ams there is none.
const TEMPLATE: &str = "\
primary {{ primary.site }} {{ primary.port }}
{% if site == 'fra' %}
{% for server in upstreams.shop %}
to {{ server.name }}
{% endfor %}
{% endif %}
";

async fn wait_front(cluster: &TestCluster, site: &str, text: &str) {
    let path = cluster.dir().join(site).join("front.conf");
    wait_until(&format!("{site} has {text:?}"), SOON, || {
        let found = fs::read_to_string(&path).unwrap_or_default();
        let same = found == text;
        async move { same }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn app_servers_fail_their_site_over_when_too_few_are_left_and_not_before() {
    let mut servers = Servers::start(3).await;
    let mut cluster = TestCluster::prepare(ClusterOptions {
        extra: servers.toml(),
        ..ClusterOptions::default()
    })
    .await;
    fs::write(cluster.dir().join("front.j2"), TEMPLATE).unwrap();
    cluster.start_all().await;
    let ports = [0, 1].map(|index| cluster.node(index).port);
    let named = |site: &str, index: usize| format!("primary {site} {}\n", ports[index]);
    let all = named("fra", 0) + &servers.lines(&[0, 1, 2]);
    wait_front(&cluster, "fra", &all).await;
    wait_front(&cluster, "ams", &named("fra", 0)).await;

    // Two of three are enough: the files follow, the site stays.
    servers.stop(1).await;
    let two = named("fra", 0) + &servers.lines(&[0, 2]);
    wait_front(&cluster, "fra", &two).await;
    let (epoch, seen) = (cluster.status(0).lease.epoch, cluster.status(0).at);
    let long_enough = DOWN_FOR * 2;
    cluster
        .wait_status(0, "it looks on for a while", SOON, |status| {
            let healthy = status.upstreams.iter().map(|group| group.healthy);
            let looked = status.at.0 - seen.0 > i64::try_from(long_enough.as_millis()).unwrap();
            looked && healthy.eq([2])
        })
        .await;
    assert!(cluster.status(0).active);
    assert_eq!(cluster.status(0).lease.epoch, epoch);

    // One is not.
    servers.stop(0).await;
    wait_moved(&cluster).await;
    wait_front(&cluster, "ams", &named("ams", 1)).await;
    let one = named("ams", 1) + &servers.lines(&[2]);
    wait_front(&cluster, "fra", &one).await;
}
