//! `daemon-reload`: the unit's file says something else.

use super::super::effect::Action;
use super::super::turn::Turn;
use super::{Life, Unit};
use crate::model::{ClientId, ExitStatus, JobId, Reply, Settings};
use std::sync::Arc;

/// A daemon-reload whose new listeners are being bound: until they are, the old file counts.
#[derive(Debug, Clone)]
pub(super) struct Refreshing {
    pub(super) job: JobId,
    pub(super) client: Option<ClientId>,
    pub(super) settings: Arc<Settings>,
}

impl Unit {
    /// daemon-reload: changed listeners are bound now and listen from the next swap on.
    pub(super) fn refresh(&mut self, client: ClientId, settings: Arc<Settings>, turn: &mut Turn<'_>) {
        self.orphaned = false;
        if self.refreshing.is_some() {
            let text = "the listeners of the last daemon-reload are still being bound";
            return self.refuse(client, text, Some("daemon-reload".to_owned()), turn);
        }
        let changed = *self.settings != *settings;
        let moved = self.settings.sockets != settings.sockets;
        let up = matches!(self.life, Life::Up | Life::Waiting { .. } | Life::Arming { .. });
        if !up || !moved {
            self.settings = settings;
            let text =
                if changed && up { "changed; applies at the next swap or restart" } else { "is up to date" };
            self.reply(client, Reply::done(changed, text), turn);
            return;
        }
        let job = turn.job();
        turn.act(Action::Bind { job, settings: settings.clone() });
        self.bound.extend(settings.sockets.iter().cloned());
        self.refreshing = Some(Refreshing { job, client: Some(client), settings });
    }

    pub(super) fn answer_refresh(&self, client: ClientId, failure: Option<String>, turn: &mut Turn<'_>) {
        let reply = match failure {
            None => Reply::done(true, "changed listeners are bound; they apply at the next swap"),
            Some(reason) => Reply::new(ExitStatus::Failed, false, reason),
        };
        self.reply(client, reply, turn);
    }

    /// A daemon-reload whose listeners close before they were of use: the file counts all the same.
    pub(super) fn end_refresh(&mut self, text: &str, turn: &mut Turn<'_>) {
        let Some(refreshing) = self.refreshing.take() else { return };
        self.settings = refreshing.settings;
        if let Some(client) = refreshing.client {
            self.reply(client, Reply::new(ExitStatus::Failed, true, text), turn);
        }
    }
}
