//! What people ask: begun, or refused with the reason and the next command to type.

use super::super::effect::{Action, Level};
use super::super::event::Request;
use super::super::group::{Group, Role};
use super::super::succession::RESTARTED;
use super::super::swap::Plan;
use super::super::swap::table::{SwapCueKind, SwapMove, decide};
use super::super::turn::Turn;
use super::install::Deploy;
use super::{Drain, Life, Unit, Waiter};
use crate::model::status::{SwapResult, SwapStatus};
use crate::model::{
    ClientId, ExitStatus, Label, Progress, Reply, Settings, Signal, Stops, SwapKind, WaitFor,
};
use std::sync::Arc;

impl Unit {
    pub(super) fn asked(&mut self, client: ClientId, request: Request, turn: &mut Turn<'_>) {
        if self.refuses_holding(client, &request, turn) {
            return;
        }
        match request {
            Request::Start { settings, wait } => self.ask_start(client, settings, wait, turn),
            Request::Stop { now, keep_listening } => {
                self.stop(Some(client), now, keep_listening, false, turn);
            }
            Request::Restart { settings, wait } => {
                let waiter = Waiter { client, wait, drained: None };
                let asked = self.choose_last(&settings).and_then(|release| {
                    let plan = Plan {
                        kind: SwapKind::Restart,
                        settings,
                        release,
                        origin: None,
                        stops: Stops::default(),
                    };
                    self.try_swap(Some(waiter), plan, false, turn)
                });
                self.answer_refused(client, asked, turn);
            }
            Request::Swap { settings, label, force, stops, replace, wait } => {
                let waiter = Waiter { client, wait, drained: None };
                let deploy = Deploy { stops, replace, wait };
                let asked = self.ask_swap(waiter, settings, label.as_ref(), force, deploy, turn);
                self.answer_refused(client, asked, turn);
            }
            Request::Install { settings, label, deploy } => {
                self.ask_install(client, label, settings, deploy, turn);
            }
            Request::Undeploy { label } => self.ask_undeploy(client, label, turn),
            Request::Rollback { label, from, stop, anyway, wait } => {
                self.ask_rollback(client, label.as_ref(), from, (stop, anyway), wait, turn);
            }
            Request::Share { share, wait } => self.ask_share(client, share, wait, turn),
            Request::Drain { generation } => self.ask_drain(client, generation, turn),
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
                let plan = match self.plan_start(settings) {
                    Ok(plan) => plan,
                    Err(refused) => return self.reply(client, refused, turn),
                };
                self.settings = plan.settings.clone();
                self.bind_failures = 0;
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
        if let Err(busy) = self.is_free(&format!("abort {}", self.name)) {
            return self.reply(waiter.client, busy, turn);
        }
        match self.plan_start(settings) {
            Ok(plan) => {
                self.settings = plan.settings.clone();
                self.begin(plan, Some(waiter), turn);
            }
            Err(refused) => self.reply(waiter.client, refused, turn),
        }
    }

    /// Whether a swap is under way; says so, and what to type. `instead`: what does this request
    /// over the one under way, as long as that can be undone.
    fn is_free(&self, instead: &str) -> Result<(), Reply> {
        self.is_not_returning()?;
        let Some(swap) = &self.swap else { return Ok(()) };
        let (to, step) = (swap.to, swap.step.kind());
        let text = format!("a swap to generation {to} is under way: {}", step.doing());
        let lasts = swap.is_first() || swap.step.has_switched() || self.next.is_some();
        let next = if lasts { format!("wait {}", self.name) } else { instead.to_owned() };
        Err(Reply::refused(text, next))
    }

    fn answer_refused(&self, client: ClientId, asked: Result<(), Reply>, turn: &mut Turn<'_>) {
        if let Err(reply) = asked {
            self.reply(client, reply, turn);
        }
    }

    /// `supctl swap`: to the release that is named, or to the newest, which is told.
    fn ask_swap(
        &mut self,
        waiter: Waiter,
        settings: Arc<Settings>,
        label: Option<&Label>,
        force: bool,
        how: Deploy,
        turn: &mut Turn<'_>,
    ) -> Result<(), Reply> {
        let release = self.choose(&settings, label, force)?;
        let active = release.as_ref().filter(|release| self.is_active(release) && self.swap.is_none());
        if let Some(active) = active {
            let generation = self.durable.active.as_ref().map(|kept| kept.generation);
            let newest = if label.is_some() { "" } else { ", the newest," };
            let text = format!("release {active}{newest} is active already");
            let reply = Reply::done(false, text).about(None, generation);
            return Err(Reply { next: self.command("restart"), ..reply });
        }
        let told = release.as_ref().filter(|_| label.is_none());
        let told = told.map(|release| Progress::Note(format!("takes release {release}, the newest")));
        let plan = Plan { kind: SwapKind::Swap, settings, release, origin: None, stops: how.stops };
        self.try_swap(Some(waiter), plan, how.replace, turn)?;
        if let Some(told) = told {
            turn.act(Action::Progress(waiter.client, told));
        }
        Ok(())
    }

    /// The second half of a deploy, which goes on though nobody waits for it any more.
    pub(super) fn deploy_swap(
        &mut self,
        client: Option<ClientId>,
        label: Label,
        settings: Arc<Settings>,
        how: Deploy,
        turn: &mut Turn<'_>,
    ) -> Result<(), Reply> {
        let waiter = client.map(|client| Waiter { client, wait: how.wait, drained: None });
        self.try_swap(waiter, Plan::of_deploy(label, settings, how), how.replace, turn)
    }

    fn try_swap(
        &mut self,
        waiter: Option<Waiter>,
        plan: Plan,
        replace: bool,
        turn: &mut Turn<'_>,
    ) -> Result<(), Reply> {
        if let Life::Stopping(_) = self.life {
            return Err(Reply::refused("is stopping", self.command("wait")));
        }
        self.may_stop_midway(&plan)?;
        self.can_wait_unbound(&plan)?;
        if replace && self.swap.is_some() {
            return self.replace(plan, waiter, turn);
        }
        let instead = match plan.kind {
            SwapKind::Swap => format!("swap {} --replace", self.name),
            SwapKind::Start | SwapKind::Restart | SwapKind::Rollback => format!("abort {}", self.name),
        };
        self.is_free(&instead)?;
        self.has_place(&plan)?;
        self.unwatch(turn);
        self.settings = plan.settings.clone();
        self.begin(plan, waiter, turn);
        Ok(())
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
    pub(super) fn has_place(&self, plan: &Plan) -> Result<(), Reply> {
        let live = || self.groups.iter().filter(|(_, group)| !group.is_gone());
        let limit = plan.settings.swap.max_generations.max(2) as usize;
        if live().count() < limit || self.standby_of(plan).is_some() {
            return Ok(());
        }
        // What serves is in nobody's way; what stands by can be let go, if need be.
        let stands_by = || live().find(|(_, group)| matches!(group.role, Role::Standby { .. }));
        let leaving = live().find(|(_, group)| group.role.ends()).or_else(stands_by);
        let leaving = leaving.or_else(|| live().next());
        let Some((oldest, group)) = leaving else { return Ok(()) };
        let workers = group.remaining();
        let text = format!(
            "{} generations live (MaxGenerations = {limit}); generation {oldest} still has {workers} worker(s)",
            live().count()
        );
        let next = if group.role.ends() || matches!(group.role, Role::Standby { .. }) {
            format!("drain {} --generation {oldest}", self.name)
        } else {
            format!("wait {} --wait=drained", self.name)
        };
        Err(Reply::refused(text, Some(next)))
    }

    /// `--replace`: undoes the running swap, if it has not switched, and then begins.
    fn replace(&mut self, plan: Plan, waiter: Option<Waiter>, turn: &mut Turn<'_>) -> Result<(), Reply> {
        let Some(swap) = &mut self.swap else { return Ok(()) };
        if swap.is_first() || swap.step.has_switched() || self.next.is_some() {
            let text = format!("generation {} has taken over already, or nothing serves but it", swap.to);
            return Err(Reply::refused(text, self.command("wait")));
        }
        swap.by_person = true;
        self.settings = plan.settings.clone();
        self.next = Some(Box::new((plan, waiter)));
        self.swap_cue(SwapCueKind::Abort, "replaced by another swap", turn);
        Ok(())
    }

    fn ask_promote(&mut self, client: ClientId, wait: WaitFor, turn: &mut Turn<'_>) {
        let Some(swap) = &self.swap else {
            let (text, next) = self.no_swap("no swap is under way", self.command("swap"));
            return self.refuse(client, text, next, turn);
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
            if let Some(text) = self.abort_install(turn) {
                return self.reply(client, Reply::done(true, text), turn);
            }
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

    /// What is said to who asks about a swap where there is none: the same for all while the unit stops.
    pub(super) fn no_swap<'a>(&self, text: &'a str, next: Option<String>) -> (&'a str, Option<String>) {
        match self.life {
            Life::Stopping(_) => ("is stopping", self.command("wait")),
            Life::Up
            | Life::Stopped { .. }
            | Life::Arming { .. }
            | Life::Waiting { .. }
            | Life::Blocked { .. } => (text, next),
        }
    }

    /// Why there is nothing to abort, and what to type.
    fn nothing_to_abort(&self) -> (String, Option<String>) {
        let undone = |last: &&SwapStatus| matches!(last.result, SwapResult::RolledBack | SwapResult::Aborted);
        if let Life::Stopping(_) = self.life {
            let (text, next) = self.no_swap("", None);
            (text.to_owned(), next)
        } else if let Life::Stopped { .. } = self.life {
            ("is stopped, and no swap is under way".to_owned(), self.command("start"))
        } else if let Some(left) = &self.durable.forward {
            let (left, next) = (left.generation, self.way_forward(left));
            let text = format!(
                "no swap is under way: was rolled back from generation {left} already; forward is a swap"
            );
            (text, next)
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

    pub(super) fn ask_wait(&mut self, client: ClientId, wait: WaitFor, turn: &mut Turn<'_>) {
        if let Life::Stopping(stopping) = &mut self.life {
            stopping.clients.push(client);
            return;
        }
        if self.swap.is_some() {
            self.waiters.push(Waiter { client, wait, drained: None });
            return;
        }
        if self.join_again(client, wait) || self.join_install(client, wait) {
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
        let failed = self.install_failure.as_deref().cloned();
        let reply = failed.unwrap_or_else(|| self.last_outcome());
        self.reply(client, reply, turn);
    }

    fn anyone_serves(&self) -> bool {
        self.groups.values().any(Group::serves_at_all)
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
            // After a restart of supd it comes up by itself, by another swap.
            SwapResult::Aborted if last.cause.as_deref() == Some(RESTARTED) && self.anyone_serves() => {
                ExitStatus::Failed
            }
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
