//! A generation that is let go: what its clients have of it is finished before it is told to stop.

use crate::model::Tick;
use std::time::Duration;

/// How often what is left is counted.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What clients still have of a generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Open connections; `None`: supd may not look.
    pub connections: Option<u32>,
    /// So long at least the oldest has been open; `None`: that is not known.
    pub oldest: Option<Duration>,
    /// Connections that nobody has accepted yet, and queues with datagrams that nobody has read.
    pub queued: u32,
    /// Handshakes at its addresses that are half done, whosever they will be.
    pub half_open: u32,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Drain {
    /// Until then a half-done handshake may still be its own; `None`: not any more.
    settle: Option<Tick>,
    /// Until then its connections may take; `None`: for ever, or it is over.
    until: Option<Tick>,
    /// That time is over.
    over: bool,
    /// When to count again; `None`: it is being counted.
    look: Option<Tick>,
    seen: Option<Counts>,
    /// For as long as fewer wait at each count, its time is not over.
    patient: bool,
    /// Fewer waited at the last count than before.
    serves: bool,
}

impl Drain {
    /// Begins now. It is being counted from the first.
    pub(super) fn new(now: Tick, settle: Option<Tick>, span: Option<Duration>) -> Self {
        let over = span.is_some_and(|span| span.is_zero());
        let until = span.filter(|_| !over).map(|span| now.after(span));
        Self {
            settle: settle.filter(|settle| *settle > now),
            until,
            over,
            look: None,
            seen: None,
            patient: false,
            serves: false,
        }
    }

    /// From now on its connections may take so long, and longer for as long as it accepts those that wait.
    pub(super) fn give(&mut self, now: Tick, span: Option<Duration>) {
        (self.until, self.over, self.patient) = (span.map(|span| now.after(span)), false, true);
    }

    pub(super) fn deadline(&self) -> Option<Tick> {
        [self.settle, self.until, self.look].into_iter().flatten().min()
    }

    /// Some of it may be due. Whether what is left is to be counted again.
    pub(super) fn due(&mut self, now: Tick) -> bool {
        let is_due = |at: &mut Option<Tick>| at.take_if(|at| *at <= now).is_some();
        is_due(&mut self.settle);
        if is_due(&mut self.until) {
            let goes_on = self.patient && std::mem::take(&mut self.serves);
            self.until = goes_on.then(|| now.after(2 * LOOK_EVERY));
            self.over = !goes_on;
        }
        is_due(&mut self.look)
    }

    pub(super) fn counted(&mut self, now: Tick, counts: Counts) {
        self.serves = self.seen.is_some_and(|seen| counts.queued < seen.queued);
        self.seen = Some(counts);
        self.look = Some(now.after(LOOK_EVERY));
    }

    /// What was counted last.
    pub(super) fn seen(&self) -> Option<Counts> {
        self.seen
    }

    /// How long its connections may take yet; `None`: for ever, or they have had their time.
    pub(super) fn left(&self, now: Tick) -> Option<Duration> {
        self.until.map(|until| until.since(now))
    }

    /// Whether it may be told to stop.
    pub(super) fn is_over(&self) -> bool {
        let alone = |seen: Counts| seen.queued == 0 && seen.connections == Some(0);
        self.has_settled() && (self.over || self.seen.is_some_and(alone))
    }

    /// Whether nobody waits to be accepted any more; what it has accepted it may have for long.
    pub(super) fn is_quiet(&self) -> bool {
        self.has_settled() && (self.over || self.seen.is_some_and(|seen| seen.queued == 0))
    }

    fn has_settled(&self) -> bool {
        self.settle.is_none() || self.seen.is_some_and(|seen| seen.half_open == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Tick = Tick(1_000_000);
    const EMPTY: Counts = Counts { connections: Some(0), oldest: None, queued: 0, half_open: 0 };

    fn at(seconds: u64) -> Tick {
        NOW.after(Duration::from_secs(seconds))
    }

    /// Two seconds at a time, and no longer than that after it has accepted the last.
    #[test]
    fn whoever_is_launched_for_those_that_wait_has_time_while_it_accepts_them() {
        let mut drain = Drain::new(NOW, None, None);
        drain.give(NOW, Some(Duration::from_secs(5)));
        for second in 1..=20 {
            drain.due(at(second));
            assert!(!drain.is_over(), "after {second} s");
            drain.counted(at(second), Counts { queued: 100 - u32::try_from(second).unwrap(), ..EMPTY });
        }
        drain.counted(at(20), Counts { queued: 80, ..EMPTY });
        drain.due(at(23));
        assert!(drain.is_over(), "it accepts nobody any more");
    }

    #[test]
    fn it_is_over_once_nobody_is_left() {
        let mut drain = Drain::new(NOW, Some(at(3)), Some(Duration::from_secs(30)));
        assert!(!drain.is_over(), "nobody has counted");
        for busy in [
            Counts { connections: Some(1), ..EMPTY },
            Counts { queued: 1, ..EMPTY },
            Counts { half_open: 1, ..EMPTY },
            Counts { connections: None, ..EMPTY },
        ] {
            drain.counted(NOW, busy);
            assert!(!drain.is_over(), "{busy:?}");
        }
        drain.counted(NOW, EMPTY);
        assert!(drain.is_over());
    }

    #[test]
    fn it_is_quiet_once_nobody_waits_whoever_is_served() {
        let mut drain = Drain::new(NOW, Some(at(3)), Some(Duration::from_secs(30)));
        assert!(!drain.is_quiet(), "nobody has counted");
        for busy in [Counts { queued: 1, ..EMPTY }, Counts { half_open: 1, ..EMPTY }] {
            drain.counted(NOW, busy);
            assert!(!drain.is_quiet(), "{busy:?}");
        }
        drain.counted(NOW, Counts { connections: Some(9), ..EMPTY });
        assert!(drain.is_quiet() && !drain.is_over());
        drain.counted(at(30), Counts { queued: 1, ..EMPTY });
        drain.due(at(30));
        assert!(drain.is_quiet(), "it had its time to accept them");
    }

    #[test]
    fn a_half_done_handshake_is_waited_for_and_not_longer_than_it_may_take() {
        let mut drain = Drain::new(NOW, Some(at(3)), Some(Duration::from_secs(30)));
        drain.counted(NOW, Counts { half_open: 9, ..EMPTY });
        assert_eq!(drain.deadline(), Some(at(1)), "it is counted again");
        assert!(drain.due(at(1)) && !drain.is_over());
        assert_eq!(drain.deadline(), Some(at(3)));
        assert!(!drain.due(at(3)) && drain.is_over(), "new ones come all the time: they are another's");
    }

    #[test]
    fn connections_have_their_time_and_no_more() {
        let mut drain = Drain::new(NOW, None, Some(Duration::from_secs(30)));
        drain.counted(at(29), Counts { connections: Some(2), ..EMPTY });
        drain.due(at(29));
        assert!(!drain.is_over());
        drain.due(at(30));
        assert!(drain.is_over());
        assert_eq!(Drain::new(NOW, None, None).deadline(), None, "for ever");
        assert!(Drain::new(NOW, None, Some(Duration::ZERO)).is_over());
    }

    #[test]
    fn whoever_has_begun_to_accept_is_given_its_time_from_then_on() {
        let mut drain = Drain::new(NOW, None, Some(Duration::from_secs(30)));
        drain.counted(at(29), Counts { queued: 2, ..EMPTY });
        drain.give(at(29), Some(Duration::from_secs(5)));
        assert_eq!(drain.left(at(29)), Some(Duration::from_secs(5)));
        drain.due(at(30));
        assert!(!drain.is_over());
        drain.due(at(34));
        assert!(drain.is_over());
    }
}
