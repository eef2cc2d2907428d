//! Requests that do no harm when they arrive twice are asked again while the first still waits.
//!
//! Where packets get lost, what waits longest is one connection: TCP sends again after 200 ms,
//! then 400, then 800 (RFC 6298, 5.5), and a lost SYN after a whole second (RFC 6298, 2.1). A copy
//! on another connection does not wait for any of that. So a lease is not lost to a wire that
//! loses every third packet.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::sleep;

use super::client::PeerClient;
use crate::effects::clock::boottime;
use crate::effects::error::EffectError;
use crate::model::outcome::FailureKind;

/// How often a request is sent within its deadline, at most; evenly spread.
const COPIES_MAX: u32 = 4;

type Copy<'a, Res> = Pin<Box<dyn Future<Output = Result<Res, EffectError>> + Send + 'a>>;

impl PeerClient {
    /// As [`PeerClient::call`], for a request that changes nothing when it arrives again. The first
    /// answer counts.
    ///
    /// # Errors
    /// As [`PeerClient::call`]; the last one when every copy failed.
    pub async fn call_repeatable<Req, Res>(
        &self,
        path: &'static str,
        request: &Req,
        deadline: Duration,
    ) -> Result<Res, EffectError>
    where
        Req: Serialize + Sync,
        Res: DeserializeOwned + Send,
    {
        let until = boottime() + deadline;
        let copy = |left| -> Copy<'_, Res> { Box::pin(self.call(path, request, left)) };
        let mut copies = vec![copy(deadline)];
        let mut sent = 1;
        loop {
            tokio::select! {
                answer = first_of(&mut copies) => match answer {
                    Err(error) if error.kind != FailureKind::Permanent && !copies.is_empty() => {}
                    answer => return answer,
                },
                () = sleep(deadline / COPIES_MAX), if sent < COPIES_MAX => {
                    sent += 1;
                    // Others want to ask, too.
                    if self.has_room() {
                        copies.push(copy(boottime().until(until)));
                    }
                }
            }
        }
    }
}

/// The first of these to end, taken out of them.
async fn first_of<T>(copies: &mut Vec<Pin<Box<dyn Future<Output = T> + Send + '_>>>) -> T {
    poll_fn(|context| {
        for index in 0..copies.len() {
            if let Some(copy) = copies.get_mut(index)
                && let Poll::Ready(ended) = copy.as_mut().poll(context)
            {
                drop(copies.swap_remove(index));
                return Poll::Ready(ended);
            }
        }
        Poll::Pending
    })
    .await
}
