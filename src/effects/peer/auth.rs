//! Who sent this, to whom, and is it fresh? HMAC-SHA256 with the cluster's secret. Pure: time and
//! randomness come in.
//!
//! Freshness without comparing clocks between hosts (S2): the *receiver* issues challenges, and
//! each is good for one request within [`CHALLENGE_LIFE`] on its own clock. Every answer carries
//! the next one, so a steady link costs one round trip. The answer's seal covers the request's
//! seal, and with it the sender's nonce: an old answer does not fit a new request.
//!
//! A challenge carries its own proof of origin, so what is issued need not be remembered; only
//! what was *used* is, per sender and bounded, and only a request with a right seal can add to
//! it. Rejected: a table of issued challenges, which a replayed request could fill and so push
//! out the challenges that honest members are about to use.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::wire::member_text;
use crate::config::secret::Secret;
use crate::model::{ClusterName, Member, Moment};

/// How long a challenge may wait for its request. Members speak several times a ttl; who was
/// silent for longer pays one more round trip.
pub const CHALLENGE_LIFE: Duration = Duration::from_secs(60);

/// How many used challenges are remembered per sender: within [`CHALLENGE_LIFE`] this allows 68
/// requests a second. Beyond that older challenges are refused, never accepted twice.
pub const USED_CHALLENGES_MAX: usize = 4096;

/// Length of a challenge before it is written as hex.
const CHALLENGE_BYTES: usize = 32;

/// The key that all members of a cluster share.
#[derive(Clone)]
pub struct PeerKey(Hmac<Sha256>);

impl fmt::Debug for PeerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PeerKey(***)")
    }
}

/// Everything that the seal of a request vouches for.
#[derive(Debug, Clone, Copy)]
pub struct RequestParts<'a> {
    /// The sender's cluster.
    pub cluster: &'a ClusterName,
    /// The sender.
    pub from: &'a Member,
    /// The member that is meant: a copy sent to another one does not fit.
    pub to: &'a Member,
    /// The HTTP method.
    pub method: &'a str,
    /// The path.
    pub path: &'a str,
    /// The receiver's challenge as it was given, or empty.
    pub challenge: &'a str,
    /// The sender's number used once.
    pub nonce: &'a str,
    /// SHA-256 of the body.
    pub body_hash: [u8; 32],
}

/// Everything that the seal of an answer vouches for.
#[derive(Debug, Clone, Copy)]
pub struct AnswerParts<'a> {
    /// The seal of the request that is answered.
    pub request: &'a Seal,
    /// The HTTP status.
    pub status: u16,
    /// The challenge for the next request.
    pub next_challenge: &'a str,
    /// SHA-256 of the body.
    pub body_hash: [u8; 32],
}

/// A proof that somebody with the key wrote this.
#[derive(Debug, Clone)]
pub struct Seal([u8; 32]);

impl Seal {
    /// As header text.
    #[must_use]
    pub fn to_hex(&self) -> String {
        to_hex(&self.0)
    }

    /// From header text.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        from_hex(text).map(Self)
    }

    /// Whether both are the same, in time that does not depend on where they differ.
    #[must_use]
    pub fn matches(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl PeerKey {
    /// The key made of the configured secret.
    #[must_use]
    pub fn new(secret: &Secret) -> Self {
        Self(keyed(secret.reveal().as_bytes()))
    }

    /// Seals a request.
    #[must_use]
    pub fn seal_request(&self, parts: &RequestParts<'_>) -> Seal {
        self.seal(&[
            b"failover-agent request 1",
            parts.cluster.as_str().as_bytes(),
            member_text(parts.from).as_bytes(),
            member_text(parts.to).as_bytes(),
            parts.method.as_bytes(),
            parts.path.as_bytes(),
            parts.challenge.as_bytes(),
            parts.nonce.as_bytes(),
            &parts.body_hash,
        ])
    }

    /// Seals an answer.
    #[must_use]
    pub fn seal_answer(&self, parts: &AnswerParts<'_>) -> Seal {
        self.seal(&[
            b"failover-agent answer 1",
            &parts.request.0,
            &parts.status.to_be_bytes(),
            parts.next_challenge.as_bytes(),
            &parts.body_hash,
        ])
    }

    fn seal(&self, fields: &[&[u8]]) -> Seal {
        Seal(mac_over(self.0.clone(), fields))
    }
}

/// SHA-256 of a body.
#[must_use]
pub fn body_hash(body: &[u8]) -> [u8; 32] {
    Sha256::digest(body).into()
}

/// Why a challenge is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChallengeFault {
    /// Not issued by this process to this sender, or too long ago.
    Unknown,
    /// Used before.
    Used,
}

/// The receiver's side of freshness.
pub struct Challenges {
    /// Drawn when the process starts: challenges of an earlier process are unknown to this one.
    key: Hmac<Sha256>,
    used: BTreeMap<Member, UsedChallenges>,
}

#[derive(Default)]
struct UsedChallenges {
    /// Milliseconds of issue and the random part.
    seen: BTreeSet<(u64, [u8; 8])>,
    /// Challenges issued before this are refused: whether they were used is no longer known.
    forgotten_before: u64,
}

impl fmt::Debug for Challenges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let used: usize = self.used.values().map(|used| used.seen.len()).sum();
        f.debug_struct("Challenges")
            .field("used", &used)
            .finish_non_exhaustive()
    }
}

impl Challenges {
    /// Begins with a fresh random key.
    #[must_use]
    pub fn new(random: [u8; 32]) -> Self {
        Self {
            key: keyed(&random),
            used: BTreeMap::new(),
        }
    }

    /// A challenge for this sender's next request.
    #[must_use]
    pub fn issue(&self, to: &Member, now: Moment, random: [u8; 8]) -> String {
        let issued = millis(now).to_be_bytes();
        let proof = self.proof(to, issued, random);
        let mut token = [0; CHALLENGE_BYTES];
        let parts = issued.iter().chain(&random).chain(&proof);
        for (slot, byte) in token.iter_mut().zip(parts) {
            *slot = *byte;
        }
        to_hex(&token)
    }

    /// Uses a challenge up. Call it only for a request whose seal is right: strangers must not be
    /// able to add to what is remembered.
    ///
    /// # Errors
    ///
    /// The challenge is unknown or was used.
    pub fn redeem(
        &mut self,
        from: &Member,
        challenge: &str,
        now: Moment,
    ) -> Result<(), ChallengeFault> {
        let (issued, random) = self
            .genuine(from, challenge)
            .ok_or(ChallengeFault::Unknown)?;
        let used = self.used.entry(from.clone()).or_default();
        let oldest = millis(now - CHALLENGE_LIFE);
        if issued < oldest || issued < used.forgotten_before {
            return Err(ChallengeFault::Unknown);
        }
        used.seen = used.seen.split_off(&(oldest, [0; 8]));
        if !used.seen.insert((issued, random)) {
            return Err(ChallengeFault::Used);
        }
        if used.seen.len() > USED_CHALLENGES_MAX
            && let Some((dropped, _)) = used.seen.pop_first()
        {
            used.forgotten_before = dropped + 1;
        }
        Ok(())
    }

    fn genuine(&self, from: &Member, challenge: &str) -> Option<(u64, [u8; 8])> {
        let token: [u8; CHALLENGE_BYTES] = from_hex(challenge)?;
        let (issued, rest) = token.split_first_chunk::<8>()?;
        let (random, proof) = rest.split_first_chunk::<8>()?;
        let genuine: bool = self.proof(from, *issued, *random).ct_eq(proof).into();
        genuine.then(|| (u64::from_be_bytes(*issued), *random))
    }

    fn proof(&self, member: &Member, issued: [u8; 8], random: [u8; 8]) -> [u8; 16] {
        let full = mac_over(
            self.key.clone(),
            &[member_text(member).as_bytes(), &issued, &random],
        );
        // 128 bits are enough for something that lives a minute.
        let mut proof = [0; 16];
        for (slot, byte) in proof.iter_mut().zip(full) {
            *slot = byte;
        }
        proof
    }
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    #[expect(
        clippy::expect_used,
        reason = "HMAC takes keys of every length (RFC 2104, section 2)"
    )]
    Hmac::new_from_slice(key).expect("a key of any length")
}

/// Each field goes in with its length first, so that no two lists of fields look the same.
fn mac_over(mut mac: Hmac<Sha256>, fields: &[&[u8]]) -> [u8; 32] {
    for field in fields {
        mac.update(&(field.len() as u64).to_be_bytes());
        mac.update(field);
    }
    mac.finalize().into_bytes().into()
}

fn millis(moment: Moment) -> u64 {
    u64::try_from(moment.since_boot().as_millis()).unwrap_or(u64::MAX)
}

/// Bytes as lower-case hex.
#[must_use]
pub fn to_hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a String cannot fail.
        let _infallible = write!(text, "{byte:02x}");
    }
    text
}

/// Exactly `N` bytes from lower-case hex; one way of writing each value, and no other.
#[must_use]
pub fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if text.len() != N * 2 {
        return None;
    }
    for (slot, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *slot = hex_digit(*high)? << 4 | hex_digit(*low)?;
    }
    Some(bytes)
}

fn hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::SiteName;

    fn site(name: &str) -> Member {
        Member::Site(SiteName::new(name))
    }

    fn at(seconds: u64) -> Moment {
        Moment::from_boot(Duration::from_secs(seconds))
    }

    #[test]
    fn challenge_is_good_once_for_its_member_and_for_a_while() {
        let mut mine = Challenges::new([1; 32]);
        let challenge = mine.issue(&site("a"), at(100), [7; 8]);
        let unknown = Err(ChallengeFault::Unknown);
        assert_eq!(mine.redeem(&site("b"), &challenge, at(101)), unknown);
        assert_eq!(mine.redeem(&site("a"), &challenge, at(161)), unknown);
        assert_eq!(mine.redeem(&site("a"), &challenge, at(101)), Ok(()));
        let used = Err(ChallengeFault::Used);
        assert_eq!(mine.redeem(&site("a"), &challenge, at(102)), used);
        assert_eq!(mine.redeem(&site("a"), &challenge, at(161)), unknown);
        let mut restarted = Challenges::new([2; 32]);
        assert_eq!(restarted.redeem(&site("a"), &challenge, at(101)), unknown);
        for garbage in ["", "00", &"0".repeat(64), &"ü".repeat(32)] {
            assert_eq!(mine.redeem(&site("a"), garbage, at(101)), unknown);
        }
    }

    #[test]
    fn any_changed_bit_of_a_challenge_is_refused() {
        let mut mine = Challenges::new([1; 32]);
        let challenge = mine.issue(&site("a"), at(100), [7; 8]);
        let token: [u8; 32] = from_hex(&challenge).unwrap();
        for bit in 0..256 {
            let mut flipped = token;
            flipped[bit / 8] ^= 1 << (bit % 8);
            let fault = mine.redeem(&site("a"), &to_hex(&flipped), at(100));
            assert_eq!(fault, Err(ChallengeFault::Unknown), "bit {bit}");
        }
    }

    #[test]
    fn used_challenges_are_bounded_and_none_is_ever_accepted_twice() {
        let mut mine = Challenges::new([1; 32]);
        let issue = |mine: &Challenges, n: u64| {
            let now = Moment::from_boot(Duration::from_millis(100_000 + n));
            mine.issue(&site("a"), now, n.to_be_bytes())
        };
        let count = USED_CHALLENGES_MAX as u64 + 500;
        let now = at(110);
        for n in 0..count {
            let challenge = issue(&mine, n);
            assert_eq!(mine.redeem(&site("a"), &challenge, now), Ok(()));
        }
        assert_eq!(mine.used[&site("a")].seen.len(), USED_CHALLENGES_MAX);
        for n in 0..count {
            let challenge = issue(&mine, n);
            assert!(mine.redeem(&site("a"), &challenge, now).is_err(), "{n}");
        }
        // Another member is not touched by it.
        let other = mine.issue(&site("b"), at(100), [0; 8]);
        assert_eq!(mine.redeem(&site("b"), &other, now), Ok(()));
        // A minute later nothing is left.
        let late = mine.issue(&site("a"), at(200), [0; 8]);
        assert_eq!(mine.redeem(&site("a"), &late, at(201)), Ok(()));
        assert_eq!(mine.used[&site("a")].seen.len(), 1);
    }

    #[test]
    fn seal_covers_every_part_of_a_request() {
        let key = PeerKey::new(&Secret::new("s"));
        let (cluster, other_cluster) = (ClusterName::new("c"), ClusterName::new("d"));
        let (a, b) = (site("a"), site("b"));
        let parts = RequestParts {
            cluster: &cluster,
            from: &a,
            to: &b,
            method: "POST",
            path: "/v1/lease",
            challenge: "11",
            nonce: "22",
            body_hash: body_hash(b"x"),
        };
        let seal = key.seal_request(&parts);
        assert!(seal.matches(&key.seal_request(&parts)));
        let (witness, called_witness) = (Member::Witness, site("witness"));
        let changed = [
            RequestParts {
                cluster: &other_cluster,
                ..parts
            },
            RequestParts { from: &b, ..parts },
            RequestParts { to: &a, ..parts },
            RequestParts {
                method: "GET",
                ..parts
            },
            RequestParts {
                path: "/v1/report",
                ..parts
            },
            RequestParts {
                challenge: "1",
                nonce: "122",
                ..parts
            },
            RequestParts {
                nonce: "23",
                ..parts
            },
            RequestParts {
                body_hash: body_hash(b"y"),
                ..parts
            },
            RequestParts {
                from: &witness,
                ..parts
            },
            RequestParts {
                from: &called_witness,
                ..parts
            },
        ];
        let mut seals = vec![seal];
        for parts in &changed {
            let seal = key.seal_request(parts);
            assert!(seals.iter().all(|other| !other.matches(&seal)), "{parts:?}");
            seals.push(seal);
        }
        let stranger = PeerKey::new(&Secret::new("t")).seal_request(&parts);
        assert!(seals.iter().all(|other| !other.matches(&stranger)));
    }

    #[test]
    fn seal_of_an_answer_fits_one_request_only() {
        let key = PeerKey::new(&Secret::new("s"));
        let (first, second) = (Seal([1; 32]), Seal([2; 32]));
        let parts = AnswerParts {
            request: &first,
            status: 200,
            next_challenge: "1",
            body_hash: body_hash(b"{}"),
        };
        let seal = key.seal_answer(&parts);
        for changed in [
            AnswerParts {
                request: &second,
                ..parts
            },
            AnswerParts {
                status: 401,
                ..parts
            },
            AnswerParts {
                next_challenge: "2",
                ..parts
            },
            AnswerParts {
                body_hash: body_hash(b"[]"),
                ..parts
            },
        ] {
            assert!(!seal.matches(&key.seal_answer(&changed)), "{changed:?}");
        }
    }

    #[test]
    fn key_and_seals_show_no_secret() {
        let key = PeerKey::new(&Secret::new("hunter2"));
        assert_eq!(format!("{key:?}"), "PeerKey(***)");
    }
}
