//! Requests to Route 53: signed, bounded, and their refusals put into words.

use std::time::Duration;

use hyper::body::Bytes;
use hyper::http;
use reqsign_aws_v4::RequestSigner;
use reqsign_core::{Context, SignRequest};
use reqwest::{Client, Method, StatusCode, Url};
use sha2::{Digest, Sha256};

use super::credentials::Credentials;
use super::xml::{self, ChangeInfo, Page, Refusal, Zone};
use crate::effects::clock::boottime;
use crate::effects::error::EffectError;
use crate::effects::http_client::{self, Answer, NoAnswer};
use crate::model::Moment;

/// A batch that does not fit what is there, or is wrong in itself.
pub(super) const INVALID_BATCH: &str = "InvalidChangeBatch";

/// Part of every path. Source: Amazon Route 53 API Reference.
const API_VERSION: &str = "2013-04-01";
/// How signatures call the service. Source: AWS General Reference, "Service endpoints".
const SERVICE: &str = "route53";
/// What carries the hash of the body that is signed. Source: AWS Signature Version 4.
const BODY_HASH: &str = "x-amz-content-sha256";
/// Far more sets than one name has, and far less than an answer may be long.
const SETS_PER_PAGE: &str = "100";
/// Zones of one name are few.
const ZONES_PER_PAGE: &str = "20";
/// How much of what Route 53 says goes into an error text.
const MESSAGE_CHARS_MAX: usize = 300;
const MESSAGES_MAX: usize = 5;

/// Source: API Reference, `GetChange`.
const NO_SUCH_CHANGE: &str = "NoSuchChange";

/// "Not now" rather than "no". Source: API Reference, "Common Errors" and the errors of
/// `ChangeResourceRecordSets`: at most five requests a second and account, one change at a time and
/// zone.
const NOT_NOW: &[&str] = &[
    "Throttling",
    "ThrottlingException",
    "PriorRequestNotComplete",
    "RequestLimitExceeded",
    "ServiceUnavailable",
    "InternalFailure",
    "InternalError",
];
/// So far apart the next attempts are at most, where Route 53 does not say when. Source: API
/// Reference, "Throttling requests": five requests a second and account.
const APART_MAX: Duration = Duration::from_secs(2);
/// The credentials are not good any more, or never were. Source: the same; IAM User Guide.
const STALE: &[&str] = &[
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidClientTokenId",
    "UnrecognizedClientException",
];
/// Mostly a clock that is more than five minutes off. Source: AWS Signature Version 4,
/// "Troubleshooting".
const SIGNATURE: &[&str] = &[
    "SignatureDoesNotMatch",
    "InvalidSignatureException",
    "IncompleteSignature",
    "RequestExpired",
    "RequestTimeTooSkewed",
];

/// What became of a batch.
#[derive(Debug)]
pub(super) enum Batch {
    /// It is made, as a whole.
    Accepted(ChangeInfo),
    /// Nothing of it is, for these reasons.
    Refused(Vec<String>),
}

/// How far a change is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// On its way to the servers.
    Pending,
    /// Every server has it.
    InSync,
    /// There is no such change, or not any more.
    Unknown,
}

#[derive(Debug)]
pub(super) struct Api {
    pub(super) target: String,
    pub(super) client: Client,
    /// Where paths begin.
    pub(super) endpoint: Url,
    pub(super) region: String,
    pub(super) credentials: Credentials,
}

impl Api {
    /// Record sets from a name on, in the zone's order.
    pub(super) async fn sets_from(
        &self,
        zone: &str,
        name: &str,
        kind: Option<&str>,
        (what, deadline): (&str, Moment),
    ) -> Result<Page, EffectError> {
        let mut query = vec![("name", name), ("maxitems", SETS_PER_PAGE)];
        query.extend(kind.map(|kind| ("type", kind)));
        let url = self.url(&["hostedzone", zone, "rrset"], &query)?;
        self.read(what, url, deadline, xml::page).await
    }

    /// Zones from a name on.
    pub(super) async fn zones_from(
        &self,
        name: &str,
        (what, deadline): (&str, Moment),
    ) -> Result<Vec<Zone>, EffectError> {
        let query = [("dnsname", name), ("maxitems", ZONES_PER_PAGE)];
        let url = self.url(&["hostedzonesbyname"], &query)?;
        self.read(what, url, deadline, xml::zones).await
    }

    /// How far a change is.
    pub(super) async fn progress(
        &self,
        id: &str,
        (what, deadline): (&str, Moment),
    ) -> Result<Progress, EffectError> {
        let url = self.url(&["change", id], &[])?;
        let send = self.send(what, Method::GET, url, String::new(), deadline);
        let answer = send.await?;
        if answer.status.is_success() {
            return match xml::change_info(&answer.body).map(|change| change.in_sync) {
                Some(true) => Ok(Progress::InSync),
                Some(false) => Ok(Progress::Pending),
                None => Err(self.unreadable(what)),
            };
        }
        match xml::refusal(&answer.body) {
            Some(refusal) if refusal.code == NO_SUCH_CHANGE => Ok(Progress::Unknown),
            refusal => Err(self.refused(what, &answer, refusal)),
        }
    }

    /// Makes all changes of a batch, or none.
    ///
    /// # Errors
    /// `OutcomeUnknown` when it was sent and no answer came.
    pub(super) async fn send_batch(
        &self,
        zone: &str,
        batch: String,
        (what, deadline): (&str, Moment),
    ) -> Result<Batch, EffectError> {
        let url = self.url(&["hostedzone", zone, "rrset", ""], &[])?;
        let answer = self.send(what, Method::POST, url, batch, deadline).await?;
        if answer.status.is_success() {
            return xml::change_info(&answer.body)
                .map(Batch::Accepted)
                .ok_or_else(|| {
                    EffectError::unknown(
                        self.text(what, "its answer is not what its API documents"),
                    )
                });
        }
        match xml::refusal(&answer.body) {
            Some(refusal) if refusal.code == INVALID_BATCH => {
                Ok(Batch::Refused(shown(&refusal.messages)))
            }
            refusal => Err(self.refused(what, &answer, refusal)),
        }
    }

    async fn read<T>(
        &self,
        what: &str,
        url: Url,
        deadline: Moment,
        parse: fn(&[u8]) -> Option<T>,
    ) -> Result<T, EffectError> {
        let answer = self
            .send(what, Method::GET, url, String::new(), deadline)
            .await?;
        if !answer.status.is_success() {
            return Err(self.refused(what, &answer, xml::refusal(&answer.body)));
        }
        parse(&answer.body).ok_or_else(|| self.unreadable(what))
    }

    fn unreadable(&self, what: &str) -> EffectError {
        EffectError::retryable(self.text(what, "its answer is not what its API documents"))
            .hint("check that endpoint leads to the API and not to a login page")
    }

    async fn send(
        &self,
        what: &str,
        method: Method,
        url: Url,
        body: String,
        deadline: Moment,
    ) -> Result<Answer, EffectError> {
        let writes = method == Method::POST;
        let request = self.signed(what, method, url, body, deadline).await?;
        let left = boottime().until(deadline);
        if left == Duration::ZERO {
            return Err(EffectError::retryable(self.text(what, "no time is left")));
        }
        let (client, request) = (self.client.clone(), request);
        let request = reqwest::RequestBuilder::from_parts(client, request).timeout(left);
        http_client::send(request).await.map_err(|error| {
            let text = format!("dns {}: cannot {what} at route 53", self.target);
            match error {
                NoAnswer::Sent(_) | NoAnswer::TooLong if writes => EffectError::unknown(text),
                NoAnswer::NotSent(_) | NoAnswer::Sent(_) | NoAnswer::TooLong => {
                    EffectError::retryable(text)
                }
            }
            .caused_by(error)
        })
    }

    async fn signed(
        &self,
        what: &str,
        method: Method,
        url: Url,
        body: String,
        deadline: Moment,
    ) -> Result<reqwest::Request, EffectError> {
        let credential = self.credentials.current(deadline).await?;
        let cannot = |_| EffectError::permanent(self.text(what, "the request cannot be written"));
        let mut request = http::Request::builder()
            .method(method)
            .uri(url.as_str())
            .header(BODY_HASH, hex_sha256(body.as_bytes()));
        if !body.is_empty() {
            request = request.header(http::header::CONTENT_TYPE, "application/xml");
        }
        let request = request.body(()).map_err(cannot)?;
        let (mut head, ()) = request.into_parts();
        RequestSigner::new(SERVICE, &self.region)
            .sign_request(&Context::new(), &mut head, Some(&credential), None)
            .await
            .map_err(|error| {
                let why = format!("it cannot be signed: {error}");
                EffectError::permanent(self.text(what, &why))
                    .hint("look for characters in the credentials that do not belong there")
            })?;
        let request = http::Request::from_parts(head, Bytes::from(body));
        reqwest::Request::try_from(request)
            .map_err(|_| EffectError::permanent(self.text(what, "the request cannot be written")))
    }

    fn url(&self, path: &[&str], query: &[(&str, &str)]) -> Result<Url, EffectError> {
        let mut url = self.endpoint.clone();
        url.path_segments_mut()
            .map_err(|()| super::not_a_url(&self.target))?
            .pop_if_empty()
            .push(API_VERSION)
            .extend(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        Ok(url)
    }

    fn refused(&self, what: &str, answer: &Answer, refusal: Option<Refusal>) -> EffectError {
        let status = answer.status;
        let refusal = refusal.unwrap_or(Refusal {
            code: String::new(),
            messages: Vec::new(),
        });
        let code = refusal.code.as_str();
        let mut said = format!("{status}");
        for part in shown(std::slice::from_ref(&refusal.code))
            .iter()
            .chain(&shown(&refusal.messages))
        {
            said.push_str(if part.is_empty() { "" } else { ": " });
            said.push_str(part);
        }
        let text = self.text(what, &said);
        let is = |codes: &[&str]| codes.contains(&code);
        if is(STALE) {
            // The next attempt fetches others, where there are others to be had.
            let renewable = self.credentials.forget();
            let error = match renewable {
                true => EffectError::retryable(text),
                false => EffectError::permanent(text),
            };
            return error.hint(format!(
                "the credentials ({}) ran out or were withdrawn: see that they can be renewed",
                self.credentials.origin()
            ));
        }
        // Before the status: throttling comes with 400.
        if is(NOT_NOW) || http_client::may_pass(status) {
            let mut error = EffectError::retryable(text);
            // Several records, of one zone and account, are refused at the same moment.
            let apart = || APART_MAX.mul_f64(rand::random());
            error.retry_after = Some(answer.retry_after.unwrap_or_else(apart));
            return error;
        }
        let hint = if is(SIGNATURE) {
            "this host's clock must be right to five minutes, and the secret must belong to the key"
        } else if code == "NoSuchHostedZone" || status == StatusCode::NOT_FOUND {
            "check zone_id, and whose account the credentials are of"
        } else if status == StatusCode::FORBIDDEN || status == StatusCode::UNAUTHORIZED {
            "allow route53:ListResourceRecordSets and route53:ChangeResourceRecordSets on the zone \
             for the record and the TXT record _agent below it (_agent-wildcard below the parent \
             of a wildcard), route53:GetChange, and without zone_id route53:ListHostedZonesByName"
        } else {
            "compare the record in the configuration with what Route 53 says"
        };
        EffectError::permanent(text).hint(hint)
    }

    /// `dns public: cannot look … up at route 53: why`.
    pub(super) fn text(&self, what: &str, why: &str) -> String {
        format!("dns {}: cannot {what} at route 53: {why}", self.target)
    }
}

/// Messages as they may be shown.
fn shown(messages: &[String]) -> Vec<String> {
    let shown = messages.iter().take(MESSAGES_MAX).map(|message| {
        let printable = message.chars().filter(|c| !c.is_control());
        let text: String = printable.take(MESSAGE_CHARS_MAX).collect();
        text.trim_end_matches('.').to_owned()
    });
    shown.collect()
}

fn hex_sha256(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}
