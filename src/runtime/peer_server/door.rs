//! The members' listener: TCP, with TLS where it is configured.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use rustls::ServerConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::Admission;
use crate::runtime::http_server::{self, ByteStream, Caller, Door, Limits};

/// Two members with a few connections each, a monitor, and room for strangers who must be told off.
const LIMITS: Limits = Limits {
    connections: 64,
    // Members speak several times a ttl; a stranger who writes one byte a second is gone by then.
    head_timeout: Duration::from_secs(10),
    stop_grace: Duration::from_secs(1),
};

/// A handshake takes three packets.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Who was refused in the handshake gets this long to read why.
const REFUSAL_TIMEOUT: Duration = Duration::from_millis(500);
/// What such a caller may still send meanwhile.
const REFUSAL_BYTES_MAX: u64 = 64 * 1024;

struct PeerDoor {
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    admission: Arc<Admission>,
}

/// Serves the members' link on `listener` until `stop`.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    tls: Option<Arc<ServerConfig>>,
    admission: Arc<Admission>,
    stop: CancellationToken,
) {
    let door = PeerDoor {
        listener,
        tls: tls.map(TlsAcceptor::from),
        admission,
    };
    http_server::serve(door, router, LIMITS, stop).await;
}

#[async_trait]
impl Door for PeerDoor {
    type Raw = TcpStream;

    async fn accept(&self) -> io::Result<(TcpStream, Caller)> {
        let (stream, address) = self.listener.accept().await?;
        Ok((stream, Caller::Address(address)))
    }

    async fn prepare(&self, raw: TcpStream, caller: Caller) -> Option<Box<dyn ByteStream>> {
        // Answers are small and awaited: Nagle's algorithm would hold them back.
        if let Err(error) = raw.set_nodelay(true) {
            tracing::debug!(%error, "cannot set TCP_NODELAY");
        }
        let Some(acceptor) = &self.tls else {
            return Some(Box::new(raw));
        };
        let handshake = acceptor.accept(raw).into_fallible();
        match timeout(HANDSHAKE_TIMEOUT, handshake).await {
            Ok(Ok(stream)) => Some(Box::new(stream)),
            Ok(Err((error, raw))) => {
                self.admission.refuse_tls(caller, &error);
                say_goodbye(raw).await;
                None
            }
            Err(_) => None,
        }
    }
}

/// Closes so that the alert just written arrives: a socket closed with unread bytes in it sends a
/// reset, which may overtake the alert.
async fn say_goodbye(mut raw: TcpStream) {
    let drain = async {
        raw.shutdown().await?;
        let mut rest = raw.take(REFUSAL_BYTES_MAX);
        tokio::io::copy(&mut rest, &mut tokio::io::sink()).await
    };
    if let Ok(Err(error)) = timeout(REFUSAL_TIMEOUT, drain).await {
        tracing::debug!(%error, "a refused caller did not wait for the reason");
    }
}
