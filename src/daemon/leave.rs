//! SIGTERM: supd goes and its workers stay, for the supd that comes next; unless nobody can come next.

use super::chores::Chore;
use super::hands::Hands;
use super::upward;
use crate::model::Tick;
use crate::os::task::Task;
use std::process::{Command, Stdio};
use std::time::Duration;

/// The last words may take so long to the disk, and to whoever waits for them.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// systemd may take so long to say whether the machine stops.
const ASKED: Duration = Duration::from_secs(3);

/// How supd has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// As it was asked to; whoever started it may start it again.
    Asked,
    /// Shut down, under a service manager that is not to start it again.
    ShutDown,
    /// With its only unit, and with this exit status.
    Unit(u8),
}

impl Hands {
    /// Somebody wants this supd to end, and says no more than that.
    pub(super) fn terminated(&mut self, now: Tick) {
        self.give_up_reexec("supd is about to end", now);
        if self.story.ending.is_some() || !self.has_keeper(now) {
            log::info!("stopping every unit, as asked by SIGTERM");
            return self.stop_all(None);
        }
        if !upward::is_heard() || self.asks_whether_the_machine_stops().is_err() {
            self.leave(now);
        }
    }

    /// When the machine stops, supd hears no more of it than at a restart.
    fn asks_whether_the_machine_stops(&mut self) -> Result<(), String> {
        let ask = || {
            let mut command = Command::new("systemctl");
            let said = command.arg("is-system-running").stdin(Stdio::null()).stderr(Stdio::null()).output();
            said.map(|said| said.stdout).map_err(|error| error.to_string())
        };
        let task = Task::run("ask whether the machine stops", ASKED, &[], ask);
        let task = task.map_err(|error| error.to_string())?;
        self.chores.begin(Chore::Machine, task, &mut self.sources)
    }

    /// What systemd says of the machine.
    pub(super) fn machine_told(&mut self, result: &Result<Vec<u8>, String>, now: Tick) {
        match result {
            Ok(said) if said.trim_ascii() == b"stopping" => {
                log::info!("stopping every unit, as the machine stops");
                self.shutdown(None);
            }
            Ok(_) => self.leave(now),
            Err(why) => {
                log::debug!("systemd does not say whether the machine stops: {why}");
                self.leave(now);
            }
        }
    }

    fn leave(&mut self, now: Tick) {
        if self.leaving.is_some() || self.story.ending.is_some() {
            return;
        }
        log::info!(
            "supd goes, as asked by SIGTERM; what runs stays, and the next supd goes on with it ('supctl shutdown' \
             stops it)"
        );
        upward::stopping();
        self.leaving = Some(now.after(LAST_WORDS));
        self.tell_ended();
    }

    /// How this supd has ended. A service manager starts one again that ended by SIGTERM, if that was not its own:
    /// with the same status for a shutdown it could do so for neither, or would for both.
    pub(super) fn end(&self) -> End {
        match &self.one {
            Some(one) => End::Unit(one.status()),
            None if self.story.stays_away && self.keeping.is_wanted() && upward::is_heard() => End::ShutDown,
            None => End::Asked,
        }
    }
}
