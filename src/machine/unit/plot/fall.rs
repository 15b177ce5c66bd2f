//! Back at once from a generation that ended while the record of its commit was on its way to the disk.
//!
//! That record cannot be taken back, and says the truth once it is there: it was committed. So the way back
//! is a change of its own, to who had the traffic a moment ago and is still ready.

use super::super::Unit;
use crate::machine::effect::{Action, Level};
use crate::machine::swap::{Plan, Swap};
use crate::machine::turn::Turn;
use crate::model::{ExitStatus, Generation, Kept, Progress, Reply, Share, Stops, SwapKind};

impl Unit {
    /// Its commit is on the disk.
    pub(super) fn committed(&mut self, swap: &mut Swap, turn: &mut Turn<'_>) -> bool {
        match self.falls_back(swap) {
            Some(from) => self.fall_back(swap, from, turn),
            None => self.finish(swap, turn),
        }
    }

    /// Whom to go back to from what is committed by now, and takes no connections. Nobody, if it serves in
    /// part: that is what Restart is for.
    pub(super) fn falls_back(&self, swap: &Swap) -> Option<Generation> {
        let down = self.groups.get(&swap.to).is_none_or(|group| group.stalled || !group.answers());
        let from = swap.from.filter(|_| swap.cause.is_some() && swap.steered && down)?;
        let ready = self.groups.get(&from).is_some_and(|group| group.steered && group.serves());
        // What the ledger does not name, the next supd would not know.
        let named = [&self.durable.retained, &self.durable.forward].into_iter().flatten();
        (ready && named.map(|kept: &Kept| kept.generation).any(|kept| kept == from)).then_some(from)
    }

    /// The same request goes on as a change to that one.
    pub(super) fn fall_back(&mut self, swap: &mut Swap, from: Generation, turn: &mut Turn<'_>) -> bool {
        turn.act(Action::ClearIntent);
        let Some(group) = self.groups.get(&from) else { return self.finish(swap, turn) };
        let cause = swap.cause.take().unwrap_or_default();
        let text = format!("committed, and back to generation {from} at once: {cause}");
        turn.note(Level::Warning, Some(swap.to), text);
        let plan = Plan {
            // The way forward, and the way back, are as they were before.
            kind: match swap.plan.kind {
                SwapKind::Rollback => SwapKind::Swap,
                SwapKind::Start | SwapKind::Swap | SwapKind::Restart => SwapKind::Rollback,
            },
            settings: group.launch.settings.clone(),
            release: group.launch.release.clone(),
            origin: None,
            // Nobody else serves: there is nothing to share.
            stops: Stops { canary: Some(Share::FULL), ..Stops::default() },
        };
        self.progress(&Progress::RollingBack { from: swap.to, to: from, cause: cause.clone() }, turn);
        self.begin_warm(plan, from, None, turn);
        if let Some(back) = self.swap.take() {
            let (client, ended) = (swap.client, swap.ended.take());
            let undoers = std::mem::take(&mut swap.undoers);
            *swap = Swap { fell: Some(cause), client, ended, undoers, ..*back };
        }
        true
    }

    /// It is back: tells everybody.
    pub(super) fn tell_fallen(&mut self, swap: &Swap, cause: &str, turn: &mut Turn<'_>) {
        // Who is launched again for what failed to take its place was told of by then.
        if swap.warm {
            self.alarm_fallen(swap, cause, turn);
        }
        let (to, about) = (swap.to, (Some(swap.id), Some(swap.to)));
        let mut reply =
            Reply::new(ExitStatus::RolledBack, true, format!("{cause}; rolled back to generation {to}"));
        reply.ended.clone_from(&swap.ended);
        self.resolve_all(&reply.about(about.0, about.1), turn);
        for client in &swap.undoers {
            let text = format!("generation {to} is active again");
            self.reply(*client, Reply::done(true, text).about(about.0, about.1), turn);
        }
    }
}
