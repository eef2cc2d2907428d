//! Files, commands and DNS that fail while the database is failed over. S9, S16: none of them
//! delays it, and each comes true once its fault ends.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use failover_agent::surfaces::demo::cloudflare::{CloudflareStandIn, Fault, Record, ZONE_ID};
use serde_json::json;

use super::disk::SmallDisk;
use super::{SOON, keep_rows, kill_postmaster, rows_up_to, wait_moved};
use crate::support::cluster::{ClusterOptions, TestCluster};
use crate::support::{timeline, wait_until};

const TOKEN: &str = "Sn3lkgR6nPbvUzsHbYVuuCTFM8dZZgiJ8hR1Tqtk";
const FRA: &str = "192.0.2.1";
const AMS: &str = "192.0.2.2";
const SPARE: &str = "192.0.2.9";
/// So long the stand-in wants to be left alone.
const RETRY_AFTER: u64 = 4;

/// How the DNS of one record fails.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Trouble {
    Answers(Fault),
    OnWrite(Fault),
    Missing,
}

const TROUBLES: [(&str, Trouble); 10] = [
    ("unauthorized", Trouble::Answers(Fault::Status(401))),
    ("forbidden", Trouble::OnWrite(Fault::Status(403))),
    ("limited", Trouble::OnWrite(Fault::RateLimited(RETRY_AFTER))),
    ("broken", Trouble::OnWrite(Fault::Status(500))),
    ("overloaded", Trouble::Answers(Fault::Status(503))),
    ("silent", Trouble::Answers(Fault::Timeout)),
    ("late", Trouble::OnWrite(Fault::AppliedButTimedOut)),
    ("garbage", Trouble::OnWrite(Fault::Garbage)),
    ("missing", Trouble::Missing),
    ("fine", Trouble::Answers(Fault::FilterIgnored)),
];

struct Dns {
    name: &'static str,
    trouble: Trouble,
    provider: CloudflareStandIn,
}

impl Dns {
    async fn start(name: &'static str, trouble: Trouble) -> Self {
        let records = vec![
            Record::new("A", &format!("{name}.example.com"), FRA),
            Record::new("A", "spare.example.com", SPARE),
        ];
        let provider = CloudflareStandIn::start(TOKEN, records).await.unwrap();
        Self {
            name,
            trouble,
            provider,
        }
    }

    fn toml(&self) -> String {
        format!(
            "[[dns]]\nname = \"{name}\"\nprovider = \"cloudflare\"\nrecord = \"{name}.example.com\"\n\
             zone_id = \"{ZONE_ID}\"\ntoken = \"{TOKEN}\"\ntimeout = \"1s\"\napi_url = \"{url}\"\n\
             content = {{ fra = \"{FRA}\", ams = \"{AMS}\" }}\n",
            name = self.name,
            url = self.provider.url(),
        )
    }

    /// The record that the agent keeps is the first of the stand-in.
    fn record(&self) -> Record {
        self.provider.records().remove(0)
    }

    fn rename(&self, index: usize, name: &str) {
        let id = self.provider.records().remove(index).id;
        self.provider.change_by_hand(&id, &json!({ "name": name }));
    }

    fn begin(&self) {
        match self.trouble {
            Trouble::Answers(fault) => self.provider.fail_next(fault),
            Trouble::OnWrite(fault) => self.provider.fail_next_write(fault),
            Trouble::Missing => self.rename(0, "elsewhere.example.com"),
        }
    }

    /// Those that only a person can put right.
    fn end(&self) {
        match self.trouble {
            Trouble::Missing => self.rename(0, "missing.example.com"),
            Trouble::Answers(_) | Trouble::OnWrite(_) => {}
        }
    }

    async fn wait_names(&self, content: &str, epoch: Option<u64>) {
        let what = format!("{} names {content}", self.name);
        wait_until(&what, SOON, || async {
            let record = self.record();
            let comment = record.comment.unwrap_or_default();
            let noted = epoch.is_none_or(|epoch| comment.contains(&epoch.to_string()));
            record.content == content && !comment.is_empty() && noted
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s9_failing_dns_delays_no_failover_and_converges_when_the_fault_ends() {
    let mut all = Vec::new();
    for (name, trouble) in TROUBLES {
        all.push(Dns::start(name, trouble).await);
    }
    let cluster = TestCluster::start(ClusterOptions {
        extra: all.iter().map(Dns::toml).collect(),
        ..ClusterOptions::default()
    })
    .await;
    keep_rows(&cluster, 100).await;
    for dns in &all {
        dns.wait_names(FRA, None).await;
        dns.begin();
    }
    let (fault, began) = (timeline::now(), Instant::now());
    kill_postmaster(&cluster, 0);
    wait_moved(&cluster).await;
    println!("timing failing dns: ams active +{:?}", began.elapsed());
    assert_eq!(rows_up_to(&cluster, 1, 100).await, 100);
    let epoch = cluster.status(1).lease.epoch.0;
    for dns in &all {
        match dns.trouble {
            Trouble::Missing => {}
            Trouble::Answers(_) | Trouble::OnWrite(_) => dns.wait_names(AMS, Some(epoch)).await,
        }
        if let Trouble::OnWrite(Fault::RateLimited(seconds)) = dns.trouble {
            assert!(
                began.elapsed() >= Duration::from_secs(seconds),
                "asked too soon"
            );
        }
    }
    for dns in &all {
        if matches!(dns.trouble, Trouble::Missing) {
            assert_eq!(dns.record().content, FRA, "{}: nobody guesses", dns.name);
            dns.end();
            dns.wait_names(AMS, Some(epoch)).await;
        }
    }
    assert_eq!(all.last().unwrap().provider.records()[1].content, SPARE);
    cluster.print_timeline("failing dns", fault);
}

/// App config of ams: name, reload command and its timeout.
const APPS: [(&str, &str, &str); 6] = [
    ("locked", "true", "5s"),
    ("keyless", "true", "5s"),
    ("linked", "true", "5s"),
    ("failing", "test -e {dir}/ams/ok", "5s"),
    ("hanging", "test -e {dir}/ams/ok || sleep 1000", "1s"),
    (
        "talking",
        "test -e {dir}/ams/ok || head -c 1000000000 /dev/zero",
        "20s",
    ),
];

fn app_toml() -> String {
    let app = |(name, reload, timeout): &(&str, &str, &str)| {
        format!(
            "[[app_config]]\nname = \"{name}\"\nsite = \"ams\"\npath = \"{{dir}}/ams/{name}/.env\"\n\
             set = [{{ key = \"DATABASE_PORT\", value = \"{{port}}\" }}]\n\
             reload = [\"/bin/sh\", \"-c\", \"{reload} && echo {name} >>{{dir}}/ams/reloaded\"]\n\
             reload_timeout = \"{timeout}\"\n"
        )
    };
    APPS.iter().map(app).collect()
}

fn names(path: &Path, port: u16) -> bool {
    let wanted = format!("DATABASE_PORT={port}\n");
    fs::read_to_string(path).is_ok_and(|text| text.contains(&wanted))
}

/// A cluster with the apps of [`APPS`], in which all is well.
async fn cluster_with_apps() -> (TestCluster, Option<SmallDisk>) {
    let mut cluster = TestCluster::prepare(ClusterOptions {
        extra: app_toml(),
        ..ClusterOptions::default()
    })
    .await;
    let base = cluster.dir().join("ams");
    let text = format!("# app\nDATABASE_PORT={}\n", cluster.node(0).port);
    let disk = SmallDisk::mount(&base.join("locked"));
    for (name, ..) in APPS {
        fs::create_dir_all(base.join(name)).unwrap();
        fs::write(base.join(name).join(".env"), &text).unwrap();
    }
    fs::rename(base.join("linked/.env"), base.join("linked/real.env")).unwrap();
    symlink("real.env", base.join("linked/.env")).unwrap();
    fs::write(base.join("ok"), "").unwrap();
    cluster.start_all().await;
    (cluster, disk)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s16_failing_files_and_reloads_delay_no_failover_and_are_tried_again() {
    let (cluster, disk) = cluster_with_apps().await;
    keep_rows(&cluster, 100).await;
    let base = cluster.dir().join("ams");
    let file = |name: &str| base.join(name).join(".env");
    let port = cluster.node(1).port;
    let reloads = |name: &str| {
        let text = fs::read_to_string(base.join("reloaded")).unwrap_or_default();
        text.lines().filter(|line| *line == name).count()
    };
    let before = APPS.map(|(name, ..)| reloads(name));
    fs::remove_file(base.join("ok")).unwrap();
    fs::write(file("keyless"), "# no key here\n").unwrap();
    if let Some(disk) = &disk {
        disk.read_only(true);
    }

    let (fault, began) = (timeline::now(), Instant::now());
    kill_postmaster(&cluster, 0);
    wait_moved(&cluster).await;
    println!("timing failing files: ams active +{:?}", began.elapsed());
    assert_eq!(rows_up_to(&cluster, 1, 100).await, 100);
    cluster.wait_env_names("ams", 1, SOON).await;
    for name in ["linked", "failing", "hanging", "talking"] {
        let what = format!("{name} names ams");
        wait_until(&what, SOON, || async { names(&file(name), port) }).await;
    }
    wait_until("1 GB of output is taken", SOON, || async {
        reloads("talking") > before[5]
    })
    .await;
    assert!(fs::symlink_metadata(file("linked")).unwrap().is_symlink());
    assert!(names(&base.join("linked/real.env"), port));
    assert!(!names(&file("keyless"), port));
    assert!(disk.is_none() || !names(&file("locked"), port));
    assert_eq!(reloads("failing"), before[3]);
    cluster
        .wait_status(1, "the failures are shown", SOON, |status| {
            let run = status.run.as_ref().map(|run| run.steps.clone());
            let notes: Vec<_> = run.into_iter().flatten().map(|step| step.note).collect();
            let told = |text: &str| notes.iter().any(|note| note.contains(text));
            told("keyless") && told("failing") && (disk.is_none() || told("locked"))
        })
        .await;

    if let Some(disk) = &disk {
        disk.read_only(false);
    }
    fs::write(file("keyless"), "DATABASE_PORT=1\n").unwrap();
    fs::write(base.join("ok"), "").unwrap();
    for (index, (name, ..)) in APPS.iter().enumerate() {
        let what = format!("{name} is converged");
        wait_until(&what, SOON, || async {
            names(&file(name), port) && reloads(name) > before[index]
        })
        .await;
    }
    cluster.print_timeline("failing files", fault);
}
