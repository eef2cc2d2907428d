//! What records with the same token have in common. A token's requests are counted together,
//! whichever record they are for, so what is known of its limit is known for all of them, and one
//! question shows for all of them whether it is good; and
//! connections are shared, because there are several records to move at once.
//! Source: Cloudflare API docs, "Rate limits": per user or account token.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reqwest::{Client, Url};

use super::rate_limit::RateLimit;
use super::token::Token;
use crate::config::secret::Secret;
use crate::effects::error::EffectError;
use crate::effects::http_client;

/// What is known of one token at one API.
#[derive(Debug, Default)]
pub(super) struct Account {
    pub(super) rate_limit: RateLimit,
    pub(super) token: Token,
}

/// Every token and every API that the settings name.
#[derive(Debug, Default)]
pub(in crate::effects::dns) struct Accounts(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    accounts: Vec<(Url, Secret, Arc<Account>)>,
    /// With the longest that a request may take: a part of the client.
    clients: Vec<(Url, Duration, Client)>,
}

impl Accounts {
    /// The account of a token.
    pub(super) fn of(&self, url: &Url, token: &Secret) -> Arc<Account> {
        let mut known = self.known();
        let same = |(other, its, _): &&(Url, Secret, _)| {
            other == url && its.reveal().trim() == token.reveal().trim()
        };
        if let Some((_, _, account)) = known.accounts.iter().find(same) {
            return Arc::clone(account);
        }
        let account = Arc::new(Account::default());
        let new = (url.clone(), token.clone(), Arc::clone(&account));
        known.accounts.push(new);
        account
    }

    /// The connections to an API.
    pub(super) fn client(&self, url: &Url, timeout: Duration) -> Result<Client, EffectError> {
        let mut known = self.known();
        let same = |(other, its, _): &&(Url, Duration, Client)| other == url && *its == timeout;
        if let Some((_, _, client)) = known.clients.iter().find(same) {
            return Ok(client.clone());
        }
        let client = http_client::client(url, timeout)?;
        known.clients.push((url.clone(), timeout, client.clone()));
        Ok(client)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
