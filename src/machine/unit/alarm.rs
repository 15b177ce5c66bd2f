//! ExecOnFailure: run once where a unit gets worse in a way that a person must know of, and not for each end of
//! a worker that is launched again.
//!
//! | what | when it is told |
//! |---|---|
//! | a start or a swap fails, or goes back by itself | once the ledger has its end, so that no later supd tells it again |
//! | the start limit is hit, or Restart gives a worker up | of the first worker of a generation, and of the last |
//! | quarantine | at once |
//!
//! One runs at a time for a unit; what happens meanwhile is told afterwards, the newest of it. Nothing follows
//! from how such a command ends.

use super::super::effect::{
    Action, Effect, Failure, FailureKind, JobKind, JobWork, Launch, Level, REASON_MAX,
};
use super::super::group::{Group, Role};
use super::super::swap::Swap;
use super::super::turn::Turn;
use super::{Life, Unit};
use crate::model::status::SwapResult;
use crate::model::text::printable;
use crate::model::{Generation, JobId, Settings, Tick, WorkerExit};
use std::sync::Arc;
use std::time::Duration;

/// How long one command may take where TimeoutStartSec is infinite.
const LONGEST: Duration = Duration::from_secs(90);

/// What is told, as the generation that it is about.
type News = (Arc<Launch>, Arc<Failure>);

/// Somebody is being told.
#[derive(Debug, Clone)]
pub(super) struct Alarm {
    job: JobId,
    /// Which of the commands it is.
    index: usize,
    /// `None`: its time is over, and it was ended.
    until: Option<Tick>,
    news: News,
    /// What comes after it.
    next: Option<News>,
}

impl Unit {
    /// A person must know this of that generation.
    pub(super) fn alarm(
        &mut self,
        launch: Arc<Launch>,
        what: FailureKind,
        (reason, exit): (&str, Option<WorkerExit>),
        turn: &mut Turn<'_>,
    ) {
        // A unit that is being stopped is not to begin anything any more.
        let stops = matches!(self.life, Life::Stopping(_)) && what != FailureKind::Quarantine;
        if launch.settings.service.exec_on_failure.is_empty() || stops {
            return;
        }
        let news = (launch, Arc::new(Failure { what, reason: printable(reason, REASON_MAX), exit }));
        match &mut self.alarm {
            Some(alarm) => alarm.next = Some(news),
            None => self.tell_alarm(news, 0, None, turn),
        }
    }

    /// Runs this command of the list, or what comes after the list.
    fn tell_alarm(&mut self, news: News, index: usize, next: Option<News>, turn: &mut Turn<'_>) {
        let service = &news.0.settings.service;
        let Some(command) = service.exec_on_failure.get(index).cloned() else {
            self.alarm = None;
            if let Some(news) = next {
                self.tell_alarm(news, 0, None, turn);
            }
            return;
        };
        let (job, work) = (turn.job(), JobWork::Tell(command, news.1.clone()));
        let (kind, launch) = (JobKind::OnFailure, news.0.clone());
        turn.act(Action::Run { job, kind, work, launch, worker: None, fault: None });
        let until = Some(turn.now.after(service.timeout_start.unwrap_or(LONGEST)));
        self.alarm = Some(Box::new(Alarm { job, index, until, news, next }));
    }

    /// Whether this is the end of such a command.
    pub(super) fn alarm_finished(
        &mut self,
        job: JobId,
        result: &Result<(), String>,
        turn: &mut Turn<'_>,
    ) -> bool {
        let Some(alarm) = self.alarm.take_if(|alarm| alarm.job == job) else { return false };
        let Alarm { index, until, news, next, .. } = *alarm;
        let why = match (result, until) {
            (Ok(()), _) => None,
            (Err(_), None) => Some("it took longer than TimeoutStartSec"),
            (Err(reason), Some(_)) => Some(reason.as_str()),
        };
        if let Some(why) = why {
            let text = format!("ExecOnFailure failed: {why}; nothing else follows from that");
            turn.note(Level::Warning, Some(news.0.generation), text);
        }
        self.tell_alarm(news, index.saturating_add(1), next, turn);
        true
    }

    pub(super) fn alarm_deadline(&self) -> Option<Tick> {
        self.alarm.as_ref().and_then(|alarm| alarm.until)
    }

    /// Its time is over.
    pub(super) fn alarm_due(&mut self, turn: &mut Turn<'_>) {
        if let Some(alarm) = self.alarm.as_mut().filter(|alarm| alarm.until.is_some_and(|it| it <= turn.now))
        {
            alarm.until = None;
            turn.act(Action::EndJob { job: alarm.job });
        }
    }

    /// supd itself ends: nothing of it is to be left.
    pub(super) fn end_alarm(&mut self, turn: &mut Turn<'_>) {
        if let Some(alarm) = &mut self.alarm {
            (alarm.until, alarm.next, alarm.index) = (None, None, usize::MAX);
            turn.act(Action::EndJob { job: alarm.job });
        }
    }

    /// The effects of this step are not to be: a command that was among them does not run.
    pub(super) fn forget_alarm(&mut self, start: usize, turn: &Turn<'_>) {
        let job = self.alarm.as_ref().map(|alarm| alarm.job);
        let begins = |effect: &Effect| matches!(effect, Effect::Unit(_, Action::Run { job: begun, .. }) if Some(*begun) == job);
        if turn.out.iter().skip(start).any(begins) {
            self.alarm = None;
        } else if let Some(alarm) = &mut self.alarm {
            alarm.until.get_or_insert(turn.now);
        }
    }

    // What is told.

    /// Of whom it is, who may have no number in the ledger.
    fn launch_of(&self, swap: &Swap) -> Arc<Launch> {
        let unnumbered = || {
            Arc::new(Launch {
                generation: swap.to,
                settings: swap.plan.settings.clone(),
                release: swap.plan.release.clone(),
                origin: swap.plan.origin.unwrap_or(swap.to),
                pinned: swap.plan.origin.is_some(),
            })
        };
        self.recipes.get(&swap.to).cloned().unwrap_or_else(unnumbered)
    }

    fn exit_of(swap: &Swap) -> Option<WorkerExit> {
        swap.ended.as_ref().and_then(|ended| ended.exit)
    }

    /// A swap that never took over, unless a person wanted that.
    pub(super) fn alarm_undone(
        &mut self,
        swap: &Swap,
        (result, cause): (SwapResult, &str),
        turn: &mut Turn<'_>,
    ) {
        if result != SwapResult::Failed {
            return;
        }
        let what = if swap.is_first() { FailureKind::StartFailed } else { FailureKind::SwapFailed };
        let reason = self.tell_undone(swap, cause);
        self.alarm(self.launch_of(swap), what, (&reason, Self::exit_of(swap)), turn);
    }

    /// One that did not get as far as a launch. Listeners that cannot be bound are tried again and again: that is
    /// told once.
    pub(super) fn alarm_dropped(&mut self, swap: &Swap, end: (SwapResult, &str), turn: &mut Turn<'_>) {
        let again = matches!(self.life, Life::Blocked { .. }) && self.bind_failures > 1;
        if !again || swap.client.is_some() {
            self.alarm_undone(swap, end, turn);
        }
    }

    /// The same, where the first connection was to launch it.
    pub(super) fn alarm_unarmed(&mut self, reason: &str, turn: &mut Turn<'_>) {
        if self.bind_failures <= 1 {
            let reason = format!("{reason}; nothing is listening, supd goes on trying");
            self.alarm(self.as_the_file_says(), FailureKind::StartFailed, (&reason, None), turn);
        }
    }

    /// What would be launched now.
    fn as_the_file_says(&self) -> Arc<Launch> {
        let generation = Generation(self.durable.generation_last);
        let (settings, release): (Arc<Settings>, _) = (self.settings.clone(), None);
        Arc::new(Launch { generation, settings, release, origin: generation, pinned: false })
    }

    /// One that took over and was sent back.
    pub(super) fn alarm_back(&mut self, swap: &Swap, from: Generation, turn: &mut Turn<'_>) {
        if !swap.by_person {
            let cause = swap.cause.as_deref().unwrap_or_default();
            let reason = format!("{cause}; rolled back to generation {from}");
            self.alarm(self.launch_of(swap), FailureKind::RolledBack, (&reason, Self::exit_of(swap)), turn);
        }
    }

    /// The same, after its commit.
    pub(super) fn alarm_fallen(&mut self, swap: &Swap, cause: &str, turn: &mut Turn<'_>) {
        let fallen = swap.ended.as_ref().map(|ended| ended.generation).or(swap.from);
        let recipe = fallen.and_then(|fallen| self.recipes.get(&fallen)).cloned();
        let launch = recipe.unwrap_or_else(|| self.launch_of(swap));
        let reason = format!("{cause}; rolled back to generation {}", swap.to);
        self.alarm(launch, FailureKind::RolledBack, (&reason, Self::exit_of(swap)), turn);
    }

    /// The one before is not ready in time to take over again.
    pub(super) fn alarm_not_back(&mut self, swap: &Swap, text: &str, turn: &mut Turn<'_>) {
        if !swap.by_person {
            let reason = format!("{}; {text}", swap.cause.as_deref().unwrap_or_default());
            self.alarm(self.launch_of(swap), FailureKind::NotBack, (&reason, Self::exit_of(swap)), turn);
        }
    }

    /// A worker comes back in long pauses, or never.
    pub(super) fn heard_lost(
        &mut self,
        generation: Generation,
        index: usize,
        what: FailureKind,
        turn: &mut Turn<'_>,
    ) {
        let Some(group) = self.groups.get(&generation).filter(|group| group.role == Role::Active) else {
            return;
        };
        // The end of the swap that brought it says so, or has said so.
        let told = self.swap.as_ref().is_some_and(|swap| swap.to == generation);
        let lost = group.workers.iter().filter(|worker| worker.is_lost()).count();
        let counts = lost == 1 || lost == group.workers.len();
        if told || self.unproven == Some(generation) || !counts {
            return;
        }
        let exit = group.workers.get(index).and_then(|worker| worker.last).and_then(|(exit, _)| exit);
        let ended = exit.map_or_else(String::new, |exit| format!(" (the last time: {exit})"));
        let follows = match what {
            FailureKind::StartLimit => {
                "ends too often (StartLimitBurst), and is launched again in long pauses"
            }
            FailureKind::StartFailed
            | FailureKind::SwapFailed
            | FailureKind::RolledBack
            | FailureKind::NotBack
            | FailureKind::Ended
            | FailureKind::Quarantine => "failed, and Restart says not to launch it again",
        };
        let serves = self.groups.values().any(Group::answers);
        let serving = if serves { "" } else { "; nothing is serving" };
        let reason = format!("generation {generation}: worker {index} {follows}{ended}{serving}");
        let launch = group.relaunch.clone();
        self.alarm(launch, what, (&reason, exit), turn);
    }

    /// The bookkeeping contradicts itself.
    pub(super) fn alarm_quarantine(&mut self, broken: &str, turn: &mut Turn<'_>) {
        let active = self.durable.active.as_ref().and_then(|kept| self.recipes.get(&kept.generation));
        let launch = active.cloned().unwrap_or_else(|| self.as_the_file_says());
        let reason = format!("in quarantine: {broken}; it goes on serving, and supd decides nothing for it");
        self.alarm(launch, FailureKind::Quarantine, (&reason, None), turn);
    }
}
