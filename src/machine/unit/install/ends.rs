//! How an install ends: it counts, and what was to follow does; or nothing is left of it.

use super::super::super::effect::{Action, Level};
use super::super::super::turn::Turn;
use super::super::{Life, Unit};
use super::{Deploy, Install, Stage, Then};
use crate::model::{ClientId, Ended, ExitStatus, Generation, Progress, Reply, WaitFor};
use std::time::Duration;

impl Unit {
    pub(super) fn installed(&mut self, install: Install, changed: bool, turn: &mut Turn<'_>) {
        let label = &install.label;
        let how = if changed { "is installed" } else { "was installed before, with the same content" };
        let text = format!("release {label} {how}");
        turn.note(Level::Info, None, text.clone());
        let deploy = match install.then {
            Then::Swap(deploy) => deploy,
            Then::Nothing => return self.answer_install(&install, &Reply::done(changed, text), turn),
            Then::Stopped => return self.installed_only(&install, changed, turn),
        };
        for client in install.clients() {
            turn.act(Action::Progress(client, Progress::Note(text.clone())));
        }
        self.swap_to_installed(install, deploy, changed, turn);
    }

    /// Its swap was called off by a stop. A start since then was told what to launch by what was installed
    /// at that time: a swap behind its back would be no better than a start behind that of a stop.
    fn installed_only(&self, install: &Install, changed: bool, turn: &mut Turn<'_>) {
        let label = &install.label;
        if self.is_active(label) && self.swap.is_none() {
            return self.active_already(install, changed, turn);
        }
        let since = match self.life {
            Life::Stopped { .. } | Life::Stopping(_) => "",
            Life::Blocked { .. } | Life::Arming { .. } | Life::Waiting { .. } | Life::Up => {
                ", and started again without it"
            }
        };
        let text = format!(
            "release {label} is installed, and not swapped to: the unit was stopped meanwhile{since}"
        );
        let next = Some(format!("swap {} {label}", self.name));
        self.answer_install(install, &Reply { changed, ..Reply::refused(text, next) }, turn);
    }

    fn active_already(&self, install: &Install, changed: bool, turn: &mut Turn<'_>) {
        let active = self.durable.active.as_ref().map(|kept| kept.generation);
        let text = format!("release {} is active already", install.label);
        self.answer_install(install, &Reply::done(changed, text).about(None, active), turn);
    }

    pub(super) fn install_failed(&mut self, install: &Install, reason: &str, turn: &mut Turn<'_>) {
        let label = &install.label;
        turn.act(Action::Discard { job: install.staging });
        let placed = match install.stage {
            Stage::Placing { .. } | Stage::Preparing { .. } | Stage::Sealing { .. } => true,
            Stage::Unpacking | Stage::Recording { .. } => false,
        };
        if placed && self.trees.remove(label) {
            turn.act(Action::Remove { label: label.clone() });
        }
        turn.note(Level::Error, None, format!("release {label} is not installed: {reason}"));
        let (client, cause) = (install.author, reason.to_owned());
        turn.act(Action::InstallFailed { label: label.clone(), client, cause });
        let text = format!("release {label} is not installed: {reason}");
        // What ExecInstall wrote is told with it.
        let wrote = Ended { generation: Generation(0), exit: None, lived: Duration::ZERO };
        let ended = matches!(install.stage, Stage::Preparing { .. }).then_some(wrote);
        let reply = Reply::new(ExitStatus::Failed, false, text);
        self.install_failure = Some(Box::new(reply.clone()));
        self.answer_install(install, &Reply { ended, ..reply }, turn);
    }

    pub(super) fn answer_install(&self, install: &Install, reply: &Reply, turn: &mut Turn<'_>) {
        for client in install.clients() {
            self.reply(client, reply.clone(), turn);
        }
    }

    /// The unit is stopped: what is being installed is not swapped to any more.
    pub(in crate::machine::unit) fn stop_deploy(&mut self, turn: &mut Turn<'_>) {
        let Some(install) = self.install.as_mut().filter(|install| matches!(install.then, Then::Swap(_)))
        else {
            return;
        };
        install.then = Then::Stopped;
        let text = format!(
            "the unit is being stopped: release {} will be installed, and not swapped to",
            install.label
        );
        for client in install.clients() {
            turn.act(Action::Progress(client, Progress::Note(text.clone())));
        }
    }

    /// supd ends: what is not on its way into the ledger is nothing.
    pub(in crate::machine::unit) fn cancel_install(&mut self, turn: &mut Turn<'_>) {
        if let Some(install) = self.install.take_if(|install| !install.is_recorded()) {
            self.end_install(&install, "supd ends", turn);
        }
    }

    /// A person ends what may take for ever: an archive without an end, or ExecInstall. Says so. The
    /// other stages are short, and one that was begun may come to its end after all.
    pub(in crate::machine::unit) fn abort_install(&mut self, turn: &mut Turn<'_>) -> Option<String> {
        let lasts =
            |install: &mut Install| matches!(install.stage, Stage::Unpacking | Stage::Preparing { .. });
        let install = self.install.take_if(lasts)?;
        self.end_install(&install, "aborted", turn);
        Some(format!("the install of release {} is aborted", install.label))
    }

    fn end_install(&mut self, install: &Install, why: &str, turn: &mut Turn<'_>) {
        if let Some(job) = install.job() {
            turn.act(Action::EndJob { job });
        }
        self.install_failed(install, why, turn);
    }

    /// The second half of a deploy.
    fn swap_to_installed(&mut self, install: Install, deploy: Deploy, changed: bool, turn: &mut Turn<'_>) {
        if self.is_active(&install.label) && self.swap.is_none() {
            return self.active_already(&install, changed, turn);
        }
        let Install { label, settings, client, joined, .. } = install;
        if let Err(refused) = self.deploy_swap(client, label.clone(), settings, deploy, turn) {
            let text = format!("release {label} is installed, and not swapped to: {}", refused.text);
            turn.note(Level::Warning, None, text.clone());
            let next = Some(format!("swap {} {label}", self.name));
            return self.answer_all(client, &joined, &Reply { changed, text, next, ..refused }, turn);
        }
        // Who joined waits for the same swap, or hears that there is none.
        for (client, wait) in joined {
            self.ask_wait(client, wait, turn);
        }
    }

    fn answer_all(
        &self,
        client: Option<ClientId>,
        joined: &[(ClientId, WaitFor)],
        reply: &Reply,
        turn: &mut Turn<'_>,
    ) {
        for client in client.into_iter().chain(joined.iter().map(|(client, _)| *client)) {
            self.reply(client, reply.clone(), turn);
        }
    }
}
