//! Profiles in AWS's shared files: those that give credentials, and those that should and cannot.

use super::*;

/// A token service, and an instance with a role of somebody else.
struct Host {
    services: Services,
    dir: tempfile::TempDir,
}

impl Host {
    fn with(credentials: &str, config: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let credentials = credentials.replace("KEY", &format!("aws_secret_access_key = {SECRET}"));
        written(dir.path(), "credentials", &credentials);
        written(dir.path(), "config", config);
        let services = Services::new();
        Self { services, dir }
    }

    fn credentials(&self, login: &AwsLogin, more: &[(&str, &str)]) -> Credentials {
        let path = |name| self.dir.path().join(name).to_str().unwrap().to_owned();
        let (shared, config) = (path("credentials"), path("config"));
        let mut variables = vec![
            ("AWS_SHARED_CREDENTIALS_FILE", shared.as_str()),
            ("AWS_CONFIG_FILE", config.as_str()),
        ];
        variables.extend(more);
        let context = context(&variables, self.services.clone());
        credentials(context, login, None)
    }

    async fn refusal(&self, login: &AwsLogin, more: &[(&str, &str)]) -> String {
        let found = self.credentials(login, more);
        let error = found.current(boottime() + SOON).await.unwrap_err();
        assert_eq!(self.services.asked(), [""; 0], "somebody else: {error}");
        let text = format!("{error} {error:?}");
        assert!(!text.contains(SECRET), "{text}");
        error.to_string()
    }
}

fn named(profile: &str) -> AwsLogin {
    AwsLogin::Profile(profile.to_owned())
}

#[tokio::test]
async fn profile_that_should_give_credentials_and_cannot_ends_the_search() {
    let role = format!("role_arn = {ROLE}\n");
    let cases = [
        ("", "[other]\n", "there is no profile dns: "),
        ("", "[profile dns]\nregion = eu-west-1\n", "neither a key"),
        ("[dns]\nKEY\n", "", "no aws_access_key_id"),
        ("[dns]\naws_access_key_id = a\n", "", "no aws_secret"),
        ("", "[profile dns]\nsso_session = a\n", "uses sso_session"),
        ("", "[profile dns]\nsso_start_url = a\n", "sso_start_url"),
        (
            "",
            "[profile dns]\ncredential_process = a\n",
            "credential_process, which is not read",
        ),
        ("", "[profile dns]\nsource_profile = a\n", "nor role_arn"),
        ("", "[profile dns]\nROLE", "without source_profile or"),
        (
            "",
            "[profile dns]\nROLEweb_identity_token_file = /token\n",
            "uses web_identity_token_file",
        ),
        (
            "",
            "[profile dns]\nROLEsource_profile = gone\n",
            "there is no profile gone",
        ),
        (
            "",
            "[profile dns]\nROLEsource_profile = dns\n",
            "is its own source_profile",
        ),
        (
            "",
            "[profile dns]\nROLEsource_profile = b\n[profile b]\nROLEsource_profile = dns\n",
            "in a circle",
        ),
        (
            "[key]\naws_access_key_id = a\nKEY\n",
            "[profile dns]\nROLEsource_profile = key\nmfa_serial = a\n",
            "mfa_serial",
        ),
        (
            "",
            "[profile dns]\nROLEcredential_source = Elsewhere\n",
            "a credential_source other than",
        ),
        ("[dns]\nnothing\n", "", "line 2 is neither"),
    ];
    for (credentials, config, expected) in cases {
        let host = Host::with(credentials, &config.replace("ROLE", &role));
        for (login, more) in [
            (AwsLogin::Chain, &[("AWS_PROFILE", "dns")][..]),
            (named("dns"), &[]),
        ] {
            let error = host.refusal(&login, more).await;
            assert!(error.contains(expected), "{expected}: {error}");
            let file = host.dir.path().to_str().unwrap();
            assert!(error.contains(file), "{error}");
        }
    }
}

#[tokio::test]
async fn usual_profile_ends_the_search_only_when_it_is_there_to_give_credentials() {
    let half = Host::with("[default]\naws_access_key_id = a\n", "");
    let error = half.refusal(&AwsLogin::Chain, &[]).await;
    assert!(error.contains("profile default in "), "{error}");
    let process = Host::with("", "[default]\ncredential_process = a\n");
    process.refusal(&AwsLogin::Chain, &[]).await;
    // A directory cannot be read.
    let path = half.dir.path().to_str().unwrap();
    let unreadable = [("AWS_CONFIG_FILE", path)];
    let error = half.refusal(&AwsLogin::Chain, &unreadable).await;
    assert!(error.contains(&format!("cannot read {path}")), "{error}");

    let region = Host::with("", "[default]\nregion = eu-west-1\n[profile dns]\n");
    let found = region.credentials(&AwsLogin::Chain, &[("AWS_PROFILE", "")]);
    assert_eq!(id_of(&found).await, "instance");
}

#[tokio::test]
async fn profile_takes_its_roles_with_the_key_of_another_profile() {
    let first = ROLE.replace("agent-dns", "first");
    let host = Host::with(
        "[key]\naws_access_key_id = AKIAFIRST\nKEY\n[self]\naws_access_key_id = AKIASELF\nKEY\n",
        &format!(
            "[profile dns]\nrole_arn = {ROLE}\nsource_profile = first\nexternal_id = demanded\n\
             role_session_name = moves\nduration_seconds = 900\n\
             [profile first]\nrole_arn = {first}\nsource_profile = key\n\
             [profile self]\nrole_arn = {ROLE}\nsource_profile = self\n"
        ),
    );
    let found = host.credentials(&AwsLogin::Chain, &[("AWS_PROFILE", "dns")]);
    assert_eq!(id_of(&found).await, ROLE_ID);
    let asked = host.services.asked();
    let [by_key, by_role] = asked.as_slice() else {
        panic!("{asked:?}");
    };
    for part in ["first", "RoleSessionName=failover-agent", "=AKIAFIRST/"] {
        assert!(by_key.contains(part), "{part}: {by_key}");
    }
    for part in [
        "https://sts.eu-central-1.amazonaws.com/",
        "agent-dns",
        "ExternalId=demanded",
        "RoleSessionName=moves",
        "DurationSeconds=900",
        &format!("={ROLE_ID}/"),
    ] {
        assert!(by_role.contains(part), "{part}: {by_role}");
    }

    let found = host.credentials(&named("self"), &[]);
    assert_eq!(id_of(&found).await, ROLE_ID);
    let asked = host.services.asked();
    assert!(asked.last().unwrap().contains("=AKIASELF/"), "{asked:?}");
}

#[tokio::test]
async fn profile_takes_its_role_with_what_the_host_has() {
    for (source, signed) in [
        ("Environment", "=environment/"),
        ("EcsContainer", "=container/"),
        ("Ec2InstanceMetadata", "=instance/"),
    ] {
        let config = format!("[profile dns]\nrole_arn = {ROLE}\ncredential_source = {source}\n");
        let host = Host::with("", &config);
        let variables = [
            ("AWS_ACCESS_KEY_ID", "environment"),
            ("AWS_SECRET_ACCESS_KEY", SECRET),
            (
                "AWS_CONTAINER_CREDENTIALS_FULL_URI",
                "http://127.0.0.1/container",
            ),
        ];
        let found = host.credentials(&named("dns"), &variables);
        assert_eq!(id_of(&found).await, ROLE_ID);
        let asked = host.services.asked();
        assert!(asked.last().unwrap().contains(signed), "{asked:?}");
    }
}

#[tokio::test]
async fn key_of_the_credentials_file_goes_first_and_is_not_mixed_with_another() {
    let host = Host::with(
        "[dns]\naws_access_key_id = first\nKEY\n",
        "[profile dns]\naws_access_key_id = b\naws_session_token = of-another\n",
    );
    let found = host.credentials(&named("dns"), &[]);
    assert_eq!(id_of(&found).await, "first");
    let found = found.current(boottime() + SOON).await.unwrap();
    assert_eq!(found.session_token, None);
}
