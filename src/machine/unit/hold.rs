//! supd has crashed twice by its own fault, and holds: it goes on with who lives, and launches again who served; it
//! begins no swap and no rollback by anybody's word until a person has seen to it and says `daemon-reload`.
//!
//! Nothing of a swap outlives a crash, so there is none under way, and no probation that could fail.

use super::super::effect::Level;
use super::super::event::Request;
use super::super::group::Group;
use super::super::turn::Turn;
use super::life::NEVER;
use super::{Life, Unit};
use crate::model::ClientId;

/// What ends it.
const NEXT: &str = "daemon-reload";

impl Unit {
    /// Whether this has to wait; then it is refused.
    pub(super) fn refuses_holding(&self, client: ClientId, request: &Request, turn: &mut Turn<'_>) -> bool {
        let Some(why) = &self.holding else { return false };
        let begins = match request {
            Request::Start { .. } => !self.is_begun(),
            Request::Restart { .. }
            | Request::Swap { .. }
            | Request::Rollback { .. }
            | Request::Install { deploy: Some(_), .. } => true,
            Request::Install { deploy: None, .. }
            | Request::Stop { .. }
            | Request::Undeploy { .. }
            | Request::Share { .. }
            | Request::Drain { .. }
            | Request::Promote { .. }
            | Request::Abort
            | Request::Wait { .. }
            | Request::Reload
            | Request::Kill { .. }
            | Request::Refresh { .. } => false,
        };
        if begins {
            let text = format!("{why}: it launches again what served, and begins nothing else until you say");
            self.refuse(client, text, Some(NEXT.to_owned()), turn);
        }
        begins
    }

    /// Whether a start would find it begun.
    fn is_begun(&self) -> bool {
        match self.life {
            Life::Waiting { .. } | Life::Arming { .. } => true,
            Life::Up => self.swap.is_some() || self.groups.values().any(Group::answers),
            Life::Stopped { .. } | Life::Blocked { .. } | Life::Stopping(_) => false,
        }
    }

    /// A person has seen to it.
    pub(in crate::machine) fn hold_no_longer(&mut self, turn: &mut Turn<'_>) {
        let Some(held) = self.holding.take() else { return };
        turn.note(Level::Info, None, format!("holds no longer ({held})"));
        let waits = std::mem::take(&mut self.held_start) && matches!(self.life, Life::Blocked { .. });
        if waits && self.quarantine.is_none() {
            self.life = Life::STOPPED;
            let start = turn.out.len();
            self.boot(true, turn);
            self.settle(start, turn);
        }
    }

    /// Whether what the file says would be launched at the start of supd, which is too much now: what has never
    /// served may be what it crashes by.
    pub(super) fn holds_start(&mut self, turn: &mut Turn<'_>) -> bool {
        let active = self.durable.active.as_ref();
        let known = active.is_some_and(|kept| self.recipes.contains_key(&kept.generation));
        if self.holding.is_none() || known {
            return false;
        }
        turn.note(Level::Warning, None, format!("not started while supd holds: supctl {NEXT}"));
        self.held_start = true;
        let reason = "not started while supd holds".to_owned();
        self.life = Life::Blocked { until: NEVER, reason, origin: None };
        true
    }

    /// For status.
    pub(super) fn hold_note(&self) -> Option<String> {
        self.holding.as_ref().map(|why| format!("holding, {why}: supctl {NEXT}"))
    }
}
