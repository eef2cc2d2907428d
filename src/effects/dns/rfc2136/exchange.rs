//! Signed messages over one TCP connection, one at a time.
//!
//! TCP, because a lost datagram would leave it open whether an update was made (RFC 2136, 6.2).

use std::io;
use std::net::SocketAddr;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::tsig::TsigError;
use hickory_proto::rr::{Record, TSigner};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::effects::clock;

/// A connection to a server.
pub(super) struct Connection {
    stream: TcpStream,
}

/// What a server answered, proved by its signature.
pub(super) struct Reply {
    pub(super) code: ResponseCode,
    pub(super) authoritative: bool,
    pub(super) answers: Vec<Record>,
}

/// Why there is no such answer.
pub(super) enum Trouble {
    /// Nothing has left this host.
    NotSent(io::Error),
    /// It was sent, and nothing came back that could be read.
    NoAnswer(io::Error),
    /// Something came back that the key does not vouch for.
    Unproved(ResponseCode),
    /// The server does not take the signature.
    Refused(Refused),
}

/// Why a server does not take a signature. Source: RFC 8945, 5.2.
#[derive(Clone, Copy)]
pub(super) enum Refused {
    Key,
    Signature,
    Time,
    Other,
}

impl Refused {
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Key => "the server does not know the key, or not for this (BADKEY)",
            Self::Signature => "the server has another key of that name (BADSIG)",
            Self::Time => "the clocks of server and agent differ too much (BADTIME)",
            Self::Other => "the server does not take the signature",
        }
    }
}

impl Connection {
    pub(super) async fn open(server: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream })
    }

    /// Sends a message and waits for its answer.
    pub(super) async fn ask(
        &mut self,
        mut message: Message,
        signer: &TSigner,
    ) -> Result<Reply, Trouble> {
        let invalid = |error: &dyn std::fmt::Display| {
            Trouble::NotSent(io::Error::new(
                io::ErrorKind::InvalidData,
                error.to_string(),
            ))
        };
        let now = u64::try_from(clock::wall().0 / 1000).unwrap_or(0);
        let (signature, verifier) = signer
            .sign_message(&message, now)
            .map_err(|error| invalid(&error))?;
        message.set_signature(signature);
        let bytes = message.to_vec().map_err(|error| invalid(&error))?;
        let length = u16::try_from(bytes.len()).map_err(|error| invalid(&error))?;
        let mut framed = length.to_be_bytes().to_vec();
        framed.extend(bytes);
        self.stream
            .write_all(&framed)
            .await
            .map_err(Trouble::NoAnswer)?;
        let answer = self.read().await.map_err(Trouble::NoAnswer)?;
        let parsed = Message::from_vec(&answer).map_err(|error| {
            Trouble::NoAnswer(io::Error::new(
                io::ErrorKind::InvalidData,
                error.to_string(),
            ))
        })?;
        if parsed.metadata.id != message.metadata.id {
            return Err(Trouble::Unproved(parsed.metadata.response_code));
        }
        // Before the proof: a server that does not know the key cannot sign its answer either.
        if let Some(why) = refusal(&parsed) {
            return Err(Trouble::Refused(why));
        }
        if verifier.is_none_or(|mut verifier| verifier.verify(&answer).is_err()) {
            return Err(Trouble::Unproved(parsed.metadata.response_code));
        }
        Ok(Reply {
            code: parsed.metadata.response_code,
            authoritative: parsed.metadata.authoritative,
            answers: parsed.answers,
        })
    }

    /// A length, then as many bytes: 64 KiB at most. Source: RFC 1035, 4.2.2.
    async fn read(&mut self) -> io::Result<Vec<u8>> {
        let length = self.stream.read_u16().await?;
        let mut bytes = vec![0; usize::from(length)];
        self.stream.read_exact(&mut bytes).await?;
        Ok(bytes)
    }
}

/// What an answer says about our signature; nothing was done then.
fn refusal(answer: &Message) -> Option<Refused> {
    if answer.metadata.response_code != ResponseCode::NotAuth {
        return None;
    }
    match answer.signature()?.data.error {
        None => None,
        Some(TsigError::BadKey) => Some(Refused::Key),
        Some(TsigError::BadSig) => Some(Refused::Signature),
        Some(TsigError::BadTime) => Some(Refused::Time),
        Some(TsigError::BadTrunc | TsigError::Unknown(_)) => Some(Refused::Other),
    }
}
