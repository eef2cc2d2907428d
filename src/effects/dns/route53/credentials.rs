//! Who we are to AWS: keys from the configuration, or the chain that every AWS tool knows —
//! environment, profile, web identity, container, instance — and a role taken on top.
//!
//! Kept, and renewed long before they run out ([`Credentials::renew`]), so that a failover fetches
//! none. Every fetch has a deadline. Sources: AWS SDKs and Tools Reference Guide, "Standardized
//! credential providers"; IAM User Guide, "AssumeRole".

mod profile;
mod shared_files;

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::body::Bytes;
use hyper::http;
use reqsign_aws_v4::{
    AssumeRoleCredentialProvider, AssumeRoleWithWebIdentityCredentialProvider, Credential,
    ECSCredentialProvider, EnvCredentialProvider, IMDSv2CredentialProvider, RequestSigner,
    StaticCredentialProvider,
};
use reqsign_core::time::Timestamp;
use reqsign_core::{
    Context, Error, FileRead, HttpSend, OsEnv, ProvideCredential, ProvideCredentialDyn, Signer,
    SigningCredential,
};
use reqwest::Client;
use tokio::io::AsyncReadExt;

use self::profile::ProfileSource;
use crate::config::settings::{AwsLogin, AwsRole};
use crate::effects::deadline::before;
use crate::effects::error::EffectError;
use crate::effects::http_client;
use crate::model::{self, Moment};

/// Before they run out by this, others are fetched. Roles last an hour by default; an instance
/// renews its own five minutes before. Source: IAM User Guide; EC2 User Guide, "Security
/// credentials from instance metadata".
const AHEAD: Duration = Duration::from_secs(240);
/// A request that is signed must arrive while they are good.
const HEADROOM: Duration = Duration::from_secs(15);
/// Instance and container answer from the same host, or not at all.
const METADATA_TIMEOUT: Duration = Duration::from_secs(2);
/// Profiles and tokens are far smaller, a wrong path may be far larger.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// How AWS names the session of a role in its logs.
const SESSION_NAME: &str = "failover-agent";
/// How much of what a source says goes into an error text.
const MESSAGE_CHARS_MAX: usize = 400;

type Source = Arc<dyn ProvideCredentialDyn<Credential = Credential>>;

/// Credentials and where they come from.
pub(super) struct Credentials {
    target: String,
    context: Context,
    source: Source,
    /// Where from, for people.
    origin: String,
    /// False where the source has the same ones for ever.
    renewable: bool,
    kept: Mutex<Option<Credential>>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("target", &self.target)
            .field("origin", &self.origin)
            .finish_non_exhaustive()
    }
}

impl Credentials {
    /// Asks nobody yet.
    pub(super) fn new(
        target: &str,
        login: &AwsLogin,
        role: Option<&AwsRole>,
        region: &str,
        client: &Client,
    ) -> Self {
        let context = Context::new()
            .with_env(OsEnv)
            .with_file_read(Files)
            .with_http_send(Http(client.clone()));
        Self::within(context, target, login, role, region)
    }

    fn within(
        context: Context,
        target: &str,
        login: &AwsLogin,
        role: Option<&AwsRole>,
        region: &str,
    ) -> Self {
        let (source, origin): (Source, _) = match login {
            AwsLogin::Key { id, secret } => (
                Arc::new(StaticCredentialProvider::new(id, secret.reveal().trim())),
                "the configured access key".to_owned(),
            ),
            AwsLogin::Profile(profile) => (
                Arc::new(ProfileSource::named(profile, region)),
                format!("profile {profile}"),
            ),
            AwsLogin::Chain => (
                Arc::new(Chain::usual(region)),
                "found by AWS's usual chain".into(),
            ),
        };
        let renewable = role.is_some() || !matches!(login, AwsLogin::Key { .. });
        let (source, origin): (Source, _) = match role {
            None => (source, origin),
            Some(role) => {
                let taken = Role::of(role.clone()).taken(&context, source, region);
                (taken, format!("role {} by {origin}", role.arn))
            }
        };
        Self {
            target: target.to_owned(),
            context,
            source,
            origin,
            renewable,
            kept: Mutex::new(None),
        }
    }

    /// Where they come from, for people.
    pub(super) fn origin(&self) -> &str {
        &self.origin
    }

    /// Those that are kept, while they are good; else others.
    pub(super) async fn current(&self, deadline: Moment) -> Result<Credential, EffectError> {
        match self.kept_beyond(HEADROOM) {
            Some(credential) => Ok(credential),
            None => self.fetch(deadline).await,
        }
    }

    /// Fetches others when those that are kept run out soon, or may have been replaced in a file.
    /// Until when they are good, if they ever run out.
    pub(super) async fn renew(
        &self,
        deadline: Moment,
    ) -> Result<Option<model::Timestamp>, EffectError> {
        let kept = self.kept_beyond(AHEAD);
        let kept = kept.filter(|kept| kept.expires_in.is_some() || !self.renewable);
        let good = match kept {
            Some(kept) => kept,
            None => self.fetch(deadline).await?,
        };
        let millis = good
            .expires_in
            .map(|end| end.as_second().saturating_mul(1000));
        Ok(millis.map(model::Timestamp))
    }

    /// They were refused. True when the next ones may be others.
    pub(super) fn forget(&self) -> bool {
        *self.kept() = None;
        self.renewable
    }

    fn kept_beyond(&self, span: Duration) -> Option<Credential> {
        let kept = self.kept();
        let good = |it: &&Credential| it.is_valid_at(Timestamp::now() + span);
        kept.as_ref().filter(good).cloned()
    }

    async fn fetch(&self, deadline: Moment) -> Result<Credential, EffectError> {
        let text = |why: &str| {
            let origin = &self.origin;
            format!(
                "dns {}: no credentials for route 53 ({origin}): {why}",
                self.target
            )
        };
        let fetching = self.source.provide_credential_dyn(&self.context);
        let credential = match before(deadline, fetching).await {
            None => return Err(EffectError::retryable(text("no answer in time"))),
            Some(Err(error)) => {
                let printable = error.to_string();
                let printable = printable.chars().filter(|c| !c.is_control());
                let why: String = printable.take(MESSAGE_CHARS_MAX).collect();
                return Err(EffectError::retryable(text(&why)).hint(
                    "set access_key_id, profile or role_arn, or give this host a role; see the \
                     agent's environment for AWS_* variables",
                ));
            }
            Some(Ok(None)) => return Err(EffectError::permanent(text("there are none"))),
            Some(Ok(Some(credential))) => credential,
        };
        if !credential.is_valid_at(Timestamp::now() + HEADROOM) {
            return Err(EffectError::retryable(text("they have run out already"))
                .hint("renew them at their source, and check this host's clock"));
        }
        *self.kept() = Some(credential.clone());
        Ok(credential)
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Option<Credential>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A role, and how it is taken.
struct Role {
    role: AwsRole,
    /// How AWS names it in its logs while it is taken.
    session: String,
    /// For how long; `None`: an hour.
    seconds: Option<u32>,
}

impl Role {
    fn of(role: AwsRole) -> Self {
        Self {
            role,
            session: SESSION_NAME.to_owned(),
            seconds: None,
        }
    }

    /// It, with the credentials of `source`, by the token service of this region.
    fn taken(self, context: &Context, source: Source, region: &str) -> Source {
        let signer = RequestSigner::new("sts", region);
        let signer = Signer::new(context.clone(), source, signer);
        let mut taken = AssumeRoleCredentialProvider::new(self.role.arn, signer)
            .with_role_session_name(self.session)
            .with_region(region.to_owned())
            .with_regional_sts_endpoint();
        if let Some(id) = self.role.external_id {
            taken = taken.with_external_id(id);
        }
        if let Some(seconds) = self.seconds {
            taken = taken.with_duration_seconds(seconds);
        }
        Arc::new(taken)
    }
}

/// Sources, in order: the first that has any. One that should have some and cannot give them ends
/// the search: the next one would be somebody else.
#[derive(Debug)]
struct Chain(Vec<(&'static str, Source)>);

impl Chain {
    fn usual(region: &str) -> Self {
        Self(vec![
            ("environment", Arc::new(EnvCredentialProvider::new())),
            ("profile", Arc::new(ProfileSource::usual(region))),
            (
                "web identity",
                Arc::new(AssumeRoleWithWebIdentityCredentialProvider::new()),
            ),
            ("container", Arc::new(ECSCredentialProvider::new())),
            ("instance", Arc::new(IMDSv2CredentialProvider::new())),
        ])
    }
}

impl ProvideCredential for Chain {
    type Credential = Credential;

    async fn provide_credential(
        &self,
        context: &Context,
    ) -> reqsign_core::Result<Option<Credential>> {
        let mut without = Vec::new();
        for (name, source) in &self.0 {
            match source.provide_credential_dyn(context).await {
                Ok(Some(credential)) => return Ok(Some(credential)),
                Ok(None) => without.push(*name),
                Err(error) => {
                    let others = match without.is_empty() {
                        true => String::new(),
                        false => format!("; nothing in {}", without.join(", ")),
                    };
                    let text = format!("{name}: {error}{others}");
                    return Err(Error::new(error.kind(), text));
                }
            }
        }
        let text = format!("nothing in {}", without.join(", "));
        Err(Error::credential_invalid(text))
    }
}

/// Reads tokens.
#[derive(Debug)]
struct Files;

impl FileRead for Files {
    async fn file_read(&self, path: &str) -> reqsign_core::Result<Vec<u8>> {
        let cannot = |error| Error::unexpected(format!("cannot read {path}: {error}"));
        read(path).await.map_err(cannot)
    }
}

async fn read(path: &str) -> io::Result<Vec<u8>> {
    let file = tokio::fs::File::open(path).await?;
    let mut bytes = Vec::new();
    let mut file = file.take(FILE_BYTES_MAX + 1);
    match u64::try_from(file.read_to_end(&mut bytes).await?)
        .is_ok_and(|read| read <= FILE_BYTES_MAX)
    {
        true => Ok(bytes),
        false => Err(io::Error::other("it is too large")),
    }
}

/// Asks token services and metadata, as everything else is asked: see [`http_client`].
#[derive(Debug)]
struct Http(Client);

impl HttpSend for Http {
    async fn http_send(
        &self,
        request: http::Request<Bytes>,
    ) -> reqsign_core::Result<http::Response<Bytes>> {
        let metadata = request.uri().scheme() == Some(&http::uri::Scheme::HTTP);
        let host = request.uri().host().map(str::to_owned).unwrap_or_default();
        let request = reqwest::Request::try_from(request)
            .map_err(|_| Error::request_invalid("the request cannot be written"))?;
        let mut request = reqwest::RequestBuilder::from_parts(self.0.clone(), request);
        if metadata {
            request = request.timeout(METADATA_TIMEOUT);
        }
        let answer = http_client::send(request)
            .await
            .map_err(|error| Error::unexpected(format!("{host}: {error}")).set_retryable(true))?;
        http::Response::builder()
            .status(answer.status)
            .body(Bytes::from(answer.body))
            .map_err(|_| Error::unexpected("the answer cannot be read"))
    }
}

#[cfg(test)]
mod tests;
