//! What a change itself has ended runs again; what a person has stopped does not.

use std::time::Duration;

use super::change::{File, STEP};
use super::commands::{DOCKER, SYSTEMCTL, StandIn, compose, systemd, unit};

fn service_and_unit_that_run() -> (StandIn, StandIn, File, File) {
    let docker = StandIn::of(DOCKER);
    docker.write("containers", "old\n");
    docker.write("starts", "2026-11-26T18:00:00Z 0\n");
    let service = docker.file("A=1\n", compose(&docker));
    let systemctl = StandIn::of(SYSTEMCTL);
    systemctl.write("unit", &unit("active", "one", 0));
    systemctl.write("after", &unit("active", "two", 0));
    let unit = systemctl.file("A=1\n", systemd(&systemctl, "shop.service"));
    (docker, systemctl, service, unit)
}

#[tokio::test]
async fn what_a_refused_file_has_ended_runs_again_with_the_old_one() {
    let (_docker, _systemctl, service, unit) = service_and_unit_that_run();
    let within = Duration::from_secs(2);
    let (of_service, of_unit) = tokio::join!(
        service.change("A=ends\n", within),
        unit.change("A=ends\n", within)
    );
    for (file, refused) in [(&service, of_service), (&unit, of_unit)] {
        let refused = refused.unwrap_err();
        let back = "the previous files are back, and the app uses them";
        assert!(refused.what.contains(back), "{refused}");
        assert_eq!(file.text(), "A=1\n");
        let changed = file.change("A=2\n", STEP).await.unwrap();
        assert!(changed.contains("the running app uses them"), "{changed}");
    }
}

/// Whoever goes on with a change whose agent has died knows that it ran before.
#[tokio::test]
async fn what_a_dropped_change_has_ended_is_started_by_the_next() {
    let (docker, systemctl, service, unit) = service_and_unit_that_run();
    for (stand_in, file) in [(&docker, &service), (&systemctl, &unit)] {
        let ended = crate::support::wait_until("it ended", STEP, async || {
            let runs = stand_in.read("containers") + &stand_in.read("unit");
            runs.is_empty() || runs.contains("inactive")
        });
        tokio::select! {
            changed = file.change("A=ends\n", STEP) => panic!("{changed:?}"),
            () = ended => {}
        }
        let changed = file.change("A=3\n", STEP).await.unwrap();
        assert!(changed.contains("the running app uses them"), "{changed}");
    }
}
