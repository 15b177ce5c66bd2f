//! What a load balancer in front is told where nobody serves for a moment: off before it, and on after it.
//!
//! *On* → *diverting*: TrafficOff runs, then TrafficSettleSec → *off* → *restoring*: TrafficOn runs → *on*. Each
//! of them has its own deadline. TrafficOff that fails is the end of the swap, while the old one still serves;
//! TrafficOn that fails is tried again, for as long as it takes.

use super::super::disk::Try;
use super::super::effect::{Action, JobKind, JobWork, Launch, Level};
use super::super::group::{Group, Role};
use super::super::swap::table::SwapCueKind;
use super::super::swap::{Step, Swap};
use super::super::turn::Turn;
use super::{Life, Unit};
use crate::model::settings::{Exclusive, Service};
use crate::model::status::Traffic;
use crate::model::{JobId, Tick};
use std::sync::Arc;
use std::time::Duration;

/// How long a command may take where TimeoutStartSec is infinite.
const COMMAND_LONGEST: Duration = Duration::from_secs(90);

/// The traffic of a unit, where it is not simply on.
#[derive(Debug, Clone)]
pub(super) struct Diversion {
    stage: Stage,
    /// A command that was ended is still to be heard of. Until then nobody is told otherwise: what it said may
    /// be on its way.
    ending: Option<JobId>,
    /// Its commands run, with its environment.
    launch: Arc<Launch>,
}

#[derive(Debug, Clone, Copy)]
enum Stage {
    /// The command of TrafficOff with this number.
    Diverting {
        at: usize,
        job: JobId,
        until: Tick,
    },
    /// All of them have run: there is this long to act on it.
    Settling {
        until: Tick,
    },
    Off,
    /// Some may have been told, or all, by this supd or by the last one.
    Unsure,
    /// The command of TrafficOn with this number.
    Restoring {
        at: usize,
        job: JobId,
        until: Tick,
        save: Try,
    },
    /// One has failed; all of them are run again then.
    Pausing {
        save: Try,
    },
}

impl Stage {
    fn job(self) -> Option<JobId> {
        match self {
            Self::Diverting { job, .. } | Self::Restoring { job, .. } => Some(job),
            Self::Settling { .. } | Self::Off | Self::Unsure | Self::Pausing { .. } => None,
        }
    }

    fn deadline(self) -> Option<Tick> {
        match self {
            Self::Diverting { until, .. } | Self::Settling { until } | Self::Restoring { until, .. } => {
                Some(until)
            }
            Self::Pausing { save } => save.again,
            Self::Off | Self::Unsure => None,
        }
    }
}

/// Whether anybody is told anything.
fn tells(service: &Service) -> bool {
    let commands = service.traffic_off.len() + service.traffic_on.len();
    service.exclusive != Exclusive::No && (commands > 0 || !service.traffic_settle.is_zero())
}

impl Unit {
    /// Whether somebody has to be told before this swap takes the traffic from who serves.
    pub(super) fn is_to_divert(&self, swap: &Swap) -> bool {
        let off = self.diversion.as_ref().is_some_and(|diversion| matches!(diversion.stage, Stage::Off));
        !off && swap.from.is_some() && tells(&swap.plan.settings.service)
    }

    /// They are to be told, as soon as nobody tells them anything else.
    pub(super) fn divert_traffic(&mut self, swap: &Swap, turn: &mut Turn<'_>) {
        self.end_traffic_job(turn);
        let Some(launch) = self.recipes.get(&swap.to).cloned() else { return };
        let ending = self.diversion.as_ref().and_then(|diversion| diversion.ending);
        turn.note(Level::Info, Some(swap.to), "the traffic is being taken off");
        self.diversion = Some(Box::new(Diversion { stage: Stage::Unsure, ending, launch }));
    }

    fn tell_off(launch: &Arc<Launch>, at: usize, turn: &mut Turn<'_>) -> Stage {
        let service = &launch.settings.service;
        match tell(launch, JobKind::TrafficOff, at, turn) {
            Some((job, until)) => Stage::Diverting { at, job, until },
            None => Stage::Settling { until: turn.now.after(service.traffic_settle) },
        }
    }

    /// `None`: all have been told.
    fn tell_on(launch: &Arc<Launch>, at: usize, save: Try, turn: &mut Turn<'_>) -> Option<Stage> {
        let (job, until) = tell(launch, JobKind::TrafficOn, at, turn)?;
        Some(Stage::Restoring { at, job, until, save })
    }

    /// Whether this was one of its commands.
    pub(super) fn traffic_finished(
        &mut self,
        job: JobId,
        result: &Result<(), String>,
        turn: &mut Turn<'_>,
    ) -> bool {
        let Some(diversion) = &mut self.diversion else { return false };
        if diversion.ending.take_if(|ending| *ending == job).is_some() {
            return true;
        }
        let (stage, launch) = (diversion.stage, diversion.launch.clone());
        if stage.job() != Some(job) {
            return false;
        }
        match (stage, result) {
            (Stage::Diverting { at, .. }, Ok(())) => {
                let next = Self::tell_off(&launch, at + 1, turn);
                self.set_stage(Some(next));
            }
            (Stage::Diverting { .. }, Err(why)) => {
                self.not_diverted(&format!("TrafficOff failed: {why}"), turn);
            }
            (Stage::Restoring { at, save, .. }, Ok(())) => {
                let next = Self::tell_on(&launch, at + 1, save, turn);
                self.set_stage(next);
            }
            (Stage::Restoring { save, .. }, Err(why)) => self.not_restored(save, why, turn),
            (Stage::Settling { .. } | Stage::Off | Stage::Unsure | Stage::Pausing { .. }, _) => {}
        }
        true
    }

    fn set_stage(&mut self, stage: Option<Stage>) {
        match (&mut self.diversion, stage) {
            (Some(diversion), Some(stage)) => diversion.stage = stage,
            (diversion, _) => *diversion = None,
        }
    }

    /// Some may have been told: they are told otherwise as soon as the swap is undone.
    fn not_diverted(&mut self, why: &str, turn: &mut Turn<'_>) {
        self.set_stage(Some(Stage::Unsure));
        self.swap_cue(SwapCueKind::Undiverted, why, turn);
    }

    fn not_restored(&mut self, save: Try, why: &str, turn: &mut Turn<'_>) {
        let save = save.failed(turn.now);
        let pause = save.again.map_or(Duration::ZERO, |again| again.since(turn.now));
        turn.note(Level::Error, None, format!("TrafficOn failed: {why}; again in {pause:?}"));
        self.set_stage(Some(Stage::Pausing { save }));
    }

    pub(super) fn traffic_deadline(&self) -> Option<Tick> {
        self.diversion.as_ref()?.stage.deadline()
    }

    pub(super) fn traffic_due(&mut self, turn: &mut Turn<'_>) {
        let Some(diversion) = &mut self.diversion else { return };
        let (stage, launch) = (diversion.stage, diversion.launch.clone());
        if let Some(job) = stage.job() {
            turn.act(Action::EndJob { job });
            diversion.ending = Some(job);
        }
        const LATE: &str = "it did not end within TimeoutStartSec";
        match stage {
            Stage::Diverting { .. } => self.not_diverted(&format!("TrafficOff failed: {LATE}"), turn),
            Stage::Settling { .. } => {
                self.set_stage(Some(Stage::Off));
                self.swap_cue(SwapCueKind::Diverted, "", turn);
            }
            Stage::Restoring { save, .. } => self.not_restored(save, LATE, turn),
            Stage::Pausing { save } => {
                let next = Self::tell_on(&launch, 0, Try { again: None, ..save }, turn);
                self.set_stage(next);
            }
            Stage::Off | Stage::Unsure => {}
        }
    }

    /// Tells them what is so by now: that it is off where a swap waits for that, and that it is on where it need
    /// not be off and somebody serves.
    pub(super) fn tend_traffic(&mut self, turn: &mut Turn<'_>) {
        let waits = self.swap.as_deref().is_some_and(|swap| swap.step == Step::Diverting);
        let is_on = self.is_to_be_on();
        let Some(diversion) = &mut self.diversion else { return };
        let told = matches!(diversion.stage, Stage::Restoring { .. } | Stage::Pausing { .. });
        if is_on && !told {
            self.end_traffic_job(turn);
        }
        let Some(Diversion { stage, ending: None, launch }) = self.diversion.as_deref() else { return };
        let launch = launch.clone();
        match stage {
            Stage::Unsure if waits => {
                let first = Self::tell_off(&launch, 0, turn);
                self.set_stage(Some(first));
            }
            Stage::Off | Stage::Unsure if is_on => {
                turn.note(Level::Info, None, "the traffic is being put on again");
                let first = Self::tell_on(&launch, 0, Try::default(), turn);
                self.set_stage(first);
            }
            Stage::Off
            | Stage::Unsure
            | Stage::Diverting { .. }
            | Stage::Settling { .. }
            | Stage::Restoring { .. }
            | Stage::Pausing { .. } => {}
        }
    }

    fn is_to_be_on(&self) -> bool {
        let serves = |group: &Group| group.role == Role::Active && group.serves_at_all();
        matches!(self.life, Life::Up) && self.groups.values().any(serves) && !self.is_in_gap()
    }

    /// Whether it is to be off: from before nobody serves until somebody does.
    fn is_in_gap(&self) -> bool {
        let gap = |swap: &Swap| {
            let undone = matches!(swap.step, Step::Undoing { .. });
            swap.step == Step::Diverting || (swap.gap_since.is_some() && !swap.step.has_switched() && !undone)
        };
        self.again.is_some() || self.swap.as_deref().is_some_and(gap)
    }

    /// Nobody waits for it any more. They are told otherwise once somebody serves.
    pub(super) fn end_traffic_job(&mut self, turn: &mut Turn<'_>) {
        let Some(diversion) = &mut self.diversion else { return };
        if let Some(job) = diversion.stage.job() {
            turn.act(Action::EndJob { job });
            diversion.ending = Some(job);
        }
        if !matches!(diversion.stage, Stage::Off) {
            diversion.stage = Stage::Unsure;
        }
    }

    /// The last supd may have ended while the traffic was off: they are told that it is on once somebody serves.
    pub(super) fn doubt_traffic(&mut self) {
        let launch = self.recipes.values().rev().find(|launch| tells(&launch.settings.service)).cloned();
        self.diversion =
            launch.map(|launch| Box::new(Diversion { stage: Stage::Unsure, ending: None, launch }));
    }

    /// As load balancers' words have it.
    pub(super) fn traffic_stage(&self) -> Traffic {
        match self.diversion.as_ref().map(|diversion| diversion.stage) {
            None => Traffic::On,
            Some(Stage::Diverting { .. } | Stage::Settling { .. }) => Traffic::Diverting,
            Some(Stage::Off | Stage::Unsure) => Traffic::Off,
            Some(Stage::Restoring { .. } | Stage::Pausing { .. }) => Traffic::Restoring,
        }
    }

    pub(super) fn traffic_note(&self) -> Option<String> {
        let stage = self.diversion.as_ref().map(|diversion| diversion.stage)?;
        match stage {
            Stage::Pausing { .. } | Stage::Restoring { save: Try { failures: 1.., .. }, .. } => {
                Some("TrafficOn fails, and is tried again: the log says why".to_owned())
            }
            Stage::Diverting { .. }
            | Stage::Settling { .. }
            | Stage::Off
            | Stage::Unsure
            | Stage::Restoring { .. } => None,
        }
    }
}

/// Runs the command of this number, if there is one; gives until when.
fn tell(launch: &Arc<Launch>, kind: JobKind, at: usize, turn: &mut Turn<'_>) -> Option<(JobId, Tick)> {
    let service = &launch.settings.service;
    let commands = if kind == JobKind::TrafficOff { &service.traffic_off } else { &service.traffic_on };
    let work = JobWork::Command(commands.get(at)?.clone());
    let (job, launch) = (turn.job(), launch.clone());
    turn.act(Action::Run { job, kind, work, launch, worker: None, fault: None });
    Some((job, turn.now.after(service.timeout_start.unwrap_or(COMMAND_LONGEST))))
}
