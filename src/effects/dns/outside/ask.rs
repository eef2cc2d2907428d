//! One question to one server: a datagram, and a connection when the answer does not fit into one.
//!
//! Sources: RFC 1035, 4.2 (transport), RFC 6891, 6.2.5 (size of datagrams), RFC 7766, 5 (TCP).

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Edns, Message, Query};
use hickory_proto::rr::{Name, RecordType};
use rustix::io::Errno;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

/// A datagram that arrives whole on every path. Source: DNS flag day 2020; RFC 9715, 3.
const DATAGRAM_BYTES: u16 = 1232;
/// A datagram may be lost; the third one is not sent.
const DATAGRAMS_MAX: u32 = 2;
/// Datagrams of somebody else that are passed over.
const STRANGERS_MAX: usize = 16;

/// What is asked, and how.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) name: Name,
    pub(super) kind: RecordType,
    /// True for a resolver; an authoritative server must speak for itself.
    pub(super) recursive: bool,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum NoAnswer {
    /// This host has no way there.
    Unaskable(io::Error),
    /// Nothing came, or nothing that could be read.
    Silent(String),
}

impl NoAnswer {
    fn of(error: io::Error) -> Self {
        let here = matches!(
            error.kind(),
            io::ErrorKind::NetworkUnreachable | io::ErrorKind::AddrNotAvailable
        );
        // Without IPv6 in the kernel there is no such socket at all.
        let family = Some(Errno::AFNOSUPPORT.raw_os_error());
        match here || error.raw_os_error() == family {
            true => Self::Unaskable(error),
            false => Self::Silent(error.to_string()),
        }
    }
}

/// Asks a server, for `timeout` at most.
pub(super) async fn ask(
    server: SocketAddr,
    asked: &Asked,
    timeout: Duration,
) -> Result<Message, NoAnswer> {
    let late = || NoAnswer::Silent(format!("no answer within {} ms", timeout.as_millis()));
    let both = async {
        let short = by_datagram(server, asked, timeout / DATAGRAMS_MAX).await?;
        match short.metadata.truncation {
            true => by_connection(server, asked).await,
            false => Ok(short),
        }
    };
    tokio::time::timeout(timeout, both)
        .await
        .unwrap_or_else(|_| Err(late()))
}

fn message(asked: &Asked) -> (Message, Result<Vec<u8>, NoAnswer>) {
    let mut message = Message::query();
    message.metadata.id = rand::random();
    message.metadata.recursion_desired = asked.recursive;
    message.add_query(Query::query(asked.name.clone(), asked.kind));
    let mut edns = Edns::new();
    edns.set_max_payload(DATAGRAM_BYTES);
    message.set_edns(edns);
    let bytes = message
        .to_vec()
        .map_err(|error| NoAnswer::Silent(error.to_string()));
    (message, bytes)
}

/// An answer to this question, and to no other.
fn answers(question: &Message, bytes: &[u8]) -> Option<Message> {
    let answer = Message::from_vec(bytes).ok()?;
    let same = answer.metadata.id == question.metadata.id
        && answer.queries.len() == 1
        && answer.queries.iter().zip(&question.queries).all(|(a, q)| {
            a.name == q.name && a.query_type == q.query_type && a.query_class == q.query_class
        });
    same.then_some(answer)
}

async fn by_datagram(
    server: SocketAddr,
    asked: &Asked,
    patience: Duration,
) -> Result<Message, NoAnswer> {
    let own = match server {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = UdpSocket::bind(own).await.map_err(NoAnswer::of)?;
    // Connected: only this server is heard.
    socket.connect(server).await.map_err(NoAnswer::of)?;
    let (question, bytes) = message(asked);
    let bytes = bytes?;
    let span = (patience * DATAGRAMS_MAX).as_millis();
    let mut failed = NoAnswer::Silent(format!("no answer within {span} ms"));
    for _ in 0..DATAGRAMS_MAX {
        let tried = async {
            socket.send(&bytes).await.map_err(NoAnswer::of)?;
            hear(&socket, &question).await
        };
        match tokio::time::timeout(patience, tried).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error @ NoAnswer::Unaskable(_))) => return Err(error),
            Ok(Err(error)) => failed = error,
            Err(_) => {}
        }
    }
    Err(failed)
}

async fn hear(socket: &UdpSocket, question: &Message) -> Result<Message, NoAnswer> {
    let mut bytes = vec![0; usize::from(u16::MAX)];
    for _ in 0..STRANGERS_MAX {
        let length = socket.recv(&mut bytes).await.map_err(NoAnswer::of)?;
        if let Some(answer) = bytes.get(..length).and_then(|it| answers(question, it)) {
            return Ok(answer);
        }
    }
    Err(NoAnswer::Silent("only answers to nothing asked".to_owned()))
}

async fn by_connection(server: SocketAddr, asked: &Asked) -> Result<Message, NoAnswer> {
    let (question, bytes) = message(asked);
    let bytes = bytes?;
    let talk = async {
        let mut stream = TcpStream::connect(server).await?;
        // RFC 1035, 4.2.2: a length, then as many bytes.
        let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
        let mut framed = length.to_be_bytes().to_vec();
        framed.extend(bytes);
        stream.write_all(&framed).await?;
        let length = stream.read_u16().await?;
        let mut answer = vec![0; usize::from(length)];
        stream.read_exact(&mut answer).await?;
        Ok(answer)
    };
    let answer = talk.await.map_err(|error: io::Error| {
        NoAnswer::Silent(format!(
            "its answer is too long for a datagram, and by TCP: {error}"
        ))
    })?;
    answers(&question, &answer)
        .ok_or_else(|| NoAnswer::Silent("its answer by TCP is none to the question".to_owned()))
}
