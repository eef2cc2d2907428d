//! How a change spreads: look by look, until nobody can have an old answer any more. Pure.

use std::time::Duration;

use crate::effects::dns::moved::Moved;
use crate::model::dns::{OutsideView, ServerKind, Spreading};
use crate::model::edge::EdgeView;
use crate::model::{Epoch, Moment};

/// The first pause between two looks; each is twice as long as the one before.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
/// The longest one.
const PAUSE_MAX: Duration = Duration::from_mins(1);
/// So long is looked at least, and at most.
const LOOK_FOR: (Duration, Duration) = (Duration::from_hours(1), Duration::from_hours(24));
/// And in between, so many TTLs.
const LOOK_FOR_TTLS: u32 = 10;
/// So many looks in a row the edge must lead to the wanted site: it is many servers, and each look
/// meets another one.
const EDGE_LOOKS: u32 = 3;
/// The TTL of a record whose provider decides, until a server has said it. Source: Cloudflare API
/// v4, `ttl`: automatic is 300 seconds.
const TTL_UNKNOWN: Duration = Duration::from_mins(5);

/// One change, and how far it has got.
#[derive(Debug)]
pub(super) struct Spread {
    moved: Moved,
    /// The longest TTL that was seen for it.
    ttl: Duration,
    /// Every authoritative server has it since this moment at the latest.
    whole_since: Option<Moment>,
    /// Resolvers were seen to keep something else until then.
    resolvers_until: Moment,
    everywhere: bool,
    /// Looks through the edge that are still to be good; `None`: it is not asked.
    edge_looks: Option<u32>,
    pause: Duration,
    next: Option<Moment>,
}

impl Spread {
    /// A change that was just made; `edge`: it is seen through the provider's edge, too.
    pub(super) fn of(moved: Moved, edge: bool) -> Self {
        let ttl = moved.ttl_s.map(|s| Duration::from_secs(s.into()));
        Self {
            ttl: ttl.unwrap_or(TTL_UNKNOWN),
            whole_since: None,
            resolvers_until: moved.at,
            everywhere: false,
            edge_looks: edge.then_some(EDGE_LOOKS),
            pause: PAUSE_FIRST,
            next: (!moved.proxied || edge).then_some(moved.at),
            moved,
        }
    }

    pub(super) fn epoch(&self) -> Epoch {
        self.moved.epoch
    }

    pub(super) fn wanted(&self) -> &[String] {
        &self.moved.wanted
    }

    /// True when servers of DNS show it: those of a proxied record have the provider's addresses.
    pub(super) fn asks_dns(&self) -> bool {
        !self.moved.proxied
    }

    /// When to look next; `None`: no more.
    pub(super) fn next(&self) -> Option<Moment> {
        self.next
    }

    /// Takes in what was seen, at the moment when the last answer was there.
    pub(super) fn take(
        &mut self,
        view: Option<&OutsideView>,
        edge: Option<&EdgeView>,
        now: Moment,
    ) {
        if let Some(view) = view {
            self.take_dns(view, now);
        }
        if let (Some(left), Some(edge)) = (&mut self.edge_looks, edge) {
            *left = match edge.follows() {
                true => left.saturating_sub(1),
                false => EDGE_LOOKS,
            };
        }
        self.next = match self.spreading(now) {
            Spreading::Done | Spreading::Proxied | Spreading::GivenUp => None,
            Spreading::UnderWay => {
                let pause = now + self.pause;
                self.pause = (self.pause * 2).min(PAUSE_MAX);
                // The last look is due when the old TTL has run out, not up to a pause later.
                let over = self.old_until().filter(|over| *over > now);
                Some(over.map_or(pause, |over| pause.min(over)))
            }
        };
    }

    fn take_dns(&mut self, view: &OutsideView, now: Moment) {
        let seconds = |s: u32| Duration::from_secs(s.into());
        let authoritative = view.servers.iter();
        let authoritative = authoritative.filter(|it| it.kind == ServerKind::Authoritative);
        let seen = authoritative.filter_map(|it| it.heard.ttl_s()).max();
        // What they say is what resolvers were told; settings of the provider may be newer.
        if let Some(seen) = seen.map(seconds) {
            self.ttl = match self.moved.ttl_s {
                Some(_) => self.ttl.max(seen),
                None => seen,
            };
        }
        self.whole_since = match view.share(ServerKind::Authoritative).is_whole() {
            true => self.whole_since.or(Some(now)),
            false => None,
        };
        if let Some(kept) = view.resolvers_keep_old_s() {
            self.resolvers_until = self.resolvers_until.max(now + seconds(kept));
        }
        self.everywhere = view.is_everywhere();
    }

    /// Until when old answers may live; `None` while a server that may give them was seen, or may
    /// be one.
    pub(super) fn old_until(&self) -> Option<Moment> {
        let whole = self.whole_since?;
        Some((whole + self.ttl).max(self.resolvers_until))
    }

    pub(super) fn spreading(&self, now: Moment) -> Spreading {
        let (least, most) = LOOK_FOR;
        let look_for = (self.ttl * LOOK_FOR_TTLS).clamp(least, most);
        let in_dns = self.everywhere && self.old_until().is_some_and(|until| until <= now);
        if self.moved.proxied && self.edge_looks.is_none() {
            Spreading::Proxied
        } else if (self.moved.proxied || in_dns) && self.edge_looks.is_none_or(|left| left == 0) {
            Spreading::Done
        } else if now.since(self.moved.at) >= look_for {
            Spreading::GivenUp
        } else {
            Spreading::UnderWay
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::SiteName;
    use crate::model::dns::{Heard, ServerAnswer};
    use crate::model::edge::EdgeHeard;

    fn at(seconds: u64) -> Moment {
        Moment::from_boot(Duration::from_secs(seconds))
    }

    fn moved(ttl_s: Option<u32>) -> Moved {
        Moved {
            at: at(1000),
            epoch: Epoch(3),
            wanted: vec!["192.0.2.2".to_owned()],
            ttl_s,
            proxied: false,
        }
    }

    fn has(ttl_s: u32) -> Heard {
        Heard::Wanted { ttl_s }
    }

    fn old(ttl_s: u32) -> Heard {
        let values = vec!["192.0.2.1".to_owned()];
        Heard::Other { values, ttl_s }
    }

    fn view(authoritative: &[Heard], resolvers: &[Heard]) -> OutsideView {
        let answer = |kind| {
            move |heard: &Heard| ServerAnswer {
                server: "127.0.0.1:53".to_owned(),
                name: None,
                kind,
                heard: heard.clone(),
            }
        };
        let mut servers: Vec<_> = authoritative
            .iter()
            .map(answer(ServerKind::Authoritative))
            .collect();
        servers.extend(resolvers.iter().map(answer(ServerKind::Resolver)));
        OutsideView {
            servers,
            unfound: None,
        }
    }

    #[test]
    fn old_answers_live_for_one_ttl_after_the_last_authoritative_server_has_it() {
        let mut spread = Spread::of(moved(Some(60)), false);
        spread.take(Some(&view(&[has(60), old(60)], &[])), None, at(1001));
        assert_eq!(spread.old_until(), None);
        spread.take(Some(&view(&[has(60), has(60)], &[])), None, at(1003));
        assert_eq!(spread.old_until(), Some(at(1063)));
        spread.take(Some(&view(&[has(60), has(60)], &[])), None, at(1007));
        assert_eq!(spread.old_until(), Some(at(1063)), "it has changed before");
        assert_eq!(spread.spreading(at(1062)), Spreading::UnderWay);
        spread.take(Some(&view(&[has(60), has(60)], &[])), None, at(1063));
        assert_eq!(spread.spreading(at(1063)), Spreading::Done);
        assert_eq!(spread.next(), None);
    }

    #[test]
    fn what_a_resolver_still_keeps_counts_and_so_does_a_longer_ttl() {
        let mut spread = Spread::of(moved(Some(60)), false);
        spread.take(
            Some(&view(&[has(60)], &[has(20), old(300)])),
            None,
            at(1001),
        );
        assert_eq!(spread.old_until(), Some(at(1301)));
        let mut spread = Spread::of(moved(None), false);
        spread.take(Some(&view(&[has(30)], &[])), None, at(1001));
        assert_eq!(spread.old_until(), Some(at(1031)));
        // The resolver keeps it for longer than it was told to.
        spread.take(Some(&view(&[has(30)], &[old(0)])), None, at(1031));
        assert_eq!(spread.spreading(at(1031)), Spreading::UnderWay);
    }

    #[test]
    fn server_that_goes_back_starts_the_ttl_anew() {
        let mut spread = Spread::of(moved(Some(60)), false);
        spread.take(Some(&view(&[has(60)], &[])), None, at(1001));
        spread.take(Some(&view(&[old(60)], &[])), None, at(1002));
        assert_eq!(spread.old_until(), None);
        spread.take(Some(&view(&[has(60)], &[])), None, at(1010));
        assert_eq!(spread.old_until(), Some(at(1070)));
    }

    #[test]
    fn looks_become_rarer_and_end() {
        let silent = Heard::Silent { why: String::new() };
        let mut spread = Spread::of(moved(Some(60)), false);
        let mut now = at(1000);
        let mut looks = 0;
        while let Some(next) = spread.next() {
            now = next;
            spread.take(Some(&view(&[has(60), silent.clone()], &[])), None, now);
            looks += 1;
        }
        assert_eq!(spread.spreading(now), Spreading::GivenUp);
        assert!((60..80).contains(&looks), "{looks}");
        assert!(now.since(at(1000)) < Duration::from_secs(3_700));
    }

    #[test]
    fn proxied_record_is_not_looked_for() {
        let proxied = Moved {
            proxied: true,
            ..moved(None)
        };
        let spread = Spread::of(proxied, false);
        assert_eq!(spread.next(), None);
        assert_eq!(spread.spreading(at(1000)), Spreading::Proxied);
    }

    #[test]
    fn proxied_record_has_moved_when_the_edge_follows_three_times_in_a_row() {
        let proxied = Moved {
            proxied: true,
            ..moved(None)
        };
        let mut spread = Spread::of(proxied, true);
        assert!(!spread.asks_dns());
        let edge = |site: &str| EdgeView {
            url: String::new(),
            heard: match site {
                "ams" => EdgeHeard::Wanted {
                    site: SiteName::new(site),
                },
                _ => EdgeHeard::OtherSite {
                    site: SiteName::new(site),
                },
            },
        };
        for site in ["fra", "ams", "ams", "fra", "ams", "ams"] {
            let now = spread.next().unwrap();
            spread.take(None, Some(&edge(site)), now);
            assert_eq!(spread.spreading(now), Spreading::UnderWay);
        }
        let now = spread.next().unwrap();
        spread.take(None, Some(&edge("ams")), now);
        assert_eq!(spread.spreading(now), Spreading::Done);
        assert_eq!(spread.next(), None);
    }

    #[test]
    fn edge_that_never_follows_is_given_up() {
        let proxied = Moved {
            proxied: true,
            ..moved(None)
        };
        let mut spread = Spread::of(proxied, true);
        let silent = EdgeView {
            url: String::new(),
            heard: EdgeHeard::Silent { why: String::new() },
        };
        let mut now = at(1000);
        while let Some(next) = spread.next() {
            now = next;
            spread.take(None, Some(&silent), now);
        }
        assert_eq!(spread.spreading(now), Spreading::GivenUp);
    }
}
