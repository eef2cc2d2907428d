//! People's wishes on their way: numbered for the loop, answered once, or passed on to the active
//! site.
//!
//! Owns: who still waits for an answer. Must not: decide what the answer is.

use tokio::sync::oneshot;

use crate::effects::peer::wire::{CommandAnswer, PeerCommand};
use crate::model::event::{Answer, Command, Event, Wish};
use crate::model::{Member, SiteName};
use crate::runtime::handle::Request;
use crate::runtime::members::Members;
use crate::runtime::tasks::spawn_named;

/// The wishes that were not answered yet.
#[derive(Debug)]
pub(crate) struct Wishes {
    members: Members,
    newest_id: u64,
    waiting: Vec<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    id: u64,
    wish: Wish,
    back: oneshot::Sender<Answer>,
}

impl Wishes {
    /// Nobody waits yet. Wishes that are not for this site go to `members`.
    pub(crate) fn new(members: Members) -> Self {
        Self {
            members,
            newest_id: 0,
            waiting: Vec::new(),
        }
    }

    /// Makes a wish an event, and remembers who waits for its answer.
    pub(crate) fn take(&mut self, request: Request) -> Event {
        self.newest_id += 1;
        let id = self.newest_id;
        self.waiting.push(Waiting {
            id,
            wish: request.wish.clone(),
            back: request.answer,
        });
        Event::Command(Command {
            id,
            wish: request.wish,
        })
    }

    /// Answers a wish, or lets the site that it was passed on to answer.
    pub(crate) fn answer(&mut self, id: u64, answer: Answer) {
        let Some(index) = self.waiting.iter().position(|waiting| waiting.id == id) else {
            return;
        };
        let Waiting { wish, back, .. } = self.waiting.swap_remove(index);
        let Answer::PassedOn { to } = answer else {
            // Whoever asked may have gone away.
            return drop(back.send(answer));
        };
        let members = self.members.clone();
        spawn_named("pass a command on", async move {
            back.send(pass_on(&members, to, wish).await).ok();
        });
    }
}

async fn pass_on(members: &Members, to: SiteName, wish: Wish) -> Answer {
    let command = match wish {
        Wish::Failover {
            to: target,
            dry_run,
        } => PeerCommand::Failover {
            to: target,
            dry_run,
        },
        Wish::Brake { brake, by, dry_run } => PeerCommand::Brake { brake, by, dry_run },
    };
    match members.command(&Member::Site(to.clone()), &command).await {
        Ok(CommandAnswer::Accepted { .. }) => Answer::PassedOn { to },
        Ok(CommandAnswer::WouldDo { plans }) => Answer::WouldDo { plans },
        Ok(CommandAnswer::Braked { braked }) => Answer::Braked(braked),
        Ok(CommandAnswer::Refused { text }) => Answer::Refused {
            reasons: vec![text],
        },
        Err(error) => Answer::Refused {
            reasons: vec![format!(
                "site {to} is active and did not take the command: {error}"
            )],
        },
    }
}
