//! What people ask: begun, or refused with the reason and the next command to type.

use super::super::effect::{Action, Level};
use super::super::event::Request;
use super::super::group::{Group, Role};
use super::super::swap::Plan;
use super::super::swap::table::{SwapCueKind, SwapMove, decide};
use super::super::turn::Turn;
use super::{Drain, Life, Unit, Waiter};
use crate::model::status::{SwapResult, SwapStatus};
use crate::model::{ClientId, ExitStatus, Reply, Settings, Signal, SwapKind, WaitFor};
use std::sync::Arc;

impl Unit {
    pub(super) fn asked(&mut self, client: ClientId, request: Request, turn: &mut Turn<'_>) {
        match request {
            Request::Start { settings, wait } => self.ask_start(client, settings, wait, turn),
            Request::Stop { now, keep_listening } => {
                self.stop(Some(client), now, keep_listening, false, turn);
            }
            Request::Restart { settings, wait } => {
                let release = self.durable.active.as_ref().and_then(|kept| kept.release.clone());
                let plan = Plan { kind: SwapKind::Restart, settings, release, origin: None, hold: false };
                self.ask_swap(client, plan, false, wait, turn);
            }
            Request::Swap { settings, hold, replace, wait } => {
                let plan = Plan { kind: SwapKind::Swap, settings, release: None, origin: None, hold };
                self.ask_swap(client, plan, replace, wait, turn);
            }
            // What is left is stopped at once whether asked or not: nothing is kept as standby yet.
            Request::Rollback { from, stop: _, anyway, wait } => {
                self.ask_rollback(client, from, anyway, wait, turn);
            }
            Request::Promote { wait } => self.ask_promote(client, wait, turn),
            Request::Abort => self.ask_abort(client, turn),
            Request::Wait { wait } => self.ask_wait(client, wait, turn),
            Request::Reload => self.ask_reload(client, turn),
            Request::Kill { signal } => self.ask_kill(client, signal, turn),
            Request::Refresh { settings } => self.refresh(client, settings, turn),
        }
    }

    pub(super) fn refuse(
        &self,
        client: ClientId,
        text: impl Into<String>,
        next: impl Into<Option<String>>,
        turn: &mut Turn<'_>,
    ) {
        self.reply(client, Reply::refused(text, next), turn);
    }

    /// `supctl VERB UNIT` without the `supctl`.
    pub(super) fn command(&self, verb: &str) -> Option<String> {
        Some(format!("{verb} {}", self.name))
    }

    fn ask_start(&mut self, client: ClientId, settings: Arc<Settings>, wait: WaitFor, turn: &mut Turn<'_>) {
        let waiter = Waiter { client, wait, drained: None };
        match &mut self.life {
            Life::Stopped { .. } | Life::Blocked { .. } => {
                self.settings = settings;
                self.bind_failures = 0;
                let plan = self.plan_start();
                self.start(plan, Some(waiter), turn);
            }
            Life::Arming { clients, .. } | Life::Waiting { clients, record: Some(_), .. } => {
                clients.push(client);
            }
            Life::Waiting { record: None, .. } => {
                self.reply(client, Reply::done(false, "waits for the first connection already"), turn);
            }
            Life::Stopping(_) => self.refuse(client, "is stopping", self.command("wait"), turn),
            Life::Up => self.start_up(waiter, settings, turn),
        }
    }

    /// A start of what is up: nothing to do, unless nothing of it is left.
    fn start_up(&mut self, waiter: Waiter, settings: Arc<Settings>, turn: &mut Turn<'_>) {
        if self.swap.as_ref().is_some_and(|swap| swap.is_first()) {
            self.waiters.push(waiter);
            return;
        }
        let active = self.durable.active.as_ref().map(|kept| kept.generation);
        let group = active.and_then(|active| self.groups.get(&active));
        if let (Some(group), Some(active)) = (group, active) {
            if group.serves_at_all() {
                let text = format!("generation {active} is active already");
                return self.reply(waiter.client, Reply::done(false, text).about(None, Some(active)), turn);
            }
            if !group.is_gone() && self.groups.values().any(Group::answers) {
                let text = format!("generation {active} is being tried already");
                return self.reply(waiter.client, Reply::done(false, text).about(None, Some(active)), turn);
            }
            // What the file says by now may be what it takes.
            if group.goes_on() && *group.launch.settings == *settings {
                let text = format!("nothing is serving; generation {active} is being tried already");
                let reply = Reply::new(ExitStatus::Down, false, text).about(None, Some(active));
                return self.reply(waiter.client, Reply { next: self.command("status"), ..reply }, turn);
            }
        }
        if self.is_busy(waiter.client, &format!("abort {}", self.name), turn) {
            return;
        }
        self.settings = settings;
        let plan = self.plan_start();
        self.begin(plan, Some(waiter), turn);
    }

    /// Whether a swap is under way; says so, and what to type. `instead`: what does this request
    /// over the one under way, as long as that can be undone.
    fn is_busy(&self, client: ClientId, instead: &str, turn: &mut Turn<'_>) -> bool {
        let Some(swap) = &self.swap else { return false };
        let (to, step) = (swap.to, swap.step.kind());
        let text = format!("a swap to generation {to} is under way: {}", step.doing());
        let lasts = swap.is_first() || swap.step.has_switched() || self.next.is_some();
        let next = if lasts { format!("wait {}", self.name) } else { instead.to_owned() };
        self.refuse(client, text, next, turn);
        true
    }

    fn ask_swap(&mut self, client: ClientId, plan: Plan, replace: bool, wait: WaitFor, turn: &mut Turn<'_>) {
        let waiter = Waiter { client, wait, drained: None };
        if let Life::Stopping(_) = self.life {
            return self.refuse(client, "is stopping", self.command("wait"), turn);
        }
        if replace && self.swap.is_some() {
            return self.replace(plan, waiter, turn);
        }
        let instead = match plan.kind {
            SwapKind::Swap => format!("swap {} --replace", self.name),
            SwapKind::Start | SwapKind::Restart | SwapKind::Rollback => format!("abort {}", self.name),
        };
        if self.is_busy(client, &instead, turn) || self.is_full(&plan, client, turn) {
            return;
        }
        self.unwatch(turn);
        self.settings = plan.settings.clone();
        self.begin(plan, Some(waiter), turn);
    }

    /// What waits for a first connection is about to be launched: who asked for the waiting, and
    /// was not answered yet, hears how the launch ends.
    pub(super) fn disarm(&mut self) {
        let (Life::Arming { clients, .. } | Life::Waiting { clients, .. }) = &mut self.life else { return };
        let wait = WaitFor::Committed;
        let waiters = std::mem::take(clients).into_iter();
        self.waiters.extend(waiters.map(|client| Waiter { client, wait, drained: None }));
    }

    /// A launch that no connection asked for.
    pub(super) fn unwatch(&mut self, turn: &mut Turn<'_>) {
        if let Life::Arming { .. } | Life::Waiting { .. } = self.life {
            turn.act(Action::Unwatch);
            self.disarm();
        }
    }

    /// Whether too many generations live; says which is in the way.
    pub(super) fn is_full(&self, plan: &Plan, client: ClientId, turn: &mut Turn<'_>) -> bool {
        let live = || self.groups.iter().filter(|(_, group)| !group.is_gone());
        let limit = plan.settings.swap.max_generations.max(2) as usize;
        if live().count() < limit {
            return false;
        }
        // What serves is in nobody's way.
        let leaving = live().find(|(_, group)| group.role == Role::Leaving).or_else(|| live().next());
        let Some((oldest, group)) = leaving else { return false };
        let workers = group.remaining();
        let text = format!(
            "{} generations live (MaxGenerations = {limit}); generation {oldest} still has {workers} worker(s)",
            live().count()
        );
        self.refuse(client, text, Some(format!("wait {} --wait=drained", self.name)), turn);
        true
    }

    /// `--replace`: undoes the running swap, if it has not switched, and then begins.
    fn replace(&mut self, plan: Plan, waiter: Waiter, turn: &mut Turn<'_>) {
        let Some(swap) = &mut self.swap else { return };
        if swap.is_first() || swap.step.has_switched() || self.next.is_some() {
            let text = format!("generation {} has taken over already, or nothing serves but it", swap.to);
            return self.refuse(waiter.client, text, self.command("wait"), turn);
        }
        swap.by_person = true;
        self.settings = plan.settings.clone();
        self.next = Some(Box::new((plan, Some(waiter))));
        self.swap_cue(SwapCueKind::Abort, "replaced by another swap", turn);
    }

    fn ask_promote(&mut self, client: ClientId, wait: WaitFor, turn: &mut Turn<'_>) {
        let Some(swap) = &self.swap else {
            return self.refuse(client, "no swap is under way", self.command("swap"), turn);
        };
        if decide(swap.step.kind(), SwapCueKind::Promote) == SwapMove::RefusePromote {
            let text = format!("generation {} cannot be promoted now: {}", swap.to, swap.step.kind().doing());
            return self.refuse(client, text, self.command("wait"), turn);
        }
        let serves = self.groups.get(&swap.to).is_some_and(Group::serves_at_all);
        if swap.step.has_switched() && !serves {
            let text = format!("generation {} does not serve", swap.to);
            return self.refuse(client, text, self.command("wait"), turn);
        }
        self.waiters.push(Waiter { client, wait, drained: None });
        self.swap_cue(SwapCueKind::Promote, "", turn);
    }

    pub(super) fn ask_abort(&mut self, client: ClientId, turn: &mut Turn<'_>) {
        let Some(swap) = &mut self.swap else {
            let (text, next) = self.nothing_to_abort();
            return self.refuse(client, text, next, turn);
        };
        if swap.is_first() {
            let then = if self.durable.retained.is_some() { ", then roll back" } else { "" };
            let text = format!("nothing else serves that could go on; end it by a stop{then}");
            return self.refuse(client, text, self.command("stop"), turn);
        }
        if decide(swap.step.kind(), SwapCueKind::Abort) == SwapMove::RefuseAbort {
            let text = format!("generation {} is past undoing: {}", swap.to, swap.step.kind().doing());
            // A rollback is no toggle: it is only to be waited for.
            let rollback = swap.plan.kind == SwapKind::Rollback || swap.cause.is_some();
            let next = if rollback { self.command("wait") } else { Some(self.way_back()) };
            return self.refuse(client, text, next, turn);
        }
        swap.undoers.push(client);
        swap.by_person = true;
        self.swap_cue(SwapCueKind::Abort, "aborted", turn);
    }

    /// Why there is nothing to abort, and what to type.
    fn nothing_to_abort(&self) -> (String, Option<String>) {
        let undone = |last: &&SwapStatus| matches!(last.result, SwapResult::RolledBack | SwapResult::Aborted);
        if let Life::Stopped { .. } = self.life {
            ("is stopped, and no swap is under way".to_owned(), self.command("start"))
        } else if let Some(left) = &self.durable.forward {
            let left = left.generation;
            let text = format!(
                "no swap is under way: was rolled back from generation {left} already; forward is a swap"
            );
            (text, self.command("swap"))
        } else if let Some(last) = self.last_swap.as_ref().filter(undone) {
            let text =
                format!("no swap is under way: the last one, to generation {}, is undone already", last.to);
            (text, self.command("swap"))
        } else if self.durable.retained.is_some() {
            let text = "no swap is under way; what is committed is undone by a rollback".to_owned();
            (text, Some(self.way_back()))
        } else {
            let text = "no swap is under way, and nothing is retained to roll back to".to_owned();
            (text, self.command("swap"))
        }
    }

    fn ask_wait(&mut self, client: ClientId, wait: WaitFor, turn: &mut Turn<'_>) {
        if let Life::Stopping(stopping) = &mut self.life {
            stopping.clients.push(client);
            return;
        }
        if self.swap.is_some() {
            self.waiters.push(Waiter { client, wait, drained: None });
            return;
        }
        let leaving = self.groups.keys().find(|generation| {
            self.durable.active.as_ref().map(|kept| kept.generation) != Some(**generation)
        });
        if let (WaitFor::Drained, Some(leaving)) = (wait, leaving) {
            let swap_id = self.last_swap.as_ref().map(|last| last.swap_id);
            let to = self.durable.active.as_ref().map(|kept| kept.generation);
            self.waiters.push(Waiter { client, wait, drained: Some(Drain { of: *leaving, swap_id, to }) });
            return;
        }
        let reply = self.last_outcome();
        self.reply(client, reply, turn);
    }

    /// How the last swap ended, as an answer.
    fn last_outcome(&self) -> Reply {
        let stopped = matches!(self.life, Life::Stopped { .. });
        let is = if stopped { "is stopped; " } else { "" };
        let Some(last) = &self.last_swap else {
            return Reply::done(false, format!("{is}no swap is under way"));
        };
        let status = match last.result {
            SwapResult::Running | SwapResult::Committed => ExitStatus::Done,
            SwapResult::Failed | SwapResult::Aborted if last.from.is_none() => ExitStatus::Down,
            SwapResult::Failed | SwapResult::Aborted => ExitStatus::Failed,
            SwapResult::RolledBack => ExitStatus::RolledBack,
            SwapResult::Stopped => ExitStatus::Down,
        };
        let cause = last.cause.as_ref().map(|cause| format!(": {cause}")).unwrap_or_default();
        let text = format!("{is}the last swap, to generation {}: {}{cause}", last.to, last.result);
        let mut reply = Reply::new(status, false, text).about(Some(last.swap_id), Some(last.to));
        reply.next = match (status, stopped) {
            (ExitStatus::Down, false) => self.command("status"),
            (ExitStatus::Done, _) => None,
            (_not_done, true) => self.command("start"),
            (_undone, false) => self.command("swap"),
        };
        reply
    }

    fn ask_kill(&mut self, client: ClientId, signal: Signal, turn: &mut Turn<'_>) {
        let active = self.durable.active.as_ref().map(|kept| kept.generation);
        let signalled =
            active.and_then(|active| self.groups.get(&active)).map_or(0, |group| group.signal(signal, turn));
        if signalled == 0 {
            return self.refuse(
                client,
                "no worker of an active generation runs",
                self.command("status"),
                turn,
            );
        }
        turn.note(Level::Info, active, format!("{signal} sent by request"));
        self.reply(client, Reply::done(true, format!("{signal} sent to {signalled} worker(s)")), turn);
    }
}
