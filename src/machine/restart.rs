//! Whether and when a worker that ended is launched again: growing delays, long pauses past the
//! start limit, and never "never again".

use crate::model::settings::{ExitSet, Restart, Service};
use crate::model::{Signal, Tick, WorkerExit};
use std::collections::VecDeque;
use std::time::Duration;

/// The longest delay between two launches, and the pause once the start limit is hit.
const PAUSE: Duration = Duration::from_secs(60);

/// The shortest delay after the first, however short RestartSec is.
const SHORTEST: Duration = Duration::from_millis(100);

/// Signals that end a server as its operator meant it (systemd.service(5), SuccessExitStatus=).
const CLEAN_SIGNALS: [Signal; 4] = [Signal(1), Signal(2), Signal(13), Signal::TERM];

/// Why supd itself ended a run, where it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It, or a hook of it, took too long to start, or it did not stop in time.
    TimedOut,
    /// The watchdog fired.
    Watchdog,
    /// It never ran: fork or exec failed.
    Unlaunched,
    /// ExecStartPre or ExecStartPost failed.
    Hook,
}

/// How one run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ending {
    pub(super) exit: Option<WorkerExit>,
    pub(super) fault: Option<Fault>,
}

fn contains(set: &ExitSet, exit: WorkerExit) -> bool {
    match exit {
        WorkerExit::Code(code) => set.codes.contains(&code),
        WorkerExit::Killed { signal, .. } => set.signals.contains(&signal),
        WorkerExit::Unknown => false,
    }
}

impl Ending {
    /// Whether the run ended as a server should that was not asked to.
    pub(super) fn is_clean(self, service: &Service) -> bool {
        let (None, Some(exit)) = (self.fault, self.exit) else { return false };
        let by_nature = match exit {
            WorkerExit::Code(code) => code == 0,
            WorkerExit::Killed { signal, core } => !core && CLEAN_SIGNALS.contains(&signal),
            WorkerExit::Unknown => false,
        };
        by_nature || contains(&service.success_exit_status, exit)
    }

    /// Whether `Restart` wants another run after this one.
    pub(super) fn wants_relaunch(self, service: &Service) -> bool {
        if self.exit.is_some_and(|exit| contains(&service.restart_prevent_exit_status, exit)) {
            return false;
        }
        let clean = self.is_clean(service);
        let killed = matches!(self.exit, Some(WorkerExit::Killed { .. }));
        // After a hook that failed the signal was supd's own.
        let by_signal = killed && !clean && self.fault != Some(Fault::Hook);
        let ended_by_supd = matches!(self.fault, Some(Fault::TimedOut | Fault::Watchdog));
        match service.restart {
            Restart::No => false,
            Restart::OnSuccess => clean,
            Restart::OnFailure => !clean,
            Restart::OnAbnormal => by_signal || ended_by_supd,
            Restart::OnAbort => by_signal && !ended_by_supd,
            Restart::OnWatchdog => self.fault == Some(Fault::Watchdog),
            Restart::Always => true,
        }
    }
}

/// The recent launches of one worker's place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Pace {
    /// At most StartLimitBurst of them.
    launches: VecDeque<Tick>,
    /// Launches in a row that did not hold.
    streak: u32,
    /// The present run has said that they count no more.
    reset: bool,
    /// The start limit was hit, and no run since has held.
    hit: bool,
}

/// When the next launch is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rest {
    pub(super) delay: Duration,
    pub(super) limited: bool,
    /// For the first time since a run held.
    pub(super) newly: bool,
}

impl Pace {
    /// A launch happens.
    pub(super) fn launched(&mut self, now: Tick, service: &Service) {
        self.launches.reserve_exact(1);
        self.launches.push_back(now);
        while self.launches.len() > service.start_limit_burst.max(1) as usize {
            self.launches.pop_front();
        }
    }

    /// The run that is there says that what was before it counts no more (RESTART_RESET=1).
    pub(super) fn reset(&mut self) {
        self.launches.clear();
        (self.streak, self.reset, self.hit) = (0, true, false);
    }

    /// A run ended that served for `served`.
    pub(super) fn ended(&mut self, now: Tick, served: Duration, service: &Service) -> Rest {
        if served >= service.start_limit_interval.max(Duration::from_secs(1)) {
            (self.streak, self.hit) = (0, false);
        }
        // RestartSec = 0 is meant for the first relaunch, not for a hundred a second.
        // Nor is it for who says so with every run.
        let spins = self.streak > 0 || std::mem::take(&mut self.reset);
        let first = if spins { service.restart_delay.max(SHORTEST) } else { service.restart_delay };
        let doubled = first.saturating_mul(1 << self.streak.min(16));
        self.streak = self.streak.saturating_add(1);
        let delay = doubled.min(PAUSE.max(service.restart_delay));
        let burst = service.start_limit_burst as usize;
        let within = |launch: &&Tick| now.since(**launch) < service.start_limit_interval;
        let limited = burst > 0 && self.launches.iter().filter(within).count() >= burst;
        let newly = limited && !self.hit;
        self.hit |= limited;
        Rest { delay: if limited { delay.max(PAUSE) } else { delay }, limited, newly }
    }

    /// Whether the start limit was hit, and no run since has held.
    pub(super) fn is_hit(&self) -> bool {
        self.hit
    }
}
