//! How a provider's requests travel.
#![expect(
    clippy::disallowed_methods,
    reason = "what the door passes on ends with the test"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use failover_agent::effects::dns::common::Common;
use failover_agent::effects::dns::{apply, provider_of, provider_with};
use failover_agent::effects::permit::Unconditional;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

use super::{NAME, NEW, TOKEN, settings, usual, wanted};

/// Passes connections on to `url`, and counts them. The door's own address and the count.
async fn counting_door(url: &str) -> (String, Arc<AtomicUsize>) {
    let behind = url.strip_prefix("http://").unwrap();
    let (host, path) = behind.split_once('/').unwrap();
    let host = host.to_owned();
    let door = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/{path}", door.local_addr().unwrap());
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = door.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            let mut far = TcpStream::connect(&host).await.unwrap();
            tokio::spawn(async move { copy_bidirectional(&mut near, &mut far).await });
        }
    });
    (url, count)
}

#[tokio::test]
async fn s8_change_leaves_on_the_connection_of_the_look_before_it() {
    for world in usual().await {
        let (url, count) = counting_door(world.counterpart.url()).await;
        let provider = provider_of(&settings(&url, TOKEN)).unwrap();
        let applied = apply(provider.as_ref(), &wanted(NEW, 7), &Unconditional).await;
        assert!(applied.unwrap().changed);
        assert_eq!(count.load(Ordering::SeqCst), 1, "connections");
    }
}

#[tokio::test]
async fn records_at_one_provider_share_its_connections() {
    for world in usual().await {
        let (url, count) = counting_door(world.counterpart.url()).await;
        let common = Arc::new(Common::default());
        for name in [NAME, "other.example.com"] {
            let provider = provider_with(&settings(&url, TOKEN), &common).unwrap();
            provider.records(name).await.unwrap();
        }
        assert_eq!(count.load(Ordering::SeqCst), 1, "connections");
    }
}
