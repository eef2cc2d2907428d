//! What a recovery is measured by, from pictures as an agent takes them.

use std::sync::Mutex;

use async_trait::async_trait;
use serde_json::json;

use super::*;
use crate::effects::clock::wall;
use crate::effects::error::EffectError;
use crate::effects::notify::Notifier;

const PROMISED: Objectives = Objectives {
    rto: Some(Duration::from_secs(5)),
    rpo: Some(Duration::from_millis(500)),
};

/// Longest wait for what another task does.
const SOON: Duration = Duration::from_secs(20);

fn moment(millis: u64) -> Moment {
    Moment::from_boot(Duration::from_millis(millis))
}

fn look(at: u64, role: Role, lsn: u64) -> Look {
    Look {
        at: moment(at),
        role,
        timeline: Timeline(1),
        lsn: Lsn(lsn),
        heard: None,
        committed: false,
    }
}

fn canary(at: u64, lsn: u64) -> Look {
    Look {
        committed: true,
        ..look(at, Role::Primary, lsn)
    }
}

fn run(kind: PlanKind, begun: u64, verified: Option<u64>) -> RunSeen {
    RunSeen {
        plan: PlanId::new(format!("ams-{begun}")),
        kind,
        epoch: Epoch(2),
        begun: moment(begun),
        verified: verified.map(moment),
        over: false,
    }
}

fn picture(now: u64, evidence: Evidence) -> Snapshot {
    let picture = json!({
        "cluster": "main", "site": "ams", "version": "1", "at": now, "phase": "watching",
        "active": false, "stopped": null,
        "lease": {
            "view": "other", "holder": "fra", "epoch": 1, "fence_in_ms": null,
            "reached": [], "words": "",
        },
        "record": null, "facts": null, "diagnoses": [], "would_do": "", "refusals": [],
        "members": [], "targets": [], "run": null, "last_run": null, "counters": [],
    });
    let picture: Snapshot = serde_json::from_value(picture).unwrap();
    Snapshot {
        evidence: Evidence {
            now: moment(now),
            ..evidence
        },
        ..picture
    }
}

/// A primary that is looked at every second and whose agent reports each canary; the standby
/// trails by one look. The last canary that is proved came after the look that began at 2000.
fn observer() -> Observer {
    let mut observer = Observer::default();
    for number in 1..=3 {
        let at = number * 1000;
        let seen = observer.observe(
            &picture(
                at + 900,
                Evidence {
                    own: Some(look(at + 900, Role::Standby, number * 100 - 50)),
                    peer: Some(look(at, Role::Primary, number * 100)),
                    reported: Some(canary(at + 200, number * 100 + 10)),
                    ..Evidence::default()
                },
            ),
            &PROMISED,
        );
        assert_eq!(seen, None);
    }
    observer
}

fn after(observer: &mut Observer, runs: Vec<RunSeen>) -> Option<Recovery> {
    let evidence = Evidence {
        runs,
        ..Evidence::default()
    };
    observer.observe(&picture(9000, evidence), &PROMISED)
}

#[test]
fn recovery_is_measured_from_the_last_proved_commit_and_told_once() {
    let mut observer = observer();
    let running = run(PlanKind::TakeOver, 5000, None);
    assert_eq!(after(&mut observer, vec![running]), None);
    // The check of the candidate sees what has arrived.
    let checked = Evidence {
        own: Some(look(5010, Role::Standby, 300)),
        runs: vec![run(PlanKind::TakeOver, 5000, None)],
        ..Evidence::default()
    };
    assert_eq!(observer.observe(&picture(5020, checked), &PROMISED), None);
    let done = run(PlanKind::TakeOver, 5000, Some(5100));
    let told = after(&mut observer, vec![done.clone()]).unwrap();
    assert_eq!((told.away_ms, told.rto_kept), (Some(3100), Some(true)));
    assert_eq!((told.missing_ms, told.rpo_kept), (Some(3000), Some(false)));
    assert_eq!(told.at, Timestamp(5100));
    assert!(told.broke_a_promise());
    assert_eq!(
        told.words,
        [
            "a write committed at the new primary 3100 ms after the last proved commit at the \
             old one (RTO 5s kept)",
            "every commit up to 3000 ms before the take-over is known to be there (RPO 500ms not \
             proven to be kept)",
        ]
    );
    assert_eq!(after(&mut observer, vec![done]), None);
}

#[test]
fn standby_that_trails_is_complete_only_up_to_an_older_sight() {
    let done = run(PlanKind::TakeOver, 5000, Some(5100));
    let told = after(&mut observer(), vec![done]).unwrap();
    assert_eq!(told.missing_ms, Some(4000));
}

#[test]
fn wal_of_another_history_proves_nothing() {
    let mut observer = observer();
    let other = Look {
        timeline: Timeline(2),
        ..look(4000, Role::Standby, 900)
    };
    let evidence = Evidence {
        own: Some(other),
        ..Evidence::default()
    };
    assert_eq!(observer.observe(&picture(4100, evidence), &PROMISED), None);
    let done = run(PlanKind::TakeOver, 5000, Some(5100));
    assert_eq!(after(&mut observer, vec![done]).unwrap().missing_ms, None);
}

/// Its disk is full: it answers, and its WAL even grows.
#[test]
fn primary_that_only_answers_reads_is_not_at_work() {
    let mut observer = observer();
    for at in [4000, 5000, 6000, 7000] {
        let answers = Evidence {
            peer: Some(look(at, Role::Primary, at)),
            // The same canary as ever, or none because the write failed.
            reported: Some(canary(at + 100, 310)).filter(|_| at < 6000),
            ..Evidence::default()
        };
        assert_eq!(observer.observe(&picture(at, answers), &PROMISED), None);
    }
    let done = run(PlanKind::TakeOver, 8000, Some(8100));
    let told = after(&mut observer, vec![done]).unwrap();
    assert_eq!((told.away_ms, told.rto_kept), (Some(6100), Some(false)));
}

#[test]
fn primary_that_was_never_seen_to_commit_is_not_known_to_have_been_at_work() {
    let mut observer = Observer::default();
    for at in [1000, 2000, 3000] {
        let answers = Evidence {
            own: Some(look(at, Role::Standby, at)),
            peer: Some(look(at, Role::Primary, at)),
            ..Evidence::default()
        };
        assert_eq!(observer.observe(&picture(at, answers), &PROMISED), None);
    }
    let done = run(PlanKind::TakeOver, 3500, Some(3600));
    let told = after(&mut observer, vec![done]).unwrap();
    assert_eq!((told.away_ms, told.rto_kept), (None, None));
    assert_eq!(told.missing_ms, Some(1500));
    assert!(told.words[0].contains("not known"), "{:?}", told.words);
    assert!(told.broke_a_promise());
}

#[test]
fn wall_clock_that_is_set_back_changes_no_measurement() {
    let mut observer = observer();
    let evidence = Evidence {
        runs: vec![run(PlanKind::TakeOver, 5000, Some(12_000))],
        ..Evidence::default()
    };
    let mut done = picture(12_100, evidence);
    done.at = Timestamp(2000);
    let told = observer.observe(&done, &PROMISED).unwrap();
    assert_eq!((told.away_ms, told.rto_kept), (Some(10_000), Some(false)));
    assert_eq!(told.at, Timestamp(1900));
}

#[test]
fn what_is_seen_of_the_old_primary_during_the_take_over_proves_nothing() {
    let mut observer = observer();
    for at in [5020, 5040] {
        let thawed = Evidence {
            peer: Some(look(at, Role::Primary, at)),
            reported: Some(canary(at, at + 10)),
            runs: vec![run(PlanKind::TakeOver, 5000, None)],
            ..Evidence::default()
        };
        assert_eq!(observer.observe(&picture(at, thawed), &PROMISED), None);
    }
    let done = run(PlanKind::TakeOver, 5000, Some(5100));
    assert_eq!(
        after(&mut observer, vec![done]).unwrap().away_ms,
        Some(3100)
    );
}

#[test]
fn take_over_that_was_undone_hides_nothing_that_follows() {
    let mut observer = observer();
    let undone = RunSeen {
        over: true,
        ..run(PlanKind::TakeOver, 4000, None)
    };
    for at in [5000, 6000] {
        let goes_on = Evidence {
            peer: Some(look(at, Role::Primary, at)),
            reported: Some(canary(at + 10, at + 10)),
            runs: vec![undone.clone()],
            ..Evidence::default()
        };
        assert_eq!(observer.observe(&picture(at, goes_on), &PROMISED), None);
    }
    let done = run(PlanKind::TakeOver, 7000, Some(7100));
    let told = after(&mut observer, vec![done, undone]).unwrap();
    assert_eq!(told.away_ms, Some(2100));
}

/// In the same life the evidence is still there; a new life has none and says so.
#[test]
fn take_over_that_a_later_plan_finishes_is_measured_or_not_known() {
    let done = run(PlanKind::FinishTakeOver, 6000, Some(6100));
    let given_up = RunSeen {
        over: true,
        ..run(PlanKind::TakeOver, 5000, None)
    };
    let told = after(&mut observer(), vec![done.clone(), given_up]).unwrap();
    assert_eq!((told.away_ms, told.rto_kept), (Some(4100), Some(true)));

    let told = after(&mut Observer::default(), vec![done]).unwrap();
    assert_eq!((told.away_ms, told.missing_ms), (None, None));
    assert!(told.broke_a_promise());
}

#[test]
fn restart_is_measured_from_the_own_canary() {
    let mut observer = Observer::default();
    for at in [1000, 2000, 3000] {
        let at_work = Evidence {
            own: Some(canary(at, at)),
            ..Evidence::default()
        };
        assert_eq!(observer.observe(&picture(at, at_work), &PROMISED), None);
    }
    let done = run(PlanKind::Restart, 9000, Some(9500));
    let told = after(&mut observer, vec![done]).unwrap();
    assert_eq!((told.away_ms, told.rto_kept), (Some(7500), Some(false)));
    assert_eq!(told.missing_ms, Some(7000));
    assert!(
        told.words[0].contains("the restarted primary"),
        "{:?}",
        told.words
    );

    let booted = run(PlanKind::Restart, 9000, Some(9500));
    let told = after(&mut Observer::default(), vec![booted]).unwrap();
    assert_eq!((told.away_ms, told.missing_ms), (None, None));
}

/// A look that was under way while the restart proved its first write began before it.
#[test]
fn look_that_began_before_the_new_primary_is_no_sight_of_it() {
    let mut observer = Observer::default();
    let done = run(PlanKind::Restart, 9000, Some(9500));
    assert!(after(&mut observer, vec![done.clone()]).is_some());
    for at in [9500, 9600] {
        let at_work = Evidence {
            own: Some(canary(at, at)),
            runs: vec![done.clone()],
            ..Evidence::default()
        };
        assert_eq!(observer.observe(&picture(at, at_work), &PROMISED), None);
    }
    let again = run(PlanKind::Restart, 9700, Some(9800));
    let told = after(&mut observer, vec![again, done]).unwrap();
    assert_eq!(told.away_ms, None);
}

#[test]
fn two_plans_in_one_picture_are_told_once_each() {
    let mut observer = observer();
    let first = run(PlanKind::TakeOver, 5000, Some(5100));
    let second = run(PlanKind::Restart, 6000, Some(6100));
    assert!(after(&mut observer, vec![first.clone()]).is_some());
    assert!(after(&mut observer, vec![second.clone(), first.clone()]).is_some());
    assert_eq!(after(&mut observer, vec![second, first]), None);
}

#[test]
fn what_was_not_promised_is_not_broken() {
    let unpromised = Objectives {
        rto: None,
        rpo: None,
    };
    let evidence = Evidence {
        runs: vec![run(PlanKind::TakeOver, 5000, Some(5100))],
        ..Evidence::default()
    };
    let told = Observer::default().observe(&picture(6000, evidence), &unpromised);
    assert!(!told.unwrap().broke_a_promise());
}

#[test]
fn recovery_of_a_former_life_is_not_told_again() {
    let done = run(PlanKind::TakeOver, 5000, Some(5100));
    let told = after(&mut Observer::default(), vec![done.clone()]).unwrap();
    assert_eq!(after(&mut Observer::after(Some(&told)), vec![done]), None);
}

/// Keeps what it is given.
#[derive(Debug, Clone, Default)]
struct Listener(Arc<Mutex<Vec<Alert>>>);

#[async_trait]
impl Notifier for Listener {
    async fn send(&self, alert: &Alert) -> Result<(), EffectError> {
        self.0.lock().unwrap().push(alert.clone());
        Ok(())
    }
}

async fn until(done: impl Fn() -> bool) {
    let waiting = async {
        while !done() {
            // bounded: by the time-out around it.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, waiting).await.unwrap();
}

#[tokio::test]
async fn broken_promise_is_told_to_people_shown_and_kept_for_the_next_life() {
    let dir = tempfile::tempdir().unwrap();
    let stop = CancellationToken::new();
    let listener = Listener::default();
    let notifier: Box<dyn Notifier> = Box::new(listener.clone());
    let (outbox, courier) = Outbox::open(dir.path(), vec![("chat".to_owned(), notifier)]);
    spawn_named("outbox", courier.run(stop.clone()));
    let (pictures, seen) = watch::channel(Arc::new(picture(1, Evidence::default())));
    let audience = Audience {
        cluster: ClusterName::new("main"),
        outbox,
        state_dir: dir.path().to_owned(),
    };
    assert_eq!(kept(dir.path()), None);
    let shown = watch(seen, PROMISED, None, Some(audience), stop.clone());

    let done = Evidence {
        runs: vec![run(PlanKind::FinishTakeOver, 5000, Some(5100))],
        ..Evidence::default()
    };
    // What is old is not delivered any more.
    let done = Snapshot {
        at: wall(),
        ..picture(6000, done)
    };
    pictures.send_replace(Arc::new(done));

    until(|| kept(dir.path()).is_some() && !listener.0.lock().unwrap().is_empty()).await;
    let recovery = kept(dir.path()).unwrap();
    assert_eq!(shown.borrow().as_ref(), Some(&recovery));
    assert_eq!(recovery.rto_kept, None);
    let told = listener.0.lock().unwrap().clone();
    let [alert] = told.as_slice() else {
        panic!("told once: {told:?}");
    };
    assert_eq!(
        (alert.event.as_str(), alert.level),
        ("recovery_measured", AlertLevel::Warn)
    );
    assert!(alert.summary.contains("not proven to be kept"), "{alert:?}");
    assert_eq!(
        (&alert.details, alert.epoch),
        (&recovery.words, Some(Epoch(2)))
    );
    assert_eq!(alert.plan.as_ref(), Some(&recovery.plan));
    stop.cancel();
}
