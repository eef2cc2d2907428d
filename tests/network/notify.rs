//! Notifiers and the outbox against a real receiver. S16: a receiver can never delay anything.
//! Here: the contract that every notifier in the list keeps.
#![expect(clippy::unwrap_used, reason = "helpers of tests may fail loudly")]
#![expect(
    clippy::disallowed_methods,
    reason = "the receiver is a task of the test's own"
)]

mod outbox;
mod receiver;

use std::time::Duration;

use failover_agent::config::secret::Secret;
use failover_agent::config::settings::NotifierSettings;
use failover_agent::effects::clock::wall;
use failover_agent::effects::error::EffectError;
use failover_agent::effects::notify::{NOTIFIERS, idempotency_key, notifier_of};
use failover_agent::model::alert::{Alert, AlertLevel};
use failover_agent::model::outcome::{Failure, FailureKind};
use failover_agent::model::{ClusterName, Epoch, PlanId, SiteName, Timestamp};
use serde_json::json;

use receiver::{Receiver, Reply, until};

fn settings(kind: &str, url: &str) -> NotifierSettings {
    NotifierSettings {
        name: "chat".to_owned(),
        kind: kind.to_owned(),
        url: Secret::new(url),
        timeout: Duration::from_secs(20),
    }
}

fn alert(event: &str, level: AlertLevel) -> Alert {
    Alert {
        cluster: ClusterName::new("shop"),
        site: Some(SiteName::new("b")),
        event: event.to_owned(),
        level,
        summary: "site b is active".to_owned(),
        details: vec!["promoted".to_owned()],
        epoch: Some(Epoch(7)),
        plan: Some(PlanId::new("b-1")),
        at: wall(),
    }
}

fn whole_text(error: EffectError) -> String {
    let text = format!("{error} {error:?} {:?}", error.hint);
    format!("{text} {}", Failure::from(error))
}

#[tokio::test]
async fn every_notifier_sends_the_whole_alert_with_a_key() {
    for kind in NOTIFIERS {
        let receiver = Receiver::start().await;
        let notifier = notifier_of(&settings(kind.name, &receiver.url)).unwrap();
        let mut sent = alert("failover_done", AlertLevel::Page);
        sent.at = Timestamp(1_700_000_000_123);
        notifier.send(&sent).await.unwrap();
        notifier.send(&sent).await.unwrap();
        let body = json!({
            "cluster": "shop", "site": "b", "event": "failover_done", "severity": "page",
            "summary": "site b is active", "details": ["promoted"], "epoch": 7, "plan": "b-1",
            "at": "2023-11-14T22:13:20.123Z",
        });
        let expected = (idempotency_key(&sent), body);
        assert_eq!(receiver.alerts(), [expected.clone(), expected]);
    }
}

#[tokio::test]
async fn every_notifier_tells_passing_from_final_refusals() {
    for kind in NOTIFIERS {
        let receiver = Receiver::start().await;
        let notifier = notifier_of(&settings(kind.name, &receiver.url)).unwrap();
        let sent = alert("e", AlertLevel::Info);
        for status in [408, 429, 500, 503] {
            receiver.reply(&[Reply::Status(status)]);
            let error = notifier.send(&sent).await.unwrap_err();
            assert_eq!(error.kind, FailureKind::Retryable, "{status}");
        }
        for reply in [400, 401, 404, 410].map(Reply::Status) {
            receiver.reply(&[reply]);
            let error = notifier.send(&sent).await.unwrap_err();
            assert_eq!(error.kind, FailureKind::Permanent, "{reply:?}");
        }
        receiver.reply(&[Reply::Redirect]);
        let error = notifier.send(&sent).await.unwrap_err();
        assert_eq!(error.kind, FailureKind::Permanent);
        receiver.reply(&[Reply::Busy { retry_after: 33 }]);
        let error = notifier.send(&sent).await.unwrap_err();
        assert_eq!(error.retry_after, Some(Duration::from_secs(33)));
        for status in [200, 202, 204] {
            receiver.reply(&[Reply::Status(status)]);
            notifier.send(&sent).await.unwrap();
        }
    }
}

#[tokio::test]
async fn the_address_is_in_no_error_of_any_notifier() {
    for kind in NOTIFIERS {
        let receiver = Receiver::start().await;
        let sent = alert("e", AlertLevel::Info);
        let mut settings = settings(kind.name, &receiver.url);
        settings.timeout = Duration::from_millis(300);
        let notifier = notifier_of(&settings).unwrap();
        let mut errors = Vec::new();
        for reply in [
            Reply::Status(500),
            Reply::Status(404),
            Reply::Redirect,
            Reply::Never,
        ] {
            receiver.reply(&[reply]);
            errors.push(notifier.send(&sent).await.unwrap_err());
        }
        assert_eq!(errors.last().unwrap().kind, FailureKind::OutcomeUnknown);
        let port = receiver.url.rsplit(':').next().unwrap();
        let port = port.split('/').next().unwrap().to_owned();
        drop(receiver);
        until("the port is closed", || {
            std::net::TcpStream::connect(format!("127.0.0.1:{port}")).is_err()
        })
        .await;
        errors.push(notifier.send(&sent).await.unwrap_err());
        assert_eq!(errors.last().unwrap().kind, FailureKind::Retryable);
        for wrong in [
            "ftp://h/XsecretX",
            "XsecretX",
            "https://[XsecretX",
            "http:///XsecretX ",
        ] {
            settings.url = Secret::new(wrong);
            match notifier_of(&settings) {
                Err(error) => errors.push(error),
                Ok(odd) => errors.push(odd.send(&sent).await.unwrap_err()),
            }
        }
        let debug = format!("{notifier:?} {settings:?}");
        for text in errors.into_iter().map(whole_text).chain([debug]) {
            assert!(
                !text.contains("XsecretX") && !text.contains("/hooks"),
                "{text}"
            );
        }
    }
}
