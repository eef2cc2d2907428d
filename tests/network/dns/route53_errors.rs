//! What Route 53 refuses, and what is refused before it is asked.

use failover_agent::config::secret::Secret;
use failover_agent::config::settings::{AwsLogin, DnsAccess};
use failover_agent::effects::dns::{provider_of, verify};
use failover_agent::model::outcome::FailureKind;

use super::aws::{Aws, Fault, ZONE, change_of, odd_change_of};
use super::route53::{KEY_ID, NEW, OLD, SECRET, SHOP, World, moves, settings, shop, wanted, world};
use super::whole_text;

#[tokio::test]
async fn applied_but_unanswered_ends_as_done_without_a_second_change() {
    for fault in [Fault::Hang, Fault::Cut] {
        let mut world = world().await;
        world.impatient();
        world.aws.fail_next("GET", fault.clone());
        world.refused(FailureKind::Retryable).await;
        assert_eq!(world.aws.posts(), 0, "a look changes nothing");
        world.aws.fail_next("POST", fault.clone());
        let error = world.refused(FailureKind::OutcomeUnknown).await;
        assert_eq!(world.record().await, [NEW], "{error}");
        assert!(!world.apply(NEW, 3).await.unwrap());
        assert_eq!(world.aws.posts(), 1, "{fault:?}");
    }
}

#[tokio::test]
async fn what_passes_is_retryable_and_changes_nothing() {
    let world = world().await;
    for fault in [
        Fault::error(400, "Throttling", "Rate exceeded"),
        Fault::error(429, "ThrottlingException", "Rate exceeded"),
        Fault::error(
            400,
            "PriorRequestNotComplete",
            "The request was rejected because Route 53 was still processing a prior request.",
        ),
        Fault::error(500, "InternalFailure", "try again"),
        Fault::Answer(502, "<html>bad gateway</html>".to_owned()),
        Fault::Answer(503, String::new()),
    ] {
        for method in ["GET", "POST"] {
            world.aws.fail_next(method, fault.clone());
            world.refused(FailureKind::Retryable).await;
            assert_eq!(world.record().await, [OLD], "{fault:?}");
        }
    }
    world
        .aws
        .fail_next("GET", Fault::Answer(200, "<html>login</html>".to_owned()));
    world.refused(FailureKind::Retryable).await;
    // Nobody knows what became of a change that is answered so.
    world
        .aws
        .fail_next("POST", Fault::Answer(200, "<html>login</html>".to_owned()));
    world.refused(FailureKind::OutcomeUnknown).await;
    assert!(world.apply(NEW, 3).await.unwrap());
}

#[tokio::test]
async fn refusals_are_permanent_and_say_what_to_do() {
    let world = world().await;
    let (aws, zone) = (&world.aws, &world.zone);
    for (fault, hint) in [
        (
            Fault::error(403, "AccessDenied", "User is not authorized"),
            "route53:ChangeResourceRecordSets",
        ),
        (
            Fault::error(403, "SignatureDoesNotMatch", "Signature expired"),
            "clock",
        ),
        (
            Fault::error(403, "ExpiredToken", "The security token is expired"),
            "ran out",
        ),
        (
            Fault::error(403, "InvalidClientTokenId", "The token is invalid"),
            "access key",
        ),
        (
            Fault::error(400, "InvalidInput", "Invalid XML"),
            "configuration",
        ),
    ] {
        for method in ["GET", "POST"] {
            aws.fail_next(method, fault.clone());
            let error = world.refused(FailureKind::Permanent).await;
            let told = error.hint.clone().unwrap_or_default();
            assert!(told.contains(hint), "{error}: {told}");
        }
    }
    let why = "RRSet with DNS name shop. is not permitted in zone example.test.";
    aws.fail_next("POST", Fault::batch(why));
    let error = world.refused(FailureKind::Permanent).await;
    assert!(
        error.to_string().contains("not permitted in zone"),
        "{error}"
    );
    assert_eq!(aws.values(zone, SHOP, "A").await, [OLD]);
    let elsewhere = provider_of(&settings(aws, Some("ZNOWHERE"), SHOP, "A")).unwrap();
    let error = moves(elsewhere.as_ref(), &shop(NEW, 3)).await.unwrap_err();
    assert_eq!(error.kind, FailureKind::Permanent, "{error}");
    assert!(error.hint.unwrap().contains("zone_id"));
}

#[tokio::test]
async fn what_is_no_plain_record_is_left_to_people() {
    let world = world().await;
    let (aws, zone) = (&world.aws, &world.zone);
    let alias = "<AliasTarget><HostedZoneId>Z2</HostedZoneId><DNSName>lb.example.net.</DNSName>\
                 <EvaluateTargetHealth>false</EvaluateTargetHealth></AliasTarget>";
    let weighted = |id: &str| {
        let content = format!(
            "<SetIdentifier>{id}</SetIdentifier><Weight>1</Weight><TTL>60</TTL><ResourceRecords>\
             <ResourceRecord><Value>{OLD}</Value></ResourceRecord></ResourceRecords>"
        );
        odd_change_of("CREATE", "weighted.example.test", "A", &content)
    };
    let changes = odd_change_of("CREATE", "alias.example.test", "A", alias)
        + &weighted("fra")
        + &weighted("ams")
        + &change_of(
            "CREATE",
            "www.example.test",
            "CNAME",
            60,
            &["x.example.net"],
        )
        + &change_of("CREATE", "noted.example.test", "A", 60, &[OLD])
        + &change_of(
            "CREATE",
            "_agent.noted.example.test",
            "TXT",
            60,
            &["\"a\"", "\"b\""],
        );
    aws.change(zone, &changes).await;
    for (name, why) in [
        ("alias", "is an alias of lb.example.net"),
        ("weighted", "has a routing policy"),
        ("www", "is a CNAME record"),
        ("noted", "keeps the epoch"),
        ("missing", "does not exist"),
    ] {
        let name = format!("{name}.{ZONE}");
        let provider = provider_of(&settings(aws, Some(zone), &name, "A")).unwrap();
        let wanted = wanted(&name, "A", NEW, 3);
        let error = moves(provider.as_ref(), &wanted).await.unwrap_err();
        assert_eq!(error.kind, FailureKind::Permanent, "{name}: {error}");
        assert!(error.to_string().contains(why), "{name}: {error}");
        assert!(error.hint.is_some(), "{error}");
    }
    assert_eq!(aws.posts(), 0);
}

#[tokio::test]
async fn signatures_are_those_that_aws_computes() {
    let (aws, zone) = Aws::moto().await;
    aws.change(&zone, &change_of("CREATE", SHOP, "A", 45, &[OLD]))
        .await;
    let (good_id, good_secret) = aws.key().await;
    let with = |key_id: &str, key_secret: &str| {
        let mut settings = settings(&aws, Some(&zone), SHOP, "A");
        if let DnsAccess::Route53(access) = &mut settings.access {
            access.login = AwsLogin::Key {
                id: key_id.to_owned(),
                secret: Secret::new(key_secret),
            };
        }
        provider_of(&settings).unwrap()
    };
    for provider in [with(&good_id, SECRET), with(KEY_ID, SECRET)] {
        let error = moves(provider.as_ref(), &shop(NEW, 3)).await.unwrap_err();
        assert_eq!(error.kind, FailureKind::Permanent, "{error}");
        assert!(error.to_string().contains("403"), "{error}");
    }
    let provider = with(&good_id, &good_secret);
    assert!(moves(provider.as_ref(), &shop(NEW, 3)).await.unwrap());
    // Also opens moto for what is not signed.
    verify(provider.as_ref(), &shop(NEW, 3)).await.unwrap();
    assert_eq!(aws.values(&zone, SHOP, "A").await, [NEW]);
}

#[tokio::test]
async fn secret_is_in_no_text_and_nobody_listening_is_retryable() {
    let world = world().await;
    let mut errors = Vec::new();
    for fault in [
        Fault::error(403, "AccessDenied", "no"),
        Fault::Answer(500, String::new()),
        Fault::Answer(200, "garbage".to_owned()),
    ] {
        world.aws.fail_next("GET", fault);
        errors.push(world.apply(NEW, 1).await.unwrap_err());
    }
    let mut plain = settings(&world.aws, None, SHOP, "A");
    if let DnsAccess::Route53(access) = &mut plain.access {
        access.endpoint = Some("http://192.0.2.9".to_owned());
    }
    errors.push(provider_of(&plain).unwrap_err());
    let World { aws, provider, .. } = world;
    let mut nobody = settings(&aws, Some("Z1"), SHOP, "A");
    if let DnsAccess::Route53(access) = &mut nobody.access {
        access.endpoint = Some("http://127.0.0.1:1".to_owned());
    }
    let nobody = provider_of(&nobody).unwrap();
    let error = moves(nobody.as_ref(), &shop(NEW, 1)).await.unwrap_err();
    assert_eq!(error.kind, FailureKind::Retryable, "{error}");
    errors.push(error);
    for error in errors {
        let text = whole_text(error);
        assert!(!text.contains(SECRET), "{text}");
    }
    let debug = format!("{provider:?} {plain:?}");
    assert!(!debug.contains(SECRET), "{debug}");
}
