//! The end of a unit: refuse, serve what is queued, end the workers, write it down.

use super::super::effect::{Action, Level};
use super::super::group::Role;
use super::super::swap::{Step, Swap};
use super::super::turn::Turn;
use super::super::worker::Cue;
use super::{Life, Unit};
use crate::model::status::SwapResult;
use crate::model::{ClientId, ExitStatus, Generation, Happening, RecordId, Reply, Tick, Want};
use std::time::Duration;

/// How long the hands may take to let queued connections be served before a stop goes on.
const UNLISTEN_LONGEST: Duration = Duration::from_secs(10);
/// How long `stop --now` leaves a worker after KillSignal.
const NOW: Duration = Duration::from_secs(5);
/// What is said of a stop that the disk does not take.
const NOT_DURABLE: &str = "is stopped, but the ledger cannot say so yet: a restart of supd would start it";
/// How far a stop is.
#[derive(Debug, Clone)]
pub(super) struct Stopping {
    pub(super) stage: StopStage,
    /// Who waits for it.
    pub(super) clients: Vec<ClientId>,
    /// Whose it is, still connected or not.
    author: Option<ClientId>,
    /// supd itself is ending: what the unit should do is not changed by that.
    pub(super) shutdown: bool,
    /// A person asked for it, whether still connected or not: that is for the ledger.
    pub(super) by_person: bool,
    pub(super) keep_listening: bool,
    /// Workers that are left then are killed.
    pub(super) kill: Option<Tick>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StopStage {
    /// New connections are refused, queued ones still served.
    Unlistening { until: Tick },
    /// The workers are on their way out.
    Ending,
    /// It is on its way into the ledger.
    Recording { record: RecordId },
}

/// The end of a swap that a stop cut short: told together with the stop.
#[derive(Debug, Clone)]
pub(super) struct CutEnd {
    happening: Happening,
    /// Who asked for the swap.
    client: Option<ClientId>,
    /// Who was to have the traffic again.
    back_to: Option<Generation>,
}

impl Unit {
    pub(super) fn stop(
        &mut self,
        client: Option<ClientId>,
        now: bool,
        keep_listening: bool,
        shutdown: bool,
        turn: &mut Turn<'_>,
    ) {
        self.stop_deploy(turn);
        if let Life::Stopping(stopping) = &mut self.life {
            stopping.by_person |= client.is_some();
            stopping.clients.extend(client);
            stopping.author = stopping.author.or(client);
            stopping.shutdown |= shutdown;
            stopping.keep_listening &= keep_listening;
            if now {
                self.stop_now(turn);
            }
            return;
        }
        let unsaved = self.unsaved.is_some();
        if let Life::Stopped { keep_listening: listens } = &mut self.life {
            let closes = *listens && !keep_listening;
            *listens &= keep_listening;
            if let Some(client) = client {
                let reply = match (closes, unsaved) {
                    (true, false) => Reply::done(true, "listens no longer"),
                    (false, false) => Reply::done(false, "is stopped already"),
                    (closes, true) => Reply::new(ExitStatus::Failed, closes, NOT_DURABLE),
                };
                self.reply(client, reply, turn);
            }
            return;
        }
        self.answer_armed(turn);
        if shutdown {
            self.part(turn);
        } else {
            self.cut_swap(turn);
        }
        self.drop_again(turn);
        self.end_traffic_job(turn);
        turn.note(Level::Info, None, "stopping");
        turn.act(Action::Unwatch);
        let stage = StopStage::Unlistening { until: turn.now.after(UNLISTEN_LONGEST) };
        let by_person = client.is_some();
        let clients = client.into_iter().collect();
        self.life = Life::Stopping(Stopping {
            stage,
            clients,
            author: client,
            shutdown,
            by_person,
            keep_listening,
            kill: None,
        });
        self.forget_ended(turn);
        self.end_unready(turn);
        if now {
            self.stop_now(turn);
        } else if keep_listening {
            self.end_all(turn);
        } else {
            turn.act(Action::Unlisten);
        }
    }

    /// What serves finishes what is queued; what does not serve is not begun any more.
    pub(super) fn end_unready(&mut self, turn: &mut Turn<'_>) {
        let mut told = Vec::new();
        for (generation, group) in self.groups.iter_mut() {
            // Who drains already has no more time than it had.
            if !matches!(group.role, Role::Draining(_)) {
                group.role = Role::Leaving;
            }
            told.push((*generation, group.leave_unready(turn)));
        }
        for (generation, told) in told {
            self.heard(generation, told, turn);
        }
    }

    /// Ends the running swap because the unit stops. Nobody is told before the ledger has it: until then a
    /// supd that dies is followed by one that takes the swap for what it had come to.
    fn cut_swap(&mut self, turn: &mut Turn<'_>) {
        const WHY: &str = "the unit was stopped meanwhile";
        let began = self.durable.swap.is_some();
        let Some(swap) = self.cut_short(WHY, turn) else { return };
        // Until the stop is written, a supd that dies is followed by one that finishes the way back.
        let back_to = swap.from.filter(|_| swap.step.is_turning());
        if back_to.is_none() {
            self.leave_intent(&swap, turn);
        }
        let said = swap.step.end();
        let result = said.unwrap_or(SwapResult::Stopped);
        let record = swap.step.record().filter(|_| said.is_some());
        let happening = Happening::Ended { swap_id: swap.id, result, cause: swap.cause.clone() };
        let client = swap.client;
        self.last_swap = Some(swap.status(result));
        self.part_with(record, swap, result, WHY);
        match (said, record) {
            (Some(_), Some(_)) => {}
            // It goes on being said, and nobody waits for that.
            (Some(_), None) => self.let_go(Some("the disk has refused it so far"), turn),
            (None, _) if began => self.cut_end = Some(Box::new(CutEnd { happening, client, back_to })),
            (None, _) => self.let_go(None, turn),
        }
    }

    /// Where the switch may have happened, the intent goes when the ledger says the same. So does that of a
    /// way back: what must not stay is not what a start takes.
    pub(super) fn leave_intent(&mut self, swap: &Swap, turn: &mut Turn<'_>) {
        let switching = matches!(swap.step, Step::Switching);
        if swap.step.is_turning() {
            self.durable.turn_back();
            self.intent_left = swap.from;
        } else if switching || (swap.step.has_switched() && self.unsaved.is_some()) {
            self.intent_left = Some(swap.to);
        } else {
            self.clear_old_intent(turn);
        }
    }

    pub(super) fn answer_armed(&mut self, turn: &mut Turn<'_>) {
        let clients = match &mut self.life {
            Life::Arming { clients, .. } | Life::Waiting { clients, .. } => std::mem::take(clients),
            Life::Stopped { .. } | Life::Blocked { .. } | Life::Up | Life::Stopping(_) => Vec::new(),
        };
        for client in clients {
            self.reply(client, Reply::new(ExitStatus::Down, true, "the unit was stopped meanwhile"), turn);
        }
        self.end_refresh("the unit was stopped meanwhile; its new listeners apply at the next start", turn);
    }

    pub(super) fn stop_now(&mut self, turn: &mut Turn<'_>) {
        let Life::Stopping(stopping) = &mut self.life else { return };
        if stopping.kill.is_none() {
            stopping.kill = Some(turn.now.after(NOW));
        }
        if matches!(stopping.stage, StopStage::Unlistening { .. }) {
            self.end_all(turn);
        }
        self.cut_drains(turn);
    }

    pub(super) fn unlistened(&mut self, turn: &mut Turn<'_>) {
        if let Life::Stopping(Stopping { stage: StopStage::Unlistening { .. }, .. }) = self.life {
            self.end_all(turn);
        }
    }

    pub(super) fn end_all(&mut self, turn: &mut Turn<'_>) {
        if let Life::Stopping(stopping) = &mut self.life {
            stopping.stage = StopStage::Ending;
        }
        let generations: Vec<Generation> = self.groups.keys().copied().collect();
        for generation in generations {
            self.retire(generation, turn);
        }
    }

    /// Every process is gone.
    pub(super) fn ended(&mut self, turn: &mut Turn<'_>) {
        let Life::Stopping(stopping) = &mut self.life else { return };
        if stopping.shutdown && !stopping.by_person {
            self.life = Life::STOPPED;
            return;
        }
        self.durable.want = Want::Down;
        let cut = self.cut_end.take();
        if let Some(back_to) = cut.as_ref().and_then(|cut| cut.back_to) {
            self.durable.turn_back();
            self.intent_left = Some(back_to);
        }
        self.conclude();
        // Each swap has its own end in the history, and the stop has its line as well.
        let cut = cut.map(|cut| self.record(cut.happening, cut.client, turn));
        let Life::Stopping(stopping) = &self.life else { return };
        let record = self.record(Happening::Stopped, stopping.author, turn);
        if let Some(parting) = &mut self.parting {
            parting.record.get_or_insert(cut.unwrap_or(record));
        }
        if let Life::Stopping(stopping) = &mut self.life {
            stopping.stage = StopStage::Recording { record };
        }
    }

    pub(super) fn stopped(&mut self, stopping: &Stopping, failure: Option<&str>, turn: &mut Turn<'_>) {
        turn.note(Level::Info, None, "stopped");
        if failure.is_none() {
            turn.act(Action::ClearIntent);
        }
        let keep_listening = stopping.keep_listening && !stopping.shutdown;
        self.life = Life::Stopped { keep_listening };
        let reply = match failure {
            None => Reply::done(true, "is stopped"),
            Some(reason) => {
                let text = format!("{NOT_DURABLE} ({reason})");
                Reply::new(ExitStatus::Failed, true, text)
            }
        };
        for client in stopping.clients.iter().copied() {
            self.reply(client, reply.clone(), turn);
        }
    }

    pub(super) fn kill_all(&mut self, turn: &mut Turn<'_>) {
        let generations: Vec<Generation> = self.groups.keys().copied().collect();
        for generation in generations {
            let Some(group) = self.groups.get_mut(&generation) else { continue };
            let told = group.cue_all(&Cue::Kill, turn);
            self.heard(generation, told, turn);
        }
    }
}
