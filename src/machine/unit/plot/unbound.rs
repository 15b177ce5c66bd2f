//! Started, and on no port: what it binds is left unanswered until a person says.

use super::super::Unit;
use crate::machine::effect::{Action, Level};
use crate::machine::swap::table::SwapCueKind;
use crate::machine::swap::{Plan, Step, Swap};
use crate::machine::turn::Turn;
use crate::machine::worker::Cue;
use crate::model::settings::{Handoff, Ready};
use crate::model::{Generation, Progress, Reply, WorkerId};

impl Unit {
    /// Whether this can be started unbound, where a person wants that; why not, and what to type.
    pub(in crate::machine::unit) fn can_wait_unbound(&self, plan: &Plan) -> Result<(), Reply> {
        if !plan.stops.unbound {
            return Ok(());
        }
        let service = &plan.settings.service;
        let (text, next) = if service.handoff == Handoff::Inherit {
            let text = "Handoff = \"inherit\": it binds nothing itself, so there is no bind that could wait";
            (text.to_owned(), format!("swap {} --hold", self.name))
        } else if service.ready == Ready::Started {
            let text = "Ready = \"started\": it counts as ready before it binds; write Ready = \"listen\"";
            (text.to_owned(), format!("swap {} --hold", self.name))
        } else if let Some(standby) = self.standby_of(plan) {
            let text = format!("generation {standby} stands by already, and has bound what it binds");
            (text, format!("swap {} --hold", self.name))
        } else if self.durable.active.is_none() || !self.groups.values().any(|group| group.answers()) {
            let text = "nothing serves: there is nobody who could go on until it is promoted";
            (text.to_owned(), format!("start {}", self.name))
        } else {
            return Ok(());
        };
        Err(Reply::refused(text, next))
    }

    /// Before anything of it runs.
    pub(super) fn hold_binds(&mut self, swap: &mut Swap, turn: &mut Turn<'_>) {
        swap.unbound = (swap.plan.stops.unbound && swap.from.is_some()) || Self::binds_after(swap);
        if swap.unbound {
            turn.act(Action::HoldBinds(swap.to));
        }
    }

    /// A worker waits in its bind.
    pub(in crate::machine::unit) fn bind_waits(&mut self, worker: WorkerId, turn: &mut Turn<'_>) {
        // One that is told late, of binds that are answered by now, would wait for ever.
        let waits = self.swap.as_ref().filter(|swap| swap.unbound).map(|swap| swap.to);
        match self.find(worker) {
            Some((generation, index)) if waits == Some(generation) => {
                self.group_cue(generation, index, &Cue::Waits, turn);
            }
            Some(_) | None => turn.note(Level::Debug, None, format!("stale: the bind of {worker} waits")),
        }
    }

    /// It waits for a person, as one does that is held; or for nobody to be led to who serves.
    pub(super) fn wait_unbound(&mut self, swap: &mut Swap, turn: &mut Turn<'_>) -> bool {
        if !swap.plan.stops.unbound {
            return self.answer_binds(swap, turn);
        }
        swap.step = Step::Unbound;
        self.progress(&Progress::Unbound { generation: swap.to }, turn);
        turn.note(Level::Info, Some(swap.to), "started and on no port: its binds wait");
        if let Some(reply) = self.stands_at(swap) {
            self.resolve_all(&reply, turn);
        }
        true
    }

    /// What it binds is its own from now on, and it goes on towards ready.
    pub(super) fn answer_binds(&mut self, swap: &mut Swap, turn: &mut Turn<'_>) -> bool {
        if Self::binds_after(swap) {
            return self.make_way(swap, turn);
        }
        self.bind_in_gap(swap, turn)
    }

    pub(super) fn bind_in_gap(&mut self, swap: &mut Swap, turn: &mut Turn<'_>) -> bool {
        self.bind_now(swap, turn);
        swap.step = Step::Launching;
        swap.launched = turn.now;
        turn.note(Level::Info, Some(swap.to), "its binds are answered");
        if let Some(group) = self.groups.get_mut(&swap.to) {
            let _ready_or_not_yet = group.cue_all(&Cue::Bind, turn);
            // Where every worker had said so while it waited.
            if group.serves() {
                return self.proceed(swap, turn);
            }
        }
        true
    }

    /// It is ready and none of its binds ever had to wait: held, rather than let take over unasked.
    pub(super) fn ready_unbound(&mut self, swap: &mut Swap, turn: &mut Turn<'_>) -> bool {
        if Self::binds_after(swap) {
            let text = "it is ready, and has bound no listener of the unit: nobody could be led to it";
            swap.unfit = true;
            return self.undo(swap, text, turn);
        }
        self.bind_now(swap, turn);
        let text =
            "it is ready, and has bound no listener of the unit yet: held, as it cannot be left unbound";
        turn.note(Level::Warning, Some(swap.to), text);
        self.progress(&Progress::Note(text.to_owned()), turn);
        self.hold(swap, turn)
    }

    fn bind_now(&mut self, swap: &mut Swap, turn: &mut Turn<'_>) {
        if Self::binds_after(swap) {
            self.wait_for_next(swap, turn);
        }
        swap.unbound = false;
        turn.act(Action::AnswerBinds(swap.to));
    }

    /// Whether the running swap waits for this one to be as far as that.
    pub(in crate::machine::unit) fn heard_unbound(&mut self, generation: Generation, turn: &mut Turn<'_>) {
        let all = self.groups.get(&generation).is_some_and(|group| group.is_unbound());
        if all && self.swap.as_ref().is_some_and(|swap| swap.to == generation) {
            self.swap_cue(SwapCueKind::Unbound, "", turn);
        }
    }
}
