//! What `agent status` prints, from pictures as an agent takes them.

use anstream::adapter::strip_str;
use serde_json::json;

use super::*;

fn dns() -> serde_json::Value {
    json!([{
        "name": "shop", "record": "shop.example.com", "kind": "A", "wanted": ["192.0.2.2"],
        "epoch": 7, "spreading": "under_way", "looked_at": 990_000, "view": null,
        "edge": {
            "url": "https://shop.example.com/site", "heard": "other_site", "site": "ams",
        },
        "old_until": null, "drift": null, "unlooked": null,
    }])
}

fn dns_providers() -> serde_json::Value {
    json!([
        {
            "name": "shop", "provider": "cloudflare", "verified_at": 900_000,
            "expires_at": 9_000_000, "trouble": null,
        },
        {
            "name": "api", "provider": "route53", "verified_at": null, "expires_at": null,
            "trouble": {"why": "the key is gone: make one", "since": 800_000, "refused": true},
        },
    ])
}

fn picture() -> Snapshot {
    let picture = json!({
        "cluster": "main", "site": "fra", "version": "1.2.3", "at": 1_000_000,
        "phase": "active", "active": true, "stopped": null,
        "lease": {
            "view": "held", "holder": "fra", "epoch": 7, "fence_in_ms": 2345,
            "reached": [{"site": "fra"}, "witness"], "words": "active: this site holds it",
        },
        "record": {
            "epoch": 7, "revision": 1, "primary": "fra", "promoting": false,
            "system_id": 1, "timeline": 3, "last_lsn": "0/3000148", "last_failover": null,
        },
        "facts": {
            "standing": "active", "record": "mine", "own": "dead", "peer_node": "down",
            "peer_agent": "silent", "witness": "answers", "identity": "same",
            "standby": "unusable", "tripped": false, "endpoint_down": false,
        },
        "diagnoses": [
            {"name": "database_dead", "severity": "outage", "sentence": "it is gone"},
            {"name": "standby_unusable", "severity": "degraded", "sentence": "so is that"},
        ],
        "dns": dns(), "dns_providers": dns_providers(),
        "would_do": "fence the own node and hand over to the other site",
        "refusals": ["the other site does not answer", "its node is down"],
        "members": [
            {
                "member": {"site": "ams"}, "reach": "silent", "version": "1.2.2",
                "heard_ms_ago": 61_000, "clock_ahead_ms": -3_600_000, "active": false,
                "doing": null,
            },
            {
                "member": "witness", "reach": "answers", "version": null,
                "heard_ms_ago": 120, "clock_ahead_ms": 3, "active": false, "doing": null,
            },
        ],
        "targets": [{
            "target": "own postmaster process", "condition": "down", "seen": "gone",
            "seen_ms_ago": 40,
        }],
        "run": {
            "plan": "fra-2", "kind": "give_up", "ended": null, "epoch": 7,
            "cause": "diagnosis database_dead", "begun": 998_500, "sequence_done": false,
            "steps": [
                {
                    "step": "fence own node", "kind": "fence_own", "state": "done",
                    "took_ms": 31, "note": "nothing ran", "started": 998_501,
                },
                {
                    "step": "release the lease to site ams", "kind": "hand_over",
                    "state": "waiting", "took_ms": 0, "note": "", "started": null,
                },
            ],
        },
        "last_run": null,
        "counters": [{"name": "refused requests", "count": 12}],
    });
    serde_json::from_value(picture).unwrap()
}

fn recovery() -> Recovery {
    let recovery = json!({
        "plan": "fra-1", "epoch": 6, "site": "fra", "at": 990_000,
        "away_ms": 3100, "rto_ms": 1000, "rto_kept": false,
        "missing_ms": 0, "rpo_ms": null, "rpo_kept": null,
        "words": [
            "writes were away for 3.1s (RTO 1s not proven to be kept)",
            "nothing is missing",
        ],
    });
    serde_json::from_value(recovery).unwrap()
}

#[test]
fn picture_says_what_is_seen_what_would_be_done_and_why_not() {
    let expected = "\
cluster main, site fra: active, epoch 7 (agent 1.2.3, 1970-01-01T00:16:40.000Z)
lease      held: fra; the node is fenced in 2.3 s unless renewed; voters reached: fra, witness
           active: this site holds it
primary    fra, timeline 3, 0/3000148 (recorded under epoch 7)
dns        shop: through the edge site ams still answers
dns access shop: cloudflare, verified at 1970-01-01T00:15:00.000Z, good until \
           1970-01-01T02:30:00.000Z
           api: route53, CANNOT BE USED since 1970-01-01T00:13:20.000Z: the key is gone: make one
I see      database_dead: it is gone
           standby_unusable: so is that
I would    fence the own node and hand over to the other site
I do not   the other site does not answer
           its node is down

members
  ams      silent, heard 1 min 1 s ago, agent 1.2.2, its clock is 1 h 0 min ahead of ours
  witness  answers, heard 120 ms ago

targets
  down    own postmaster process  gone (40 ms ago)

running plan begun 1.5 s ago
  fra-2 give up the active role, epoch 7, because diagnosis database_dead
    done        31 ms  fence own node
                       nothing ran
    waiting            release the lease to site ams

last recovery by fra-1, 10.0 s ago
  writes were away for 3.1s (RTO 1s not proven to be kept)
  nothing is missing

counted
      12 refused requests
";
    let answer = StatusAnswer {
        picture: picture(),
        last_recovery: Some(recovery()),
    };
    assert_eq!(strip_str(&render(&answer)).to_string(), expected);
    assert_eq!(verdict(&picture()), Exit::Degraded);
}

#[test]
fn verdict_is_fine_only_when_nothing_is_wrong_and_somebody_is_active() {
    let mut fine = picture();
    fine.diagnoses.clear();
    assert_eq!(verdict(&fine), Exit::Degraded, "a provider refuses");
    fine.dns_providers.pop();
    assert_eq!(verdict(&fine), Exit::Fine);
    fine.stopped = Some("look".to_owned());
    assert_eq!(verdict(&fine), Exit::Degraded);
    let mut nobody = picture();
    nobody.diagnoses.clear();
    nobody.facts = None;
    assert_eq!(verdict(&nobody), Exit::Degraded);
}

#[test]
fn step_that_is_tried_again_shows_its_try_and_when_the_next_one_comes() {
    let mut picture = picture();
    let step = &mut picture.run.as_mut().unwrap().steps[0];
    step.state = StepState::Retrying;
    (step.took_ms, step.attempt, step.retry_in_ms) = (7000, 4, Some(1200));
    let shown = |run: &Progress| strip_str(&plan(run)).to_string();
    let retrying = shown(picture.run.as_ref().unwrap());
    assert!(
        retrying.contains(
            "    retrying    try 4  fence own node\n\
             \x20                      nothing ran; next try in 1.2 s\n"
        ),
        "{retrying}"
    );
    let step = &mut picture.run.as_mut().unwrap().steps[0];
    (step.state, step.attempt, step.retry_in_ms) = (StepState::Running, 5, None);
    let running = shown(picture.run.as_ref().unwrap());
    assert!(
        running.contains("    running     try 5  fence own node\n"),
        "{running}"
    );
}

#[test]
fn spans_have_the_unit_that_people_would_choose() {
    let shown = [0, 999, 1000, 59_999, 60_000, 3_599_999, 7_260_000].map(span);
    let expected = [
        "0 ms",
        "999 ms",
        "1.0 s",
        "59.9 s",
        "1 min 0 s",
        "59 min 59 s",
        "2 h 1 min",
    ];
    assert_eq!(shown, expected);
}
