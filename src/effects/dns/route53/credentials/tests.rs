//! Every source of credentials, with stand-ins for token services and metadata.

mod profiles;

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;

use reqsign_core::StaticEnv;
use reqwest::Url;

use super::*;
use crate::config::secret::Secret;
use crate::effects::clock::boottime;
use crate::model::outcome::FailureKind;

const SOON: Duration = Duration::from_secs(20);
const SECRET: &str = "hunter2hunter2hunter2";
/// What the token service gives out.
const ROLE_ID: &str = "ASIAIOSFODNN7ROLE000";
const IDENTITY_ID: &str = "ASIAIOSFODNN7WEBID00";
/// Of the agent's own key.
const KEY_ID: &str = "AKIAIOSFODNN7EXAMPLE";
const ROLE: &str = "arn:aws:iam::123456789012:role/agent-dns";

/// Token services and metadata, as far as these tests ask them.
#[derive(Debug, Clone)]
struct Services {
    /// How long their credentials are good.
    good_for: Duration,
    refuses: bool,
    hangs: bool,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Services {
    fn new() -> Self {
        Self {
            good_for: Duration::from_secs(3600),
            refuses: false,
            hangs: false,
            asked: Arc::default(),
        }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    fn answer(&self, uri: &str) -> String {
        let until = (Timestamp::now() + self.good_for).format_rfc3339_zulu();
        let xml = |action: &str, id: &str| {
            format!(
                "<{action}Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><{action}Result>\
                 <Credentials><AccessKeyId>{id}</AccessKeyId><SecretAccessKey>{SECRET}\
                 </SecretAccessKey><SessionToken>t</SessionToken><Expiration>{until}</Expiration>\
                 </Credentials><AssumedRoleUser><Arn>{ROLE}</Arn><AssumedRoleId>r:s</AssumedRoleId>\
                 </AssumedRoleUser></{action}Result></{action}Response>"
            )
        };
        let json = |id: &str| {
            format!(
                "{{\"Code\":\"Success\",\"Message\":\"\",\"AccessKeyId\":\"{id}\",\
                 \"SecretAccessKey\":\"{SECRET}\",\"Token\":\"t\",\"Expiration\":\"{until}\"}}"
            )
        };
        match uri {
            _ if uri.contains("Action=AssumeRoleWithWebIdentity") => {
                xml("AssumeRoleWithWebIdentity", IDENTITY_ID)
            }
            _ if uri.contains("Action=AssumeRole") => xml("AssumeRole", ROLE_ID),
            _ if uri.ends_with("/container") => json("container"),
            _ if uri.ends_with("/api/token") => "metadata-token".to_owned(),
            _ if uri.ends_with("/security-credentials/") => "the-role".to_owned(),
            _ if uri.ends_with("/security-credentials/the-role") => json("instance"),
            _ => panic!("nobody asks for {uri}"),
        }
    }
}

impl HttpSend for Services {
    async fn http_send(
        &self,
        request: http::Request<Bytes>,
    ) -> reqsign_core::Result<http::Response<Bytes>> {
        let body = String::from_utf8_lossy(request.body());
        let uri = format!("{}{body}", request.uri());
        let signed = request.headers().get("authorization");
        let signed = signed.map_or("", |it| it.to_str().unwrap());
        self.asked.lock().unwrap().push(format!("{uri} {signed}"));
        if self.hangs {
            std::future::pending::<()>().await;
        }
        let (status, body) = match self.refuses {
            true => (
                403,
                "<ErrorResponse><Error><Code>AccessDenied</Code><Message>not you</Message>\
                 </Error></ErrorResponse>"
                    .to_owned(),
            ),
            false => (200, self.answer(&uri)),
        };
        let response = http::Response::builder().status(status);
        Ok(response.body(Bytes::from(body)).unwrap())
    }
}

fn context(variables: &[(&str, &str)], http: impl HttpSend) -> Context {
    let variables = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let env = StaticEnv {
        home_dir: None,
        envs: variables.collect::<HashMap<_, _>>(),
    };
    Context::new()
        .with_env(env)
        .with_file_read(Files)
        .with_http_send(http)
}

fn credentials(context: Context, login: &AwsLogin, role: Option<&AwsRole>) -> Credentials {
    Credentials::within(context, "public", login, role, "eu-central-1")
}

async fn id_of(credentials: &Credentials) -> String {
    let found = credentials.current(boottime() + SOON).await.unwrap();
    assert_eq!(found.secret_access_key, SECRET);
    found.access_key_id
}

fn own_key() -> AwsLogin {
    AwsLogin::Key {
        id: KEY_ID.to_owned(),
        secret: Secret::new(format!("{SECRET}\n")),
    }
}

fn written(dir: &Path, name: &str, text: &str) -> String {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[tokio::test]
async fn sources_are_asked_in_amazons_order() {
    let dir = tempfile::tempdir().unwrap();
    let text = format!(
        "[default]\naws_access_key_id = profile\naws_secret_access_key = {SECRET}\n\
         [agent]\naws_access_key_id = other-profile\naws_secret_access_key = {SECRET}\n"
    );
    let profiles = written(dir.path(), "credentials", &text);
    let token = written(dir.path(), "token", "a.b.c\n");
    let all = [
        ("AWS_ACCESS_KEY_ID", "environment"),
        ("AWS_SECRET_ACCESS_KEY", SECRET),
        ("AWS_SHARED_CREDENTIALS_FILE", profiles.as_str()),
        ("AWS_CONFIG_FILE", "/nowhere"),
        ("AWS_ROLE_ARN", ROLE),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", token.as_str()),
        (
            "AWS_CONTAINER_CREDENTIALS_FULL_URI",
            "http://127.0.0.1/container",
        ),
    ];
    for (without, expected) in [
        (0, "environment"),
        (2, "profile"),
        (4, IDENTITY_ID),
        (6, "container"),
        (7, "instance"),
    ] {
        let variables = all.get(without..).unwrap();
        let context = context(variables, Services::new());
        let found = credentials(context, &AwsLogin::Chain, None);
        assert_eq!(id_of(&found).await, expected);
    }
    let named = AwsLogin::Profile("agent".to_owned());
    let found = credentials(context(&all, Services::new()), &named, None);
    assert_eq!(id_of(&found).await, "other-profile");
}

#[tokio::test]
async fn role_is_taken_at_the_regions_token_service() {
    let services = Services::new();
    let role = AwsRole {
        arn: ROLE.to_owned(),
        external_id: Some("what-it-demands".to_owned()),
    };
    let context = context(&[], services.clone());
    let found = credentials(context, &own_key(), Some(&role));
    assert_eq!(id_of(&found).await, ROLE_ID);
    let asked = services.asked();
    let [uri] = asked.as_slice() else {
        panic!("{asked:?}");
    };
    assert!(
        uri.starts_with("https://sts.eu-central-1.amazonaws.com/"),
        "{uri}"
    );
    assert!(uri.contains("ExternalId=what-it-demands"), "{uri}");
    assert!(found.origin().contains(ROLE));
}

#[tokio::test]
async fn source_that_fails_ends_the_search() {
    let dir = tempfile::tempdir().unwrap();
    let token = written(dir.path(), "token", "a.b.c\n");
    let services = Services {
        refuses: true,
        ..Services::new()
    };
    let identity = [
        ("AWS_ROLE_ARN", ROLE),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", token.as_str()),
    ];
    let context = context(&identity, services.clone());
    let found = credentials(context, &AwsLogin::Chain, None);
    let error = found.current(boottime() + SOON).await.unwrap_err();
    assert_eq!(error.kind, FailureKind::Retryable, "{error}");
    for part in ["web identity", "not you", "nothing in environment, profile"] {
        assert!(error.to_string().contains(part), "{error}");
    }
    assert!(error.hint.is_some());
    assert_eq!(services.asked().len(), 1, "the instance is somebody else");
}

#[tokio::test]
async fn kept_ones_are_used_until_they_are_renewed_ahead() {
    let role = AwsRole {
        arn: ROLE.to_owned(),
        external_id: None,
    };
    let deadline = boottime() + SOON;
    for (seconds, by_use, by_renewal) in [(3600, 1, 1), (200, 1, 3), (20, 1, 3)] {
        let services = Services {
            good_for: Duration::from_secs(seconds),
            ..Services::new()
        };
        let context = context(&[], services.clone());
        let found = credentials(context, &own_key(), Some(&role));
        for _ in 0..3 {
            assert_eq!(id_of(&found).await, ROLE_ID);
        }
        assert_eq!(services.asked().len(), by_use, "{seconds} s");
        for _ in 0..2 {
            found.renew(deadline).await.unwrap();
        }
        assert_eq!(services.asked().len(), by_renewal, "{seconds} s");
        // Refused ones are not used again.
        assert!(found.forget());
        assert_eq!(id_of(&found).await, ROLE_ID);
        assert_eq!(services.asked().len(), by_renewal + 1, "{seconds} s");
    }
    let fixed = credentials(context(&[], Services::new()), &own_key(), None);
    assert_eq!(id_of(&fixed).await, KEY_ID);
    assert!(!fixed.forget(), "there is no other key");
}

#[tokio::test]
async fn profile_that_was_rotated_is_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let text =
        |id: &str| format!("[agent]\naws_access_key_id = {id}\naws_secret_access_key = {SECRET}\n");
    let profiles = written(dir.path(), "credentials", &text("first"));
    let variables = [("AWS_SHARED_CREDENTIALS_FILE", profiles.as_str())];
    let login = AwsLogin::Profile("agent".to_owned());
    let found = credentials(context(&variables, Services::new()), &login, None);
    assert_eq!(id_of(&found).await, "first");
    written(dir.path(), "credentials", &text("second"));
    assert_eq!(id_of(&found).await, "first");
    found.renew(boottime() + SOON).await.unwrap();
    assert_eq!(id_of(&found).await, "second");
}

#[tokio::test]
async fn fetch_ends_at_its_deadline_and_expired_ones_are_not_used() {
    let role = AwsRole {
        arn: ROLE.to_owned(),
        external_id: None,
    };
    for (hangs, why) in [(true, "no answer in time"), (false, "run out already")] {
        let services = Services {
            hangs,
            good_for: Duration::from_secs(5),
            ..Services::new()
        };
        let found = credentials(context(&[], services), &own_key(), Some(&role));
        let span = if hangs {
            Duration::from_millis(50)
        } else {
            SOON
        };
        let error = found.current(boottime() + span).await.unwrap_err();
        assert_eq!(error.kind, FailureKind::Retryable, "{error}");
        assert!(error.to_string().contains(why), "{error}");
        let text = format!("{error} {error:?} {found:?}");
        assert!(!text.contains(SECRET), "{text}");
    }
}

#[tokio::test]
async fn metadata_is_asked_over_plain_http() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let serving = std::thread::spawn(move || {
        let mut heads = Vec::new();
        for stream in listener.incoming().take(3) {
            let mut stream = stream.unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let lines = lines.map(Result::unwrap).take_while(|it| !it.is_empty());
            let lines: Vec<String> = lines.collect();
            let path = lines[0].split(' ').nth(1).unwrap();
            let body = Services::new().answer(path);
            let length = body.len();
            write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            )
            .unwrap();
            heads.push(lines.join("\n"));
        }
        heads
    });
    let client = http_client::client(&Url::parse(&url).unwrap(), SOON).unwrap();
    let variables = [("AWS_EC2_METADATA_SERVICE_ENDPOINT", url.as_str())];
    let found = credentials(context(&variables, Http(client)), &AwsLogin::Chain, None);
    assert_eq!(id_of(&found).await, "instance");
    let heads = serving.join().unwrap();
    assert!(heads[0].starts_with("PUT /latest/api/token"), "{heads:?}");
    assert!(heads[2].contains("metadata-token"), "{heads:?}");
}
