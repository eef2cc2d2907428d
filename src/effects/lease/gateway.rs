//! What travels to and from etcd's JSON gateway.
//!
//! Source: etcd 3.4 and 3.5, `api/etcdserverpb/rpc.proto`, in proto3's JSON form as observed:
//! 64-bit numbers are texts, bytes are base64, and what is zero, false or empty is left out.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::model::cell::{CELL_FORMAT, Cell, CellReply, SeenCell};

pub(super) const PATH_RANGE: &str = "/v3/kv/range";
pub(super) const PATH_TXN: &str = "/v3/kv/txn";
pub(super) const PATH_AUTHENTICATE: &str = "/v3/auth/authenticate";

/// gRPC's number for a request without a valid token.
const UNAUTHENTICATED: u32 = 16;
/// gRPC's number for a request that makes no sense; etcd also uses it where a token is missing.
const INVALID_ARGUMENT: u32 = 3;

#[derive(Debug, Serialize)]
pub(super) struct Range {
    key: String,
}

#[derive(Debug, Serialize)]
pub(super) struct Txn {
    compare: [Compare; 1],
    success: [Success; 1],
    failure: [Failure; 1],
}

#[derive(Debug, Serialize)]
struct Compare {
    key: String,
    target: &'static str,
    result: &'static str,
    mod_revision: String,
}

#[derive(Debug, Serialize)]
struct Success {
    request_put: Put,
}

#[derive(Debug, Serialize)]
struct Put {
    key: String,
    value: String,
}

#[derive(Debug, Serialize)]
struct Failure {
    request_range: Range,
}

#[derive(Serialize)]
pub(super) struct Login<'a> {
    pub(super) name: &'a str,
    pub(super) password: &'a str,
}

#[derive(Deserialize)]
pub(super) struct LoggedIn {
    #[serde(default)]
    pub(super) token: String,
}

#[derive(Debug, Deserialize)]
struct Header {
    #[serde(default)]
    revision: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct RangeAnswer {
    #[serde(default)]
    kvs: Vec<KeyValue>,
}

#[derive(Debug, Deserialize)]
struct KeyValue {
    #[serde(default)]
    mod_revision: String,
    #[serde(default)]
    value: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct TxnAnswer {
    header: Header,
    #[serde(default)]
    succeeded: bool,
    #[serde(default)]
    responses: Vec<TxnResponse>,
}

#[derive(Debug, Deserialize)]
struct TxnResponse {
    response_range: Option<RangeAnswer>,
}

/// A refusal, in either of its two forms.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Refusal {
    #[serde(default)]
    code: u32,
    #[serde(default)]
    message: String,
    #[serde(default)]
    error: serde_json::Value,
}

/// Why the store's answer cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unusable {
    #[error("its answer is not understood")]
    Answer,
    #[error("the value is not one of this program's, or of a newer version of it")]
    Value,
}

impl Range {
    /// A look that a majority of etcd's members stands for (`serializable` is left out: no).
    pub(super) fn of(key: &str) -> Self {
        Self {
            key: STANDARD.encode(key),
        }
    }
}

impl Txn {
    /// Writes the cell if it is still at `if_revision`, else looks.
    pub(super) fn write(key: &str, if_revision: u64, cell: &Cell) -> serde_json::Result<Self> {
        let encoded = STANDARD.encode(key);
        Ok(Self {
            compare: [Compare {
                key: encoded.clone(),
                target: "MOD",
                result: "EQUAL",
                mod_revision: if_revision.to_string(),
            }],
            success: [Success {
                request_put: Put {
                    key: encoded.clone(),
                    value: STANDARD.encode(serde_json::to_vec(cell)?),
                },
            }],
            failure: [Failure {
                request_range: Range { key: encoded },
            }],
        })
    }
}

impl RangeAnswer {
    pub(super) fn seen(&self) -> Result<SeenCell, Unusable> {
        let Some(found) = self.kvs.first() else {
            return Ok(SeenCell::default());
        };
        let value = STANDARD
            .decode(&found.value)
            .map_err(|_| Unusable::Answer)?;
        let cell: Cell = serde_json::from_slice(&value).map_err(|_| Unusable::Value)?;
        if cell.format != CELL_FORMAT {
            return Err(Unusable::Value);
        }
        Ok(SeenCell {
            revision: number(&found.mod_revision)?,
            cell: Some(cell),
        })
    }
}

impl TxnAnswer {
    pub(super) fn reply(self, cell: &Cell) -> Result<CellReply, Unusable> {
        if self.succeeded {
            let seen = SeenCell {
                revision: number(&self.header.revision)?,
                cell: Some(cell.clone()),
            };
            return Ok(CellReply {
                written: true,
                seen,
            });
        }
        let mut responses = self.responses.into_iter();
        let found = responses.find_map(|response| response.response_range);
        let seen = found.ok_or(Unusable::Answer)?.seen()?;
        Ok(CellReply {
            written: false,
            seen,
        })
    }
}

impl Refusal {
    pub(super) fn of(body: &[u8]) -> Self {
        serde_json::from_slice(body).unwrap_or_default()
    }

    /// Whether logging in anew may help.
    pub(super) fn asks_for_login(&self) -> bool {
        let text = self.text();
        self.code == UNAUTHENTICATED
            || text.contains("invalid auth token")
            || (self.code == INVALID_ARGUMENT
                && (text.contains("user name is empty") || text.contains("revision in header")))
    }

    /// What etcd says; never what it was told.
    pub(super) fn text(&self) -> &str {
        if self.message.is_empty() {
            self.error.as_str().unwrap_or_default()
        } else {
            &self.message
        }
    }
}

fn number(text: &str) -> Result<u64, Unusable> {
    text.parse().map_err(|_| Unusable::Answer)
}
