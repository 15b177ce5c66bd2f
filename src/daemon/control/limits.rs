//! How many clients there may be, and who has to go for whom.
//!
//! Anyone on the machine may connect, so anyone may try to use up every place. A place is never
//! worth a descriptor that a worker's launch needs, and a part of them is kept for root and for
//! supd's own user, who must always get through.

use crate::model::Tick;
use nix::sys::resource::{Resource, getrlimit};
use std::collections::BTreeMap;
use std::time::Duration;

/// A connection that has said nothing for this long may be closed when its place is needed.
const IDLE: Duration = Duration::from_secs(2);

/// Bounds on clients and on what they hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections of everyone together.
    pub total: usize,
    /// Connections of one user, where that is not root or supd's own.
    pub per_user: usize,
    /// Of those, how many may wait for what others have begun.
    pub waits_per_user: usize,
    /// Of `total`, how many are kept for root and supd's own user.
    pub reserve: usize,
    /// Bytes held for all clients together; past it whoever holds most is cut off.
    pub memory: usize,
    /// Descriptors held for all clients together, of calls that are not complete and of answers that
    /// are not read.
    pub descriptors: usize,
}

impl Limits {
    /// Limits that leave two thirds of `descriptors` to everything else.
    #[must_use]
    pub fn for_descriptors(descriptors: u64) -> Self {
        let total = usize::try_from(descriptors / 4).unwrap_or(usize::MAX).clamp(8, 1024);
        let (per_user, reserve, descriptors) = (total / 4, (total / 16).max(2), (total / 4).max(8));
        let waits_per_user = (per_user / 4).max(1);
        Self { total, per_user, waits_per_user, reserve, memory: 32 << 20, descriptors }
    }

    /// The same rules for places of descriptors as for places of connections.
    pub(super) fn of_descriptors(&self) -> Self {
        let total = self.descriptors;
        Self { total, per_user: total / 4, reserve: total / 4, ..*self }
    }

    /// Limits for this process: by RLIMIT_NOFILE as it is now.
    #[must_use]
    pub fn of_process() -> Self {
        let soft = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft);
        Self::for_descriptors(soft)
    }
}

/// A connection as far as places go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Guest {
    /// Which.
    pub(super) serial: usize,
    /// Whose.
    pub(super) uid: u32,
    /// Root's or supd's own user's.
    pub(super) privileged: bool,
    /// Since when it waits for its client to say something; `None`: supd has work with it.
    pub(super) idle_since: Option<Tick>,
}

/// What becomes of a newcomer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Come in.
    Admit,
    /// Come in; this one has to go.
    Replace(usize),
    /// Try again later.
    Busy,
}

impl Limits {
    /// Whether a client of `uid` finds a place among `guests`.
    pub(super) fn admit(&self, uid: u32, privileged: bool, guests: &[Guest], now: Tick) -> Verdict {
        if privileged {
            return if guests.len() < self.total { Verdict::Admit } else { make_room(guests.iter(), now) };
        }
        let ordinary = || guests.iter().filter(|guest| !guest.privileged);
        let own = ordinary().filter(|guest| guest.uid == uid).count();
        if own >= self.per_user {
            return make_room(ordinary().filter(|guest| guest.uid == uid), now);
        }
        if ordinary().count() < self.total.saturating_sub(self.reserve) && guests.len() < self.total {
            return Verdict::Admit;
        }
        let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
        for guest in ordinary() {
            *counts.entry(guest.uid).or_default() += 1;
        }
        match counts.into_iter().max_by_key(|(_, count)| *count) {
            Some((greedy, count)) if count > own => {
                make_room(ordinary().filter(|guest| guest.uid == greedy), now)
            }
            Some(_) | None => Verdict::Busy,
        }
    }
}

/// Takes the place of the one that has been idle longest.
fn make_room<'a>(guests: impl Iterator<Item = &'a Guest>, now: Tick) -> Verdict {
    guests
        .filter_map(|guest| Some((guest.idle_since?, guest.serial)))
        .filter(|(since, _)| now.since(*since) >= IDLE)
        .min()
        .map_or(Verdict::Busy, |(_, serial)| Verdict::Replace(serial))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits =
        Limits { total: 10, per_user: 4, waits_per_user: 2, reserve: 2, memory: 0, descriptors: 0 };
    const NOW: Tick = Tick(100_000_000);

    fn guests(of: &[(u32, usize)], idle_since: Option<Tick>) -> Vec<Guest> {
        let uids = of.iter().flat_map(|(uid, count)| std::iter::repeat_n(*uid, *count));
        (0..).zip(uids).map(|(serial, uid)| Guest { serial, uid, privileged: uid == 0, idle_since }).collect()
    }

    #[test]
    fn one_user_cannot_take_every_place() {
        let full = guests(&[(1000, 4)], None);
        assert_eq!(LIMITS.admit(1000, false, &full, NOW), Verdict::Busy);
        assert_eq!(LIMITS.admit(1001, false, &full, NOW), Verdict::Admit);
        assert_eq!(LIMITS.admit(0, true, &full, NOW), Verdict::Admit);
    }

    #[test]
    fn many_users_cannot_take_the_places_of_root() {
        let full = guests(&[(1, 2), (2, 2), (3, 2), (4, 2)], None);
        assert_eq!(LIMITS.admit(5, false, &full, NOW), Verdict::Busy);
        assert_eq!(LIMITS.admit(0, true, &full, NOW), Verdict::Admit);
        let mut more = full;
        more.extend(guests(&[(0, 2)], None));
        assert_eq!(LIMITS.admit(0, true, &more, NOW), Verdict::Busy, "every place has work");
    }

    #[test]
    fn idle_connections_give_way_longest_idle_first() {
        let mut own = guests(&[(1000, 4)], Some(Tick(50_000_000)));
        own[2].idle_since = Some(Tick(40_000_000));
        own[1].idle_since = None;
        assert_eq!(LIMITS.admit(1000, false, &own, NOW), Verdict::Replace(2));
        // One that came a moment ago is about to say something.
        let fresh = guests(&[(1000, 4)], Some(Tick(NOW.0 - 1_000_000)));
        assert_eq!(LIMITS.admit(1000, false, &fresh, NOW), Verdict::Busy);
        // The place is taken from the user with most of them, never from one with as many.
        let all = guests(&[(1, 2), (2, 4), (3, 2)], Some(Tick(0)));
        assert_eq!(LIMITS.admit(4, false, &all, NOW), Verdict::Replace(2));
        let even = guests(&[(1, 2), (2, 2), (3, 2), (4, 2)], Some(Tick(0)));
        assert_eq!(LIMITS.admit(1, false, &even, NOW), Verdict::Busy);
        assert_eq!(LIMITS.admit(5, false, &even, NOW), Verdict::Replace(6));
    }

    #[test]
    fn most_descriptors_are_left_to_workers() {
        let of = |descriptors| {
            let limits = Limits::for_descriptors(descriptors);
            (limits.total, limits.per_user, limits.reserve, limits.descriptors)
        };
        assert_eq!(of(1024), (256, 64, 16, 64));
        assert_eq!(of(u64::MAX), (1024, 256, 64, 256));
        assert_eq!(of(0), (8, 2, 2, 8));
        let held = Limits::for_descriptors(1024).of_descriptors();
        assert_eq!((held.total, held.per_user, held.reserve), (64, 16, 16));
    }
}
