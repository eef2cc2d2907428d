//! People's wishes on their way: numbered for the loop, answered once, or passed on to the active
//! site.
//!
//! Owns: who still waits for an answer. Must not: decide what the answer is.

use tokio::sync::oneshot;

use crate::effects::error::EffectError;
use crate::effects::peer::wire::{CommandAnswer, PeerCommand};
use crate::model::event::{Answer, Command, Event, Wish};
use crate::model::outcome::FailureKind;
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
    let dry_run = match &wish {
        Wish::Failover { dry_run, .. }
        | Wish::Brake { dry_run, .. }
        | Wish::Converge { dry_run } => *dry_run,
        Wish::Files { .. } | Wish::Note { .. } => false,
    };
    let command = match wish {
        Wish::Failover {
            to: target,
            dry_run,
        } => PeerCommand::Failover {
            to: target,
            dry_run,
        },
        Wish::Brake { brake, by, dry_run } => PeerCommand::Brake { brake, by, dry_run },
        // Whoever wants it there asks there.
        Wish::Converge { .. } | Wish::Files { .. } | Wish::Note { .. } => {
            return Answer::Refused {
                reasons: vec![format!("site {to} is active: ask its agent")],
            };
        }
    };
    let answer = members.command(&Member::Site(to.clone()), &command).await;
    passed_on(to, dry_run, answer)
}

/// What an answer of the active site means to whoever asked here. That there is none does not mean
/// that nothing was begun: a person who is told "refused" would do it again, or by hand.
fn passed_on(to: SiteName, dry_run: bool, answer: Result<CommandAnswer, EffectError>) -> Answer {
    let refused = |reason: String| Answer::Refused {
        reasons: vec![reason],
    };
    match answer {
        Ok(CommandAnswer::Accepted { .. }) => Answer::PassedOn { to },
        Ok(CommandAnswer::WouldDo { plans }) => Answer::WouldDo { plans },
        Ok(CommandAnswer::Braked { braked }) => Answer::Braked(braked),
        Ok(CommandAnswer::MayHaveBegun { text }) => Answer::MayHaveBegun { at: to, why: text },
        Ok(CommandAnswer::Refused { text }) => refused(text),
        Err(error) => match error.kind {
            FailureKind::OutcomeUnknown if dry_run => refused(format!(
                "site {to} is active and did not say what it would do: {error}"
            )),
            FailureKind::OutcomeUnknown => Answer::MayHaveBegun {
                at: to,
                why: error.to_string(),
            },
            FailureKind::Retryable | FailureKind::Permanent => refused(format!(
                "site {to} is active and did not take the command: {error}"
            )),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use tokio::net::TcpListener;

    use super::*;
    use crate::config::{self, MemberRole};

    /// Longest wait for an answer; the request's own bound is far below.
    const SOON: Duration = Duration::from_secs(20);

    /// The links of ams to a fra at this address.
    fn members(fra: &str) -> Members {
        let text = format!(
            "cluster = \"test\"\nsite = \"ams\"\nstate_dir = \"/nowhere\"\n\
             [peer]\nsecret = \"a test secret of enough length\"\n\
             [sites.fra]\naddress = \"{fra}\"\n\
             [sites.fra.database]\nhost = \"127.0.0.1\"\nport = 1\ndata_dir = \"/nowhere/f\"\n\
             [sites.ams]\naddress = \"127.0.0.1:7002\"\n\
             [sites.ams.database]\nhost = \"127.0.0.1\"\nport = 2\ndata_dir = \"/nowhere/a\"\n\
             [witness]\naddress = \"127.0.0.1:7003\"\n[database]\ntls = \"off\"\n"
        );
        let file = Path::new("agent.toml");
        let loaded = config::parse(&text, file, Some("ams"), MemberRole::Agent, &|_| None);
        Members::new(&loaded.unwrap().config).unwrap()
    }

    /// What whoever asked at ams is told when fra, at this address, is active.
    async fn asked(fra: &str, dry_run: bool) -> Answer {
        let mut wishes = Wishes::new(members(fra));
        let (answer, answered) = oneshot::channel();
        let wish = Wish::Failover {
            to: SiteName::new("ams"),
            dry_run,
        };
        let Event::Command(command) = wishes.take(Request { wish, answer }) else {
            panic!("a wish becomes a command");
        };
        let to = SiteName::new("fra");
        wishes.answer(command.id, Answer::PassedOn { to });
        tokio::time::timeout(SOON, answered).await.unwrap().unwrap()
    }

    #[tokio::test]
    async fn site_that_takes_a_command_and_says_nothing_may_have_begun() {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = silent.local_addr().unwrap().to_string();
        let answer = asked(&address, false).await;
        assert!(matches!(answer, Answer::MayHaveBegun { .. }), "{answer:?}");
        let answer = asked(&address, true).await;
        assert!(matches!(answer, Answer::Refused { .. }), "{answer:?}");
        drop(silent);
        // Where nobody listens nothing arrives, so nothing can have begun.
        let answer = asked(&address, false).await;
        assert!(matches!(answer, Answer::Refused { .. }), "{answer:?}");
    }

    fn unanswered(dry_run: bool, error: EffectError) -> Answer {
        passed_on(SiteName::new("fra"), dry_run, Err(error))
    }

    #[test]
    fn command_without_an_answer_may_have_begun_and_is_not_called_refused() {
        assert_eq!(
            unanswered(false, EffectError::unknown("no answer within 1s")),
            Answer::MayHaveBegun {
                at: SiteName::new("fra"),
                why: "no answer within 1s".to_owned(),
            }
        );
    }

    #[test]
    fn command_that_did_not_arrive_and_a_dry_run_are_refused() {
        for (dry_run, error) in [
            (false, EffectError::retryable("not reached")),
            (false, EffectError::permanent("wrong secret")),
            (true, EffectError::unknown("no answer within 1s")),
        ] {
            let answer = unanswered(dry_run, error);
            assert!(matches!(answer, Answer::Refused { .. }), "{answer:?}");
        }
    }
}
