//! One way to bound a wait by a moment, so that several phases can share one deadline.

use std::future::Future;

use super::clock::boottime;
use crate::model::Moment;

/// Waits for `future`, but not beyond `deadline`; `None` when the deadline came first.
///
/// A future that is ready at once wins even over a deadline that has passed.
pub(crate) async fn before<F: Future>(deadline: Moment, future: F) -> Option<F::Output> {
    tokio::time::timeout(boottime().until(deadline), future)
        .await
        .ok()
}
