//! A door for load balancers: TCP, open to whoever can reach it.
//!
//! What is behind it says nothing secret and changes nothing. That it cannot be opened (an address
//! that is not there yet at boot, a port in use) is told once and tried again; the agent goes on
//! without (S16).

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::runtime::http_server::{self, ByteStream, Caller, Door, Limits};

/// Each process of each load balancer holds one for a moment, every second or two.
const LIMITS: Limits = Limits {
    connections: 256,
    head_timeout: Duration::from_secs(10),
    stop_grace: Duration::from_millis(100),
};

/// Between two attempts to listen.
const RETRY_EVERY: Duration = Duration::from_secs(2);

struct TcpDoor(TcpListener);

/// Listens on `address` and serves `router` there until `stop`.
pub async fn serve(address: SocketAddr, router: Router, stop: CancellationToken) {
    let mut told = false;
    let listener = loop {
        match TcpListener::bind(address).await {
            Ok(listener) => break listener,
            Err(error) if !told => {
                told = true;
                tracing::error!(%address, %error, "cannot listen for load balancers; trying again");
            }
            Err(_) => {}
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(RETRY_EVERY) => {}
        }
    };
    tracing::info!(%address, "load balancers may ask here who is primary");
    http_server::serve(TcpDoor(listener), router, LIMITS, stop).await;
}

#[async_trait]
impl Door for TcpDoor {
    type Raw = TcpStream;

    async fn accept(&self) -> io::Result<(TcpStream, Caller)> {
        let (stream, address) = self.0.accept().await?;
        Ok((stream, Caller::Address(address)))
    }

    async fn prepare(&self, raw: TcpStream, _: Caller) -> Option<Box<dyn ByteStream>> {
        // Answers are small and awaited: Nagle's algorithm would hold them back.
        if let Err(error) = raw.set_nodelay(true) {
            tracing::debug!(%error, "cannot set TCP_NODELAY");
        }
        Some(Box::new(raw))
    }
}
