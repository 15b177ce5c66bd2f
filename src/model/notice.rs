//! What a worker says over NOTIFY_SOCKET, after the hands have checked who said it.

use super::settings::NotifyAccess;
use std::time::Duration;

/// One assignment of an sd_notify(3) datagram.
///
/// BARRIER=1 is answered where it is received, by closing the descriptor after everything before
/// it was handled; FDSTORE belongs to the hands too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// READY=1: started, or reloaded.
    Ready,
    /// RELOADING=1, with MONOTONIC_USEC where the worker gave it.
    Reloading {
        /// CLOCK_MONOTONIC when the reload began, by the worker's word.
        monotonic_usec: Option<u64>,
    },
    /// STOPPING=1: it is on its way out.
    Stopping,
    /// STATUS=…: one line for people; empty clears it.
    Status(String),
    /// ERRNO=…
    Errno(i32),
    /// BUSERROR=… or VARLINKERROR=…
    Error(String),
    /// EXIT_STATUS=…: for information.
    ExitStatus(i32),
    /// MAINPID=…, once the hands hold a pidfd of a process of the same generation.
    MainPid(i32),
    /// NOTIFYACCESS=…: for the rest of this run.
    NotifyAccess(NotifyAccess),
    /// WATCHDOG=1
    Watchdog,
    /// WATCHDOG=trigger: it has found itself to be broken.
    WatchdogTrigger,
    /// WATCHDOG_USEC=…: the new period, from now on.
    WatchdogPeriod(Duration),
    /// RESTART_RESET=1: how it ended before counts no more.
    RestartReset,
    /// EXTEND_TIMEOUT_USEC=…: the running deadline moves to now plus this.
    ExtendTimeout(Duration),
}
