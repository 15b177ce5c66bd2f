//! A swap is cut short, by a stop or since supd itself ends. What becomes of it is written down before anybody
//! is told: of a stop with the line of the stop, of supd's own end as the next supd would decide; where
//! that cannot be known, the next supd says it.

use super::super::swap::{Step, Swap};
use super::super::turn::Turn;
use super::{Drain, Unit, Waiter};
use crate::machine::effect::Level;
use crate::model::status::SwapResult;
use crate::model::{ClientId, ExitStatus, Generation, Happening, RecordId, Reply, WaitFor};

/// Why such a swap ended.
const ENDS: &str = "supd was told to end meanwhile";

/// Whom to tell of a swap that was cut short.
#[derive(Debug, Clone)]
pub(super) struct Parting {
    /// Once the ledger has this; `None`: that is yet to be sent.
    pub(super) record: Option<RecordId>,
    pub(super) waiters: Vec<Waiter>,
    /// Who asked to undo it.
    pub(super) undoers: Vec<ClientId>,
    /// Who is let go of by it.
    from: Option<Generation>,
    reply: Reply,
    /// What cut it short.
    why: &'static str,
}

impl Unit {
    pub(super) fn part(&mut self, turn: &mut Turn<'_>) {
        let Some(swap) = self.cut_short(ENDS, turn) else { return };
        self.leave_intent(&swap, turn);
        let end = self.end_of(&swap, turn);
        let unknown = if self.durable.swap.is_some() { SwapResult::Running } else { SwapResult::Stopped };
        let result = end.map_or(unknown, |(_, result)| result);
        self.last_swap = Some(swap.status(result));
        let record = end.map(|(record, _)| record);
        self.part_with(record, swap, result, ENDS);
        if record.is_none() {
            self.let_go(None, turn);
        }
    }

    /// Takes the running swap away; whoever waits for it is told later. The one that was to follow it has
    /// not begun, and never will.
    pub(super) fn cut_short(&mut self, why: &str, turn: &mut Turn<'_>) -> Option<Swap> {
        let mut swap = *self.swap.take()?;
        Self::end_check(&swap, turn);
        self.keep_telling(&swap);
        self.give_back_lent(&swap, turn);
        swap.cause.get_or_insert_with(|| why.to_owned());
        if let Some(next) = self.next.take().and_then(|next| next.1) {
            let reply = Reply::new(ExitStatus::Down, false, format!("{why}: this swap has not begun"));
            self.reply(next.client, reply, turn);
        }
        Some(swap)
    }

    /// Whoever waits for what was cut short waits for this record; `None`: it is yet to come.
    pub(super) fn part_with(
        &mut self,
        record: Option<RecordId>,
        swap: Swap,
        result: SwapResult,
        why: &'static str,
    ) {
        let reply = parting(&swap, result, why);
        let (waiters, drains) =
            std::mem::take(&mut self.waiters).into_iter().partition(|waiter| waiter.drained.is_none());
        self.waiters = drains;
        self.parting =
            Some(Box::new(Parting { record, waiters, undoers: swap.undoers, from: swap.from, reply, why }));
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
        if self.parting.as_ref().is_some_and(|parting| parting.record == Some(record)) {
            self.let_go(failure, turn);
        }
    }

    pub(super) fn let_go(&mut self, failure: Option<&str>, turn: &mut Turn<'_>) {
        let Some(parting) = self.parting.take() else { return };
        let reply = match failure {
            None => parting.reply,
            Some(reason) => {
                let why = parting.why;
                let text = format!("{why}, and the ledger cannot say what became of it: {reason}");
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
fn parting(swap: &Swap, result: SwapResult, why: &str) -> Reply {
    let to = swap.to;
    let cause = swap.cause.as_deref().unwrap_or(why);
    let reply = match result {
        SwapResult::Committed => Reply::done(true, format!("generation {to} is committed; {why}")),
        SwapResult::RolledBack => {
            Reply::new(ExitStatus::RolledBack, true, format!("{cause}; rolled back; {why}"))
        }
        SwapResult::Running => {
            let text = format!(
                "{why}, in the middle of the switch to generation {to}: supd's next start finishes it"
            );
            Reply { next: Some("history".to_owned()), ..Reply::new(ExitStatus::Timeout, true, text) }
        }
        SwapResult::Failed | SwapResult::Aborted | SwapResult::Stopped => {
            Reply::new(ExitStatus::Down, true, cause)
        }
    };
    reply.about(Some(swap.id), Some(to))
}
