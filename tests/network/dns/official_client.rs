//! Cloudflare's own client against the stand-in: what it reads and what it sends is what the
//! stand-in speaks.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use failover_agent::surfaces::demo::cloudflare::{CloudflareStandIn, Record, ZONE_ID};
use tokio::process::Command;

use super::{NAME, OLD, TOKEN};

/// Starting Python and reading the client's many files takes a while on a busy machine.
const PATIENT: Duration = Duration::from_secs(100);

#[tokio::test]
async fn official_client_and_stand_in_understand_each_other() {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/cloudflare-sdk/bin/python");
    assert!(
        python.exists(),
        "Cloudflare's client is missing: run packaging/setup"
    );
    let records = vec![
        Record::new("A", NAME, OLD).comment("by hand"),
        Record::new("TXT", NAME, "\"site=fra\""),
    ];
    let stand_in = CloudflareStandIn::start(TOKEN, records).await.unwrap();
    stand_in.allow_create_and_delete();
    let run = Command::new(python)
        .args(["-I", "-c", include_str!("official_client.py")])
        .env_clear()
        .env("API", stand_in.url())
        .env("TOKEN", TOKEN)
        .env("ZONE", ZONE_ID)
        .env("NAME", NAME)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(PATIENT, run).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    // It is what the client did, not what it believes.
    let mut left: Vec<String> = stand_in
        .records()
        .into_iter()
        .map(|it| it.content)
        .collect();
    left.sort();
    assert_eq!(left, ["\"site=ams\"", "192.0.2.8", "192.0.2.9"]);
}
