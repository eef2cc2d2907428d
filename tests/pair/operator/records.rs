//! `agent dns`, as an operator uses it after somebody changed a record by hand.

use failover_agent::surfaces::demo::cloudflare::{CloudflareStandIn, Record, ZONE_ID};

use super::{Desk, SOON};
use crate::support::cluster::ClusterOptions;
use crate::support::ports::free_port;

const RIGHT: &str = "192.0.2.1";
const WRONG: &str = "192.0.2.66";

/// Agents that keep a record at the stand-in, of a zone that nobody serves.
async fn open() -> (Desk, CloudflareStandIn) {
    let token = "token-of-the-stand-in";
    let records = vec![Record::new("A", "www.example.com", WRONG)];
    let provider = CloudflareStandIn::start(token, records).await.unwrap();
    let nobody = free_port();
    let extra = format!(
        "[dns_check]\nauthoritative = [\"127.0.0.1:{nobody}\"]\ndrift_every = \"1s\"\n\
         [[dns]]\nname = \"www\"\nprovider = \"cloudflare\"\nrecord = \"www.example.com\"\n\
         zone_id = \"{ZONE_ID}\"\ntoken = \"{token}\"\napi_url = \"{}\"\n\
         content = {{ fra = \"{RIGHT}\", ams = \"192.0.2.2\" }}\n",
        provider.url()
    );
    let options = ClusterOptions {
        extra,
        ..ClusterOptions::default()
    };
    (Desk::open(options).await, provider)
}

/// What is there and what should be, at either site; and a name that nobody knows.
async fn each_site_says_so(desk: &Desk) {
    for site in [0, 1] {
        let planned = desk.agent(site, &["dns", "plan", "www", "--json"]).await;
        assert_eq!(planned.code, Some(5), "{planned:?}");
        let kept = &planned.json()["records"][0]["provider"]["Ok"];
        assert_eq!(kept["values"][0], WRONG, "{planned:?}");
        assert_eq!(kept["drift"]["drift"], "moved", "{planned:?}");
    }
    let unknown = desk.agent(0, &["dns", "verify", "nothing"]).await;
    assert_eq!(unknown.code, Some(1), "{unknown:?}");
    assert!(unknown.stderr.contains("there are www"), "{unknown:?}");
}

/// S8: it is told and shown, and only a wish puts it right, under the epoch of the active site.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn record_changed_by_hand_is_told_and_put_right_on_wish_by_the_active_site() {
    let (desk, provider) = open().await;
    let record = || provider.records().remove(0);
    let seen = |what: &'static str, drifted: bool| {
        desk.cluster.wait_status(0, what, SOON, move |status| {
            let dns = status.dns.first();
            dns.is_some_and(|dns| dns.drift.is_some() == drifted && dns.view.is_some())
        })
    };
    seen("fra keeps the record", false).await;
    let planned = desk.agent(0, &["dns", "plan"]).await;
    assert_eq!(planned.code, Some(0), "{planned:?}");
    assert!(
        planned.stdout.contains("nothing would change"),
        "{planned:?}"
    );

    let by_hand = serde_json::json!({ "content": WRONG });
    provider.change_by_hand(&record().id, &by_hand);
    seen("the change is seen", true).await;
    let status = desk.agent(0, &["status"]).await;
    assert_eq!(status.code, Some(5));
    let (dns, drift) = ("0 of 1 authoritative servers", "DRIFT: it is 192.0.2.66");
    assert!(
        status.stdout.contains(dns) && status.stdout.contains(drift),
        "{status:?}"
    );
    let metrics = desk.agent(0, &["metrics"]).await.stdout;
    assert!(
        metrics.contains("agent_dns_drift{record=\"www\"} 1"),
        "{metrics}"
    );
    each_site_says_so(&desk).await;

    let dry = desk.agent(0, &["dns", "apply", "--dry-run"]).await;
    assert_eq!(dry.code, Some(0), "{dry:?}");
    assert!(
        dry.stdout.contains("www.example.com A -> 192.0.2.1"),
        "{dry:?}"
    );
    let elsewhere = desk.agent(1, &["dns", "apply"]).await;
    assert_eq!(elsewhere.code, Some(3), "{elsewhere:?}");
    assert!(
        elsewhere.stderr.contains("site fra is the active one"),
        "{elsewhere:?}"
    );
    assert_eq!(record().content, WRONG);

    let applied = desk.agent(0, &["dns", "apply"]).await;
    assert_eq!(applied.code, Some(0), "{applied:?}");
    seen("it is put right", false).await;
    assert_eq!(record().content, RIGHT);
    // Nobody who serves the zone has it.
    let verified = desk.agent(0, &["dns", "verify"]).await;
    assert_eq!(verified.code, Some(5), "{verified:?}");
    assert!(verified.stdout.contains("silent"), "{verified:?}");
}
