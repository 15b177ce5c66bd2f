//! Who follows whom: what a change of generation makes of the durable state, step by step.
//!
//! A supd that was started again knows nothing but this state and perhaps an intent. It says the
//! end of what was under way with the same words as the one that lived to see it, so that no crash
//! changes what a rollback goes to.

use crate::model::release::Verdict;
use crate::model::settings::Retain;
use crate::model::{Durable, Intent, Kept, SwapKind};

impl Durable {
    /// A candidate is launched beside who serves.
    pub(super) fn challenge(&mut self, kind: SwapKind, candidate: Kept) {
        self.swap = Some(kind);
        self.candidate = Some(candidate);
    }

    /// Nobody serves: this one should, from now on. `proven`: who did before was ready once, so
    /// that there is something to go back to.
    pub(super) fn succeed(&mut self, kind: SwapKind, next: Kept, proven: bool) {
        self.swap = Some(kind);
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

    /// An intent that a dead supd left means that the switch may have happened: it did, from now
    /// on. False: the ledger has said the end of that swap already.
    pub(crate) fn finish(&mut self, intent: Intent) -> bool {
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
        // One that stood by: that it took over was to be the ledger's first word of it.
        let standby = [&self.retained, &self.forward].into_iter().find(|kept| is(kept, Some(intent.to)));
        let Some(standby) = standby.cloned().flatten() else { return false };
        self.challenge(intent.kind, standby);
        let to = self.candidate.take();
        self.switch(to);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Generation, SwapId};

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

    #[test]
    fn a_crash_ends_each_kind_as_its_commit_does() {
        for kind in [SwapKind::Swap, SwapKind::Restart, SwapKind::Rollback] {
            let mut lived = challenged(kind);
            lived.switch(kept(3));
            let in_probation = lived.clone();
            lived.commit(Retain::Cold);
            let mut at_the_switch = challenged(kind);
            assert!(at_the_switch.finish(intent(2, 3)));
            at_the_switch.conclude(Retain::Cold);
            let mut later = in_probation;
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
        assert!(!durable.finish(intent(2, 3)) && !durable.finish(intent(1, 2)));
        durable.conclude(Retain::Cold);
        assert_eq!(durable, ended);
    }

    #[test]
    fn a_way_back_is_finished_as_a_way_back() {
        let mut durable = challenged(SwapKind::Swap);
        durable.switch(kept(3));
        assert!(durable.finish(intent(3, 2)));
        durable.conclude(Retain::Cold);
        let wanted = Durable { active: kept(2), retained: kept(1), forward: kept(3), ..Durable::fresh() };
        assert_eq!(durable, wanted);
    }
}
