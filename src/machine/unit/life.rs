//! The unit as a whole: on demand, blocked, stopping, stopped.

use super::super::effect::{Action, Level};
use super::super::swap::table::SwapCueKind;
use super::super::swap::{Plan, Step, Swap};
use super::super::turn::Turn;
use super::{Life, StopStage, Unit, Waiter};
use crate::model::settings::Start;
use crate::model::{
    ClientId, ExitStatus, Generation, Happening, Reply, Settings, Stops, SwapKind, Tick, Want,
};
use std::sync::Arc;
use std::time::Duration;

/// The first pause before listeners that could not be bound are tried again; it doubles.
const BLOCKED_FIRST: Duration = Duration::from_secs(1);
/// It is tried again when somebody says so, not by itself.
pub(super) const NEVER: Tick = Tick(u64::MAX);
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

    pub(super) fn bound(
        &mut self,
        job: crate::model::JobId,
        outcome: Result<Result<(), String>, String>,
        turn: &mut Turn<'_>,
    ) {
        let steered = outcome.clone().unwrap_or(Ok(()));
        let failure = outcome.err();
        if matches!(self.swap.as_deref(), Some(Swap { step: Step::Binding { job: asked }, .. }) if *asked == job)
        {
            let failure = failure.or_else(|| self.steers(steered, turn).err());
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

    fn armed(&mut self, clients: Vec<ClientId>, failure: Option<String>, turn: &mut Turn<'_>) {
        if let Some(reason) = failure {
            self.life = self.unbound(&reason, clients.is_empty(), None, turn);
            if clients.is_empty() {
                self.alarm_unarmed(&reason, turn);
            }
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
        match self.plan_again(origin) {
            Ok(plan) => self.begin(plan, None, turn),
            Err(refused) => self.give_up_waiting(&refused, turn),
        }
    }

    /// There is nothing to launch any more: connections are refused rather than left to wait.
    fn give_up_waiting(&mut self, refused: &Reply, turn: &mut Turn<'_>) {
        turn.note(Level::Error, None, format!("cannot be launched: {}", refused.text));
        for waiter in std::mem::take(&mut self.waiters) {
            self.reply(waiter.client, refused.clone(), turn);
        }
        self.stay_down(turn);
    }

    /// A start with the file as it is now and the release that was active last, else the newest.
    pub(super) fn plan_start(&self, settings: Arc<Settings>) -> Result<Plan, Reply> {
        let release = self.choose_last(&settings)?;
        Ok(Plan { kind: SwapKind::Start, settings, release, origin: None, stops: Stops::default() })
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

    pub(super) fn life_deadline(&self) -> Option<Tick> {
        match &self.life {
            Life::Blocked { until, .. } => Some(*until).filter(|until| *until != NEVER),
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
                match self.plan_again(origin) {
                    Ok(plan) => self.start(plan, None, turn),
                    Err(refused) => self.give_up_waiting(&refused, turn),
                }
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
}
