//! Whether what is asked for fits into the descriptors that supd may open. It is refused before anything of it is
//! begun: half of it launched would leave nothing to launch again whoever else ends.

use super::hands::Hands;
use crate::machine::{Machine, Request};
use crate::model::settings::{Handoff, Settings};
use crate::model::status::{GenerationState, UnitState};
use crate::os::room::Room;

/// For the pipes of a launch, and of whoever writes to the disk for it.
const IN_PASSING: u64 = 4;

/// How many a generation with these settings takes: a slot of each listener, its notify socket, and of each worker
/// the pidfd, what its launch is heard of by, and what it asks supd by.
fn takes(settings: &Settings) -> u64 {
    let service = &settings.service;
    let of_worker = if service.handoff == Handoff::Intercept { 3 } else { 2 };
    settings.sockets.len() as u64 + 1 + u64::from(service.workers) * of_worker + IN_PASSING
}

fn refusal(settings: &Settings, needed: u64, room: Room) -> String {
    format!(
        "{} needs {needed} more of supd's file descriptors, and {} of its {} are left: raise LimitNOFILE of supd's \
         service (systemctl edit supd), and restart supd",
        settings.unit,
        room.left(),
        room.limit
    )
}

impl Hands {
    /// Whether what this request would launch fits.
    ///
    /// # Errors
    /// What is missing, and what to do, in a sentence.
    pub(super) fn has_room(
        &self,
        settings: &Settings,
        request: &Request,
        machine: &Machine,
    ) -> Result<(), String> {
        let status = machine.status(&settings.unit, crate::os::clock::now());
        let down = |state| matches!(state, UnitState::Stopped | UnitState::Waiting | UnitState::Down);
        let stands_by = |label: &crate::model::Label| {
            status
                .iter()
                .flat_map(|status| &status.generations)
                .any(|one| one.state == GenerationState::Standby && one.release.as_ref() == Some(label))
        };
        let launches = match request {
            Request::Start { .. } => status.as_ref().is_none_or(|status| down(status.state)),
            // Who stands by is there already.
            Request::Swap { label: Some(label), .. } => !stands_by(label),
            Request::Swap { label: None, .. }
            | Request::Restart { .. }
            | Request::Install { deploy: Some(_), .. } => true,
            // The way back is tried, however little there is.
            Request::Rollback { .. }
            | Request::Install { deploy: None, .. }
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
        let needed = if launches { takes(settings) } else { 0 };
        match Room::now().filter(|room| room.left() < needed) {
            Some(room) => Err(refusal(settings, needed, room)),
            None => Ok(()),
        }
    }

    /// Why a changed file does not fit: the listeners that daemon-reload would bind; of a unit that is new, all of
    /// it. What is missing, and what to do, in a sentence.
    pub(super) fn lacks_room(&self, settings: &Settings, known: bool, room: Option<Room>) -> Option<String> {
        let unit = &settings.unit;
        if self.units.get(unit).is_some_and(|its| *its.settings == *settings && !its.orphaned) {
            return None;
        }
        let bound = self.listeners.get(unit);
        let new = settings.sockets.iter().filter(|one| !bound.is_some_and(|bound| bound.has(&one.address)));
        let needed = if known { new.count() as u64 } else { takes(settings) };
        Some(refusal(settings, needed, room.filter(|room| room.left() < needed)?))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testbed::settings;
    use super::*;

    #[test]
    fn the_answer_has_the_numbers_and_the_remedy() {
        let settings = settings("User = \"nobody\"\nExecStart = \"/bin/true\"\nWorkers = 100");
        assert_eq!(takes(&settings), 205);
        let text = refusal(&settings, 205, Room { limit: 1024, open: 1000 });
        assert!(
            text.starts_with("web needs 205 more of supd's file descriptors, and 24 of its 1024"),
            "{text}"
        );
        assert!(text.contains("LimitNOFILE"), "{text}");
    }
}
