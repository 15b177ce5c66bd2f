//! Who follows whom: what a change of generation makes of the durable state, step by step.
//!
//! A supd that was started again knows nothing but this state and perhaps an intent. It says the
//! end of what was under way with the same words as the one that lived to see it, so that no crash
//! changes what a rollback goes to, and the history has that end, too.

use crate::model::release::Verdict;
use crate::model::settings::Retain;
use crate::model::status::{SwapResult, SwapStatus};
use crate::model::{Durable, Intent, Kept, SwapId, SwapKind};

/// Why a swap ended that supd did not outlive.
pub const RESTARTED: &str = "supervisor-restarted";

/// The end of the change that was under way when supd died, if one was: what the next supd makes of it.
#[must_use]
pub fn unfinished(durable: &Durable, intent: Option<Intent>) -> Option<SwapStatus> {
    durable.clone().resume(intent)
}

impl Durable {
    /// A candidate is launched beside who serves.
    pub(super) fn challenge(&mut self, kind: SwapKind, candidate: Kept) {
        self.swap = Some(kind);
        self.unseen = None;
        self.candidate = Some(candidate);
    }

    /// Nobody serves: this one should, from now on. `proven`: who did before was ready once, so
    /// that there is something to go back to.
    pub(super) fn succeed(&mut self, kind: SwapKind, next: Kept, proven: bool) {
        self.swap = Some(kind);
        self.unseen = Some(next.generation);
        let last = self.active.replace(next);
        // These two launch what was active once more: it does not take its own place.
        let again = matches!(kind, SwapKind::Start | SwapKind::Restart);
        self.previous = last.filter(|_| proven && !again);
    }

    /// The traffic goes to the candidate.
    pub(super) fn switch(&mut self, to: Option<Kept>) {
        self.candidate = None;
        self.previous = self.active.take();
        self.active = to;
    }

    /// The traffic goes back to who had it before the switch.
    pub(super) fn turn_back(&mut self) {
        let kind = self.swap.take();
        let left = self.active.take();
        self.active = self.previous.take();
        // A rollback that failed has left the way forward where it was.
        if kind != Some(SwapKind::Rollback) {
            self.judge(left.as_ref(), Verdict::Bad);
            self.forward = left;
        }
    }

    /// What is active stays. Saying it twice changes nothing.
    pub(super) fn commit(&mut self, retain: Retain) {
        let previous = self.previous.take();
        self.unseen = None;
        // A record of a supd that did not write the kind means a swap: restarts lose by that what
        // they retained, once.
        let Some(kind) = self.swap.take().or(previous.is_some().then_some(SwapKind::Swap)) else { return };
        if kind == SwapKind::Rollback {
            self.judge(previous.as_ref(), Verdict::Bad);
        }
        let active = self.active.clone();
        self.judge(active.as_ref(), Verdict::Good);
        match (kind, previous) {
            (SwapKind::Swap, Some(previous)) => {
                self.retained = Some(previous).filter(|_| retain != Retain::None);
                self.forward = None;
            }
            (SwapKind::Swap, None) => self.forward = None,
            (SwapKind::Rollback, previous) => {
                self.retained = None;
                self.forward = previous.or(self.forward.take());
            }
            (SwapKind::Start | SwapKind::Restart, _) => {}
        }
    }

    /// Remembers how the release of a generation served.
    pub(super) fn judge(&mut self, kept: Option<&Kept>, verdict: Verdict) {
        let Some(label) = kept.and_then(|kept| kept.release.as_ref()) else { return };
        if let Some(release) = self.releases.iter_mut().find(|release| release.label == *label) {
            release.verdict = verdict;
        }
    }

    /// The candidate never took over.
    pub(super) fn give_up(&mut self) {
        if self.candidate.take().is_some() {
            self.swap = None;
        }
    }

    /// Whatever is under way is over: who has the traffic stays, who has yet to get it does not.
    pub(super) fn conclude(&mut self, retain: Retain) {
        self.give_up();
        self.commit(retain);
    }

    /// What becomes of the change that was under way when supd ended; `None`: none was. What is left to do
    /// is to [`conclude`](Self::conclude).
    pub(super) fn resume(&mut self, intent: Option<Intent>) -> Option<SwapStatus> {
        let [active, previous, candidate] =
            [&self.active, &self.previous, &self.candidate].map(|kept| kept.as_ref().map(|it| it.generation));
        let goes_back = |intent: Intent| candidate.is_none() && previous == Some(intent.to);
        let (from, to, result) = match intent.filter(|intent| self.finish(*intent)) {
            Some(intent) if goes_back(intent) => (previous, active?, SwapResult::RolledBack),
            Some(intent) => (active, intent.to, SwapResult::Committed),
            None if candidate.is_some() => (active, candidate?, SwapResult::Aborted),
            // To call it committed would tell of a success that nobody saw.
            None if active == self.unseen => (None, active?, SwapResult::Aborted),
            None if previous.is_some() => (previous, active?, SwapResult::Committed),
            None => {
                self.swap?;
                (None, active?, SwapResult::Aborted)
            }
        };
        let cause = Some(RESTARTED.to_owned());
        let swap_id = SwapId(self.swap_last);
        Some(SwapStatus { swap_id, from, to, result, ready: None, switch: None, gap: None, cause })
    }

    /// An intent that a dead supd left means that the switch may have happened: it did, from now
    /// on. False: the ledger has said the end of that swap already.
    fn finish(&mut self, intent: Intent) -> bool {
        let is = |kept: &Option<Kept>, wanted| kept.as_ref().map(|kept| kept.generation) == wanted;
        if intent.from.is_none() || !is(&self.active, intent.from) {
            return false;
        }
        if is(&self.candidate, Some(intent.to)) {
            let to = self.candidate.take();
            self.switch(to);
            return true;
        }
        if is(&self.previous, Some(intent.to)) {
            self.turn_back();
            return true;
        }
        // One that stood by: that it took over was to be the ledger's first word of it, and of its number.
        if intent.swap_id.0 <= self.swap_last {
            return false;
        }
        let standby = [&self.retained, &self.forward].into_iter().find(|kept| is(kept, Some(intent.to)));
        let Some(standby) = standby.cloned().flatten() else { return false };
        self.swap_last = intent.swap_id.0;
        self.challenge(intent.kind, standby);
        let to = self.candidate.take();
        self.switch(to);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Generation;

    fn kept(generation: u64) -> Option<Kept> {
        Some(Kept { generation: Generation(generation), release: None, pinned: true })
    }

    /// Generation 2 serves and 1 is retained; 3 was launched by this kind of change.
    fn challenged(kind: SwapKind) -> Durable {
        let mut durable = Durable { active: kept(2), retained: kept(1), ..Durable::fresh() };
        durable.challenge(kind, kept(3).expect("some"));
        durable
    }

    fn intent(from: u64, to: u64) -> Intent {
        Intent { swap_id: SwapId(1), from: Some(Generation(from)), to: Generation(to), kind: SwapKind::Swap }
    }

    fn end(end: Option<SwapStatus>) -> Option<(u64, u64, SwapResult)> {
        let end = end?;
        Some((end.from.map_or(0, |from| from.0), end.to.0, end.result))
    }

    #[test]
    fn what_never_took_over_is_given_up() {
        let mut durable = challenged(SwapKind::Swap);
        assert_eq!(end(durable.resume(None)), Some((2, 3, SwapResult::Aborted)));
        durable.conclude(Retain::Cold);
        assert_eq!((durable.active.clone(), durable.resume(None)), (kept(2), None));
        // Launched where nobody served: whether it was ever ready cannot be known.
        for proven in [true, false] {
            let mut durable = Durable { active: kept(2), ..Durable::fresh() };
            durable.succeed(SwapKind::Swap, kept(3).expect("some"), proven);
            assert_eq!(end(unfinished(&durable, None)), Some((0, 3, SwapResult::Aborted)));
            durable.conclude(Retain::Cold);
            assert_eq!((unfinished(&durable, None), durable.unseen), (None, None));
        }
    }

    #[test]
    fn a_warm_switch_that_the_ledger_never_heard_of_has_used_its_number() {
        let mut durable = Durable { active: kept(2), retained: kept(1), swap_last: 6, ..Durable::fresh() };
        let warm = Intent { swap_id: SwapId(7), ..intent(2, 1) };
        let found = durable.resume(Some(warm));
        assert_eq!(found.as_ref().map(|end| end.swap_id), Some(SwapId(7)));
        assert_eq!(end(found), Some((2, 1, SwapResult::Committed)));
        durable.conclude(Retain::Cold);
        assert_eq!((durable.swap_last, &durable.active), (7, &kept(1)));
        let mut said = Durable { active: kept(2), retained: kept(1), swap_last: 7, ..Durable::fresh() };
        assert_eq!(said.resume(Some(warm)), None);
    }

    #[test]
    fn a_crash_ends_each_kind_as_its_commit_does() {
        for kind in [SwapKind::Swap, SwapKind::Restart, SwapKind::Rollback] {
            let mut lived = challenged(kind);
            lived.switch(kept(3));
            let in_probation = lived.clone();
            lived.commit(Retain::Cold);
            let mut at_the_switch = challenged(kind);
            assert_eq!(end(at_the_switch.resume(Some(intent(2, 3)))), Some((2, 3, SwapResult::Committed)));
            at_the_switch.conclude(Retain::Cold);
            let mut later = in_probation;
            assert_eq!(end(later.resume(None)), Some((2, 3, SwapResult::Committed)));
            later.conclude(Retain::Cold);
            assert_eq!((&at_the_switch, &later), (&lived, &lived), "{kind:?}");
            let again = lived.clone();
            lived.commit(Retain::Cold);
            assert_eq!(lived, again, "{kind:?} said twice");
        }
    }

    #[test]
    fn a_record_without_a_kind_is_read_as_one_of_a_swap() {
        let mut old = Durable { active: kept(3), previous: kept(2), retained: kept(1), ..Durable::fresh() };
        old.conclude(Retain::Cold);
        assert_eq!((old.active, old.retained, old.previous), (kept(3), kept(2), None));
    }

    #[test]
    fn an_intent_whose_end_the_ledger_has_said_means_nothing() {
        let ended = Durable { active: kept(2), retained: kept(1), ..Durable::fresh() };
        let mut durable = ended.clone();
        assert_eq!((durable.resume(Some(intent(2, 3))), durable.resume(Some(intent(1, 2)))), (None, None));
        durable.conclude(Retain::Cold);
        assert_eq!(durable, ended);
    }

    #[test]
    fn a_way_back_is_finished_as_a_way_back() {
        let mut durable = challenged(SwapKind::Swap);
        durable.switch(kept(3));
        assert_eq!(end(durable.resume(Some(intent(3, 2)))), Some((2, 3, SwapResult::RolledBack)));
        durable.conclude(Retain::Cold);
        let wanted = Durable { active: kept(2), retained: kept(1), forward: kept(3), ..Durable::fresh() };
        assert_eq!(durable, wanted);
    }
}
