//! A queue that grows while nobody accepts.
//!
//! The kernel counts no accepts. But where it counts whom it sends to a slot, those of them who do not
//! wait there were accepted, or their handshake is half done; and where it tells who waits longest, a new
//! one there means that the one before was accepted. Elsewhere a queue that is shorter than before is what
//! there is, and new clients may have filled it up again between two looks: one that stays half full is
//! believed to stand still, but not where what the generation holds says otherwise.
//!
//! So where a queue is never seen to shrink, what there is at its listener is counted too, again and again.
//! Whoever holds a connection that is new since the first count accepts. Who holds none at two more counts may
//! still accept, and have ended each connection before it is counted.
//! - Where the kernel counts whom it sends, handshakes that are begun and never ended (a flood, or
//!   TCP_DEFER_ACCEPT and clients that say nothing) look like accepts. Nobody accepts there if those that have
//!   begun since the first count are as many as seem to have been accepted, or so many that the kernel may keep
//!   nothing of them (SYN cookies).
//! - Where it does not, it lists at least the connections at the address that nobody has accepted, and each by
//!   its name. In whose slot they wait it does not tell. But a queue is served in its order: if as many of those
//!   that waited at the first count are there still as waited in this slot then, beside all that may wait in the
//!   others, then none of this slot's was accepted.

use crate::model::{Tick, Waiting};
use std::time::Duration;

/// Nobody may let clients wait for longer and accept none.
const LONGEST: Duration = Duration::from_secs(2);

/// The same where half of what may wait does; a burst alone is no failure.
const LONGEST_HALF_FULL: Duration = Duration::from_secs(1);

/// The same where nobody counts anything.
const LONGEST_UNCOUNTED: Duration = Duration::from_secs(4);

/// What is sent and does not wait for so long was accepted: no handshake takes that time again and again.
const BELIEVED: Duration = Duration::from_millis(500);

/// The same told by looks, which are 50 ms apart at least: whoever was sent so many looks ago waits by now,
/// or was accepted.
const LOOKS: usize = 10;

/// Who accepts fewer than one for so many that wait may accept none: handshakes come and go meanwhile.
const HARDLY_ANY: u64 = 64;

/// So long a queue has not been seen to shrink before it is counted who is held.
const DOUBTED: Duration = Duration::from_millis(500);

/// A server that accepts may hold nobody in the moment of a count, but not again and again.
const COUNTS: u32 = 2;

/// What there was at a listener at a count. What is new was not there at the first one ([`Stall::begin_count`]).
#[derive(Debug, Clone, Copy)]
pub struct Held {
    /// When it began.
    pub at: Tick,
    /// When it was over.
    pub over: Tick,
    /// Connections that the generation holds, new ones.
    pub fresh: u32,
    /// Handshakes that are half done, whosever they will be.
    pub half_open: u32,
    /// Those of them that are new.
    pub half_open_fresh: u32,
    /// Connections that wait in any slot.
    pub waiting: u32,
    /// Those of them that are not new.
    pub waited: u32,
}

/// A slot's queue, as it is looked at from time to time.
#[derive(Debug, Clone, Copy, Default)]
pub struct Stall {
    before: Waiting,
    standing: Option<Standing>,
    doubt: Option<Doubt>,
    /// How many waited in this slot, and in all others, when the last count began.
    queued: (u32, u32),
}

/// Somebody waits, and the queue was not seen to shrink.
#[derive(Debug, Clone, Copy)]
struct Doubt {
    since: Tick,
    /// The first count since then.
    first: Option<First>,
    /// At so many counts in a row none that is new was held, and all that seem to have been accepted since then, if
    /// that is counted, may have been on their way.
    explained: u32,
    /// At so many counts in a row all were there who waited in this slot at the first one.
    stayed: u32,
}

/// What the counts that follow are compared with.
#[derive(Debug, Clone, Copy)]
struct First {
    over: Tick,
    /// How many had been sent and did not wait, where that is counted.
    taken: Option<u64>,
    /// How many waited in this slot, of whom the kernel shows: whoever was reset waits and is not shown.
    waiting: u32,
}

/// Somebody waits, and none was seen to be accepted.
#[derive(Debug, Clone, Copy)]
struct Standing {
    since: Tick,
    /// How many had been sent and did not wait.
    taken: u64,
    /// Since then each look has shown that there were more.
    more_since: Option<Tick>,
    /// How many had been sent at each of the last looks, the oldest first.
    sent: [Option<u64>; LOOKS],
}

impl Stall {
    /// What waits now. `Some`: whoever should accept it does not, for so long.
    pub fn look(&mut self, now: Tick, waiting: &Waiting) -> Option<Duration> {
        let before = std::mem::replace(&mut self.before, *waiting);
        if waiting.length == 0 {
            (self.standing, self.doubt) = (None, None);
            return None;
        }
        if waiting.length < before.length || waiting.first.is_some() {
            self.doubt = None;
        }
        let doubt = *self.doubt.get_or_insert(Doubt { since: now, first: None, explained: 0, stayed: 0 });
        let full = waiting.length >= waiting.most;
        // Of what is sent to a full queue the kernel drops some, and nobody has accepted that.
        let sent = waiting.sent.filter(|_| !full);
        let taken = sent.map(|sent| sent.saturating_sub(waiting.length.into()));
        let fresh =
            Standing { since: now, taken: taken.unwrap_or_default(), more_since: None, sent: [None; LOOKS] };
        let standing = self.standing.get_or_insert(fresh);
        let told = match (taken, waiting.first) {
            (Some(taken), _) => {
                let surely = standing.surely_takes(sent, waiting.length);
                standing.takes(now, taken, waiting.length) || surely
            }
            (None, Some(first)) => before.first.is_some_and(|known| known != first),
            (None, None) => {
                (standing.more_since, standing.sent) = (None, [None; LOOKS]);
                false
            }
        };
        if waiting.sent.is_some() && doubt.explained >= COUNTS {
            let longest = if waiting.is_half_full() { LONGEST_HALF_FULL } else { LONGEST };
            return Some(now.since(doubt.since)).filter(|stood| *stood >= longest);
        }
        let accepts = told || waiting.length < before.length;
        if accepts {
            *standing = fresh;
            return None;
        }
        let half_full = waiting.is_half_full();
        let longest = match (taken.is_some() || waiting.first.is_some(), half_full) {
            (true, true) => LONGEST_HALF_FULL,
            (true, false) => LONGEST,
            // It has been counted that it holds nobody who is new; or that cannot be counted.
            (false, true) if doubt.explained > 0 => LONGEST,
            (false, true) => LONGEST_UNCOUNTED,
            (false, false) if doubt.stayed >= COUNTS => LONGEST,
            (false, false) => return None,
        };
        Some(now.since(standing.since)).filter(|stood| *stood >= longest && standing.more_since.is_none())
    }

    /// A count begins, while so many wait in this slot, and so many in all others of its listener. What was
    /// counted until the moment that this gives is not new.
    pub fn begin_count(&mut self, own: u32, others: u32) -> Tick {
        self.queued = (own, others);
        self.doubt.and_then(|doubt| doubt.first).map_or(Tick(0), |first| first.over)
    }

    /// What there is at its listener was counted.
    pub fn counted(&mut self, held: &Held) {
        let taken = self.before.sent.map(|sent| sent.saturating_sub(self.before.length.into()));
        let Some(doubt) = &mut self.doubt else { return };
        if held.at < doubt.since {
            return;
        }
        let (own, others) = self.queued;
        let this = First { over: held.over, taken, waiting: own.min(held.waiting) };
        let Some(first) = doubt.first else {
            doubt.first = Some(this);
            return;
        };
        if held.fresh > 0 {
            (self.doubt, self.standing) = (None, None);
            return;
        }
        let flooded = held.half_open >= self.before.most.div_ceil(2);
        let explains = match (taken, first.taken) {
            (Some(taken), Some(before)) => {
                flooded || taken.saturating_sub(before) <= u64::from(held.half_open_fresh)
            }
            (None, _) | (_, None) => true,
        };
        doubt.explained = if explains { doubt.explained + 1 } else { 0 };
        // All that waited there since then and waits in another slot was there when this count began.
        let stays = first.waiting > 0 && held.waited.saturating_sub(others) >= first.waiting;
        doubt.stayed = if stays { doubt.stayed + 1 } else { 0 };
        if taken.is_none() && !stays {
            // Somebody was accepted or reset, or the others have kept many waiting: from here on, then.
            doubt.first = Some(this);
        }
    }

    /// Whether it is to be counted what its generation holds.
    #[must_use]
    pub fn is_doubtful(&self, now: Tick) -> bool {
        self.doubt.is_some_and(|doubt| now.since(doubt.since) >= DOUBTED)
    }

    /// Whether somebody waits.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.standing.is_some()
    }
}

impl Standing {
    /// Whether it takes what is sent there.
    fn takes(&mut self, now: Tick, taken: u64, length: u32) -> bool {
        self.taken = self.taken.min(taken);
        if (taken - self.taken).saturating_mul(HARDLY_ANY) < u64::from(length) {
            self.more_since = None;
            return false;
        }
        now.since(*self.more_since.get_or_insert(now)) >= BELIEVED
    }

    /// Whether more than wait were sent so long ago that no handshake of theirs is under way, than there
    /// were. A server that is slow and has a long queue accepts few of them, and this sees each one.
    fn surely_takes(&mut self, sent: Option<u64>, length: u32) -> bool {
        let before = self.sent[0];
        self.sent.rotate_left(1);
        self.sent[LOOKS - 1] = sent;
        before.is_some_and(|before| before.saturating_sub(length.into()) > self.taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said at the last of these looks, one every 50 ms; nothing before it.
    fn looks(looks: impl IntoIterator<Item = Waiting>) -> Option<Duration> {
        let (mut stall, mut said, mut now) = (Stall::default(), None, Tick(1));
        for waiting in looks {
            assert_eq!(said, None, "before {waiting:?}");
            said = stall.look(now, &waiting);
            now = now.after(Duration::from_millis(50));
        }
        said
    }

    fn counted(sent: u64, length: u32) -> Waiting {
        Waiting { length, most: 100, sent: Some(sent), first: None }
    }

    /// A hundred looks, and at each twentieth a count, when so many wait in other slots; what is said. `held` is
    /// told since which of the looks it is new, and which this is.
    fn counts_beside(
        others: u32,
        waiting: impl Fn(u32) -> Waiting,
        held: impl Fn(u32, u32) -> Held,
    ) -> Option<Duration> {
        let (mut stall, start) = (Stall::default(), Tick(1_000_000));
        let look = |tick: Tick| u32::try_from(tick.since(start).as_millis() / 50).unwrap();
        for n in 0..100 {
            let now = start.after(Duration::from_millis(50) * n);
            if let Some(said) = stall.look(now, &waiting(n)) {
                return Some(said);
            }
            if n % 20 == 15 && stall.is_doubtful(now) {
                let until = look(stall.begin_count(waiting(n).length, others));
                stall.counted(&Held { at: now, over: now, ..held(until, n) });
            }
        }
        None
    }

    fn counts(waiting: impl Fn(u32) -> Waiting, held: impl Fn(u32, u32) -> Held) -> Option<Duration> {
        counts_beside(0, waiting, held)
    }

    const NOBODY: Held = Held {
        at: Tick(0),
        over: Tick(0),
        fresh: 0,
        half_open: 0,
        half_open_fresh: 0,
        waiting: 0,
        waited: 0,
    };

    fn ordered(first: u32, length: u32) -> Waiting {
        Waiting { length, most: 100, sent: None, first: Some(first) }
    }

    fn bare(length: u32) -> Waiting {
        Waiting { length, most: 100, ..Waiting::default() }
    }

    #[test]
    fn who_accepts_nothing_for_two_seconds_is_seen() {
        let grows = |n: u32| counted(1000 + u64::from(n / 10), 1 + n / 10);
        assert_eq!(looks((0..40).map(grows)), None);
        assert_eq!(looks((0..=40).map(grows)), Some(LONGEST));
        assert_eq!(looks((0..40).map(|_| ordered(7, 1))), None);
        assert_eq!(looks((0..=40).map(|n| ordered(7, 1 + n))), Some(LONGEST));
        let late = (0..100).map(|_| counted(9, 0)).chain((0..40).map(|_| counted(10, 1)));
        assert_eq!(looks(late), None, "nobody waited before");
    }

    #[test]
    fn half_of_the_queue_needs_less_time_and_a_burst_is_no_failure() {
        assert_eq!(looks((0..20).map(|_| counted(1000, 50))), None);
        assert_eq!(looks((0..=20).map(|_| counted(1000, 50))), Some(LONGEST_HALF_FULL));
        assert_eq!(looks((0..=20).map(|_| counted(1000, 49))), None);
    }

    /// Clients that come again as soon as they are answered keep the queue at the same length.
    #[test]
    fn a_slow_server_that_accepts_is_none_that_stands_still() {
        let slow = |n: u32| counted(1000 + u64::from(n / 2), 30);
        assert_eq!(looks((0..2000).map(slow)), None);
        assert_eq!(looks((0..2000).map(|n| ordered(n / 20, 90))), None, "one a second");
        let full = |n: u32| counted(1000 + u64::from(n / 2), 99);
        assert_eq!(looks((0..2000).map(full)), None);
    }

    /// Ten a second, of ten thousand that wait and come again.
    #[test]
    fn a_slow_server_with_a_huge_queue_is_none_either() {
        let huge = |sent, length| Waiting { length, most: 16_384, sent: Some(sent), first: None };
        let slow = |n: u32| huge(100_000 + u64::from(n / 2), 10_000);
        assert_eq!(looks((0..2000).map(slow)), None);
        // It accepts none, and each look finds up to a hundred handshakes under way, more and more often.
        let none = |n: u32| huge(100_000 + u64::from(n) * 40 + u64::from(n * 37 % 100), 10_000 + n * 40);
        assert_eq!(looks((0..=20).map(none)), Some(LONGEST_HALF_FULL));
    }

    #[test]
    fn what_is_sent_to_a_full_queue_is_not_accepted() {
        let full = |n: u32| counted(1000 + 40 * u64::from(n), 100);
        assert_eq!(looks((0..80).map(full)), None);
        assert_eq!(looks((0..=80).map(full)), Some(LONGEST_UNCOUNTED));
        let filling = (0..20).map(|n| counted(1000 + 5 * u64::from(n), 5 * n));
        assert_eq!(looks(filling.chain((20..=81).map(full))), Some(LONGEST_UNCOUNTED));
        let slow = |n: u32| counted(1000 + u64::from(n), 99 + n % 2);
        assert_eq!(looks((0..2000).map(slow)), None, "it is shorter now and then");
    }

    #[test]
    fn handshakes_under_way_are_no_accepts() {
        // At every other look one is half done: sent, and not waiting yet.
        let far = |n: u32| counted(u64::from(1 + n / 10 + n % 2), 1 + n / 10);
        let said: Vec<bool> = {
            let (mut stall, mut now) = (Stall::default(), Tick(1));
            let look = |n| {
                now = now.after(Duration::from_millis(50));
                stall.look(now, &far(n)).is_some()
            };
            (0..60).map(look).collect()
        };
        assert!(said[..40].iter().all(|said| !said) && said[40..].iter().any(|said| *said), "{said:?}");
    }

    /// One waits, and of the others twenty a second begin a handshake that they never end.
    #[test]
    fn handshakes_that_never_end_hide_nobody_who_accepts_nothing() {
        let noise = |n: u32| counted(1000 + u64::from(n), 1);
        let begun = |since: u32, now: u32| Held { half_open: 40, half_open_fresh: now - since, ..NOBODY };
        assert_eq!(counts(noise, |_, _| NOBODY), None, "they were accepted");
        let said = counts(noise, begun);
        assert!(said.is_some_and(|said| said <= 2 * LONGEST), "{said:?}");
        assert_eq!(
            counts(noise, |since, now| Held { fresh: 1, ..begun(since, now) }),
            None,
            "it holds new ones"
        );
        // Those that were begun before it was doubted say nothing about who was sent since.
        let old = |_: u32, _: u32| Held { half_open: 40, half_open_fresh: 0, ..NOBODY };
        assert_eq!(counts(noise, old), None, "it ends each connection before it is counted");
        // The kernel may forget most of so many.
        let flood = |n: u32| counted(1000 + 90 * u64::from(n), 1);
        assert!(counts(flood, |_, _| Held { half_open: 50, ..NOBODY }).is_some());
        let shrinks = |n: u32| counted(1000 + u64::from(n), 1 + u32::from(n % 8 == 0));
        assert_eq!(counts(shrinks, begun), None, "one of two is accepted now and then");
    }

    /// Classic programs count nobody, nor does a full queue: what the generation holds says that it accepts.
    #[test]
    fn a_queue_that_stays_half_full_is_none_that_stands_still_if_new_ones_are_held() {
        for full in [|_: u32| bare(60), |n: u32| counted(1000 + u64::from(n), 100)] {
            let said = counts(full, |_, _| NOBODY);
            assert!(said.is_some_and(|said| said <= 2 * LONGEST), "{said:?}");
            assert_eq!(counts(full, |_, _| Held { fresh: 1, ..NOBODY }), None, "new ones at each count");
        }
    }

    /// Without a count of those that are sent: three wait, and the kernel lists who was not accepted.
    #[test]
    fn those_who_waited_from_the_first_count_on_are_not_accepted() {
        let three = |_: u32| bare(3);
        let stay = |_: u32, _: u32| Held { waiting: 3, waited: 3, ..NOBODY };
        let said = counts(three, stay);
        assert!(said.is_some_and(|said| said <= 2 * LONGEST), "{said:?}");
        // More come; those who were there are still.
        let said = counts(|n| bare(3 + n / 10), |_, now| Held { waiting: 3 + now / 10, waited: 4, ..NOBODY });
        assert!(said.is_some_and(|said| said <= 2 * LONGEST), "{said:?}");
        assert_eq!(counts(three, |_, _| Held { fresh: 1, ..stay(0, 0) }), None, "it holds new ones");
        // One of them was reset: it waits, and the kernel does not list it.
        assert!(counts(three, |_, _| Held { waiting: 2, waited: 2, ..NOBODY }).is_some());
        assert_eq!(counts(three, |_, _| NOBODY), None, "it cannot be told");
        // One was accepted after the first count, and none after the second.
        let once = |since: u32, _: u32| Held { waited: if since < 20 { 2 } else { 3 }, ..stay(0, 0) };
        assert!(counts(three, once).is_some());
    }

    /// It has ended each connection before it is counted, and as many come as it accepts.
    #[test]
    fn a_queue_where_one_of_those_who_waited_is_gone_is_served() {
        for (length, left) in [(1, 0), (3, 0), (3, 2), (30, 29), (30, 10)] {
            let served = |_: u32, _: u32| Held { waiting: length, waited: left, ..NOBODY };
            assert_eq!(counts(|_| bare(length), served), None, "{left} of {length}");
        }
    }

    /// Nobody tells in which slot they wait.
    #[test]
    fn those_who_may_wait_elsewhere_prove_nothing() {
        let three = |_: u32| bare(3);
        let slow = |waited: u32| move |_: u32, _: u32| Held { waiting: 33, waited, ..NOBODY };
        assert_eq!(counts_beside(30, three, slow(30)), None, "all of them may be the others'");
        assert_eq!(counts_beside(30, three, slow(32)), None, "one of this slot was accepted");
        assert!(counts_beside(30, three, slow(33)).is_some(), "nobody was, in any slot");
    }

    #[test]
    fn without_a_count_only_a_queue_that_stays_half_full_stands_still() {
        assert_eq!(looks((0..1000).map(|_| bare(49))), None);
        assert_eq!(looks((0..=80).map(|_| bare(50))), Some(LONGEST_UNCOUNTED));
        assert_eq!(looks((0..1000).map(|n| bare(90 + n % 3))), None, "it is shorter now and then");
    }
}
