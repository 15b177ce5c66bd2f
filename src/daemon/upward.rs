//! What supd tells whoever started it (sd_notify(3)). Nobody may be there to hear it, and nobody is waited for:
//! a service manager that reads no more must not stop the loop.

use crate::model::Tick;
use crate::os::manager::Manager;
use sd_notify::NotifyState;
use std::io;
use std::time::Duration;

/// However little time a service manager gives, it is told no more often.
const SHORTEST: Duration = Duration::from_millis(10);

/// Whether whoever started supd wants to hear of it.
#[must_use]
pub fn is_heard() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some_and(|place| !place.is_empty())
}

/// Every unit is known, and those that should serve are being launched.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The unit files are being read again; [`ready`] follows.
pub fn reloading() {
    // Type=notify-reload of systemd wants to see that this is no old message.
    if let Ok(stamp) = NotifyState::monotonic_usec_now() {
        tell(&[NotifyState::Reloading, stamp]);
    }
}

/// The units are being stopped.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// One line for people.
pub fn status(text: &str) {
    tell(&[NotifyState::Status(text)]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = try_to_tell(states) {
        log::debug!("whoever started supd is not told: {error}");
    }
}

/// Not by the library's own call, which waits for room.
fn try_to_tell(states: &[NotifyState<'_>]) -> io::Result<()> {
    let Some(manager) = Manager::reach()? else { return Ok(()) };
    let text: String = states.iter().map(|state| format!("{state}\n")).collect();
    Ok(manager.say(&text, &[])?)
}

/// That supd lives, as often as a service manager asks for it (WatchdogSec=, sd_watchdog_enabled(3)): twice in
/// its time. It comes from the loop, so that a loop that stands still is seen.
#[derive(Debug)]
pub struct Pulse {
    every: Option<Duration>,
    due: Tick,
}

impl Pulse {
    /// As the environment says.
    #[must_use]
    pub fn asked(now: Tick) -> Self {
        let time = sd_notify::watchdog_enabled().filter(|time| !time.is_zero());
        let every = time.map(|time| (time / 2).max(SHORTEST));
        Self { every, due: now }
    }

    /// When the next is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Tick> {
        self.every.map(|_| self.due)
    }

    /// Tells it, if that is due.
    pub fn beat(&mut self, now: Tick) {
        if let Some(every) = self.every.filter(|_| self.due <= now) {
            tell(&[NotifyState::Watchdog]);
            self.due = now.after(every);
        }
    }
}
