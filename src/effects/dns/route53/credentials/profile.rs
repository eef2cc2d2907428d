//! A profile in AWS's shared files: its key, or the roles that it takes with another profile's.
//!
//! Must not pass over a profile that should give credentials and cannot: whoever is asked next is
//! somebody else. Source: AWS SDKs and Tools Reference Guide, "Assume role credential provider".

use std::sync::Arc;

use reqsign_aws_v4::{
    Credential, ECSCredentialProvider, EnvCredentialProvider, IMDSv2CredentialProvider,
    StaticCredentialProvider,
};
use reqsign_core::{Context, ProvideCredential};

use super::shared_files::{Key, Profile, SharedFiles};
use super::{Chain, Role, SESSION_NAME, Source};
use crate::config::settings::AwsRole;

/// The profile that is meant where none is named.
const USUAL: &str = "default";
/// Roles that are taken one with the other; more are a circle.
const ROLES_MAX: usize = 5;
/// Other ways to credentials, which are not gone here.
const UNREAD: [&str; 6] = [
    "sso_session",
    "sso_start_url",
    "sso_account_id",
    "login_session",
    "credential_process",
    "web_identity_token_file",
];
/// With one of them, or of [`UNREAD`], a profile is there to give credentials.
const READ: [&str; 5] = [
    "aws_access_key_id",
    "aws_secret_access_key",
    "role_arn",
    "source_profile",
    "credential_source",
];

/// The profile of this name, or else of the environment, or else the usual one.
#[derive(Debug)]
pub(super) struct ProfileSource {
    named: Option<String>,
    /// Whose token service gives roles.
    region: String,
}

/// How a profile comes by its credentials.
enum Way {
    Key(Key),
    Role(Role, Base),
}

/// With whose credentials a role is taken.
enum Base {
    Profile(String),
    Source(&'static str, Source),
}

impl ProfileSource {
    pub(super) fn named(name: &str, region: &str) -> Self {
        Self {
            named: Some(name.to_owned()),
            region: region.to_owned(),
        }
    }

    pub(super) fn usual(region: &str) -> Self {
        Self {
            named: None,
            region: region.to_owned(),
        }
    }

    /// What gives the credentials of this profile.
    fn source(
        &self,
        context: &Context,
        files: &SharedFiles,
        mut profile: Profile,
    ) -> reqsign_core::Result<Source> {
        let mut roles = Vec::new();
        let base = loop {
            let (role, base) = match way(&profile)? {
                Way::Key(key) => break given(&key),
                Way::Role(role, base) => (role, base),
            };
            roles.push(role);
            let next = match base {
                Base::Source(name, source) => break Arc::new(Chain(vec![(name, source)])),
                Base::Profile(next) => next,
            };
            if next == profile.name {
                let key = profile.key()?;
                let key = key.ok_or_else(|| profile.wrong("is its own source_profile, no key"))?;
                break given(&key);
            }
            if roles.len() >= ROLES_MAX {
                return Err(profile.wrong("is one source_profile too many, or in a circle"));
            }
            let found = files.profile(&next);
            profile = found.ok_or_else(|| {
                let lack = files.lack(&next);
                profile.wrong(&format!("needs its source_profile, and {lack}"))
            })?;
        };
        let taken = |source, role: Role| role.taken(context, source, &self.region);
        Ok(roles.into_iter().rev().fold(base, taken))
    }
}

impl ProvideCredential for ProfileSource {
    type Credential = Credential;

    async fn provide_credential(
        &self,
        context: &Context,
    ) -> reqsign_core::Result<Option<Credential>> {
        let of_environment = || context.env_var("AWS_PROFILE");
        let named = self.named.clone().or_else(of_environment);
        let named = named.filter(|name| !name.is_empty());
        let files = SharedFiles::read(context).await?;
        let name = named.as_deref().unwrap_or(USUAL);
        let profile = match (files.profile(name), &named) {
            (Some(profile), _) => profile,
            (None, None) => return Ok(None),
            (None, Some(_)) => {
                return Err(reqsign_core::Error::config_invalid(files.lack(name)));
            }
        };
        // The usual profile often says nothing but the region.
        let mut logins = READ.iter().chain(&UNREAD);
        if named.is_none() && !logins.any(|setting| profile.get(setting).is_some()) {
            return Ok(None);
        }
        let source = self.source(context, &files, profile)?;
        source.provide_credential_dyn(context).await
    }
}

fn given(key: &Key) -> Source {
    let mut given = StaticCredentialProvider::new(&key.id, &key.secret);
    if let Some(token) = &key.token {
        given = given.with_session_token(token);
    }
    Arc::new(given)
}

/// A role goes before a key of its own: that is for taking it.
fn way(profile: &Profile) -> reqsign_core::Result<Way> {
    let unread = UNREAD.into_iter().find(|it| profile.get(it).is_some());
    let unread = unread.map(|it| {
        profile.wrong(&format!(
            "uses {it}, which is not read here: give it a key, or role_arn and source_profile"
        ))
    });
    if let Some(arn) = profile.get("role_arn") {
        let base = match (base(profile)?, unread) {
            (Some(base), _) => base,
            (None, Some(unread)) => return Err(unread),
            (None, None) => {
                let why = "has role_arn without source_profile or credential_source";
                return Err(profile.wrong(why));
            }
        };
        return Ok(Way::Role(role(profile, arn)?, base));
    }
    match (profile.key()?, unread) {
        (Some(key), _) => Ok(Way::Key(key)),
        (None, Some(unread)) => Err(unread),
        (None, None) => Err(profile.wrong("has neither a key nor role_arn")),
    }
}

fn role(profile: &Profile, arn: &str) -> reqsign_core::Result<Role> {
    if profile.get("mfa_serial").is_some() {
        return Err(profile.wrong("demands a code by mfa_serial, which nobody here can type"));
    }
    let seconds = profile.get("duration_seconds").map(str::parse);
    let seconds = seconds.transpose();
    let session = profile.get("role_session_name").unwrap_or(SESSION_NAME);
    Ok(Role {
        role: AwsRole {
            arn: arn.to_owned(),
            external_id: profile.get("external_id").map(str::to_owned),
        },
        session: session.to_owned(),
        seconds: seconds.map_err(|_| profile.wrong("has duration_seconds that is no number"))?,
    })
}

fn base(profile: &Profile) -> reqsign_core::Result<Option<Base>> {
    let named = profile.get("source_profile");
    let source = profile.get("credential_source");
    let (name, source): (_, Source) = match (named, source) {
        (None, None) => return Ok(None),
        (Some(name), None) => return Ok(Some(Base::Profile(name.to_owned()))),
        (Some(_), Some(_)) => {
            return Err(profile.wrong("has both source_profile and credential_source"));
        }
        (None, Some("Environment")) => ("environment", Arc::new(EnvCredentialProvider::new())),
        (None, Some("EcsContainer")) => ("container", Arc::new(ECSCredentialProvider::new())),
        (None, Some("Ec2InstanceMetadata")) => {
            ("instance", Arc::new(IMDSv2CredentialProvider::new()))
        }
        (None, Some(_)) => {
            let known = "Environment, EcsContainer, Ec2InstanceMetadata";
            return Err(profile.wrong(&format!("has a credential_source other than {known}")));
        }
    };
    Ok(Some(Base::Source(name, source)))
}
