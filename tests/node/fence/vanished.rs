//! Data directories that are not at their path any more while their server runs.

use std::fs;

use failover_agent::effects::postgres::fence::{fence, is_fenced};
use failover_agent::effects::postgres::process::Instance;
use failover_agent::model::observation::ProcessSeen;

use super::{BUDGET, NO_GRACE, assert_signal_written};
use crate::support::postgres::{NodeOptions, TestNode};
use crate::support::processes::processes_in;

#[test]
fn vanished_data_directory_is_still_fenced() {
    let node = TestNode::primary(NodeOptions::default());
    let instance = Instance::new(&node.data_dir);
    instance.identify().unwrap();
    let elsewhere = node.data_dir.with_extension("lost");
    fs::rename(&node.data_dir, &elsewhere).unwrap();
    assert!(!processes_in(&elsewhere).is_empty());

    let report = fence(&instance, NO_GRACE, BUDGET).unwrap();
    assert!(report.was_running);
    assert_eq!(processes_in(&elsewhere), Vec::<u32>::new());
    // Found through the server's own processes: wherever it is found again, it is a standby (S10).
    assert_signal_written(&report);
    assert!(elsewhere.join("standby.signal").exists());
    let again = fence(&instance, NO_GRACE, BUDGET).unwrap();
    assert!(again.problem.is_some(), "{again:?}");
}

#[test]
fn s1_copy_in_the_place_of_the_data_directory_does_not_save_the_running_server() {
    let node = TestNode::primary(NodeOptions::default());
    let instance = Instance::new(&node.data_dir);
    let postmaster = node.postmaster_pid();
    assert_eq!(instance.look(), ProcessSeen::Running { pid: postmaster });
    // What an unmount uncovers: the directory as it was before a disk was mounted there.
    let elsewhere = node.data_dir.with_extension("unmounted");
    fs::rename(&node.data_dir, &elsewhere).unwrap();
    fs::create_dir(&node.data_dir).unwrap();
    fs::copy(
        elsewhere.join("PG_VERSION"),
        node.data_dir.join("PG_VERSION"),
    )
    .unwrap();

    assert_eq!(instance.look(), ProcessSeen::Running { pid: postmaster });
    assert!(!is_fenced(&instance).unwrap());
    let refused = instance.in_place().unwrap_err();
    assert!(refused.what.contains("another directory"), "{refused:?}");
    let report = fence(&instance, NO_GRACE, BUDGET).unwrap();
    assert!(report.was_running);
    assert_eq!(processes_in(&elsewhere), Vec::<u32>::new());
    assert!(elsewhere.join("standby.signal").exists());
    // Nor is the copy taken for the instance once that is fenced: it is started by nobody.
    assert_eq!(instance.look(), ProcessSeen::Gone);
    instance.in_place().unwrap_err();
    assert_eq!(fs::read_dir(&node.data_dir).unwrap().count(), 1);
}

#[test]
fn s1_server_that_was_started_after_the_first_look_is_found_behind_a_copy() {
    let node = TestNode::primary(NodeOptions::default());
    node.stop("fast");
    // As a guard knows it that begins before its server, and never looks at it meanwhile.
    let instance = Instance::new(&node.data_dir);
    instance.identify().unwrap();
    node.start();
    let elsewhere = node.data_dir.with_extension("unmounted");
    fs::rename(&node.data_dir, &elsewhere).unwrap();
    fs::create_dir(&node.data_dir).unwrap();
    let version = "PG_VERSION";
    fs::copy(elsewhere.join(version), node.data_dir.join(version)).unwrap();

    assert!(!is_fenced(&instance).unwrap());
    let report = fence(&instance, NO_GRACE, BUDGET).unwrap();
    assert!(report.was_running);
    assert_eq!(processes_in(&elsewhere), Vec::<u32>::new());
    assert!(elsewhere.join("standby.signal").exists());
}

#[test]
fn s1_restarted_agent_finds_the_server_behind_a_copy() {
    let node = TestNode::primary(NodeOptions::default());
    let state_dir = tempfile::tempdir().unwrap();
    let instance = || Instance::remembered(&node.data_dir, state_dir.path());
    let former = instance();
    let postmaster = node.postmaster_pid();
    assert_eq!(former.look(), ProcessSeen::Running { pid: postmaster });
    former.keep_in_mind();
    let elsewhere = node.data_dir.with_extension("unmounted");
    fs::rename(&node.data_dir, &elsewhere).unwrap();
    fs::create_dir(&node.data_dir).unwrap();
    let version = "PG_VERSION";
    fs::copy(elsewhere.join(version), node.data_dir.join(version)).unwrap();
    drop(former);

    // The next life, which has never seen the directory at its path.
    let next = instance();
    assert_eq!(next.look(), ProcessSeen::Running { pid: postmaster });
    let refused = next.in_place().unwrap_err();
    assert!(refused.what.contains("another directory"), "{refused:?}");
    let report = fence(&next, NO_GRACE, BUDGET).unwrap();
    assert!(report.was_running);
    assert_eq!(processes_in(&elsewhere), Vec::<u32>::new());
    assert!(elsewhere.join("standby.signal").exists());

    // Nothing works there any more: whoever comes then takes the path's word.
    let later = instance();
    assert_eq!(later.look(), ProcessSeen::Gone);
    later.in_place().unwrap();
}

#[test]
fn s1_settings_that_name_another_directory_mean_the_server_there() {
    let (former, node) = (
        TestNode::primary(NodeOptions::default()),
        TestNode::primary(NodeOptions::default()),
    );
    let state_dir = tempfile::tempdir().unwrap();
    let before = Instance::remembered(&former.data_dir, state_dir.path());
    let pid = former.postmaster_pid();
    assert_eq!(before.look(), ProcessSeen::Running { pid });
    before.keep_in_mind();

    let instance = Instance::remembered(&node.data_dir, state_dir.path());
    let pid = node.postmaster_pid();
    assert_eq!(instance.look(), ProcessSeen::Running { pid });
    instance.in_place().unwrap();
    fence(&instance, NO_GRACE, BUDGET).unwrap();
    assert_eq!(processes_in(&node.data_dir), Vec::<u32>::new());
    assert_ne!(processes_in(&former.data_dir), Vec::<u32>::new());
}

#[test]
fn s1_server_that_was_started_at_the_path_is_fenced_with_the_one_elsewhere() {
    let (former, node) = (
        TestNode::primary(NodeOptions::default()),
        TestNode::primary(NodeOptions::default()),
    );
    let instance = Instance::new(&former.data_dir);
    let pid = former.postmaster_pid();
    assert_eq!(instance.look(), ProcessSeen::Running { pid });
    let elsewhere = former.data_dir.with_extension("unmounted");
    fs::rename(&former.data_dir, &elsewhere).unwrap();
    // What somebody restored, and started by hand.
    fs::rename(&node.data_dir, &former.data_dir).unwrap();
    let report = fence(&instance, NO_GRACE, BUDGET).unwrap();
    assert!(report.was_running);
    for place in [&elsewhere, &former.data_dir] {
        assert_eq!(processes_in(place), Vec::<u32>::new());
        assert!(place.join("standby.signal").exists(), "{}", place.display());
    }
}
