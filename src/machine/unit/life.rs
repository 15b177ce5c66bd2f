//! The unit as a whole: on demand, blocked, stopping, stopped.

use super::super::effect::{Action, Level};
use super::super::group::Role;
use super::super::swap::table::SwapCueKind;
use super::super::swap::{Plan, Step, Swap};
use super::super::turn::Turn;
use super::super::worker::Cue;
use super::{Life, StopStage, Stopping, Unit, Waiter};
use crate::model::settings::Start;
use crate::model::status::SwapResult;
use crate::model::{ClientId, ExitStatus, Generation, Happening, Reply, SwapKind, Tick, Want};
use std::time::Duration;

/// How long the hands may take to let queued connections be served before a stop goes on.
const UNLISTEN_LONGEST: Duration = Duration::from_secs(10);
/// How long `stop --now` leaves a worker after KillSignal.
const NOW: Duration = Duration::from_secs(5);
/// What is said of a stop that the disk does not take.
const NOT_DURABLE: &str = "is stopped, but the ledger cannot say so yet: a restart of supd would start it";
/// The first pause before listeners that could not be bound are tried again; it doubles.
const BLOCKED_FIRST: Duration = Duration::from_secs(1);
/// The longest such pause.
const BLOCKED_LONGEST: Duration = Duration::from_secs(60);

impl Unit {
    /// Begins to serve, or to wait for the first connection.
    pub(super) fn start(&mut self, plan: Plan, waiter: Option<Waiter>, turn: &mut Turn<'_>) {
        if plan.settings.service.start == Start::OnDemand && plan.kind == SwapKind::Start {
            self.arm(waiter.map(|waiter| waiter.client), turn);
        } else {
            self.begin(plan, waiter, turn);
        }
    }

    /// On demand: binds and waits.
    pub(super) fn arm(&mut self, client: Option<ClientId>, turn: &mut Turn<'_>) {
        let job = turn.job();
        turn.act(Action::Bind { job, settings: self.settings.clone() });
        self.bound.extend(self.settings.sockets.iter().cloned());
        self.life = Life::Arming { job, clients: client.into_iter().collect() };
    }

    pub(super) fn bound(&mut self, job: crate::model::JobId, failure: Option<String>, turn: &mut Turn<'_>) {
        if matches!(&self.swap, Some(Swap { step: Step::Binding { job: asked }, .. }) if *asked == job) {
            match failure {
                None => self.swap_cue(SwapCueKind::Bound, "", turn),
                Some(reason) => self.swap_cue(SwapCueKind::BindFailed, &reason, turn),
            }
        } else if let Some(refreshing) = self.refreshing.take_if(|refreshing| refreshing.job == job) {
            if failure.is_none() {
                self.settings = refreshing.settings;
            }
            if let Some(client) = refreshing.client {
                self.answer_refresh(client, failure, turn);
            }
        } else if let Life::Arming { job: asked, clients } = &self.life {
            if *asked == job {
                let clients = clients.clone();
                self.armed(clients, failure, turn);
            }
        }
    }

    fn answer_refresh(&self, client: ClientId, failure: Option<String>, turn: &mut Turn<'_>) {
        let reply = match failure {
            None => Reply::done(true, "changed listeners are bound; they apply at the next swap"),
            Some(reason) => Reply::new(ExitStatus::Failed, false, reason),
        };
        self.reply(client, reply, turn);
    }

    fn armed(&mut self, clients: Vec<ClientId>, failure: Option<String>, turn: &mut Turn<'_>) {
        if let Some(reason) = failure {
            self.life = self.unbound(&reason, clients.is_empty(), None, turn);
            for client in clients {
                self.reply(client, Reply::new(ExitStatus::Down, false, reason.clone()), turn);
            }
            return;
        }
        self.durable.want = Want::OnDemand;
        let record = self.record(Happening::Waiting, clients.first().copied(), turn);
        turn.act(Action::Watch);
        self.life = Life::Waiting { record: Some(record), clients, origin: None };
    }

    /// The first connection: it waits in the queue until a worker is ready.
    pub(super) fn knocked(&mut self, turn: &mut Turn<'_>) {
        let Life::Waiting { origin, .. } = self.life else { return };
        self.disarm();
        turn.note(Level::Info, None, "a connection waits: launching");
        let plan = self.plan_again(origin);
        self.begin(plan, None, turn);
    }

    /// A start with the file as it is now and the release that was active last.
    pub(super) fn plan_start(&self) -> Plan {
        let release = self.durable.active.as_ref().and_then(|kept| kept.release.clone());
        let settings = self.settings.clone();
        Plan { kind: SwapKind::Start, settings, release, origin: None, hold: false }
    }

    /// Its generation ended as it should, and nobody asked for more: back to waiting.
    pub(super) fn wait_again(&mut self, turn: &mut Turn<'_>) {
        turn.note(Level::Info, None, "ended; waits for the next connection");
        turn.act(Action::Watch);
        let origin = self.durable.active.as_ref().map(|kept| kept.generation);
        self.life = Life::Waiting { record: None, clients: Vec::new(), origin };
    }

    /// The listeners cannot be bound: later again, unless a person has tried to begin what was
    /// not meant to be up, and is told.
    pub(super) fn unbound(
        &mut self,
        reason: &str,
        alone: bool,
        origin: Option<Generation>,
        turn: &mut Turn<'_>,
    ) -> Life {
        let text = "none of the unit's listeners could be bound; the new ones are, at its next start";
        self.end_refresh(text, turn);
        if !alone && self.durable.want == Want::Down {
            return Life::STOPPED;
        }
        let failures = self.bind_failures;
        self.bind_failures = failures.saturating_add(1);
        let pause = BLOCKED_FIRST.saturating_mul(1 << failures.min(8)).min(BLOCKED_LONGEST);
        Life::Blocked { until: turn.now.after(pause), reason: reason.to_owned(), origin }
    }

    // Stop.

    pub(super) fn stop(
        &mut self,
        client: Option<ClientId>,
        now: bool,
        keep_listening: bool,
        shutdown: bool,
        turn: &mut Turn<'_>,
    ) {
        if let Life::Stopping(stopping) = &mut self.life {
            stopping.by_person |= client.is_some();
            stopping.clients.extend(client);
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
        self.cut_swap(turn);
        turn.note(Level::Info, None, "stopping");
        turn.act(Action::Unwatch);
        let stage = StopStage::Unlistening { until: turn.now.after(UNLISTEN_LONGEST) };
        let by_person = client.is_some();
        let clients = client.into_iter().collect();
        self.life =
            Life::Stopping(Stopping { stage, clients, shutdown, by_person, keep_listening, kill: None });
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
    fn end_unready(&mut self, turn: &mut Turn<'_>) {
        let mut told = Vec::new();
        for (generation, group) in &mut self.groups {
            group.role = Role::Leaving;
            told.push((*generation, group.leave_unready(turn)));
        }
        for (generation, told) in told {
            self.heard(generation, told, turn);
        }
    }

    /// Ends the running swap because the unit stops; the record of the stop says it all.
    fn cut_swap(&mut self, turn: &mut Turn<'_>) {
        let Some(mut swap) = self.swap.take() else { return };
        Self::end_check(&swap, turn);
        // Where the switch may have happened, the intent goes when the ledger says the same.
        let switching = matches!(swap.step, Step::Switching { .. });
        if switching || (swap.step.has_switched() && self.unsaved.is_some()) {
            self.intent_left = Some(swap.to);
        } else {
            self.clear_old_intent(turn);
        }
        let (text, status) = ("the unit was stopped meanwhile", ExitStatus::Down);
        swap.cause.get_or_insert_with(|| text.to_owned());
        self.last_swap = Some(swap.status(SwapResult::Stopped));
        self.durable.candidate = None;
        let reply = Reply::new(status, true, text).about(Some(swap.id), Some(swap.to));
        self.resolve_all(&reply, turn);
        let undoers: Vec<ClientId> = std::mem::take(&mut swap.undoers);
        for client in undoers {
            self.reply(client, reply.clone(), turn);
        }
        if let Some((_, Some(waiter))) = self.next.take() {
            self.reply(waiter.client, reply, turn);
        }
    }

    fn answer_armed(&mut self, turn: &mut Turn<'_>) {
        let clients = match &mut self.life {
            Life::Arming { clients, .. } | Life::Waiting { clients, .. } => std::mem::take(clients),
            Life::Stopped { .. } | Life::Blocked { .. } | Life::Up | Life::Stopping(_) => Vec::new(),
        };
        for client in clients {
            self.reply(client, Reply::new(ExitStatus::Down, true, "the unit was stopped meanwhile"), turn);
        }
        self.end_refresh("the unit was stopped meanwhile; its new listeners apply at the next start", turn);
    }

    /// A daemon-reload whose listeners close before they were of use: the file counts all the same.
    fn end_refresh(&mut self, text: &str, turn: &mut Turn<'_>) {
        let Some(refreshing) = self.refreshing.take() else { return };
        self.settings = refreshing.settings;
        if let Some(client) = refreshing.client {
            self.reply(client, Reply::new(ExitStatus::Failed, true, text), turn);
        }
    }

    fn stop_now(&mut self, turn: &mut Turn<'_>) {
        let Life::Stopping(stopping) = &mut self.life else { return };
        if stopping.kill.is_none() {
            stopping.kill = Some(turn.now.after(NOW));
        }
        if matches!(stopping.stage, StopStage::Unlistening { .. }) {
            self.end_all(turn);
        }
    }

    pub(super) fn unlistened(&mut self, turn: &mut Turn<'_>) {
        if let Life::Stopping(Stopping { stage: StopStage::Unlistening { .. }, .. }) = self.life {
            self.end_all(turn);
        }
    }

    fn end_all(&mut self, turn: &mut Turn<'_>) {
        if let Life::Stopping(stopping) = &mut self.life {
            stopping.stage = StopStage::Ending;
        }
        let generations: Vec<Generation> = self.groups.keys().copied().collect();
        for generation in generations {
            self.dismiss(generation, turn);
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
        self.durable.candidate = None;
        self.retain_previous();
        let Life::Stopping(stopping) = &self.life else { return };
        let record = self.record(Happening::Stopped, stopping.clients.first().copied(), turn);
        if let Life::Stopping(stopping) = &mut self.life {
            stopping.stage = StopStage::Recording { record };
        }
    }

    pub(super) fn life_recorded(
        &mut self,
        record: crate::model::RecordId,
        failure: Option<&str>,
        turn: &mut Turn<'_>,
    ) {
        match &mut self.life {
            Life::Waiting { record: waited, clients, .. } if *waited == Some(record) => {
                *waited = None;
                let clients = std::mem::take(clients);
                let reply = match failure {
                    None => Reply::done(true, "waits for the first connection"),
                    Some(reason) => {
                        Reply::new(ExitStatus::Failed, true, format!("waits, but not durably: {reason}"))
                    }
                };
                for client in clients {
                    self.reply(client, reply.clone(), turn);
                }
            }
            Life::Stopping(stopping) if stopping.stage == (StopStage::Recording { record }) => {
                let stopping = stopping.clone();
                self.stopped(&stopping, failure, turn);
            }
            Life::Waiting { .. }
            | Life::Stopping(_)
            | Life::Stopped { .. }
            | Life::Arming { .. }
            | Life::Blocked { .. }
            | Life::Up => {}
        }
    }

    fn stopped(&mut self, stopping: &Stopping, failure: Option<&str>, turn: &mut Turn<'_>) {
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

    // Time.

    pub(super) fn life_deadline(&self) -> Option<Tick> {
        match &self.life {
            Life::Blocked { until, .. } => Some(*until),
            Life::Stopping(stopping) => match stopping.stage {
                StopStage::Unlistening { until } => Some(until),
                StopStage::Ending => stopping.kill,
                StopStage::Recording { .. } => None,
            },
            Life::Stopped { .. } | Life::Arming { .. } | Life::Waiting { .. } | Life::Up => None,
        }
    }

    pub(super) fn life_due(&mut self, turn: &mut Turn<'_>) {
        match &mut self.life {
            Life::Blocked { origin, .. } => {
                let origin = *origin;
                let plan = self.plan_again(origin);
                self.start(plan, None, turn);
            }
            Life::Stopping(stopping) => match stopping.stage {
                StopStage::Unlistening { .. } => self.end_all(turn),
                StopStage::Ending => {
                    stopping.kill = None;
                    self.kill_all(turn);
                }
                StopStage::Recording { .. } => {}
            },
            Life::Stopped { .. } | Life::Arming { .. } | Life::Waiting { .. } | Life::Up => {}
        }
    }

    fn kill_all(&mut self, turn: &mut Turn<'_>) {
        let generations: Vec<Generation> = self.groups.keys().copied().collect();
        for generation in generations {
            let Some(group) = self.groups.get_mut(&generation) else { continue };
            let told = group.cue_all(&Cue::Kill, turn);
            self.heard(generation, told, turn);
        }
    }
}
