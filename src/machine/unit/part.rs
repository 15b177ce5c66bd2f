//! supd itself ends in the middle of a swap: what becomes of that is decided as the next supd would, and
//! written down before anybody is told. Where it cannot be known, the next supd says it.

use super::super::swap::{Step, Swap};
use super::super::turn::Turn;
use super::{Drain, Unit, Waiter};
use crate::machine::effect::Level;
use crate::model::status::SwapResult;
use crate::model::{ClientId, ExitStatus, Generation, Happening, RecordId, Reply, WaitFor};

/// Why such a swap ended.
const ENDS: &str = "supd was told to end meanwhile";

/// Whom to tell of a swap that supd's own end has cut short.
#[derive(Debug, Clone)]
pub(super) struct Parting {
    /// Once the ledger has this.
    record: RecordId,
    pub(super) waiters: Vec<Waiter>,
    /// Who asked to undo it.
    pub(super) undoers: Vec<ClientId>,
    /// Who is let go of by it.
    from: Option<Generation>,
    reply: Reply,
}

impl Unit {
    pub(super) fn part(&mut self, turn: &mut Turn<'_>) {
        let Some(mut swap) = self.swap.take() else { return };
        Self::end_check(&swap, turn);
        self.keep_telling(&swap);
        swap.cause.get_or_insert_with(|| ENDS.to_owned());
        self.leave_intent(&swap, turn);
        let end = self.end_of(&swap, turn);
        let (mut waiters, drains): (Vec<Waiter>, Vec<Waiter>) =
            std::mem::take(&mut self.waiters).into_iter().partition(|waiter| waiter.drained.is_none());
        self.waiters = drains;
        waiters.extend(self.next.take().and_then(|next| next.1));
        let unknown = if self.durable.swap.is_some() { SwapResult::Running } else { SwapResult::Stopped };
        let result = end.map_or(unknown, |(_, result)| result);
        self.last_swap = Some(swap.status(result));
        let reply = parting(&swap, result);
        let undoers = std::mem::take(&mut swap.undoers);
        match end {
            Some((record, _)) => {
                self.parting = Some(Box::new(Parting { record, waiters, undoers, from: swap.from, reply }));
            }
            None => {
                let waiters = waiters.iter().map(|waiter| waiter.client);
                waiters.chain(undoers).for_each(|client| self.reply(client, reply.clone(), turn));
            }
        }
    }

    /// The record that says its end, and which; `None`: nothing began yet, or the switch is on its way and
    /// its outcome will not be heard: the next supd says it.
    fn end_of(&mut self, swap: &Swap, turn: &mut Turn<'_>) -> Option<(RecordId, SwapResult)> {
        let said = swap.step.end();
        if let (Some(result), Some(record)) = (said, swap.step.record()) {
            return Some((record, result));
        }
        let turned = swap.step.is_turning().then_some(SwapResult::RolledBack);
        let switching = matches!(swap.step, Step::Switching);
        let resumed = || self.durable.clone().resume(None).filter(|_| !switching).map(|end| end.result);
        let result = said.or(turned).or_else(resumed)?;
        self.conclude();
        self.forget_untold_end(swap.id);
        let happening = Happening::Ended { swap_id: swap.id, result, cause: swap.cause.clone() };
        Some((self.record(happening, swap.client, turn), result))
    }

    /// The ledger has the end of what was cut short, or will not have it from this supd.
    pub(super) fn parted(&mut self, record: RecordId, failure: Option<&str>, turn: &mut Turn<'_>) {
        let Some(parting) = self.parting.take_if(|parting| parting.record == record) else { return };
        let reply = match failure {
            None => parting.reply,
            Some(why) => {
                let text = format!("supd ends, and the ledger cannot say what became of it: {why}");
                turn.note(Level::Warning, parting.reply.generation, text.clone());
                let unknown = Reply::new(ExitStatus::Timeout, true, text);
                unknown.about(parting.reply.swap_id, parting.reply.generation)
            }
        };
        let drains =
            parting.from.filter(|from| self.groups.contains_key(from) && reply.status == ExitStatus::Done);
        for client in parting.undoers {
            self.reply(client, too_late(&reply), turn);
        }
        for waiter in parting.waiters {
            match drains.filter(|_| waiter.wait == WaitFor::Drained) {
                Some(of) => {
                    let drained = Some(Drain { of, swap_id: reply.swap_id, to: reply.generation });
                    self.waiters.push(Waiter { drained, ..waiter });
                }
                None => self.reply(waiter.client, reply.clone(), turn),
            }
        }
    }
}

/// What whoever wanted it undone is told: not that it is done, where it was committed.
fn too_late(reply: &Reply) -> Reply {
    match reply.status {
        ExitStatus::Done => Reply { status: ExitStatus::Refused, changed: false, ..reply.clone() },
        _not_committed => reply.clone(),
    }
}

/// What whoever waits for it is told.
fn parting(swap: &Swap, result: SwapResult) -> Reply {
    let (to, about) = (swap.to, (Some(swap.id), Some(swap.to)));
    let reply = match result {
        SwapResult::Committed => {
            let text = format!("generation {to} is committed: supd ends, and its next start goes on with it");
            Reply::done(true, text)
        }
        SwapResult::RolledBack => {
            let cause = swap.cause.as_deref().unwrap_or(ENDS);
            let text = format!("{cause}; supd ends, and its next start goes on with what was before");
            Reply::new(ExitStatus::RolledBack, true, text)
        }
        SwapResult::Running => {
            let text = format!(
                "supd ends in the middle of the switch to generation {to}: its next start finishes it"
            );
            Reply { next: Some("history".to_owned()), ..Reply::new(ExitStatus::Timeout, true, text) }
        }
        SwapResult::Failed | SwapResult::Aborted | SwapResult::Stopped => {
            Reply::new(ExitStatus::Down, true, swap.cause.as_deref().unwrap_or(ENDS))
        }
    };
    reply.about(about.0, about.1)
}
