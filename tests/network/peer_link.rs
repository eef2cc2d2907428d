//! The members' link over real sockets: sealed, fresh, bounded, encrypted.

#![expect(
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::let_underscore_must_use,
    unreachable_pub,
    reason = "test code: a failure is the answer"
)]

mod strangers;
mod tls;
mod world;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use failover_agent::effects::peer::wire::{CommandAnswer, PeerCommand};
use failover_agent::model::lease::{LeaseRequest, Verdict};
use failover_agent::model::outcome::FailureKind;
use failover_agent::model::{Member, SiteName, Timestamp};
use failover_agent::runtime::peer_server::RefusalCounts;
use tokio::net::TcpListener;
use world::{
    Receiver, SOON, Sender, Wire, ask_lease, insist_on_lease, raw, read_lease, report,
    send_command, send_report, site,
};

#[tokio::test]
async fn steady_link_costs_one_connection_and_one_round_trip() {
    let receiver = Receiver::start().await;
    let wire = Wire::to(receiver.address).await;
    let client = Sender::default().client(wire.address);
    for _ in 0..20 {
        assert_eq!(read_lease(&client).await.unwrap().verdict, Verdict::Ok);
    }
    let answered = send_report(&client, report("a"), SOON).await.unwrap();
    assert_eq!(answered, report("b"));
    let command = PeerCommand::Failover {
        to: SiteName::new("a"),
        dry_run: true,
    };
    let answer = send_command(&client, &command).await.unwrap();
    let text = "a asks for a, dry run true".to_owned();
    assert_eq!(answer, CommandAnswer::Accepted { text });
    assert_eq!(wire.state.lock().unwrap().connections, 1);
    // Only the very first request had no challenge yet.
    let expected = RefusalCounts {
        unknown_challenge: 1,
        ..RefusalCounts::default()
    };
    assert_eq!(receiver.refusals(), expected);
    let health = raw(receiver.address, b"GET /v1/health HTTP/1.0\r\n\r\n").await;
    assert!(
        health.starts_with("HTTP/1.0 200") && health.ends_with("ok\n"),
        "{health}"
    );
}

#[tokio::test]
async fn restart_of_the_receiver_costs_one_more_round_trip() {
    let receiver = Receiver::start().await;
    let client = Sender::default().client(receiver.address);
    read_lease(&client).await.unwrap();
    let receiver = receiver.restart().await;
    assert_eq!(read_lease(&client).await.unwrap().verdict, Verdict::Ok);
    assert_eq!(receiver.refusals().unknown_challenge, 1);
    assert_eq!(receiver.answers.leases.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn lost_answer_on_a_kept_connection_is_unknown_and_never_done_twice() {
    let receiver = Receiver::start().await;
    let wire = Wire::to(receiver.address).await;
    let client = Sender::default().client(wire.address);
    read_lease(&client).await.unwrap();
    wire.state.lock().unwrap().cut_answers = 1;
    let error = read_lease(&client).await.unwrap_err();
    assert_eq!(error.kind, FailureKind::OutcomeUnknown);
    assert_eq!(
        receiver.answers.leases.load(Ordering::SeqCst),
        2,
        "once each"
    );
    assert_eq!(receiver.refusals().replayed, 1);
    read_lease(&client).await.unwrap();
}

#[tokio::test]
async fn wall_clock_of_a_member_changes_nothing() {
    let receiver = Receiver::start().await;
    let client = Sender::default().client(receiver.address);
    for clock in [Timestamp(0), Timestamp(4_000_000_000_000)] {
        let mut hour_off = report("a");
        hour_off.clock = clock;
        send_report(&client, hour_off, SOON).await.unwrap();
        assert_eq!(*receiver.answers.clock_seen.lock().unwrap(), Some(clock));
    }
}

#[tokio::test]
async fn concurrent_requests_all_succeed_over_a_few_connections() {
    let receiver = Receiver::start().await;
    let wire = Wire::to(receiver.address).await;
    let client = Arc::new(Sender::default().client(wire.address));
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let client = Arc::clone(&client);
        calls.spawn(async move { read_lease(&client).await });
    }
    let answers = calls.join_all().await;
    assert!(
        answers
            .iter()
            .all(|answer| answer.as_ref().is_ok_and(|a| a.verdict == Verdict::Ok))
    );
    assert_eq!(receiver.answers.leases.load(Ordering::SeqCst), 200);
    assert_eq!(receiver.refusals().replayed, 0);
}

#[tokio::test]
async fn hanging_request_ends_at_its_deadline_and_blocks_no_other() {
    let receiver = Receiver::start().await;
    let client = Arc::new(Sender::default().client(receiver.address));
    read_lease(&client).await.unwrap();
    receiver.answers.hangs.store(true, Ordering::SeqCst);
    let hanging = Arc::clone(&client);
    let hung = tokio::spawn(async move {
        send_report(&hanging, report("a"), Duration::from_millis(300)).await
    });
    for _ in 0..10 {
        read_lease(&client).await.unwrap();
    }
    let error = tokio::time::timeout(SOON, hung)
        .await
        .unwrap()
        .unwrap()
        .unwrap_err();
    assert_eq!(error.kind, FailureKind::OutcomeUnknown);
    assert!(
        error.what.ends_with("(/v1/report): no answer in time"),
        "{}",
        error.what
    );
    read_lease(&client).await.unwrap();
}

#[tokio::test]
async fn s2_renewal_gets_through_while_two_connections_carry_nothing() {
    let receiver = Receiver::start().await;
    let wire = Wire::to(receiver.address).await;
    let client = Sender::default().client(wire.address);
    // The third copy leaves at half of the time.
    wire.state.lock().unwrap().dead = 2;
    let reply = insist_on_lease(&client, Duration::from_secs(2))
        .await
        .unwrap();
    assert_eq!(reply.verdict, Verdict::Ok);
    assert_eq!(wire.state.lock().unwrap().connections, 3);
    // Where everything is lost it still ends at its deadline.
    wire.state.lock().unwrap().dead = usize::MAX;
    let client = Sender::default().client(wire.address);
    let asked = insist_on_lease(&client, Duration::from_millis(400));
    let error = tokio::time::timeout(SOON, asked)
        .await
        .unwrap()
        .unwrap_err();
    assert!(error.what.ends_with("no answer in time"), "{}", error.what);
    let connections = wire.state.lock().unwrap().connections;
    assert!((4..=7).contains(&connections), "{connections} connections");
}

#[tokio::test]
async fn silent_listener_ends_at_the_deadline_and_a_closed_port_at_once() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap();
    let client = Sender::default().client(address);
    let asked = send_report(&client, report("a"), Duration::from_millis(200));
    let error = tokio::time::timeout(SOON, asked)
        .await
        .unwrap()
        .unwrap_err();
    assert_eq!(error.kind, FailureKind::OutcomeUnknown);
    drop(silent);
    let error = read_lease(&client).await.unwrap_err();
    assert_eq!(error.kind, FailureKind::Retryable);
    assert!(error.what.ends_with("connection refused"), "{}", error.what);
}

#[tokio::test]
async fn member_of_another_cluster_or_at_the_wrong_address_is_told_so() {
    let receiver = Receiver::start().await;
    let refused = |sender: Sender| {
        let client = sender.client(receiver.address);
        async move { read_lease(&client).await.unwrap_err() }
    };
    let error = refused(Sender {
        cluster: "bank",
        ..Sender::default()
    })
    .await;
    assert!(error.what.contains("another cluster"), "{}", error.what);
    let error = refused(Sender {
        peer: Member::Witness,
        ..Sender::default()
    })
    .await;
    assert!(
        error.what.contains("not the member that was meant"),
        "{}",
        error.what
    );
    let error = refused(Sender {
        own: site("c"),
        ..Sender::default()
    })
    .await;
    assert!(
        error.what.contains("not a member of its cluster"),
        "{}",
        error.what
    );
    let client = Sender::default().client(receiver.address);
    let reply = ask_lease(&client, "other voters", LeaseRequest::Read)
        .await
        .unwrap();
    assert_eq!(reply.verdict, Verdict::WrongCluster);
    let counts = receiver.refusals();
    assert_eq!((counts.wrong_cluster, counts.misdirected), (3, 1));
}

#[tokio::test]
async fn names_are_resolved_and_unknown_ones_are_told() {
    let receiver = Receiver::start().await;
    let port = receiver.address.port();
    let client = Sender::default().client_of_name(&format!("localhost:{port}"));
    read_lease(&client).await.unwrap();
    let client = Sender::default().client_of_name("no-such-host.invalid:1");
    let asked = send_report(&client, report("a"), Duration::from_secs(1));
    let error = tokio::time::timeout(SOON, asked)
        .await
        .unwrap()
        .unwrap_err();
    assert_eq!(error.kind, FailureKind::Retryable);
    assert!(
        error
            .what
            .contains("resolving \"no-such-host.invalid\" failed"),
        "{}",
        error.what
    );
}
